//! docs/configuration.md is made from the schema: a setting without a description, or a page that lags behind, fails here.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::{Map, Value};

use crate::isthmus;

const INTRODUCTION: &str = "\
# The filter's configuration

JSON: Envoy's `configuration`, Istio's `pluginConfig`. An unknown field, a name that stands twice and a value that means less than it
seems to are errors with their JSON path; `isthmus check FILE` names them before Envoy does. A worked example is in
[roles.md](roles.md).

This page is made from the schema that `isthmus schema filter` prints; `make docs` writes it anew.
";

#[test]
fn the_page_about_the_configuration_is_that_of_the_schema() {
    let schema: Value = serde_json::from_slice(&isthmus(&["schema", "filter"], "").stdout).expect("JSON");
    let page = page(&schema);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).expect("docs/configuration.md");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/configuration.md is not that of the schema; `make docs` writes it"
    );
}

fn page(schema: &Value) -> String {
    let mut page = INTRODUCTION.to_owned();
    let types = schema["$defs"].as_object().expect("types");
    section(&mut page, "Config", schema, types);
    // In the order in which a reader meets them.
    let mut told = vec!["Config".to_owned()];
    let mut ahead = references(schema);
    while !ahead.is_empty() {
        let name = ahead.remove(0);
        if !told.contains(&name) {
            let of_type = &types[&name];
            section(&mut page, &name, of_type, types);
            ahead.extend(references(of_type));
            told.push(name);
        }
    }
    page
}

/// The types that this one names, in the order of its fields; those of the definitions beside it are not its own.
fn references(of_type: &Value) -> Vec<String> {
    match of_type {
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| *name != "$defs")
            .flat_map(|(name, value)| match (name.as_str(), value) {
                ("$ref", Value::String(target)) => vec![name_of(target)],
                _ => references(value),
            })
            .collect(),
        Value::Array(elements) => elements.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

fn section(page: &mut String, name: &str, of_type: &Value, types: &Map<String, Value>) {
    let about = one_line(of_type["description"].as_str().unwrap_or_default());
    write!(page, "\n## {name}\n\n").expect("a text grows");
    if !about.is_empty() {
        write!(page, "{about}\n\n").expect("a text grows");
    }
    if let Some(fields) = of_type["properties"].as_object() {
        let required: Vec<&str> = of_type["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        page.push_str("| field | type | meaning |\n| --- | --- | --- |\n");
        for (field, value) in fields {
            let meaning = value["description"].as_str().or_else(|| {
                // A field whose type says it all.
                types.get(&name_of(value["$ref"].as_str()?))?["description"].as_str()
            });
            let meaning = meaning.unwrap_or_else(|| panic!("{name}.{field} has no description"));
            let need = if required.contains(&field.as_str()) {
                "**required.** "
            } else {
                ""
            };
            writeln!(
                page,
                "| `{field}` | {} | {need}{} |",
                type_of(value),
                one_line(meaning)
            )
            .expect("a text grows");
        }
    } else if let Some(values) = of_type["oneOf"]
        .as_array()
        .filter(|values| values.iter().any(|value| !value["const"].is_null()))
    {
        page.push_str("| value | meaning |\n| --- | --- |\n");
        for value in values {
            let meaning = one_line(value["description"].as_str().unwrap_or_default());
            writeln!(
                page,
                "| `{}` | {meaning} |",
                value["const"].as_str().expect("a name")
            )
            .expect("a text grows");
        }
    } else if let Some(values) = of_type["enum"].as_array() {
        let values: Vec<String> = values
            .iter()
            .map(|value| format!("`{}`", value.as_str().expect("a name")))
            .collect();
        writeln!(page, "One of {}.", values.join(", ")).expect("a text grows");
    } else {
        writeln!(page, "{}.", type_of(of_type)).expect("a text grows");
    }
}

fn type_of(value: &Value) -> String {
    if let Some(target) = value["$ref"].as_str() {
        let name = name_of(target);
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(choices) = value[choice].as_array() {
            let choices: Vec<String> = choices
                .iter()
                .filter(|choice| choice["type"] != "null")
                .map(type_of)
                .collect();
            return choices.join(" or ");
        }
    }
    let names = match &value["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .collect(),
        _ => vec!["any JSON"],
    };
    match names[..] {
        ["array"] => format!("list of {}", type_of(&value["items"])),
        _ => names.join(" or "),
    }
}

fn name_of(reference: &str) -> String {
    reference.rsplit('/').next().unwrap_or_default().to_owned()
}

fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}
