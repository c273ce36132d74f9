//! What operators can watch: `wasmcustom.isthmus.…` in Envoy's statistics. What follows the name in pairs, as in
//! `.provider.pool`, becomes a label by the `stats_tags` of the shipped configuration. Requests are counted in memory and
//! told to the host at each tick: on their way there is no call for it.

use std::collections::HashMap;

use isthmus_engine::{
    CacheCounts, Decision, Engine, FetchError, KeySourceId, Labels, Progress, Reason, UnixMillis,
};
use proxy_wasm::types::MetricType;

use crate::host;

/// The most label sets that are counted apart. Providers, roles and reasons are all of the configuration or of a closed list,
/// so this is a bound that is not met by chance.
const MAX_SERIES: usize = 4096;

#[derive(Default)]
pub(crate) struct Metrics {
    keys: HashMap<KeySourceId, KeyMetrics>,
    decisions: HashMap<Series, Counter>,
    cache: Option<CacheMetrics>,
}

struct KeyMetrics {
    age_seconds: u32,
    fetches_ok: u32,
    fetches_failed: u32,
}

struct CacheMetrics {
    verified: u32,
    refused: u32,
    missed: u32,
}

/// Decisions with the same labels.
type Series = (Option<usize>, Option<usize>, Reason, bool);

#[derive(Default)]
struct Counter {
    id: Option<u32>,
    /// Not yet told to the host.
    count: u32,
}

impl Metrics {
    /// A metric that the host does not define is not counted; nothing else depends on it.
    pub(crate) fn define(engine: &Engine) -> Self {
        let fetched = engine.key_status().filter(|status| status.address.is_some());
        let keys = fetched.filter_map(|status| {
            let provider = tag(status.provider);
            let counter =
                |outcome: &str| define(&format!("key_fetches.provider.{provider}.outcome.{outcome}"));
            let age = format!("isthmus.key_age_seconds.provider.{provider}");
            let metrics = KeyMetrics {
                age_seconds: host::define_metric(MetricType::Gauge, &age).ok()?,
                fetches_ok: counter("ok")?,
                fetches_failed: counter("failed")?,
            };
            Some((status.source, metrics))
        });
        let lookups = |result: &str| define(&format!("token_cache.result.{result}"));
        Self {
            keys: keys.collect(),
            decisions: HashMap::new(),
            cache: lookups("verified")
                .zip(lookups("refused"))
                .zip(lookups("missed"))
                .map(|((verified, refused), missed)| CacheMetrics {
                    verified,
                    refused,
                    missed,
                }),
        }
    }

    pub(crate) fn count_fetch(&self, source: KeySourceId, outcome: Result<Progress, FetchError>) {
        let Some(metrics) = self.keys.get(&source) else {
            return;
        };
        match outcome {
            // Not this worker's fetch, and counted by the one whose it was.
            Err(FetchError::Elsewhere) => {}
            Ok(_) => host::increment_metric(metrics.fetches_ok, 1),
            Err(_) => host::increment_metric(metrics.fetches_failed, 1),
        }
    }

    /// Counts what a request came to.
    pub(crate) fn count_decision(&mut self, decision: &Decision) {
        let Labels {
            provider,
            role,
            reason,
            enforced,
        } = decision.labels();
        let series = (provider, role, reason, enforced);
        if self.decisions.len() < MAX_SERIES || self.decisions.contains_key(&series) {
            let counter = self.decisions.entry(series).or_default();
            counter.count = counter.count.saturating_add(1);
        }
    }

    /// Tells the host what has been counted.
    pub(crate) fn flush(&mut self, engine: &mut Engine, now: UnixMillis) {
        for ((provider, role, reason, enforced), counter) in &mut self.decisions {
            if counter.count == 0 {
                continue;
            }
            let id = counter.id.or_else(|| {
                let provider = tag(provider
                    .and_then(|place| engine.provider_name(place))
                    .unwrap_or("none"));
                let role = tag(role.and_then(|place| engine.role_name(place)).unwrap_or("none"));
                let outcome = match (reason.status(), enforced) {
                    (200, _) => "allow",
                    (_, true) => "deny",
                    (_, false) => "shadow_deny",
                };
                define(&format!(
                    "decisions.provider.{provider}.role.{role}.outcome.{outcome}.reason.{reason}"
                ))
            });
            counter.id = id;
            if let Some(id) = id {
                host::increment_metric(id, counter.count);
            }
            counter.count = 0;
        }
        let CacheCounts {
            verified,
            refused,
            missed,
        } = engine.take_cache_counts();
        if let Some(metrics) = &self.cache {
            for (id, count) in [
                (metrics.verified, verified),
                (metrics.refused, refused),
                (metrics.missed, missed),
            ] {
                if count > 0 {
                    host::increment_metric(id, count);
                }
            }
        }
        for status in engine.key_status() {
            if let (Some(metrics), Some(age)) = (self.keys.get(&status.source), status.age(now)) {
                host::record_metric(metrics.age_seconds, age.as_secs());
            }
        }
    }
}

fn define(name: &str) -> Option<u32> {
    host::define_metric(MetricType::Counter, &format!("isthmus.{name}")).ok()
}

/// A name without the dot, which separates the parts of a metric's name.
fn tag(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
            c
        } else {
            '_'
        }
    };
    name.chars().map(plain).collect()
}
