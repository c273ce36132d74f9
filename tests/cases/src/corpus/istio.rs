//! Istio's sample tokens, which live for decades and have no `aud`.

use serde_json::{Map, Value};

use super::{bearer, config_with_provider, Check, Label, Row, Set, AUDIENCE};

pub(super) const TOKENS: [(&str, &str); 2] = [
    ("demo", include_str!("../../../corpus/istio-jwt/demo.jwt")),
    (
        "groups-scope",
        include_str!("../../../corpus/istio-jwt/groups-scope.jwt"),
    ),
];
const KEYS: &str = include_str!("../../../corpus/istio-jwt/jwks.json");

const ISSUER: &str = "testing@secure.istio.io";

/// Each by its signature and as a bearer token.
pub(super) fn rows() -> Vec<Row> {
    let jwks: Value = serde_json::from_str(KEYS).expect("istio-jwt/jwks.json");
    TOKENS
        .into_iter()
        .flat_map(|(name, file)| token_rows(name, file.trim_end(), &jwks))
        .collect()
}

fn token_rows(name: &str, token: &str, jwks: &Value) -> [Row; 2] {
    let row = |id, check, label| Row {
        set: Set::Istio,
        id,
        check,
        label,
        reason: None,
    };
    let id = format!("{}/{name}", Set::Istio);
    let config = config_with_provider(ISSUER, AUDIENCE, &["RS256".to_owned()], jwks, &Map::new());
    let check = Check::JwsWithSet {
        jws: token.to_owned(),
        jwks: jwks.clone(),
    };
    [
        row(id.clone(), check, Label::Accept),
        row(format!("{id}/bearer"), bearer(token, config, None), Label::Policy),
    ]
}
