use super::*;

const FULL: &str = r#"
sds:
  unix: { path: /run/isthmus/sds.sock, mode: "0660" }
admin: { address: "127.0.0.1:9902" }
cloud:
  authority: https://login.example
  ca_file: /etc/isthmus/cloud-ca.pem
local_ca: { directory: /var/lib/isthmus/ca, trust_domain: isthmus.local }
secrets:
  - name: azure/reader
    entra_token:
      scope: api://orders/.default
      federated:
        tenant_id: 11111111-1111-1111-1111-111111111111
        client_id: 22222222-2222-2222-2222-222222222222
        assertion_file: /run/isthmus/assertion.jwt
  - name: azure/operator
    entra_token:
      scope: api://orders/.default
      managed_identity: { client_id: 33333333-3333-3333-3333-333333333333 }
  - name: tls/bridge
    certificate:
      local_ca: { uri_sans: ["spiffe://isthmus.local/bridge"], dns_sans: [bridge.local], ip_sans: [], lifetime: 24h }
  - name: tls/trust
    trust_bundle: { local_ca: {} }
"#;

const GUID: &str = "33333333-3333-3333-3333-333333333333";

fn refused(text: &str) -> String {
    Config::from_yaml(text).map(|_| ()).expect_err(text).to_string()
}

#[test]
fn the_documented_example_is_accepted() {
    let config = Config::from_yaml(FULL).unwrap();
    assert_eq!(config.sds.mode.bits(), 0o660);
    assert_eq!(config.admin, Some("127.0.0.1:9902".parse().unwrap()));
    assert_eq!(config.cloud.authority.as_str(), "https://login.example");
    assert_eq!(config.secrets.len(), 4);
    let SourceConfig::EntraToken(operator) = &config.secrets[1].source else {
        panic!("a token")
    };
    let IdentityConfig::ManagedIdentity(ManagedIdentityConfig::ClientId(id)) = &operator.identity else {
        panic!("a managed identity")
    };
    assert_eq!(id.as_str(), GUID);
}

#[test]
fn what_is_not_written_has_a_safe_default() {
    let config = Config::from_yaml(
        "sds: { unix: { path: /s } }\n\
         secrets: [{ name: a, entra_token: { scope: api://x/.default, managed_identity: {} } }]",
    )
    .unwrap();
    assert_eq!(config.sds.mode.bits(), 0o600);
    assert_eq!(
        config.cloud.authority.as_str(),
        "https://login.microsoftonline.com"
    );
    assert!(config.admin.is_none() && config.cloud.ca_file.is_none());
    let SourceConfig::EntraToken(token) = &config.secrets[0].source else {
        panic!("a token")
    };
    assert!(matches!(
        token.identity,
        IdentityConfig::ManagedIdentity(ManagedIdentityConfig::System)
    ));
}

/// Each row changes one thing in the full example and gives the start of the error that must come of it.
#[test]
fn a_wrong_value_is_refused_with_its_path() {
    let cases = [
        ("mode: \"0660\"", "mode: \"0666\"", "sds.unix.mode: expected an octal mode"),
        (
            "mode: \"0660\"",
            "mode: [6]",
            "sds.unix.mode: invalid type: sequence, expected a string",
        ),
        ("path: /run/isthmus/sds.sock", "path: ''", "sds.unix.path: expected the path of a socket"),
        ("mode: \"0660\"", "made: \"0660\"", "sds.unix.made: unknown field `made`, expected `path` or `mode`"),
        ("sds:\n", "sdz:\n", "sdz: unknown field `sdz`"),
        ("127.0.0.1:9902", "localhost", "admin.address: invalid socket address"),
        ("https://login.example", "http://login.example", "cloud.authority: expected an https URL"),
        ("trust_domain: isthmus.local", "trust_domain: A/b", "local_ca.trust_domain: expected a trust domain"),
        ("name: azure/reader", "name: 'a b'", "secrets[0].name: expected 1 to 256 printable"),
        ("name: azure/operator", "name: azure/reader", "secrets[1].name: expected a name of its own"),
        ("scope: api://orders/.default\n      fed", "scope: orders\n      fed", "secrets[0].entra_token.scope: expected a scope"),
        ("tenant_id: 1", "tenant_id: x", "secrets[0].entra_token.federated.tenant_id: expected a GUID"),
        ("client_id: 2", "clientid: 2", "secrets[0].entra_token.federated.clientid: unknown field `clientid`"),
        ("managed_identity: {", "managed_identity: { object_id: 33333333-3333-3333-3333-333333333333, ",
         "secrets[1].entra_token.managed_identity: expected at most one of"),
        ("      managed_identity: { client_id: 33333333-3333-3333-3333-333333333333 }", "",
         "secrets[1].entra_token: expected exactly one of federated, managed_identity"),
        ("lifetime: 24h", "lifetime: soon", "secrets[2].certificate.local_ca.lifetime: expected a duration"),
        ("spiffe://isthmus.local/", "spiffe://elsewhere/", "secrets[2].certificate.local_ca.uri_sans[0]: expected a SPIFFE id in the trust domain isthmus.local"),
        ("dns_sans: [bridge.local]", "dns_sans: [a, '-']", "secrets[2].certificate.local_ca.dns_sans[1]: expected a DNS name"),
        ("ip_sans: []", "ip_sans: [300.1.1.1]", "secrets[2].certificate.local_ca.ip_sans[0]: expected an IP address"),
        ("uri_sans: [\"spiffe://isthmus.local/bridge\"], dns_sans: [bridge.local]", "dns_sans: []",
         "secrets[2].certificate.local_ca: expected at least one of uri_sans"),
        ("trust_bundle: { local_ca: {} }", "trust_bundle: { local_ca: { x: 1 } }", "secrets[3].trust_bundle.local_ca.x: unknown field `x`"),
        ("    trust_bundle: { local_ca: {} }\n", "", "secrets[3]: expected exactly one of entra_token, certificate, trust_bundle"),
        ("local_ca: { directory: /var/lib/isthmus/ca, trust_domain: isthmus.local }\n", "",
         "secrets[2].certificate.local_ca: expected a local_ca section"),
    ];
    for (from, to, error) in cases {
        assert!(FULL.contains(from), "the example has no `{from}`");
        let got = refused(&FULL.replacen(from, to, 1));
        assert!(
            got.starts_with(error),
            "for `{to}`\n expected {error}\n      got {got}"
        );
    }
}

/// YAML would read it as a number; the text is what counts.
#[test]
fn a_mode_without_quotes_means_what_it_looks_like() {
    for written in ["mode: 0660", "mode: 660"] {
        let config = Config::from_yaml(&FULL.replace("mode: \"0660\"", written)).unwrap();
        assert_eq!(config.sds.mode.bits(), 0o660);
    }
}

#[test]
fn a_missing_section_is_named() {
    assert!(refused("secrets: []").contains("missing field `sds`"));
    assert!(refused("sds: { unix: { path: /s } }").contains("missing field `secrets`"));
    assert_eq!(
        refused("sds: { unix: { path: /s } }\nsecrets: []"),
        "secrets: expected 1 to 1000 secrets"
    );
}

#[test]
fn what_is_no_yaml_mapping_is_refused() {
    for text in ["", "[]", "secrets: [", "\u{0}", "a: b: c", "--- 1\n--- 2"] {
        assert!(!refused(text).is_empty(), "{text:?}");
    }
}

#[test]
fn a_repeated_key_is_refused() {
    let text = FULL.replace("name: azure/reader", "name: azure/reader\n    name: other");
    assert!(refused(&text).starts_with("secrets[0]"), "{}", refused(&text));
}
