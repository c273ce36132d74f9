//! The HTTP client under `azure_identity`: one request, a bounded answer, and errors that hold no body.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    error::ErrorKind,
    http::{
        headers::{Headers, RETRY_AFTER},
        AsyncRawResponse, HttpClient, Request,
    },
};
use futures::StreamExt;
use serde::Deserialize;

use crate::{
    config::{CloudConfig, FilePath},
    source::{Refusal, SourceError},
};

/// A token response is a few KiB.
const MAX_BODY: usize = 64 * 1024;

/// Lifetimes beyond ten years are nonsense, and `azure_identity` 1.0 panics on one that passes the year 9999.
const MAX_EXPIRES_IN: i64 = 10 * 365 * 86_400;

/// The client for Entra and the managed-identity endpoints cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// The file of extra certificates cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of extra certificates holds none.
    #[error("{} does not hold PEM certificates", .0.display())]
    NoCertificate(PathBuf),
    /// The HTTP client cannot be made.
    #[error("cannot set up TLS: {0}")]
    Client(#[source] reqwest::Error),
}

/// The HTTP client for one cloud. It uses no proxy, because the managed-identity endpoint is on this machine and a token must
/// not take a way round, and follows no redirect, because an assertion goes to the configured authority and nowhere else.
///
/// # Errors
///
/// The extra trust anchors cannot be used.
pub(crate) fn client(cloud: &CloudConfig) -> Result<reqwest::Client, CloudError> {
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5));
    if let Some(file) = &cloud.ca_file {
        builder = builder.tls_certs_merge(certificates(file)?);
    }
    builder.build().map_err(CloudError::Client)
}

fn certificates(file: &FilePath) -> Result<Vec<reqwest::Certificate>, CloudError> {
    let path = file.as_path();
    let pem = std::fs::read(path).map_err(|source| CloudError::Read {
        path: path.to_owned(),
        source,
    })?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(CloudError::NoCertificate(path.to_owned())),
    }
}

/// Sends each request once and turns every failure into a [`SourceError`].
///
/// The error travels through `azure_core` as kind `Other`, the one that its retry policies never retry: not even that of the
/// virtual-machine credential, which overrides the options it is given.
#[derive(Debug)]
pub(crate) struct OneTry(Arc<dyn HttpClient>);

impl OneTry {
    pub(crate) fn new(http: Arc<dyn HttpClient>) -> Self {
        Self(http)
    }

    async fn send(&self, request: &Request) -> Result<AsyncRawResponse, SourceError> {
        let response = self
            .0
            .execute_request(request)
            .await
            .map_err(|error| connection_error(&error))?;
        let (status, headers, mut stream) = response.deconstruct();
        let mut body = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| SourceError::BrokenOff)?;
            if body.len() + chunk.len() > MAX_BODY {
                return Err(SourceError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            return Err(SourceError::Refused(refusal(status.into(), &headers, &body)));
        }
        if !is_sane(&body) {
            return Err(SourceError::Malformed);
        }
        Ok(AsyncRawResponse::from_bytes(status, headers, body))
    }
}

#[async_trait]
impl HttpClient for OneTry {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let sent = self.send(request).await;
        sent.map_err(|error| azure_core::Error::new(ErrorKind::Other, error))
    }
}

/// What is said of a connection that failed: only what our own TLS stack and the system found, never what the server sent.
fn connection_error(error: &azure_core::Error) -> SourceError {
    match (tls_error(error), error.kind()) {
        (Some(rustls::Error::InvalidCertificate(_)), _) => SourceError::Tls("its certificate is not trusted"),
        (Some(_), _) => SourceError::Tls("the handshake failed"),
        (None, ErrorKind::Connection) => SourceError::Unreachable,
        (None, _) => SourceError::BrokenOff,
    }
}

/// The TLS stack's error under an HTTP client's. `io::Error` leaves out what it wraps from its chain of sources.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref() {
        return Some(tls);
    }
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => tls_error(inner),
        None => tls_error(error.source()?),
    }
}

fn refusal(status: u16, headers: &Headers, body: &[u8]) -> Refusal {
    let seconds = headers
        .get_optional_str(&RETRY_AFTER)
        .and_then(|text| text.trim().parse().ok());
    let answer: EntraError = serde_json::from_slice(body).unwrap_or_default();
    Refusal {
        status,
        aadsts: answer.code(),
        oauth: answer.oauth(),
        retry_after: seconds.map(Duration::from_secs),
    }
}

/// An error response of Entra's token endpoint (Microsoft identity platform, "error response example").
#[derive(Default, Deserialize)]
#[serde(default)]
struct EntraError {
    error: String,
    error_codes: Vec<u32>,
    error_description: String,
}

impl EntraError {
    /// The number in `AADSTS70021`, from the field made for it or from the start of the description.
    fn code(&self) -> Option<u32> {
        self.error_codes.first().copied().or_else(|| {
            let digits = self
                .error_description
                .strip_prefix("AADSTS")?
                .split(|c: char| !c.is_ascii_digit())
                .next()?;
            digits.parse().ok()
        })
    }

    /// The OAuth error, if it is one that the standards name (RFC 6749, section 5.2). Free text is not passed on.
    fn oauth(&self) -> Option<&'static str> {
        const KNOWN: [&str; 8] = [
            "invalid_request",
            "invalid_client",
            "invalid_grant",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_scope",
            "invalid_resource",
            "temporarily_unavailable",
        ];
        KNOWN.into_iter().find(|known| *known == self.error)
    }
}

fn is_sane(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Lifetime {
        expires_in: Option<serde_json::Value>,
    }
    // An answer that cannot be read at all is left to the library to refuse.
    let lifetime = serde_json::from_slice::<Lifetime>(body)
        .ok()
        .and_then(|body| body.expires_in);
    let seconds = lifetime.and_then(|value| value.as_i64());
    seconds.is_none_or(|seconds| (-MAX_EXPIRES_IN..=MAX_EXPIRES_IN).contains(&seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> Refusal {
        refusal(400, &Headers::new(), body.as_bytes())
    }

    #[test]
    fn the_entra_code_is_found_strictly() {
        let cases = [
            (
                r#"{"error":"invalid_client","error_codes":[70021,1],"error_description":"AADSTS1: x"}"#,
                Some(70021),
            ),
            (
                r#"{"error_description":"AADSTS700213: No matching\r\n \"x\""}"#,
                Some(700213),
            ),
            (r#"{"error_description":"see AADSTS700213"}"#, None),
            (r#"{"error_description":"AADSTS99999999999"}"#, None),
            (r#"{"error_description":"AADSTS: "}"#, None),
            (r#"{"error_codes":["70021"]}"#, None),
            ("", None),
            ("<html>AADSTS70021</html>", None),
        ];
        for (body, code) in cases {
            assert_eq!(refused(body).aadsts, code, "{body}");
        }
    }

    #[test]
    fn only_oauth_errors_of_the_standards_are_passed_on() {
        assert_eq!(
            refused(r#"{"error":"invalid_scope"}"#).oauth,
            Some("invalid_scope")
        );
        assert_eq!(refused(r#"{"error":"eyJhbGciOi"}"#).oauth, None);
    }

    #[test]
    fn retry_after_counts_only_in_seconds() {
        for (text, seconds) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = Headers::new();
            headers.insert(RETRY_AFTER, text.to_owned());
            let refusal = refusal(429, &headers, b"");
            assert_eq!(refusal.retry_after, seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_lifetime_that_would_overflow_is_not_sane() {
        for body in [
            r#"{"expires_in":3599}"#,
            r#"{"expires_in":0}"#,
            "{}",
            "",
            "[]",
            r#"{"expires_in":"1"}"#,
        ] {
            assert!(is_sane(body.as_bytes()), "{body}");
        }
        for body in [
            r#"{"expires_in":9223372036854775807}"#,
            r#"{"expires_in":-9223372036854775808}"#,
        ] {
            assert!(!is_sane(body.as_bytes()), "{body}");
        }
    }
}
