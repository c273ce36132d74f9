//! Keeps one secret fresh.
//!
//! One task per secret runs [`Refresher::run`]: attempt, publish, wait, again. The task owns its secret's schedule alone, so
//! that only one attempt is in flight and no secret's failure touches another's.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::FutureExt;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::{
    clock::Clock,
    config::SecretName,
    schedule,
    source::{Obtained, Source, SourceError},
    store::{Cell, Versioned},
};

/// Waits are cut into slices of this length and the wall clock is read after each: it may jump, and a machine may sleep.
const SLICE: Duration = Duration::from_secs(30);

/// A sample from -1 to 1.
pub(crate) type Jitter = fn() -> f64;

/// Keeps one secret fresh.
pub(crate) struct Refresher {
    name: SecretName,
    source: Arc<dyn Source>,
    cell: Arc<Cell>,
    clock: Arc<dyn Clock>,
    jitter: Jitter,
    /// When the value that is served expires by the monotonic clock. The wall clock may be set back, a token's life may not.
    lives_until: Option<Instant>,
}

impl Refresher {
    pub(crate) fn new(
        name: SecretName,
        source: Arc<dyn Source>,
        cell: Arc<Cell>,
        clock: Arc<dyn Clock>,
        jitter: Jitter,
    ) -> Self {
        Self {
            name,
            source,
            cell,
            clock,
            jitter,
            lives_until: None,
        }
    }

    /// Runs until dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let next = match self.attempt().await {
                Ok(obtained) => self.publish(obtained),
                Err(error) => self.note_failure(&error),
            };
            self.wait(next).await;
        }
    }

    /// One attempt. The value that is served may expire while it lasts.
    async fn attempt(&mut self) -> Result<Obtained, SourceError> {
        let source = Arc::clone(&self.source);
        let mut attempt = std::pin::pin!(AssertUnwindSafe(source.obtain()).catch_unwind());
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut attempt => break outcome.unwrap_or(Err(SourceError::Panicked)),
                () = self.expiry() => self.expire(),
            }
        };
        let obtained = outcome?;
        if obtained.expires_at <= self.clock.now() {
            return Err(SourceError::AlreadyExpired);
        }
        Ok(obtained)
    }

    /// Publishes a value and tells when to refresh it.
    fn publish(&mut self, obtained: Obtained) -> SystemTime {
        let now = self.clock.now();
        let lifetime = obtained.expires_at.duration_since(now).unwrap_or_default();
        let next = schedule::refresh_at(now, obtained.expires_at, now, (self.jitter)());
        let versioned = Versioned::fresh(obtained.value, obtained.expires_at);
        info!(
            secret = %self.name,
            version = %versioned.version(),
            lives_s = lifetime.as_secs(),
            next_s = seconds_until(next, now),
            "published"
        );
        self.lives_until = Instant::now().checked_add(lifetime);
        self.cell.publish(versioned);
        next
    }

    /// Logs a failure and tells when to try again.
    fn note_failure(&self, error: &SourceError) -> SystemTime {
        let now = self.clock.now();
        let failures = self.cell.count_failure();
        let last_good = self.cell.last_good_until();
        let next = schedule::retry_at(failures, now, last_good, error.retry_after(), (self.jitter)());
        warn!(
            secret = %self.name,
            reason = error.reason(),
            cause = %error,
            attempt = failures,
            next_s = seconds_until(next, now),
            last_good_lives_s = last_good.map(|expires| seconds_until(expires, now)),
            "cannot refresh"
        );
        next
    }

    /// Waits until `next`, by the wall clock or by as much elapsed time as there is until then, whichever is first.
    async fn wait(&mut self, next: SystemTime) {
        let planned = next.duration_since(self.clock.now()).unwrap_or_default();
        let started = Instant::now();
        loop {
            let by_wall = next.duration_since(self.clock.now()).unwrap_or_default();
            let left = by_wall.min(planned.saturating_sub(started.elapsed()));
            if left.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = self.expiry() => self.expire(),
                () = tokio::time::sleep(left.min(SLICE)) => {}
            }
        }
    }

    /// Ends when the good value that is served expires; never, if there is none.
    async fn expiry(&self) {
        loop {
            let Some(expires_at) = self.cell.last_good_until() else {
                return std::future::pending().await;
            };
            let by_wall = expires_at.duration_since(self.clock.now()).unwrap_or_default();
            let by_elapsed = self
                .lives_until
                .map(|until| until.saturating_duration_since(Instant::now()));
            let left = by_wall.min(by_elapsed.unwrap_or(by_wall));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(SLICE)).await;
        }
    }

    fn expire(&self) {
        if self.cell.expire() {
            error!(
                secret = %self.name,
                attempts = self.cell.failures(),
                "the last good value has expired: requests that need it will fail until a new one comes"
            );
        }
    }
}

fn seconds_until(then: SystemTime, now: SystemTime) -> f64 {
    let left = then.duration_since(now).unwrap_or_default();
    (left.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests;
