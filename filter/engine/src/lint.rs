//! What a configuration allows although it need not: it compiles, and somebody should look at it again.

use serde_json::Value;

use crate::config::{Config, ConfigError, JwksConfig, Mode, RoleConfig, RuleConfig};

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
}
