//! How many messages a rate lets go: never more than it says in any minute.
//!
//! The places under a rate follow each other at one distance. What was not used is kept for half a second, so that a late
//! wake-up does not lower the rate; what that may add to a minute, a 120th of the rate, is taken off the places of the
//! others. Places are counted in microseconds since the Unix epoch, because there may be several in a few milliseconds.

use crate::clock::Timestamp;

const MINUTE_US: i64 = 60_000_000;

/// The places under a rate, the first of which is free at `next_us`.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// None: as many as there are.
    per_minute: Option<i64>,
    next_us: i64,
}

impl Rate {
    /// The rate, in messages a minute, none being used before `next_us`.
    pub fn new(per_minute: Option<i32>, next_us: i64) -> Self {
        Self { per_minute: per_minute.map(|per_minute| i64::from(per_minute.max(1))), next_us }
    }

    /// How many of `wanted` messages may go now.
    pub fn free(self, now: Timestamp, wanted: u32) -> u32 {
        let Some(per_minute) = self.per_minute else { return wanted };
        let ahead = micros(now) - self.first(per_minute, now);
        let free = if ahead < 0 { 0 } else { ahead.saturating_mul(spread(per_minute)) / MINUTE_US + 1 };
        wanted.min(u32::try_from(free).unwrap_or(u32::MAX))
    }

    /// What `next_us` is when `count` messages have gone now.
    pub fn after(self, now: Timestamp, count: usize) -> i64 {
        let Some(per_minute) = self.per_minute else { return self.next_us };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.first(per_minute, now).saturating_add(places(per_minute, count))
    }

    /// When the next message may go.
    pub fn opens_at(self) -> Timestamp {
        Timestamp::from_millis(self.next_us.saturating_add(999) / 1000)
    }

    /// The first place that can still be used.
    fn first(self, per_minute: i64, now: Timestamp) -> i64 {
        self.next_us.max(micros(now) - places(per_minute, kept(per_minute)))
    }
}

/// How many unused places are kept.
const fn kept(per_minute: i64) -> i64 {
    per_minute / 120
}

/// How many places there are in a minute.
const fn spread(per_minute: i64) -> i64 {
    per_minute - kept(per_minute)
}

/// The microseconds that so many places take, rounded up.
fn places(per_minute: i64, count: i64) -> i64 {
    let (spread, us) = (spread(per_minute), count.saturating_mul(MINUTE_US));
    us / spread + i64::from(us % spread > 0)
}

fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEGIN: i64 = 1_772_355_600_000;

    /// When messages went, in milliseconds, if a look comes after each of `pauses` (in milliseconds) and takes at most so
    /// many; the pauses come again and again for three minutes.
    fn gone(rate: i32, looks: &[(i64, u32)]) -> Vec<i64> {
        let (mut now, mut next, mut gone) = (BEGIN, 0, Vec::new());
        for (pause, wanted) in looks.iter().cycle() {
            now += pause;
            if now > BEGIN + 180_000 {
                return gone;
            }
            let rate = Rate::new(Some(rate), next);
            let count = rate.free(Timestamp::from_millis(now), *wanted);
            if count > 0 {
                next = rate.after(Timestamp::from_millis(now), count as usize);
            }
            gone.extend((0..count).map(|_| now));
        }
        gone
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_minute_has_more_messages_than_the_rate_says(
            rate in 1..=60_000,
            looks in proptest::collection::vec((1..3_000_i64, 1..2_000_u32), 1..20),
        ) {
            let gone = gone(rate, &looks);
            let most = usize::try_from(rate).unwrap();
            for (at, last) in gone.iter().enumerate().skip(most) {
                prop_assert!(last - gone[at - most] >= 60_000, "{rate} a minute: {} in less", most + 1);
            }
        }

        #[test]
        fn a_rate_is_used_whole_when_there_is_work(rate in 1..=60_000, wanted in 1..200_u32) {
            let gone = gone(rate, &[(1, wanted)]);
            let wanted = 3 * i64::from(rate) * 99 / 100;
            prop_assert!(i64::try_from(gone.len()).unwrap() >= wanted, "{rate} a minute: {} in three", gone.len());
        }
    }

    #[test]
    fn a_slow_rate_gives_one_place_at_a_time_however_long_it_was_quiet() {
        let at = Timestamp::from_millis;
        assert_eq!(Rate::new(None, 0).free(at(1_000_000), 10), 10);
        assert_eq!(Rate::new(Some(30), 0).free(at(1_000_000), 10), 1);
        assert_eq!(Rate::new(Some(30), 1_000_000_001).free(at(1_000_000), 10), 0);
        assert_eq!(Rate::new(Some(1), 0).after(at(1_000_000), 1), 1_060_000_000);
        assert_eq!(Rate::new(Some(1), 1_060_000_000).opens_at(), at(1_060_000));
    }

    #[test]
    fn a_fast_rate_makes_up_for_half_a_second_at_most() {
        let at = Timestamp::from_millis;
        assert_eq!(Rate::new(Some(600), 0).free(at(1_000_000), 50), 6);
        assert_eq!(Rate::new(Some(600), 999_800_000).free(at(1_000_000), 50), 2);
    }
}
