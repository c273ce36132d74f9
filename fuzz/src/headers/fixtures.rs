//! The tokens and the configurations of the target `headers`.

use std::sync::LazyLock;

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::Algorithm;
use serde_json::{json, Value};

use super::keys;

/// What the bound token is bound to.
pub(super) const CERTIFICATE: &str = "4444444444444444444444444444444444444444444444444444444444444444";
/// The peer through which one of the roles is held.
pub(super) const GATEWAY: &str = "spiffe://isthmus.local/gateway";

/// A token, what stands for it in an input, and whether it is genuine.
pub(super) struct Token {
    pub(super) mark: &'static str,
    pub(super) text: String,
    pub(super) genuine: bool,
}

impl Token {
    pub(super) fn signature(&self) -> &str {
        self.text.rsplit_once('.').map_or("", |(_, signature)| signature)
    }
}

pub(super) static TOKENS: LazyLock<Vec<Token>> = LazyLock::new(|| {
    let token = |mark: &'static str, genuine: bool, claims: Value| {
        let claims = claims.to_string();
        let text = keys::sign(Algorithm::HS256, br#"{"alg":"HS256"}"#, claims.as_bytes());
        Token { mark, text, genuine }
    };
    let exp = 4_000_000_000_u64;
    let caller =
        |groups: &str| json!({"iss": "pool", "aud": "api", "exp": exp, "sub": "alice", "groups": [groups]});
    let mut bound = caller("readers");
    bound["cnf"] = json!({"x5t#S256": URL_SAFE_NO_PAD.encode([0x44; 32])});
    let mut expired = caller("operators");
    expired["exp"] = json!(1_000_000_000);
    let partner = json!({"iss": "partner", "aud": "api", "exp": exp, "sub": "bob"});
    let mut forged = token("{forged}", false, caller("operators"));
    forged
        .text
        .replace_range(forged.text.len() - 43.., &"A".repeat(43));
    vec![
        token("{reader}", true, caller("readers")),
        token("{operator}", true, caller("operators")),
        token("{partner}", true, partner),
        token("{bound}", true, bound),
        token("{expired}", false, expired),
        forged,
    ]
});

/// Three configurations: tokens as bearer tokens, in every other place, and as bearer tokens in shadow mode.
pub(super) static CONFIGURATIONS: LazyLock<[String; 3]> = LazyLock::new(|| {
    let elsewhere = [
        json!([
            {"header": "authorization"}, {"header": "x-token"}, {"header": "x_key"}, {"query": "access_token"},
            {"cookie": "id"},
        ]),
        json!([{"header": "x-fwd", "prefix": "JWT "}, {"query": "t"}, {"cookie": "s"}]),
    ];
    let bearer = [
        json!([{"header": "authorization"}]),
        json!([{"header": "authorization"}]),
    ];
    [
        configuration("enforce", bearer.clone()),
        configuration("enforce", elsewhere),
        configuration("shadow", bearer),
    ]
});

fn configuration(mode: &str, places: [Value; 2]) -> String {
    let [pool, partner] = places;
    let provider = |name: &str, place: Value, forward: bool| {
        json!({
            "name": name, "preset": "oidc", "issuer": name, "audiences": ["api"], "algorithms": ["HS256"],
            "jwks": {"inline": {"keys": [keys::secret_jwk()]}}, "token_from": place, "forward": forward,
        })
    };
    let holder = |group: &str| json!([{"provider": "pool", "claim": "groups", "any": [group]}]);
    json!({
        "mode": mode,
        "providers": [provider("pool", pool, false), provider("partner", partner, true)],
        "claims_to_headers": [
            {"claim": "sub", "header": "x-user"}, {"claim": "groups", "header": "x-groups", "format": "csv"},
        ],
        "roles": [
            {
                "name": "reader", "holders": holder("readers"),
                "allow": [{"methods": ["GET"], "paths": ["/metrics/**"]}],
            },
            {
                "name": "operator", "credential": "azure/operator", "holders": holder("operators"),
                "allow": [{"methods": ["*"], "paths": ["/storage/**"]}],
                "deny": [
                    {"methods": ["DELETE"], "paths": ["/storage/locked/**"]},
                    {"methods": ["*"], "hosts": ["vault.example"], "paths": ["/**"]},
                ],
            },
            {
                "name": "partner", "holders": [{"provider": "partner"}],
                "allow": [{"methods": ["GET", "POST"], "paths": ["/partner/*"]}],
            },
            {
                "name": "gateway", "holders": [{"provider": "partner", "spiffe_ids": [GATEWAY]}],
                "allow": [{"methods": ["GET"], "hosts": ["*.vm.example"], "paths": ["/gateway/**"]}],
            },
        ],
        "public": [{"methods": ["GET"], "paths": ["/healthz", "/public/**"]}],
    })
    .to_string()
}
