use serde_json::json;
use wasm_bindgen_test::wasm_bindgen_test;

use super::*;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn provider(extra: Value) -> Result<Provider, ConfigError> {
    let mut config = json!({
        "name": "idp", "preset": "oidc", "issuer": "https://idp.example", "audiences": ["api", "api-2"],
        "jwks": {"inline": {"keys": []}},
    });
    if let (Some(members), Some(extra)) = (config.as_object_mut(), extra.as_object()) {
        members.extend(extra.clone());
        members.retain(|_, value| !value.is_null());
    }
    Provider::compile(serde_json::from_value(config).unwrap(), true, "providers[0]")
}

fn verdict(config: Value, mut claims: Value) -> Result<Identity, Reason> {
    if claims.get("iss").is_none() {
        claims["iss"] = json!("https://idp.example");
    }
    provider(config).unwrap().accept(claims.as_object().unwrap(), NOW)
}

#[wasm_bindgen_test(unsupported = test)]
fn times_are_checked_with_the_skew_on_both_sides() {
    let now = 1_700_000_000;
    for (claims, expected) in [
        (json!({"exp": now + 1}), None),
        (json!({"exp": now - 29}), None),
        (json!({"exp": now - 30}), Some(Reason::Expired)),
        (json!({"exp": now as f64 - 29.5}), None),
        (json!({"exp": -1}), Some(Reason::Expired)),
        (json!({}), Some(Reason::InvalidClaim)),
        (json!({"exp": null}), Some(Reason::InvalidClaim)),
        (json!({"exp": (now + 60).to_string()}), Some(Reason::InvalidClaim)),
        (json!({"exp": now + 60, "nbf": now + 30}), None),
        (
            json!({"exp": now + 60, "nbf": now + 31}),
            Some(Reason::NotYetValid),
        ),
        (json!({"exp": now + 60, "nbf": true}), Some(Reason::InvalidClaim)),
        (
            json!({"exp": now + 60, "iat": now + 31}),
            Some(Reason::NotYetValid),
        ),
        (json!({"exp": now + 60, "iat": "0"}), Some(Reason::InvalidClaim)),
    ] {
        let mut claims = claims;
        claims["aud"] = json!("api");
        assert_eq!(verdict(json!({}), claims.clone()).err(), expected, "{claims}");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn short_lifetimes_are_a_rule_where_configured() {
    let limited = json!({"max_lifetime": "1h"});
    let now = 1_700_000_000;
    for (iat, exp, expected) in [
        (json!(now), now + 3600, None),
        (json!(now), now + 3601, Some(Reason::LifetimeTooLong)),
        (Value::Null, now + 60, Some(Reason::InvalidClaim)),
    ] {
        let mut claims = json!({"aud": "api", "exp": exp, "iat": iat});
        if claims["iat"].is_null() {
            claims.as_object_mut().unwrap().remove("iat");
        }
        assert_eq!(verdict(limited.clone(), claims).err(), expected);
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn the_audience_is_exact() {
    for (aud, accepted) in [
        (json!("api"), true),
        (json!(["x", "api-2"]), true),
        (json!("api/"), false),
        (json!("API"), false),
        (json!([]), false),
        (json!(["api", 7]), false),
        (json!([["api"]]), false),
        (json!({"api": 1}), false),
        (json!(null), false),
    ] {
        let result = verdict(json!({}), json!({"exp": 1_700_000_060, "aud": aud}));
        assert_eq!(
            result.err(),
            (!accepted).then_some(Reason::WrongAudience),
            "{aud}"
        );
    }
    assert_eq!(
        verdict(json!({}), json!({"exp": 1_700_000_060})).err(),
        Some(Reason::WrongAudience)
    );
}

#[wasm_bindgen_test(unsupported = test)]
fn cognito_tokens_are_told_apart_by_their_use() {
    for (claims, expected) in [
        (json!({"token_use": "access", "client_id": "api"}), None),
        (
            json!({"token_use": "access", "client_id": ["api"]}),
            Some(Reason::WrongAudience),
        ),
        (
            json!({"token_use": "access", "aud": "api"}),
            Some(Reason::WrongAudience),
        ),
        (json!({"token_use": "id", "aud": "api"}), None),
        (
            json!({"token_use": "id", "client_id": "api"}),
            Some(Reason::WrongAudience),
        ),
        (
            json!({"token_use": "refresh", "aud": "api"}),
            Some(Reason::WrongTokenUse),
        ),
        (json!({"aud": "api"}), Some(Reason::WrongTokenUse)),
    ] {
        let mut claims = claims;
        claims["exp"] = json!(1_700_000_060);
        assert_eq!(
            verdict(json!({"preset": "cognito"}), claims.clone()).err(),
            expected,
            "{claims}"
        );
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_bound_token_keeps_its_binding_and_an_unknown_binding_is_refused() {
    let digest = URL_SAFE_NO_PAD.encode([0xab; 32]);
    for (cnf, expected) in [
        (json!({"x5t#S256": digest}), Ok(Some("ab".repeat(32)))),
        (json!({"x5t#S256": "qw"}), Err(Reason::UnprovenBinding)),
        (json!({"jkt": digest}), Err(Reason::UnprovenBinding)),
        (
            json!({"x5t#S256": digest, "jkt": digest}),
            Err(Reason::UnprovenBinding),
        ),
        (json!({}), Err(Reason::UnprovenBinding)),
        (json!("x"), Err(Reason::UnprovenBinding)),
    ] {
        let claims = json!({"exp": 1_700_000_060, "aud": "api", "cnf": cnf});
        let result = verdict(json!({}), claims).map(|identity| identity.bound_to);
        assert_eq!(result, expected, "{cnf}");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_provider_without_issuer_or_audience_is_no_provider() {
    for (extra, path) in [
        (json!({"issuer": ""}), "providers[0].issuer"),
        (json!({"name": ""}), "providers[0].name"),
        (json!({"audiences": []}), "providers[0].audiences"),
        (json!({"audiences": ["a", ""]}), "providers[0].audiences"),
        (json!({"algorithms": []}), "providers[0].algorithms"),
        (json!({"clock_skew": "6m"}), "providers[0].clock_skew"),
        (json!({"max_lifetime": "0s"}), "providers[0].max_lifetime"),
        (json!({"name": "a\nb"}), "providers[0].name"),
        (json!({"issuer": null}), "providers[0].issuer"),
        (json!({"tenants": [TENANT_ID]}), "providers[0].tenants"),
        (
            json!({"require": [{"claim": "a", "any": []}]}),
            "providers[0].require[0].any",
        ),
        (json!({"token_from": []}), "providers[0].token_from"),
        (
            json!({"token_from": [{"header": "X"}]}),
            "providers[0].token_from[0].header",
        ),
        (json!({"preset": "okta"}), "providers[0].issuer"),
        (json!({"preset": "entra", "issuer": null}), "providers[0].tenants"),
        (
            json!({"preset": "entra", "issuer": null, "tenants": ["common"]}),
            "providers[0].tenants[0]",
        ),
        (
            json!({"preset": "entra", "tenants": [TENANT_ID]}),
            "providers[0].issuer",
        ),
    ] {
        assert_eq!(
            provider(extra.clone()).err().map(|error| error.path).as_deref(),
            Some(path),
            "{extra}"
        );
    }
}

const TENANT_ID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const OTHER_TENANT: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

fn entra() -> Value {
    json!({"preset": "entra", "issuer": null, "tenants": [TENANT_ID], "audiences": ["api://orders"]})
}

/// Claims of a v2 token, changed.
fn entra_claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": format!("https://login.microsoftonline.com/{TENANT_ID}/v2.0"), "tid": TENANT_ID, "oid": "object", "sub": "pairwise",
        "aud": "api://orders", "exp": 1_700_000_060, "azp": "client", "uti": "token-1", "scp": "Orders.Read Orders.Write",
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

#[wasm_bindgen_test(unsupported = test)]
fn entra_tokens_are_of_a_listed_tenant_in_either_version() {
    let v1 = format!("https://sts.windows.net/{TENANT_ID}/");
    for (changes, expected) in [
        (json!({}), None),
        (json!({"iss": v1, "azp": null, "appid": "client"}), None),
        (json!({"tid": OTHER_TENANT}), Some(Reason::UnknownIssuer)),
        (json!({"tid": null}), Some(Reason::InvalidClaim)),
        (json!({"tid": 1}), Some(Reason::InvalidClaim)),
        (
            json!({"tid": OTHER_TENANT, "iss": format!("https://sts.windows.net/{OTHER_TENANT}/")}),
            Some(Reason::UnknownIssuer),
        ),
        (
            json!({"tid": TENANT_ID.to_uppercase()}),
            Some(Reason::UnknownIssuer),
        ),
    ] {
        assert_eq!(
            verdict(entra(), entra_claims(changes.clone())).err(),
            expected,
            "{changes}"
        );
    }
    let identity = verdict(entra(), entra_claims(json!({}))).unwrap();
    assert_eq!(identity.subject, Some(format!("{TENANT_ID}/object")));
    assert_eq!(identity.client.as_deref(), Some("client"));
    assert_eq!(identity.token_id.as_deref(), Some("token-1"));
    let v1 = verdict(entra(), entra_claims(json!({"azp": null, "appid": "old"}))).unwrap();
    assert_eq!(v1.client.as_deref(), Some("old"));
}

#[wasm_bindgen_test(unsupported = test)]
fn entra_tokens_whose_groups_lie_elsewhere_are_refused() {
    for (changes, refused) in [
        (
            json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph"}}}),
            true,
        ),
        (json!({"hasgroups": true}), true),
        (json!({"hasgroups": "true"}), true),
        (json!({"hasgroups": false}), false),
        (json!({"_claim_names": {"other": "src1"}}), false),
        (json!({"groups": ["g"]}), false),
    ] {
        let reason = verdict(entra(), entra_claims(changes.clone())).err();
        assert_eq!(reason, refused.then_some(Reason::GroupsOverage), "{changes}");
    }
    let oidc = verdict(
        json!({}),
        json!({"aud": "api", "exp": 1_700_000_060, "hasgroups": true}),
    );
    assert_eq!(oidc.err(), None, "the claim means that only at Entra");
}

#[wasm_bindgen_test(unsupported = test)]
fn a_key_of_entra_speaks_for_its_issuer_alone() {
    let key = |issuer: Value| {
        let mut jwk =
            json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        if !issuer.is_null() {
            jwk["issuer"] = issuer;
        }
        Key::from_jwk(jwk.as_object().unwrap()).unwrap()
    };
    let claims = entra_claims(json!({}));
    for (issuer, allowed) in [
        (json!(null), true),
        (json!("https://login.microsoftonline.com/{tenantid}/v2.0"), true),
        (json!("https://sts.windows.net/{tenantid}/"), true),
        (
            json!(format!("https://login.microsoftonline.com/{TENANT_ID}/v2.0")),
            true,
        ),
        (
            json!(format!("https://login.microsoftonline.com/{OTHER_TENANT}/v2.0")),
            false,
        ),
        (json!("https://login.microsoftonline.us/{tenantid}/v2.0"), true),
        (json!("https://login.example/{tenantid}/v2.0"), false),
        (json!("https://sts.windows.net/{tenantid}"), false),
        (json!(""), false),
    ] {
        let provider = provider(entra()).unwrap();
        assert_eq!(
            provider.allows_key_of(&key(issuer.clone()), claims.as_object().unwrap()),
            allowed,
            "{issuer}"
        );
    }
    let other = provider(json!({})).unwrap();
    assert!(other.allows_key_of(&key(json!("https://elsewhere")), claims.as_object().unwrap()));
}

#[wasm_bindgen_test(unsupported = test)]
fn a_sovereign_cloud_has_issuers_of_its_own() {
    let config = json!({
        "preset": "entra", "issuer": "https://login.microsoftonline.us/{tenantid}/v2.0", "tenants": [TENANT_ID],
        "audiences": ["api://orders"],
    });
    let government = format!("https://login.microsoftonline.us/{TENANT_ID}/v2.0");
    assert_eq!(
        provider(config.clone()).unwrap().issuers(),
        std::slice::from_ref(&government)
    );
    assert_eq!(
        verdict(config.clone(), entra_claims(json!({"iss": government}))).err(),
        None
    );
    assert_eq!(
        verdict(config, entra_claims(json!({}))).err(),
        Some(Reason::UnknownIssuer)
    );
}

#[wasm_bindgen_test(unsupported = test)]
fn okta_and_aws_name_their_callers_in_their_own_claims() {
    let okta = json!({"preset": "okta", "issuer": "https://org.okta.com/oauth2/default"});
    let claims =
        json!({"aud": "api", "exp": 1_700_000_060, "sub": "me@example.com", "uid": "00u1", "cid": "0oa1"});
    let identity = verdict(okta, claims).unwrap();
    assert_eq!(
        (identity.subject.as_deref(), identity.client.as_deref()),
        (Some("00u1"), Some("0oa1"))
    );

    let aws = json!({"preset": "aws-sts", "issuer": "https://1234.tokens.sts.global.api.aws"});
    assert!(provider(aws.clone()).unwrap().allows_algorithm(Algorithm::Es384));
    let arn = "arn:aws:iam::123456789012:role/orders";
    let claims = json!({"aud": "api", "exp": 1_700_000_060, "sub": arn});
    assert_eq!(verdict(aws, claims).unwrap().subject.as_deref(), Some(arn));
}

#[wasm_bindgen_test(unsupported = test)]
fn what_the_configuration_requires_of_claims_must_hold() {
    for (require, met) in [
        (json!([{"claim": "email_verified", "any": ["true"]}]), true),
        (json!([{"claim": "level", "any": ["3", "4"]}]), true),
        (json!([{"claim": ["realm", "roles"], "any": ["admin"]}]), true),
        (json!([{"claim": "scope", "any": ["orders"]}]), true),
        (json!([{"claim": "scope", "any": ["orders profile"]}]), false),
        (json!([{"claim": "realm"}]), true),
        (json!([{"claim": "nothing"}]), false),
        (json!([{"claim": "absent"}]), false),
        (json!([{"claim": "level", "any": ["5"]}]), false),
        (json!([{"claim": "realm"}, {"claim": "absent"}]), false),
    ] {
        let claims = json!({
            "aud": "api", "exp": 1_700_000_060, "email_verified": true, "level": 3, "realm": {"roles": ["admin"]},
            "scope": "profile orders", "nothing": null,
        });
        let reason = verdict(json!({"require": require}), claims).err();
        assert_eq!(reason, (!met).then_some(Reason::RequirementNotMet), "{require}");
    }
}
