//! The issuers of the tables, and the filter's configurations that know them.

use serde::Deserialize;
use serde_json::{json, Value};

use crate::key::SigningKey;

/// The issuer of every good token of the first table.
pub const ISSUER: &str = "https://idp.example/pool";
/// As Cognito's are: with characters that base64url does not have.
const KID: &str = "a+b/c=";
/// The peer through which every request of the tables comes.
pub const PEER: &str = "spiffe://isthmus.local/gateway";
const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const OTHER_TENANT: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// Who issues a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Issuer {
    /// A Cognito user pool.
    #[default]
    Pool,
    /// An OpenID provider with a key for every algorithm.
    Any,
    /// An OpenID provider with a single key that has no id, whose tokens come by other ways than a header and must
    /// say more.
    Strict,
    /// Entra ID, v2 tokens.
    Entra,
    Okta,
    /// AWS outbound identity federation.
    Aws,
}

impl Issuer {
    /// The claims of a good token.
    pub(crate) fn claims(self, now: u64) -> Value {
        let (iat, exp) = (now - 10, now + 300);
        match self {
            Self::Pool => json!({
                "iss": ISSUER, "sub": "alice", "client_id": "orders-api", "token_use": "access", "iat": iat, "exp": exp,
                "jti": "token-1",
            }),
            Self::Any => json!({
                "iss": "https://any.example", "sub": "alice", "aud": "orders-api", "iat": iat, "exp": exp,
            }),
            Self::Strict => json!({
                "iss": "https://strict.example", "sub": "alice", "aud": "orders-api", "iat": iat, "exp": exp,
                "email_verified": true, "realm": {"roles": ["orders"]},
            }),
            Self::Entra => json!({
                "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "tid": TENANT, "oid": "object",
                "sub": "pairwise", "aud": "api://orders", "azp": "client", "scp": "Orders.Read", "roles": ["Reader"],
                "uti": "token-1", "iat": iat, "nbf": iat, "exp": exp, "ver": "2.0",
            }),
            Self::Okta => json!({
                "iss": "https://org.okta.com/oauth2/default", "sub": "alice@example.com", "uid": "00u1", "cid": "0oa1",
                "aud": "api://default", "scp": ["orders.read"], "iat": iat, "exp": exp,
            }),
            Self::Aws => json!({
                "iss": "https://4f1b.tokens.sts.global.api.aws", "sub": "arn:aws:iam::123456789012:role/orders",
                "aud": "orders-api", "iat": iat, "exp": exp, "jti": "token-1",
                "https://sts.amazonaws.com/": {"aws_account": "123456789012", "org_id": "o-1"},
            }),
        }
    }

    /// The id under which the issuer publishes a key.
    pub(crate) fn kid(self, key: SigningKey) -> &'static str {
        match self {
            Self::Pool => KID,
            _ => key.name(),
        }
    }
}

/// A key with further members.
fn jwk(key: SigningKey, more: Value) -> Value {
    let mut jwk = key.jwk();
    if let (Some(members), Value::Object(more)) = (jwk.as_object_mut(), more) {
        members.extend(more);
    }
    jwk
}

/// The key set of the first table's provider.
pub fn jwks() -> Value {
    json!({"keys": [jwk(SigningKey::Provider, json!({"kid": KID, "alg": "RS256", "use": "sig"}))]})
}

/// The filter's configuration of the first table, with the key set in line.
pub fn filter_config() -> Value {
    json!({
        "providers": [{
            "name": "pool", "preset": "cognito", "issuer": ISSUER, "audiences": ["orders-api"],
            "max_lifetime": "1h", "clock_skew": "30s", "jwks": {"inline": jwks()},
        }],
        "claims_to_headers": [
            {"claim": "sub", "header": "x-user"},
            {"claim": ["cognito:groups"], "header": "x-groups", "format": "csv"},
        ],
        "roles": [
            {
                "name": "metrics-reader", "credential": "azure/reader",
                "holders": [{"provider": "pool", "claim": ["cognito:groups"], "any": ["readers"]}],
                "allow": [{"methods": ["GET"], "paths": ["/metrics/**"]}],
            },
            {
                "name": "operator", "credential": "azure/operator",
                "holders": [{"provider": "pool", "claim": ["cognito:groups"], "any": ["operators"]}],
                "allow": [
                    {"methods": ["GET"], "paths": ["/metrics/**"]},
                    {"methods": ["*"], "paths": ["/storage/**"]},
                ],
                "deny": [{"methods": ["DELETE"], "paths": ["/storage/locked/**"]}],
            },
        ],
    })
}

/// The filter's configuration of the table about tokens: a provider of each kind. `crypto` is who verifies signatures.
pub fn providers_config(crypto: &str) -> Value {
    use SigningKey::{Ed25519, Provider, Rogue, Secret, P256, P384, P521};
    let of_all_kinds: Vec<Value> = [Provider, P256, P384, P521, Ed25519, Secret]
        .into_iter()
        .map(|key| jwk(key, json!({"kid": key.name()})))
        .chain([
            jwk(Provider, json!({"kid": "rs256-only", "alg": "RS256"})),
            jwk(Rogue, json!({"kid": "for-encryption", "use": "enc"})),
            jwk(Rogue, json!({"kid": "for-signing", "key_ops": ["sign"]})),
            json!({"kid": "short", "kty": "RSA", "e": "AQAB", "n": "AJ".repeat(85)}),
        ])
        .collect();
    let entra = [
        jwk(
            Provider,
            json!({"kid": "provider", "issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"}),
        ),
        jwk(
            Provider,
            json!({"kid": "elsewhere", "issuer": format!("https://login.microsoftonline.com/{OTHER_TENANT}/v2.0")}),
        ),
    ];
    json!({
        "crypto": crypto,
        "providers": [
            {
                "name": "any", "preset": "oidc", "issuer": "https://any.example", "audiences": ["orders-api"],
                "algorithms": [
                    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
                ],
                "jwks": {"inline": {"keys": of_all_kinds}},
            },
            {
                "name": "strict", "preset": "oidc", "issuer": "https://strict.example", "audiences": ["orders-api"],
                "token_from": [{"query": "access_token"}, {"cookie": "id"}, {"header": "x-token", "prefix": "JWT "}],
                "require": [
                    {"claim": "email_verified", "any": ["true"]},
                    {"claim": ["realm", "roles"], "any": ["orders", "admin"]},
                ],
                "jwks": {"inline": {"keys": [jwk(Provider, json!({}))]}},
            },
            {
                "name": "entra", "preset": "entra", "tenants": [TENANT], "audiences": ["api://orders"],
                "jwks": {"inline": {"keys": entra}},
            },
            {
                "name": "okta", "preset": "okta", "issuer": "https://org.okta.com/oauth2/default", "audiences": ["api://default"],
                "jwks": {"inline": {"keys": [jwk(Provider, json!({"kid": "provider"}))]}}, "forward": true,
            },
            {
                "name": "aws", "preset": "aws-sts", "issuer": "https://4f1b.tokens.sts.global.api.aws",
                "audiences": ["orders-api"],
                "jwks": {"inline": {"keys": [jwk(Provider, json!({"kid": "provider"})), jwk(P384, json!({"kid": "p384"}))]}},
            },
        ],
        "claims_to_headers": [{"claim": "sub", "header": "x-user"}],
        "roles": [{
            "name": "caller", "credential": "azure/reader",
            "holders": [
                {"provider": "any"}, {"provider": "strict"},
                {"provider": "aws", "arns": ["arn:aws:iam::123456789012:role/orders", "arn:aws:iam::123456789012:role/batch-*"]},
                {"provider": "entra", "claim": "scp", "any": ["Orders.Read"]},
                {"provider": "okta", "claim": "scp", "any": ["orders.read"]},
            ],
            "allow": [{"methods": ["GET"], "paths": ["/orders/**"]}],
        }, {
            "name": "through-the-gateway", "credential": "azure/reader",
            "holders": [{"provider": "any", "spiffe_ids": [PEER]}],
            "allow": [{"methods": ["GET"], "paths": ["/gateway/**"]}],
        }, {
            "name": "through-another-gateway", "credential": "azure/operator",
            "holders": [{"provider": "any", "spiffe_ids": ["spiffe://isthmus.local/other/*"]}],
            "allow": [{"methods": ["GET"], "paths": ["/other/**"]}],
        }],
        "public": [{"methods": ["GET"], "paths": ["/healthz"]}],
    })
}
