//! Requests that wait to be served together, so that many cost one transaction.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

/// A request that waits, and where its answer goes.
pub type Asked<Q, A> = (Q, oneshot::Sender<A>);

/// Requests `Q` of this process that wait for the next transaction, to be answered with `A`.
#[derive(Debug)]
pub struct Batch<Q, A> {
    waiting: Mutex<Waiting<Q, A>>,
    /// Called when as many requests wait as the serving task wants.
    enough: Notify,
}

#[derive(Debug)]
struct Waiting<Q, A> {
    asked: Vec<Asked<Q, A>>,
    /// Whether a task serves them.
    served: bool,
    /// How many the serving task waits for; none while it does not.
    wanted: Option<usize>,
}

impl<Q, A> Default for Batch<Q, A> {
    fn default() -> Self {
        let waiting = Waiting { asked: Vec::new(), served: false, wanted: None };
        Self { waiting: Mutex::new(waiting), enough: Notify::new() }
    }
}

impl<Q, A> Batch<Q, A> {
    /// Adds a request. When it says true, nobody serves, and the caller starts a task that takes from [`Self::leave`]
    /// until that gives none: a task of its own, so that nobody's request ends with another's.
    pub fn enter(&self, request: Q) -> (oneshot::Receiver<A>, bool) {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.asked.push((request, sender));
        if waiting.wanted.is_some_and(|wanted| waiting.asked.len() >= wanted) {
            waiting.wanted = None;
            self.enough.notify_one();
        }
        (answer, !std::mem::replace(&mut waiting.served, true))
    }

    /// Waits until `all` requests are there, but no longer than `patience`: for the serving task, when it knows how many
    /// may come. It does not wait for the first one.
    pub async fn gather(&self, all: usize, patience: Duration) {
        {
            let mut waiting = self.lock();
            if waiting.asked.is_empty() || waiting.asked.len() >= all {
                return;
            }
            waiting.wanted = Some(all);
        }
        if timeout(patience, self.enough.notified()).await.is_err() && self.lock().wanted.take().is_none() {
            // The last one came at the very end and called: that is not for the next time.
            self.enough.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<Q, A>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next requests, up to `most`; with none left the serving ends.
    pub fn leave(&self, most: usize) -> Option<Vec<Asked<Q, A>>> {
        let mut waiting = self.lock();
        if waiting.asked.is_empty() {
            waiting.served = false;
            return None;
        }
        let rest = waiting.asked.len().min(most);
        let later = waiting.asked.split_off(rest);
        Some(std::mem::replace(&mut waiting.asked, later))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::{FutureExt, poll};

    use super::*;

    const EVER: Duration = Duration::from_secs(3600);

    #[test]
    fn one_task_serves_all_who_come_while_it_does() {
        let batch: Batch<u8, ()> = Batch::default();
        let first = batch.enter(1);
        let second = batch.enter(2);
        assert!(first.1 && !second.1);
        let left =
            |most| batch.leave(most).map(|asked| asked.into_iter().map(|(n, _)| n).collect::<Vec<_>>());
        assert_eq!(left(1), Some(vec![1]));
        assert_eq!(left(9), Some(vec![2]));
        assert_eq!(left(9), None);
        assert!(batch.enter(3).1, "the next one is served by a new task");
    }

    #[tokio::test]
    async fn serving_waits_for_those_who_are_known_to_come() {
        let batch: Batch<u8, ()> = Batch::default();
        assert!(batch.gather(2, EVER).now_or_never().is_some(), "nobody waits for the first one");
        let mut answers = vec![batch.enter(1).0];
        assert!(batch.gather(1, EVER).now_or_never().is_some(), "everybody is there");
        let mut gathered = pin!(batch.gather(3, EVER));
        for request in [2, 3] {
            assert!(poll!(&mut gathered).is_pending());
            answers.push(batch.enter(request).0);
        }
        assert!(poll!(&mut gathered).is_ready(), "the last one ends the wait");
        assert_eq!(batch.leave(9).unwrap_or_default().len(), 3);
    }

    #[tokio::test]
    async fn serving_does_not_wait_long_for_somebody_who_does_not_come() {
        let batch: Batch<u8, ()> = Batch::default();
        let _first = batch.enter(1);
        batch.gather(2, Duration::from_millis(1)).await;
        // One who comes too late for a wait does not end the next one.
        let _late = batch.enter(2);
        assert!(poll!(pin!(batch.gather(3, EVER))).is_pending());
    }
}
