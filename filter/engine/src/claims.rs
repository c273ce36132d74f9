//! Claims of a verified token: how rules point at them and how they become header values.

use std::fmt;

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use serde::{de, Deserialize, Deserializer};
use serde_json::{Map, Value};

/// The claims of a token (RFC 7519, section 4).
pub(crate) type Claims = Map<String, Value>;

/// Where a claim lies: a name, or the names on the way down into nested objects. An array of one name reaches claims
/// whose own name holds a colon, a slash or a dot, such as `["cognito:groups"]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// The claim's value, if it is there.
    pub(crate) fn find<'c>(&self, claims: &'c Claims) -> Option<&'c Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter()
            .try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
    }

    /// `sub`.
    pub(crate) fn subject() -> Self {
        Self(vec!["sub".to_owned()])
    }

    /// Whether the claim is one of `values`, or a list in which one of them stands; see [`ClaimPath::each_value`].
    pub(crate) fn holds_any(&self, claims: &Claims, values: &[String]) -> bool {
        let mut held = false;
        self.each_value(claims, |value| {
            held |= values.iter().any(|wanted| wanted == value)
        });
        held
    }

    /// Gives each value of the claim: itself, or what stands in its list. Numbers and booleans count as their text. The
    /// claims `scope` and `scp` are lists that are written as one text with spaces (RFC 8693, section 4.2; Entra).
    pub(crate) fn each_value<'c>(&self, claims: &'c Claims, mut give: impl FnMut(&str)) {
        let mut give_one = |value: &'c Value| match value {
            Value::String(text) => give(text),
            Value::Number(number) => give(&number.to_string()),
            Value::Bool(flag) => give(if *flag { "true" } else { "false" }),
            _ => {}
        };
        match self.find(claims) {
            Some(Value::Array(elements)) => elements.iter().for_each(give_one),
            Some(Value::String(text)) if self.is_scope() => text.split(' ').for_each(give),
            Some(value) => give_one(value),
            None => {}
        }
    }

    fn is_scope(&self) -> bool {
        self.0.last().is_some_and(|name| name == "scope" || name == "scp")
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ClaimPath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ClaimPath".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A claim's name, or the names on the way down into nested objects.",
            "oneOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
            ]
        })
    }
}

impl<'de> Deserialize<'de> for ClaimPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ClaimPath;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a claim name or a non-empty array of names")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<ClaimPath, E> {
                self.checked(vec![name.to_owned()])
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut names: A) -> Result<ClaimPath, A::Error> {
                let mut path = Vec::new();
                while let Some(name) = names.next_element()? {
                    path.push(name);
                }
                self.checked(path)
            }
        }

        impl Visitor {
            fn checked<E: de::Error>(self, path: Vec<String>) -> Result<ClaimPath, E> {
                if path.is_empty() || path.iter().any(String::is_empty) {
                    return Err(E::invalid_value(de::Unexpected::Other("an empty name"), &self));
                }
                Ok(ClaimPath(path))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// How a claim is written into a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) enum Format {
    /// A string, number or boolean as text.
    #[default]
    Plain,
    /// An array of such values, separated by commas; a single value stands for itself.
    Csv,
    /// JSON with everything outside of printable ASCII escaped.
    Json,
    /// base64url without padding of the claim's JSON.
    Base64url,
}

impl Format {
    /// The header value for a claim; nothing where this format cannot carry the claim unaltered, so that no header says
    /// something the token does not.
    pub(crate) fn header_value(self, claim: &Value) -> Option<String> {
        match self {
            Format::Plain => scalar(claim),
            Format::Csv => match claim {
                Value::Array(elements) => {
                    let values: Vec<String> = elements.iter().map(csv_element).collect::<Option<_>>()?;
                    Some(values.join(","))
                }
                single => csv_element(single),
            },
            Format::Json => Some(ascii_json(claim)),
            Format::Base64url => Some(URL_SAFE_NO_PAD.encode(claim.to_string())),
        }
    }
}

fn scalar(claim: &Value) -> Option<String> {
    let text = match claim {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => return None,
    };
    is_header_safe(&text).then_some(text)
}

/// An element with a comma in it would read as two.
fn csv_element(claim: &Value) -> Option<String> {
    scalar(claim).filter(|text| !text.contains(','))
}

/// Visible text without white space at its ends, which field parsers would take away (RFC 9110, section 5.5).
fn is_header_safe(text: &str) -> bool {
    !text.chars().any(char::is_control) && text.trim() == text
}

fn ascii_json(value: &Value) -> String {
    let mut escaped = String::new();
    for character in value.to_string().chars() {
        if matches!(character, ' '..='~') {
            escaped.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn path(value: Value) -> ClaimPath {
        serde_json::from_value(value).unwrap()
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn paths_reach_flat_and_nested_claims() {
        let claims = json!({"sub": "s", "cognito:groups": ["a"], "realm": {"roles": ["r"]}});
        let claims = claims.as_object().unwrap();
        assert_eq!(path(json!("sub")).find(claims), Some(&json!("s")));
        assert_eq!(path(json!(["cognito:groups"])).find(claims), Some(&json!(["a"])));
        assert_eq!(path(json!(["realm", "roles"])).find(claims), Some(&json!(["r"])));
        assert_eq!(path(json!(["sub", "roles"])).find(claims), None);
        assert_eq!(path(json!("realm.roles")).find(claims), None);
        for bad in [json!([]), json!(""), json!(["a", ""]), json!(1), json!([1])] {
            assert!(serde_json::from_value::<ClaimPath>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_value_set_matches_a_string_or_a_list_of_strings_and_nothing_else() {
        let wanted = ["readers".to_owned()];
        for (groups, expected) in [
            (json!("readers"), true),
            (json!(["x", "readers"]), true),
            (json!("readers writers"), false),
            (json!(["Readers"]), false),
            (json!([["readers"]]), false),
            (json!({"readers": true}), false),
            (json!(null), false),
        ] {
            let claims = json!({ "g": groups });
            let found = path(json!("g")).holds_any(claims.as_object().unwrap(), &wanted);
            assert_eq!(found, expected, "{claims}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn header_values_say_what_the_claim_says_or_nothing() {
        use Format::*;
        for (format, claim, expected) in [
            (Plain, json!("alice"), Some("alice")),
            (Plain, json!("zoë"), Some("zoë")),
            (Plain, json!(7), Some("7")),
            (Plain, json!(true), Some("true")),
            (Plain, json!("a\r\nx-admin: 1"), None),
            (Plain, json!("a\u{0}"), None),
            (Plain, json!("a\u{85}b"), None),
            (Plain, json!(" a"), None),
            (Plain, json!(["a"]), None),
            (Plain, json!(null), None),
            (Csv, json!(["a", "b"]), Some("a,b")),
            (Csv, json!("a"), Some("a")),
            (Csv, json!([]), Some("")),
            (Csv, json!(["a,admins"]), None),
            (Csv, json!(["a", {"b": 1}]), None),
            (Csv, json!(["a\nb"]), None),
            (
                Json,
                json!({"a": "é\n😀"}),
                Some(r#"{"a":"\u00e9\n\ud83d\ude00"}"#),
            ),
            (Base64url, json!("é"), Some("IsOpIg")),
        ] {
            assert_eq!(
                format.header_value(&claim).as_deref(),
                expected,
                "{format:?} {claim}"
            );
        }
    }
}
