//! A second reading of JSON, for what the independent library lets pass and the engine does not.

/// What [`shape`] says of a JSON text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The deepest nesting of arrays and objects; one for `{}`.
    pub(crate) depth: usize,
    /// Whether an object in it has a name twice.
    pub(crate) duplicates: bool,
}

/// The shape of a text that is known to be JSON: a scan for brackets and names, with no tree and nothing of the
/// engine's reader.
pub(crate) fn shape(text: &str) -> Shape {
    let mut shape = Shape::default();
    // The names of each object that is open; nothing for an array.
    let mut open: Vec<Option<Vec<String>>> = Vec::new();
    let mut rest = text;
    let mut after_brace_or_comma = false;
    while let Some(character) = rest.chars().next() {
        let mut length = character.len_utf8();
        match character {
            '{' => open.push(Some(Vec::new())),
            '[' => open.push(None),
            '}' | ']' => drop(open.pop()),
            '"' => {
                length = string_length(rest);
                if let (Some(Some(names)), true) = (open.last_mut(), after_brace_or_comma) {
                    let name: String = serde_json::from_str(&rest[..length]).expect("a JSON string");
                    shape.duplicates |= names.contains(&name);
                    names.push(name);
                }
            }
            _ => {}
        }
        if !character.is_ascii_whitespace() {
            after_brace_or_comma = matches!(character, '{' | ',');
        }
        shape.depth = shape.depth.max(open.len());
        rest = &rest[length..];
    }
    shape
}

/// How long the string at the start of `text` is, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    end.expect("a string that ends") + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_depth_and_repeated_names() {
        for (text, depth, duplicates) in [
            ("7", 0, false),
            (r#"{"a":[{"a":"{[,"}],"b":"a"}"#, 3, false),
            (r#"["a","a",{"b":"b"}]"#, 2, false),
            (r#"{"a":1, "b":{"a":2, "\u0061":3}}"#, 2, true),
            (r#"{"\"":1,"\\":2,"\"":3}"#, 1, true),
            (r#"{"a":"\\","b":"\"","a":[]}"#, 2, true),
        ] {
            assert_eq!(shape(text), Shape { depth, duplicates }, "{text}");
        }
    }
}
