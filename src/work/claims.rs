//! The claims that wait to be taken together.

use super::{
    claim::{Claim, Reach, next_of_each},
    entity::work_item,
    journal::Journal,
};
use crate::{
    app::App,
    http::{Code, Problem},
    together::{Asked, Batch},
};

/// How many claims one transaction serves.
const BATCH: usize = 64;

type Answer = Result<work_item::Model, Problem>;

/// Claims of this process that wait for the next transaction.
#[derive(Debug, Default)]
pub struct Claims(Batch<Claim, Answer>);

impl Claims {
    /// Serves a claim together with those that wait.
    ///
    /// # Errors
    /// As [`super::claim::next`].
    pub async fn take(&self, app: &App, claim: Claim) -> Answer {
        let (answer, is_first) = self.0.enter(claim);
        if is_first {
            let app = app.clone();
            app.tasks.clone().spawn("claims", async move {
                while let Some(asked) = app.claims.0.leave(BATCH) {
                    serve(&app, asked).await;
                }
                Ok(())
            });
        }
        let stops = |_| Err(Problem::new(Code::Unavailable, "the service stops").retry_after(5));
        answer.await.unwrap_or_else(stops)
    }
}

async fn serve(app: &App, asked: Vec<Asked<Claim, Answer>>) {
    // Who went away meanwhile is given nothing.
    let asked: Vec<_> = asked.into_iter().filter(|(_, sender)| !sender.is_closed()).collect();
    let claims: Vec<Claim> = asked.iter().map(|(claim, _)| *claim).collect();
    match take_all(app, &claims).await {
        Ok(answers) => {
            for ((_, sender), answer) in asked.into_iter().zip(answers) {
                // Nobody listens when the connection is gone; the item is the agent's all the same.
                let _ = sender.send(answer);
            }
        }
        Err(problem) => {
            for (_, sender) in asked {
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
