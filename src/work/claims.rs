//! The claims that wait to be taken together.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use super::{
    claim::{Claim, Reach, next_of_each},
    entity::work_item,
    journal::Journal,
};
use crate::{
    app::App,
    http::{Code, Problem},
};

/// How many claims one transaction serves.
const BATCH: usize = 64;

type Answer = Result<work_item::Model, Problem>;

/// Claims of this process that wait for the next transaction.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    claims: Vec<(Claim, oneshot::Sender<Answer>)>,
    /// Whether a task serves them.
    served: bool,
}

impl Claims {
    /// Serves a claim together with those that wait.
    ///
    /// # Errors
    /// As [`super::claim::next`].
    pub async fn take(&self, app: &App, claim: Claim) -> Answer {
        let (sender, answer) = oneshot::channel();
        if self.enter(claim, sender) {
            let app = app.clone();
            // A task of its own, so that nobody's claim ends with the connection of another.
            app.tasks.clone().spawn("claims", async move {
                while let Some(claims) = app.claims.leave() {
                    serve(&app, claims).await;
                }
                Ok(())
            });
        }
        let stops = |_| Err(Problem::new(Code::Unavailable, "the service stops").retry_after(5));
        answer.await.unwrap_or_else(stops)
    }

    /// Adds a claim; true when nobody serves.
    fn enter(&self, claim: Claim, sender: oneshot::Sender<Answer>) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.claims.push((claim, sender));
        !std::mem::replace(&mut waiting.served, true)
    }

    /// The next claims; with none left the serving ends.
    fn leave(&self) -> Option<Vec<(Claim, oneshot::Sender<Answer>)>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.claims.is_empty() {
            waiting.served = false;
            return None;
        }
        let rest = waiting.claims.len().min(BATCH);
        let later = waiting.claims.split_off(rest);
        Some(std::mem::replace(&mut waiting.claims, later))
    }
}

async fn serve(app: &App, waiting: Vec<(Claim, oneshot::Sender<Answer>)>) {
    // Who went away meanwhile is given nothing.
    let waiting: Vec<_> = waiting.into_iter().filter(|(_, sender)| !sender.is_closed()).collect();
    let claims: Vec<Claim> = waiting.iter().map(|(claim, _)| *claim).collect();
    match take_all(app, &claims).await {
        Ok(answers) => {
            for ((_, sender), answer) in waiting.into_iter().zip(answers) {
                // Nobody listens when the connection is gone; the item is the agent's all the same.
                let _ = sender.send(answer);
            }
        }
        Err(problem) => {
            for (_, sender) in waiting {
                let _ = sender.send(Err(problem.clone()));
            }
        }
    }
}

async fn take_all(app: &App, claims: &[Claim]) -> Result<Vec<Answer>, Problem> {
    let reach = Reach::of(app.db.read(), claims).await?;
    let tx = app.db.begin().await?;
    let mut journal = Journal::new(app.clock.now());
    let answers = next_of_each(&tx, &mut journal, &reach, claims).await?;
    journal.write(&tx).await?;
    tx.commit().await?;
    Ok(answers)
}
