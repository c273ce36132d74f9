//! A wrong configuration stops Envoy at its start and says where it is wrong.

use isthmus_local_cloud::stack::Stack;
use serde_json::json;

use crate::support::options;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_stops_the_start_and_names_the_json_path() {
    let mut unknown_field = isthmus_cases::filter_config();
    unknown_field["providers"][0]["isuer"] = json!("x");
    let mut wrong_pattern = isthmus_cases::filter_config();
    wrong_pattern["roles"][1]["allow"][0]["paths"][0] = json!("metrics/**");
    let mut options = options();
    for (config, path) in [
        (unknown_field, "providers[0].isuer"),
        (wrong_pattern, "roles[1].allow[0].paths[0]"),
        (json!({}), "providers"),
    ] {
        options.filter_config = Some(config);
        let message = match Stack::start(options.clone()).await {
            Ok(_) => panic!("Envoy started with a wrong {path}"),
            Err(error) => error.to_string(),
        };
        assert!(
            message.contains("wrong configuration") && message.contains(path),
            "{path}: {message}"
        );
    }
}
