//! Entra's errors: the code (AADSTS…), the OAuth error and the JSON around them, as its error reference has
//! them.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
    Json,
};
use serde_json::json;
use time::{macros::format_description, OffsetDateTime};

use crate::random;

/// One refusal.
#[derive(Debug)]
pub(super) struct AadSts {
    code: u32,
    error: &'static str,
    message: String,
}

impl AadSts {
    pub(super) fn tenant_not_found(tenant: &str) -> Self {
        Self::request(
            90002,
            format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."),
        )
    }

    pub(super) fn application_not_found(client_id: &str, tenant: &str) -> Self {
        let message =
            format!("Application with identifier '{client_id}' was not found in the directory '{tenant}'.");
        Self::new(700016, "unauthorized_client", message)
    }

    pub(super) fn missing(parameter: &str) -> Self {
        Self::request(
            900144,
            format!("The request body must contain the following parameter: '{parameter}'."),
        )
    }

    pub(super) fn repeated(parameter: &str) -> Self {
        Self::request(
            9000411,
            format!("The request is not properly formatted. The parameter '{parameter}' is duplicated."),
        )
    }

    pub(super) fn grant_type(grant_type: &str) -> Self {
        let message = format!("The app requested an unsupported grant type '{grant_type}'.");
        Self::new(70003, "unsupported_grant_type", message)
    }

    pub(super) fn scope(scope: &str) -> Self {
        let message = format!(
            "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with \
             /.default suffixed to the resource identifier (application ID URI)."
        );
        Self::new(1002012, "invalid_scope", message)
    }

    pub(super) fn resource_not_found(resource: &str) -> Self {
        let message = format!("The resource principal named {resource} was not found in the tenant.");
        Self::new(500011, "invalid_resource", message)
    }

    pub(super) fn no_credential() -> Self {
        Self::client(
            7000218,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
                .into(),
        )
    }

    pub(super) fn malformed_assertion() -> Self {
        Self::client(50027, "JWT token is invalid or malformed.".into())
    }

    pub(super) fn algorithm(name: &str) -> Self {
        Self::client(
            5002738,
            format!(
                "Invalid JWT token. '{name}' is not a supported signature algorithm. Supported: 'RS256'."
            ),
        )
    }

    pub(super) fn bad_signature() -> Self {
        Self::client(700027, "Client assertion failed signature validation.".into())
    }

    pub(super) fn federated_issuer(issuer: &str) -> Self {
        Self::federated(700211, "issuer", issuer)
    }

    pub(super) fn federated_audience(audience: &str) -> Self {
        Self::federated(700212, "audience", audience)
    }

    pub(super) fn federated_subject(subject: &str) -> Self {
        Self::federated(700213, "subject", subject)
    }

    pub(super) fn not_in_time(now: u64, from: u64, until: u64) -> Self {
        let message = format!(
            "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {from}, \
             expiry time of assertion {until}."
        );
        Self::client(700024, message)
    }

    fn federated(code: u32, what: &str, value: &str) -> Self {
        let message =
            format!("No matching federated identity record found for presented assertion {what} '{value}'.");
        Self::client(code, message)
    }

    fn request(code: u32, message: String) -> Self {
        Self::new(code, "invalid_request", message)
    }

    fn client(code: u32, message: String) -> Self {
        Self::new(code, "invalid_client", message)
    }

    fn new(code: u32, error: &'static str, message: String) -> Self {
        Self { code, error, message }
    }
}

impl IntoResponse for AadSts {
    fn into_response(self) -> Response {
        let status = match self.error {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        };
        let (trace, correlation) = (random::uuid(), random::uuid());
        let timestamp = OffsetDateTime::now_utc()
            .format(format_description!(
                "[year]-[month]-[day] [hour]:[minute]:[second]Z"
            ))
            .expect("the current time has a year of four digits");
        let Self { code, message, .. } = self;
        let body = json!({
            "error": self.error,
            "error_description": format!(
                "AADSTS{code}: {message} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}"
            ),
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
        });
        (status, Json(body)).into_response()
    }
}
