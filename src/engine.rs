//! An engine for the command: a configuration, keys from files in the place of those that the filter would fetch, and
//! a time.

use std::{
    fmt, fs, io,
    path::PathBuf,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Args;
use isthmus_engine::{Engine, UnixMillis};
use time::{format_description::well_known::Rfc3339, OffsetDateTime};

/// What an engine is made of.
#[derive(Args)]
pub(crate) struct EngineOptions {
    /// The filter's configuration, JSON.
    #[arg(long)]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) rest: Circumstances,
}

/// What a configuration does not say.
#[derive(Args)]
pub(crate) struct Circumstances {
    /// The key set of a provider whose keys the filter would fetch. Can be given once for each.
    #[arg(long = "jwks", value_name = "PROVIDER=FILE")]
    keys: Vec<KeyFile>,
    /// The time of the decision: seconds since 1970, or RFC 3339. Now, if not given.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    now: Option<Instant>,
}

#[derive(Clone)]
struct KeyFile {
    provider: String,
    file: PathBuf,
}

#[derive(Clone, Copy)]
struct Instant(UnixMillis);

/// Why there is no engine.
pub(crate) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Circumstances {
    /// The time of the decisions.
    pub(crate) fn now(&self) -> UnixMillis {
        self.now.map_or_else(clock, |now| now.0)
    }

    /// Compiles the configuration and loads the key files.
    pub(crate) fn engine(&self, config: &PathBuf) -> Result<Engine, Failure> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|error: io::Error| Failure(format!("{}: {error}", path.display())))
        };
        let text = read(config)?;
        let mut engine =
            Engine::new(&text).map_err(|error| Failure(format!("{}: {error}", config.display())))?;
        for KeyFile { provider, file } in &self.keys {
            let wrong = |problem: String| Failure(format!("--jwks {provider}={}: {problem}", file.display()));
            let status = engine
                .key_status()
                .find(|status| status.provider == provider)
                .ok_or_else(|| wrong("there is no such provider".to_owned()))?;
            if status.address.is_none() {
                return Err(wrong("the provider has its keys already".to_owned()));
            }
            let source = status.source;
            engine
                .fix_keys(source, &read(file)?)
                .map_err(|error| wrong(error.to_string()))?;
        }
        Ok(engine)
    }
}

impl FromStr for KeyFile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (provider, file) = text.split_once('=').ok_or("expected PROVIDER=FILE")?;
        Ok(Self {
            provider: provider.to_owned(),
            file: file.into(),
        })
    }
}

impl FromStr for Instant {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected seconds since 1970, or a time such as 2026-01-31T12:00:00Z";
        let seconds = match text.parse::<f64>() {
            Ok(seconds) => seconds,
            Err(_) => {
                let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| EXPECTED)?;
                time.unix_timestamp_nanos() as f64 / 1e9
            }
        };
        if !(0.0..1e12).contains(&seconds) {
            return Err(EXPECTED);
        }
        Ok(Self(UnixMillis((seconds * 1000.0) as u64)))
    }
}

fn clock() -> UnixMillis {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}
