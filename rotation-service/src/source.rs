//! Where values come from.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;

use crate::{local_ca::IssueError, secret::Value, token::TokenError};

pub(crate) mod entra;
pub(crate) mod local_ca;

/// Obtains new values of one secret.
#[async_trait]
pub trait Source: Send + Sync {
    /// Makes one attempt: no retries of its own, and an answer within a bounded time.
    ///
    /// # Errors
    ///
    /// Why there is no value this time. No error holds any part of a secret.
    async fn obtain(&self) -> Result<Obtained, SourceError>;
}

/// A new value.
#[derive(Clone, Debug)]
pub struct Obtained {
    /// The value.
    pub value: Value,
    /// When it expires, by the wall clock.
    pub expires_at: SystemTime,
}

/// Why an attempt brought no value.
///
/// Only what is listed here is ever logged: a response body or an error text of a library could hold a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// No connection: the name or the network.
    #[error("cannot connect")]
    Unreachable,
    /// The server is there, and TLS with it failed.
    #[error("cannot connect by TLS: {0}")]
    Tls(&'static str),
    /// The connection broke, or the answer was not whole.
    #[error("the answer broke off")]
    BrokenOff,
    /// The answer is larger than any token response is.
    #[error("the answer is too large")]
    TooLarge,
    /// The server said no.
    #[error(transparent)]
    Refused(Refusal),
    /// The answer is not what the protocol asks for.
    #[error("the answer is malformed")]
    Malformed,
    /// The answer's token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The value has already expired.
    #[error("the value has already expired, or lives for no time at all")]
    AlreadyExpired,
    /// The assertion file cannot be read.
    #[error("cannot read the assertion file: {0}")]
    AssertionUnreadable(std::io::ErrorKind),
    /// The assertion file holds nothing that can be sent.
    #[error("the assertion file does not hold a JWT")]
    AssertionMalformed,
    /// This machine or configuration cannot use this source at all.
    #[error("the identity cannot be used here: {0}")]
    Unusable(&'static str),
    /// The local CA could not sign.
    #[error(transparent)]
    LocalCa(#[from] IssueError),
    /// The attempt ended by a panic. A defect; the other secrets go on.
    #[error("the attempt panicked")]
    Panicked,
}

impl SourceError {
    /// A stable code for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Unreachable => "unreachable",
            Self::Tls(_) => "tls",
            Self::BrokenOff => "broken_off",
            Self::TooLarge => "too_large",
            Self::Refused(refusal) if refusal.status == 429 => "throttled",
            Self::Refused(_) => "refused",
            Self::Malformed => "malformed",
            Self::Token(_) => "bad_token",
            Self::AlreadyExpired => "already_expired",
            Self::AssertionUnreadable(_) => "assertion_unreadable",
            Self::AssertionMalformed => "assertion_malformed",
            Self::Unusable(_) => "unusable",
            Self::LocalCa(_) => "local_ca",
            Self::Panicked => "panicked",
        }
    }

    /// How long the server asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}

/// An answer other than 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Entra's error code: the number in `AADSTS70021`. See "Microsoft Entra authentication and authorization error codes".
    pub aadsts: Option<u32>,
    /// The OAuth 2.0 error (RFC 6749, section 5.2), such as `invalid_client`.
    pub oauth: Option<&'static str>,
    /// The `Retry-After` header, if it was a number of seconds.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused with status {}", self.status)?;
        if let Some(error) = self.oauth {
            write!(f, " {error}")?;
        }
        match self.aadsts {
            Some(code) => write!(f, " AADSTS{code}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}
