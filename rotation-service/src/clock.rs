//! The wall clock, behind a seam so that tests can turn it.

use std::time::SystemTime;

/// Tells the wall-clock time. Waiting is done on tokio's own (monotonic) time.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Mutex;
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;

    use super::Clock;

    /// A wall clock that moves with tokio's paused time and jumps when told to.
    pub(crate) struct TestClock {
        started: Instant,
        epoch: Mutex<SystemTime>,
    }

    impl TestClock {
        pub(crate) fn start() -> Self {
            Self {
                started: Instant::now(),
                epoch: Mutex::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
            }
        }

        pub(crate) fn jump_forward(&self, by: Duration) {
            *self.epoch.lock().unwrap() += by;
        }

        pub(crate) fn jump_back(&self, by: Duration) {
            *self.epoch.lock().unwrap() -= by;
        }
    }

    impl Clock for TestClock {
        fn now(&self) -> SystemTime {
            *self.epoch.lock().unwrap() + self.started.elapsed()
        }
    }
}
