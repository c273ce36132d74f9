use super::*;
use crate::{entra, openid};

fn paths() -> Paths {
    Paths {
        socket: "/x/sds.sock".into(),
        local_ca: "/x/ca".into(),
    }
}

fn parse(yaml: &str) -> Value {
    serde_norway::from_str(yaml).unwrap()
}

/// The places where two documents differ, as JSON pointers; what only one of them has counts as one place.
fn differences(at: &str, a: &Value, b: &Value, found: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let (null, at) = (Value::Null, format!("{at}/{key}"));
                differences(
                    &at,
                    a.get(key).unwrap_or(&null),
                    b.get(key).unwrap_or(&null),
                    found,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{at}/{index}"), a, b, found);
            }
        }
        _ if a != b => found.push(at.to_owned()),
        _ => {}
    }
}

#[tokio::test]
async fn nothing_but_addresses_paths_and_log_targets_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::start(dir.path(), crate::Options::default()).await.unwrap();
    let log = Path::new("/x/access.log");
    let module = Path::new("/x/isthmus.wasm");
    let with = |provider| Bridge {
        listen: ANY_PORT,
        vm: ANY_PORT,
        module,
        filter: None,
        provider,
        access_log: log,
    };
    let bridge_elsewhere = bridge(&paths(), &cloud, &with(Some(ANY_PORT))).unwrap();
    let bridge = bridge(&paths(), &cloud, &with(None)).unwrap();
    let vm = vm(&paths(), cloud.app.address(), log).unwrap();
    for (shipped, patched) in [(BRIDGE, &bridge), (VM, &vm)] {
        let mut found = Vec::new();
        differences("", &parse(shipped), &parse(patched), &mut found);
        for place in found {
            let last = place.rsplit('/').next().unwrap();
            assert!(
                ["address", "port_value", "path", "filename", "@type"].contains(&last),
                "{place}"
            );
            assert!(last != "@type" || place.contains("/access_log/"), "{place}");
        }
    }
    let mut found = Vec::new();
    differences("", &parse(&bridge), &parse(&bridge_elsewhere), &mut found);
    let cluster = Config::parse("bridge.yaml", BRIDGE)
        .and_then(|mut config| config.named("/static_resources/clusters", "cognito"))
        .unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    for (place, end) in found.iter().zip(["port_value", "/transport_socket"]) {
        assert!(place.starts_with(&cluster) && place.ends_with(end), "{place}");
    }
    let mut found = Vec::new();
    let rotation = rotation(&cloud, &paths()).unwrap();
    differences("", &parse(ROTATION), &parse(&rotation), &mut found);
    found.sort();
    assert_eq!(
        found,
        [
            "/admin/address",
            "/cloud/authority",
            "/cloud/ca_file",
            "/local_ca/directory",
            "/sds/unix/path",
            "/secrets/0/entra_token/federated/assertion_file",
        ]
    );
}

#[test]
fn a_place_that_is_not_in_the_file_is_an_error() {
    let mut config = Config::parse("vm.yaml", VM).unwrap();
    for (error, expected) in [
        (
            config.connect("other", ANY_PORT),
            "no `other` in /static_resources/clusters",
        ),
        (
            config.listen("bridge", ANY_PORT),
            "no `bridge` in /static_resources/listeners",
        ),
        (
            config.set("/admin/adress", Value::Null),
            "nothing at /admin/adress",
        ),
        (config.remove("/admin", "adress"), "nothing at /admin/adress"),
        (
            config.connect_socket("app", Path::new("/x")),
            "nothing at /static_resources/clusters/0",
        ),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("vm.yaml has ") && error.contains(expected),
            "{error}"
        );
    }
    let mut quiet = Config::parse("quiet.yaml", "a: 1").unwrap();
    assert!(quiet.log_to_file(Path::new("/x")).is_err());
    assert!(Config::parse("broken.yaml", "a: [").is_err());
}

#[test]
fn the_shipped_files_and_the_local_cloud_speak_of_the_same_identities() {
    let filter = shipped_filter_config().unwrap();
    let provider = &filter["providers"][0];
    assert_eq!(provider["issuer"], openid::ISSUER);
    assert_eq!(provider["audiences"], json!([openid::READER, openid::OPERATOR]));
    assert_eq!(
        provider["jwks"]["uri"],
        format!("{}/.well-known/jwks.json", openid::ISSUER)
    );

    let rotation = parse(ROTATION);
    let federated = &rotation["secrets"][0]["entra_token"]["federated"];
    assert_eq!(federated["tenant_id"], entra::TENANT_ID);
    assert_eq!(federated["client_id"], entra::READER.client_id);
    let managed = &rotation["secrets"][1]["entra_token"]["managed_identity"];
    assert_eq!(managed["client_id"], entra::OPERATOR.client_id);
}

#[test]
fn every_secret_that_envoy_asks_for_is_one_that_the_rotation_service_keeps() {
    let mut asked = std::collections::BTreeSet::new();
    for file in [BRIDGE, VM] {
        secrets_asked_for(&parse(file), &mut asked);
    }
    let rotation = parse(ROTATION);
    let kept = rotation["secrets"].as_array().unwrap().iter();
    let kept = kept
        .map(|secret| secret["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(asked, kept);
}

fn secrets_asked_for(value: &Value, found: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if object.contains_key("sds_config") {
                found.insert(object["name"].as_str().unwrap().to_owned());
            }
            object.values().for_each(|value| secrets_asked_for(value, found));
        }
        Value::Array(array) => array.iter().for_each(|value| secrets_asked_for(value, found)),
        _ => {}
    }
}
