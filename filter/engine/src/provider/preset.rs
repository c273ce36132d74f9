//! What is known of an identity system beyond OpenID Connect: who issues its tokens, whom they address and whom they
//! name.

use serde_json::Value;

use super::text;
use crate::{claims::Claims, config::Preset, signature::Algorithm, Reason};

/// Stands for a tenant's id in Entra's issuers, in its discovery document and in its key sets.
pub(super) const TENANT: &str = "{tenantid}";

/// The issuers of Entra's public cloud (v1 and v2 tokens;
/// learn.microsoft.com/entra/identity-platform/access-token-claims-reference).
pub(super) const ENTRA_ISSUERS: [&str; 2] = [
    "https://sts.windows.net/{tenantid}/",
    "https://login.microsoftonline.com/{tenantid}/v2.0",
];

/// The issuers that the keys of Entra's clouds name. Keys of v1 tokens name the issuer of v2 tokens.
const ENTRA_KEY_ISSUERS: [&str; 5] = [
    "https://sts.windows.net/{tenantid}/",
    "https://login.microsoftonline.com/{tenantid}/v2.0",
    "https://login.microsoftonline.us/{tenantid}/v2.0",
    "https://sts.chinacloudapi.cn/{tenantid}/",
    "https://login.partner.microsoftonline.cn/{tenantid}/v2.0",
];

/// Whether a key that names this issuer speaks for the tenant.
pub(super) fn is_key_issuer_of(tenant: &str, issuer: &str) -> bool {
    let named = issuer.replace(TENANT, tenant);
    ENTRA_KEY_ISSUERS
        .iter()
        .any(|known| known.replace(TENANT, tenant) == named)
}

impl Preset {
    pub(super) fn default_algorithms(self) -> Vec<Algorithm> {
        match self {
            // `SigningAlgorithm` of sts:GetWebIdentityToken.
            Self::AwsSts => vec![Algorithm::Rs256, Algorithm::Es384],
            _ => vec![Algorithm::Rs256],
        }
    }

    /// The claim that names the audience.
    pub(super) fn audience_claim(self, claims: &Claims) -> Result<&'static str, Reason> {
        match self {
            // An access token of Cognito names its client in `client_id` and has no `aud`; an ID token has `aud`
            // (docs.aws.amazon.com/cognito, "Verifying JSON web tokens").
            Self::Cognito => match text(claims, "token_use")? {
                Some("access") => Ok("client_id"),
                Some("id") => Ok("aud"),
                _ => Err(Reason::WrongTokenUse),
            },
            _ => Ok("aud"),
        }
    }

    /// The one subject that stays the same whatever else of the caller changes.
    pub(super) fn subject(self, claims: &Claims) -> Result<Option<String>, Reason> {
        let subject = text(claims, "sub")?;
        Ok(match self {
            // `sub` differs from one application to the next; `oid` within its tenant does not.
            Self::Entra => match (text(claims, "tid")?, text(claims, "oid")?) {
                (Some(tenant), Some(object)) => Some(format!("{tenant}/{object}")),
                _ => subject.map(str::to_owned),
            },
            // `sub` of an access token is the login name, which can change; `uid` cannot.
            Self::Okta => text(claims, "uid")?.or(subject).map(str::to_owned),
            _ => subject.map(str::to_owned),
        })
    }

    /// The application that the token was issued to.
    pub(super) fn client(self, claims: &Claims) -> Result<Option<String>, Reason> {
        let names: &[&str] = match self {
            Self::Cognito | Self::Oidc => &["client_id", "azp"],
            Self::Entra => &["azp", "appid"],
            Self::Okta => &["cid"],
            Self::AwsSts => &[],
        };
        for name in names {
            if let Some(client) = text(claims, name)? {
                return Ok(Some(client.to_owned()));
            }
        }
        Ok(None)
    }
}

/// A user in too many groups gets a token that does not list them but says where to ask for them, which no filter
/// can. Rules on groups would see none
/// (learn.microsoft.com/security/zero-trust/develop/configure-tokens-group-claims-app-roles).
pub(super) fn has_groups_overage(claims: &Claims) -> bool {
    let elsewhere = claims
        .get("_claim_names")
        .and_then(Value::as_object)
        .is_some_and(|names| names.contains_key("groups"));
    let not_listed = matches!(claims.get("hasgroups"), Some(Value::Bool(true)))
        || claims.get("hasgroups").is_some_and(|value| value == "true");
    elsewhere || not_listed
}

/// A GUID as Entra writes it: lower-case hexadecimal digits in groups of 8, 4, 4, 4 and 12.
pub(super) fn is_guid(text: &str) -> bool {
    let mut groups = text.split('-');
    let lengths_fit = [8, 4, 4, 4, 12].into_iter().all(|length| {
        groups.next().is_some_and(|group| {
            group.len() == length
                && group
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    });
    lengths_fit && groups.next().is_none()
}
