//! Audit events held against the schemas of OCSF 1.8 (`tests/corpus/ocsf`).

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

static API_ACTIVITY: LazyLock<Validator> =
    LazyLock::new(|| validator(include_str!("../corpus/ocsf/6003_api_activity.schema.json")));
static AUTHENTICATION: LazyLock<Validator> =
    LazyLock::new(|| validator(include_str!("../corpus/ocsf/3002_authentication.schema.json")));

fn validator(schema: &str) -> Validator {
    let schema = serde_json::from_str(schema).expect("JSON");
    jsonschema::validator_for(&schema).expect("a JSON Schema")
}

/// What the schema of the event's class says against it.
pub(crate) fn problems(event: &Value) -> Vec<String> {
    let validator = match event["class_uid"].as_u64() {
        Some(6003) => &*API_ACTIVITY,
        Some(3002) => &*AUTHENTICATION,
        other => return vec![format!("class {other:?} is none of ours")],
    };
    validator
        .iter_errors(event)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn the_schemas_take_their_own_examples_and_nothing_that_lacks_a_required_field() {
    let examples = include_str!("../corpus/ocsf/example_events.1.8.0.json");
    let examples: Value = serde_json::from_str(examples).expect("JSON");
    let examples = examples.as_array().expect("a list");
    assert!(!examples.is_empty());
    for example in examples {
        let event = &example["event"];
        assert_eq!(problems(event), Vec::<String>::new());
        let mut broken = event.clone();
        broken.as_object_mut().expect("an object").remove("time");
        assert_ne!(problems(&broken), Vec::<String>::new());
    }
}
