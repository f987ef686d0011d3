//! The order in which items leave a queue, as one number that never has to be computed anew while they wait.

use crate::clock::Timestamp;

/// Wide enough that no waiting time reaches the next priority: 2^50 ms are 35,000 years.
const STEP: i64 = 1 << 50;
/// What one step of priority is worth against the items of other queues, when the queue does not say.
const STEP_ACROSS_QUEUES_S: i64 = 600;

/// The item's order in its queue, smallest first.
///
/// With `aging_s`, one step of priority counts as much as waiting for so many seconds. Everything that waits ages at the
/// same pace, so that the order between two items never changes and an index can hold it. Without, priority is strict
/// and time decides between equals.
pub fn rank(priority: i32, queued_at: Timestamp, aging_s: Option<i64>) -> i64 {
    let steps = i64::from(priority);
    match aging_s {
        Some(aging_s) => queued_at.plus_s(aging_s.saturating_mul(steps)).as_millis(),
        None => STEP.saturating_mul(steps).saturating_add(queued_at.as_millis()),
    }
}

/// The item's order against the heads of other queues, smallest first.
pub fn rank_across_queues(priority: i32, queued_at: Timestamp, aging_s: Option<i64>) -> i64 {
    rank(priority, queued_at, aging_s.or(Some(STEP_ACROSS_QUEUES_S)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    proptest! {
        #[test]
        fn without_aging_a_better_priority_always_goes_first(
            better in 1..10_i32, worse_by in 1..9_i32, early in 0..4_000_000_000_000_i64, late in 0..4_000_000_000_000_i64,
        ) {
            let worse = (better + worse_by).min(10);
            prop_assert!(rank(better, at(late), None) < rank(worse, at(early), None));
        }

        #[test]
        fn between_equals_who_came_first_goes_first(
            priority in 1..=10_i32, early in 0..4_000_000_000_000_i64, later_by in 1..1_000_000_000_i64,
            aging_s in proptest::option::of(1..100_000_i64),
        ) {
            prop_assert!(rank(priority, at(early), aging_s) < rank(priority, at(early + later_by), aging_s));
        }

        #[test]
        fn with_aging_a_step_of_priority_is_worth_exactly_the_given_wait(
            priority in 1..10_i32, came in 0..4_000_000_000_000_i64, aging_s in 1..100_000_i64,
        ) {
            let better = rank(priority, at(came + aging_s * 1000), Some(aging_s));
            let worse = rank(priority + 1, at(came), Some(aging_s));
            prop_assert_eq!(better, worse);
        }
    }
}
