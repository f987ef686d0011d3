//! Requests that wait to be served together, so that many cost one transaction.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// A request that waits, and where its answer goes.
pub type Asked<Q, A> = (Q, oneshot::Sender<A>);

/// Requests `Q` of this process that wait for the next transaction, to be answered with `A`.
#[derive(Debug)]
pub struct Batch<Q, A>(Mutex<Waiting<Q, A>>);

#[derive(Debug)]
struct Waiting<Q, A> {
    asked: Vec<Asked<Q, A>>,
    /// Whether a task serves them.
    served: bool,
}

impl<Q, A> Default for Batch<Q, A> {
    fn default() -> Self {
        Self(Mutex::new(Waiting { asked: Vec::new(), served: false }))
    }
}

impl<Q, A> Batch<Q, A> {
    /// Adds a request. When it says true, nobody serves, and the caller starts a task that takes from [`Self::leave`]
    /// until that gives none: a task of its own, so that nobody's request ends with another's.
    pub fn enter(&self, request: Q) -> (oneshot::Receiver<A>, bool) {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.asked.push((request, sender));
        (answer, !std::mem::replace(&mut waiting.served, true))
    }

    /// The next requests, up to `most`; with none left the serving ends.
    pub fn leave(&self, most: usize) -> Option<Vec<Asked<Q, A>>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
    use super::*;

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
}
