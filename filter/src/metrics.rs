//! What operators can watch: `wasmcustom.isthmus.provider.<name>.…` in Envoy's statistics.

use std::collections::HashMap;

use isthmus_engine::{Engine, KeyStatus};
use isthmus_engine::{FetchError, KeySourceId, Progress, UnixMillis};
use proxy_wasm::types::MetricType;

use crate::host;

/// The metrics of each provider whose keys are fetched.
#[derive(Default)]
pub(crate) struct Metrics {
    providers: HashMap<KeySourceId, ProviderMetrics>,
}

struct ProviderMetrics {
    key_age_seconds: u32,
    fetches_ok: u32,
    fetches_failed: u32,
}

impl Metrics {
    /// A metric that the host does not define is not counted; nothing else depends on it.
    pub(crate) fn define(engine: &Engine) -> Self {
        let fetched = engine.key_status().filter(|status| status.address.is_some());
        let providers = fetched.filter_map(|status| {
            let metric = |metric_type, name: &str| {
                host::define_metric(metric_type, &format!("isthmus.provider.{}.{name}", tag(&status))).ok()
            };
            let metrics = ProviderMetrics {
                key_age_seconds: metric(MetricType::Gauge, "key_age_seconds")?,
                fetches_ok: metric(MetricType::Counter, "key_fetches.ok")?,
                fetches_failed: metric(MetricType::Counter, "key_fetches.failed")?,
            };
            Some((status.source, metrics))
        });
        Self {
            providers: providers.collect(),
        }
    }

    pub(crate) fn count_fetch(&self, source: KeySourceId, outcome: Result<Progress, FetchError>) {
        let Some(metrics) = self.providers.get(&source) else {
            return;
        };
        match outcome {
            // Not this worker's fetch, and counted by the one whose it was.
            Err(FetchError::Elsewhere) => {}
            Ok(_) => host::increment_metric(metrics.fetches_ok),
            Err(_) => host::increment_metric(metrics.fetches_failed),
        }
    }

    pub(crate) fn record_key_age(&self, engine: &Engine, now: UnixMillis) {
        for status in engine.key_status() {
            if let (Some(metrics), Some(age)) = (self.providers.get(&status.source), status.age(now)) {
                host::record_metric(metrics.key_age_seconds, age.as_secs());
            }
        }
    }
}

/// A provider's name without the dot, which separates the parts of a metric's name.
fn tag(status: &KeyStatus<'_>) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
            c
        } else {
            '_'
        }
    };
    status.provider.chars().map(plain).collect()
}
