//! When to try next. Pure: time and chance are parameters.

use std::time::{Duration, SystemTime};

/// Never refresh a value sooner than this after it was obtained, however short it lives.
const FLOOR: Duration = Duration::from_secs(1);

/// A value is refreshed when this share of its lifetime has passed, moved by up to [`JITTER`] either way.
const FRACTION: f64 = 2.0 / 3.0;
const JITTER: f64 = 0.1;

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const CEILING: Duration = Duration::from_secs(30);

/// The longest `Retry-After` that is obeyed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How long before the last good value expires one more try is made, whatever the backoff says.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// When to refresh a value that was obtained at `obtained` and expires at `expires`: at two thirds of its lifetime, ±10 %,
/// so that many secrets do not fall due together. A 10-second token is refreshed after 6.0 to 7.3 s.
///
/// `jitter` is a sample from -1 to 1. The answer lies between `now` and `expires`, and at least a second after `obtained`
/// unless the value expires before that.
pub fn refresh_at(obtained: SystemTime, expires: SystemTime, now: SystemTime, jitter: f64) -> SystemTime {
    let lifetime = expires.duration_since(obtained).unwrap_or_default();
    let share = FRACTION * (1.0 + JITTER * jitter.clamp(-1.0, 1.0));
    let wait = lifetime.mul_f64(share).max(FLOOR).min(lifetime);
    (obtained + wait).max(now)
}

/// When to try again after `failures` failures in a row (at least one): 250 ms, doubling up to 30 s, each shortened at
/// random by up to a half, so that instances that failed together do not come back together.
///
/// A server's `retry_after` lengthens it. `last_good` is when the value still served expires: a wait that would pass it
/// ends early, for one more try while there is something to save.
///
/// `jitter` is a sample from -1 to 1.
pub fn retry_at(
    failures: u32,
    now: SystemTime,
    last_good: Option<SystemTime>,
    retry_after: Option<Duration>,
    jitter: f64,
) -> SystemTime {
    let doublings = failures.saturating_sub(1).min(16);
    let backoff = FIRST_BACKOFF.saturating_mul(1 << doublings).min(CEILING);
    let backoff = backoff.mul_f64(0.75 + 0.25 * jitter.clamp(-1.0, 1.0));
    let asked_for = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    let at = now + backoff.max(asked_for);

    let last_chance = last_good.and_then(|expires| expires.checked_sub(LAST_CHANCE));
    match last_chance {
        Some(last_chance) if now < last_chance => at.min(last_chance),
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_value_is_refreshed_at_two_thirds_of_its_lifetime_with_jitter() {
        // lifetime, time already passed, jitter, expected: all in ms after it was obtained, ± 1
        let cases = [
            (3_600_000, 0, 0.0, 2_400_000),
            (3_600_000, 0, 1.0, 2_640_000),
            (3_600_000, 0, -1.0, 2_160_000),
            (10_000, 0, 0.0, 6_667),
            (10_000, 0, 1.0, 7_333),
            (10_000, 0, -1.0, 6_000),
            (3_000, 0, 0.0, 2_000),
            // the floor, and lifetimes below it
            (1_200, 0, -1.0, 1_000),
            (500, 0, 0.0, 500),
            (0, 0, 0.0, 0),
            // due already: now
            (10_000, 8_000, 0.0, 8_000),
            (10_000, 60_000, 0.0, 60_000),
            // a jitter out of range counts as the nearest in range
            (10_000, 0, 50.0, 7_333),
        ];
        for (lifetime, passed, jitter, expected) in cases {
            let start = 1_000_000;
            let got = refresh_at(at(start), at(start + lifetime), at(start + passed), jitter);
            let error = got
                .duration_since(at(start + expected))
                .unwrap_or_else(|earlier| earlier.duration());
            assert!(
                error <= Duration::from_millis(1),
                "{lifetime} {passed} {jitter}: {got:?}"
            );
        }
    }

    #[test]
    fn a_value_that_expired_before_it_was_obtained_is_due_now() {
        assert_eq!(refresh_at(at(10_000), at(5_000), at(10_000), 0.0), at(10_000));
    }

    #[test]
    fn backoff_doubles_up_to_a_ceiling() {
        let waits: Vec<u128> = (1..=10)
            .map(|failures| {
                retry_at(failures, at(0), None, None, 1.0)
                    .duration_since(at(0))
                    .unwrap()
                    .as_millis()
            })
            .collect();
        assert_eq!(
            waits,
            [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]
        );
        assert_eq!(retry_at(u32::MAX, at(0), None, None, 1.0), at(30_000));
        assert_eq!(retry_at(8, at(0), None, None, -1.0), at(15_000));
    }

    #[test]
    fn a_server_may_ask_for_a_longer_wait_within_reason() {
        let wait = |seconds| retry_at(1, at(0), None, Some(Duration::from_secs(seconds)), 1.0);
        assert_eq!(wait(0), at(250));
        assert_eq!(wait(17), at(17_000));
        assert_eq!(wait(86_400), at(300_000));
        assert_eq!(wait(u64::MAX), at(300_000));
    }

    #[test]
    fn one_more_try_is_made_before_the_last_good_value_expires() {
        let long = Some(Duration::from_secs(60));
        // the wait would pass the expiry: it ends two seconds before it
        assert_eq!(retry_at(8, at(0), Some(at(20_000)), None, 1.0), at(18_000));
        assert_eq!(retry_at(1, at(0), Some(at(20_000)), long, 1.0), at(18_000));
        // a shorter wait stays as it is
        assert_eq!(retry_at(2, at(0), Some(at(20_000)), None, 1.0), at(500));
        // that try was the last one
        assert_eq!(retry_at(8, at(18_000), Some(at(20_000)), None, 1.0), at(48_000));
        assert_eq!(retry_at(8, at(30_000), Some(at(20_000)), None, 1.0), at(60_000));
    }
}
