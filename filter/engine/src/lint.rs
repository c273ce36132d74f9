//! What a configuration allows although it need not: it compiles, and somebody should look at it again.

use serde_json::Value;

use crate::{
    config::{compile_each, Config, ConfigError, JwksConfig, Mode, RoleConfig, RuleConfig},
    rule::Rule,
};

/// What somebody should look at in a configuration that compiles. Each names its JSON path, as an error does.
pub fn warnings(configuration: &[u8]) -> Result<Vec<ConfigError>, ConfigError> {
    let config = Config::parse(configuration)?;
    let mut warnings = Vec::new();
    for (place, provider) in config.providers.iter().enumerate() {
        look_at_keys(&provider.jwks, &format!("providers[{place}].jwks"), &mut warnings);
    }
    for (place, role) in config.roles.iter().enumerate() {
        look_at_role(role, &format!("roles[{place}]"), &mut warnings);
    }
    look_at_containment(&config.roles, &mut warnings)?;
    if config.roles.is_empty() {
        warnings.push(ConfigError::at(
            "roles",
            "there are none: nothing but public paths will pass",
        ));
    }
    if config.mode == Mode::Shadow {
        warnings.push(ConfigError::at("mode", "nothing is refused"));
    }
    for (place, rule) in config.public.iter().enumerate() {
        if is_everything(rule) {
            warnings.push(ConfigError::at(
                format_args!("public[{place}]"),
                "every path passes without a credential",
            ));
        }
    }
    Ok(warnings)
}

fn look_at_keys(jwks: &JwksConfig, at: &str, warnings: &mut Vec<ConfigError>) {
    for (field, address) in [("uri", &jwks.uri), ("discovery", &jwks.discovery)] {
        if address
            .as_ref()
            .is_some_and(|address| address.starts_with("http://"))
        {
            let problem = "keys that come without TLS are whoever's is on the way";
            warnings.push(ConfigError::at(format_args!("{at}.{field}"), problem));
        }
    }
    let keys = jwks
        .inline
        .as_ref()
        .and_then(|set| set.get("keys"))
        .and_then(Value::as_array);
    for (place, key) in keys.into_iter().flatten().enumerate() {
        if key.get("d").is_some() {
            let problem = "a private key: verifying needs the public half alone";
            warnings.push(ConfigError::at(
                format_args!("{at}.inline.keys[{place}].d"),
                problem,
            ));
        }
    }
}

fn look_at_role(role: &RoleConfig, at: &str, warnings: &mut Vec<ConfigError>) {
    for (place, rule) in role.allow.iter().enumerate() {
        if is_everything(rule) {
            let problem = match &role.credential {
                Some(credential) => format!("any method on every path, with the credential {credential:?}"),
                None => "any method on every path".to_owned(),
            };
            warnings.push(ConfigError::at(format_args!("{at}.allow[{place}]"), problem));
        }
    }
    for (place, holder) in role.holders.iter().enumerate() {
        if holder
            .any
            .as_ref()
            .is_some_and(|values| values.iter().any(String::is_empty))
        {
            let problem = "an empty value: whoever has an empty claim holds the role";
            warnings.push(ConfigError::at(
                format_args!("{at}.holders[{place}].any"),
                problem,
            ));
        }
    }
}

/// Rules that never decide, and roles that may do all that another one may: requests then run under the one that comes first,
/// and whoever reads the configuration takes them for two.
fn look_at_containment(roles: &[RoleConfig], warnings: &mut Vec<ConfigError>) -> Result<(), ConfigError> {
    let mut compiled: Vec<(&RoleConfig, Vec<Rule>, Vec<Rule>)> = Vec::new();
    for (place, role) in roles.iter().enumerate() {
        let rules = |rules: &[RuleConfig], field: &str| {
            compile_each(rules.to_vec(), &format!("roles[{place}].{field}"), Rule::compile)
        };
        compiled.push((role, rules(&role.allow, "allow")?, rules(&role.deny, "deny")?));
    }
    for (place, (role, allow, deny)) in compiled.iter().enumerate() {
        for (number, rule) in allow.iter().enumerate() {
            let at = format!("roles[{place}].allow[{number}]");
            if let Some(denied) = deny.iter().position(|deny| deny.contains(rule)) {
                warnings.push(ConfigError::at(
                    at,
                    format_args!("never allows anything: deny[{denied}] covers all of it"),
                ));
            } else if let Some(earlier) = allow.iter().take(number).position(|wider| wider.contains(rule)) {
                warnings.push(ConfigError::at(
                    at,
                    format_args!("never decides: allow[{earlier}] covers all of it"),
                ));
            }
        }
        let contains = |other: &[Rule]| {
            !other.is_empty()
                && other
                    .iter()
                    .all(|rule| allow.iter().any(|wider| wider.contains(rule)))
        };
        for (other_place, (other, other_allow, _)) in compiled.iter().enumerate() {
            if other_place != place && deny.is_empty() && contains(other_allow) {
                let first = if place < other_place {
                    " and comes before it"
                } else {
                    ""
                };
                let problem = format!("{:?} may do all that {:?} may{first}", role.name, other.name);
                warnings.push(ConfigError::at(format_args!("roles[{place}].allow"), problem));
            }
        }
    }
    Ok(())
}

fn is_everything(rule: &RuleConfig) -> bool {
    rule.methods.iter().any(|method| method == "*") && rule.paths.iter().any(|path| path == "/**")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn paths(config: Value) -> Vec<String> {
        let warnings = warnings(config.to_string().as_bytes()).unwrap();
        warnings.into_iter().map(|warning| warning.path).collect()
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_is_wider_than_it_need_be_is_named_and_nothing_else() {
        let provider = |jwks: Value| json!({"name": "idp", "preset": "oidc", "issuer": "i", "audiences": ["a"], "jwks": jwks});
        let role = |any: Value, methods: Value, paths: Value| {
            json!({
                "name": "r", "holders": [{"provider": "idp", "claim": "g", "any": any}],
                "allow": [{"methods": methods, "paths": paths}],
            })
        };
        let narrow = role(json!(["x"]), json!(["GET"]), json!(["/**"]));
        let fetched = provider(json!({"uri": "https://idp.example/k", "cluster": "idp"}));
        for (config, expected) in [
            (json!({"providers": [fetched], "roles": [narrow]}), vec![]),
            (json!({"providers": [fetched]}), vec!["roles"]),
            (
                json!({"providers": [fetched], "roles": [narrow], "mode": "shadow"}),
                vec!["mode"],
            ),
            (
                json!({"providers": [provider(json!({"uri": "http://idp.example/k", "cluster": "idp"}))], "roles": [narrow]}),
                vec!["providers[0].jwks.uri"],
            ),
            (
                json!({"providers": [provider(json!({"inline": {"keys": [{}, {"d": "secret"}]}}))], "roles": [narrow]}),
                vec!["providers[0].jwks.inline.keys[1].d"],
            ),
            (
                json!({"providers": [fetched], "roles": [role(json!(["x", ""]), json!(["*"]), json!(["/a", "/**"]))]}),
                vec!["roles[0].allow[0]", "roles[0].holders[0].any"],
            ),
            (
                json!({"providers": [fetched], "roles": [narrow], "public": [{"methods": ["*"], "paths": ["/**"]}]}),
                vec!["public[0]"],
            ),
        ] {
            assert_eq!(paths(config.clone()), expected, "{config}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn rules_that_never_decide_and_roles_within_others_are_named() {
        let role = |name: &str, allow: Value, deny: Value| json!({"name": name, "holders": [{"provider": "idp"}], "allow": allow, "deny": deny});
        let rule = |methods: Value, paths: Value| json!({"methods": methods, "paths": paths});
        let read = rule(json!(["GET"]), json!(["/a/**"]));
        let write = rule(json!(["GET", "PUT"]), json!(["/a/**", "/b"]));
        let other = rule(json!(["GET"]), json!(["/c"]));
        for (roles, expected) in [
            (
                json!([
                    role("r", json!([read]), json!([])),
                    role("w", json!([other]), json!([]))
                ]),
                vec![],
            ),
            (
                json!([
                    role("r", json!([read]), json!([])),
                    role("w", json!([write]), json!([]))
                ]),
                vec!["roles[1].allow: \"w\" may do all that \"r\" may"],
            ),
            (
                json!([
                    role("w", json!([write]), json!([])),
                    role("r", json!([read]), json!([]))
                ]),
                vec!["roles[0].allow: \"w\" may do all that \"r\" may and comes before it"],
            ),
            (
                json!([role("w", json!([write, read, other]), json!([]))]),
                vec!["roles[0].allow[1]: never decides: allow[0] covers all of it"],
            ),
            (
                json!([role("w", json!([other, read]), json!([other, write]))]),
                vec![
                    "roles[0].allow[0]: never allows anything: deny[0] covers all of it",
                    "roles[0].allow[1]: never allows anything: deny[1] covers all of it",
                ],
            ),
        ] {
            let config = json!({
                "providers": [{
                    "name": "idp", "preset": "oidc", "issuer": "i", "audiences": ["a"],
                    "jwks": {"uri": "https://idp.example/k", "cluster": "idp"},
                }],
                "roles": roles,
            });
            let warnings = warnings(config.to_string().as_bytes()).unwrap();
            let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            assert_eq!(warnings, expected, "{roles}");
        }
    }
}
