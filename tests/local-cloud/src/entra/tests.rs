use reqwest::Client;
use serde_json::{json, Value};

use super::*;
use crate::jws::SigningKey;

/// The good request. A case replaces some fields of it; an empty value leaves the field out.
const GOOD: [(&str, &str); 4] = [
    ("grant_type", "client_credentials"),
    ("client_id", READER.client_id),
    ("client_assertion_type", ASSERTION_TYPE),
    ("scope", "api://orders/.default"),
];

struct Bench {
    entra: Entra,
    federation: Arc<Federation>,
    client: Client,
}

impl Bench {
    async fn start() -> Self {
        let authority = Authority::generate("test").unwrap();
        let federation = Arc::new(Federation::new(SigningKey::generate("aws".into()).await.unwrap()));
        let key = SigningKey::generate("entra".into()).await.unwrap();
        let directory = Arc::new(Directory::new(key, Duration::from_secs(10)));
        let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
        Self {
            entra: Entra::start(&authority, directory, Arc::clone(&federation))
                .await
                .unwrap(),
            federation,
            client: Client::builder()
                .tls_certs_only([root])
                .no_proxy()
                .build()
                .unwrap(),
        }
    }

    async fn ask(&self, url: &str, assertion: &str, changed: &[(&str, &str)]) -> (u16, Value) {
        let mut form = Parameters::from_iter(GOOD.map(|(k, v)| (k.to_owned(), v.to_owned())));
        form.insert("client_assertion".into(), assertion.into());
        form.extend(changed.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())));
        form.retain(|_, value| !value.is_empty());
        self.post(url, encode(&form)).await
    }

    async fn post(&self, url: &str, body: String) -> (u16, Value) {
        let request = self.client.post(url).body(body);
        let answer = request
            .header("content-type", "application/x-www-form-urlencoded")
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (
            status,
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap(),
        )
    }
}

fn encode(form: &Parameters) -> String {
    // Through a URL's query, which is encoded as a form is.
    let mut url = reqwest::Url::parse("http://localhost").unwrap();
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap().to_owned()
}

#[tokio::test]
async fn a_good_assertion_gets_a_token_for_the_resource() {
    let bench = Bench::start().await;
    let assertion = bench.federation.sign(&bench.federation.claims());
    let (status, answer) = bench.ask(&bench.entra.token_url(), &assertion, &[]).await;

    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["expires_in"], 10);
    assert_eq!(answer["token_type"], "Bearer");
    let token = answer["access_token"].as_str().unwrap();
    let claims = bench.entra.state.directory.verify(token).unwrap();
    assert_eq!(claims["aud"], RESOURCE);
    assert_eq!(claims["appid"], READER.client_id);
    assert_eq!(claims["iss"], format!("https://sts.windows.net/{TENANT_ID}/"));
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        10
    );

    let (_, second) = bench.ask(&bench.entra.token_url(), &assertion, &[]).await;
    let second = bench
        .entra
        .state
        .directory
        .verify(second["access_token"].as_str().unwrap())
        .unwrap();
    assert_ne!(claims["uti"], second["uti"]);
    assert_eq!((bench.entra.issued(), bench.entra.fault().requests()), (2, 2));
}

#[tokio::test]
async fn each_bad_assertion_gets_its_code() {
    let bench = Bench::start().await;
    let federation = &bench.federation;
    let url = bench.entra.token_url();
    let foreign = Federation::new(SigningKey::generate("aws".into()).await.unwrap());
    let with = |name: &str, value: Value| {
        let mut claims = federation.claims();
        claims[name] = value;
        federation.sign(&claims)
    };
    let header = |header: Value| federation.sign_with_header(&header, &federation.claims());
    let past = now() - 2 * SKEW;
    for (case, assertion, code) in [
        ("garbage", "x.y.z".into(), 50027),
        ("not three parts", "e30.e30".into(), 50027),
        (
            "wrong issuer",
            with("iss", json!("https://other.tokens.sts.global.api.aws")),
            700211,
        ),
        (
            "issuer with a slash",
            with("iss", json!(format!("{}/", federation::ISSUER))),
            700211,
        ),
        ("no issuer", with("iss", Value::Null), 700211),
        (
            "wrong subject",
            with("sub", json!("arn:aws:iam::123456789012:role/other")),
            700213,
        ),
        (
            "subject in other case",
            with("sub", json!(federation::ROLE_ARN.to_uppercase())),
            700213,
        ),
        ("wrong audience", with("aud", json!("sts.amazonaws.com")), 700212),
        (
            "audience list",
            with("aud", json!([federation::AUDIENCE, "other"])),
            700212,
        ),
        ("expired", with("exp", json!(past)), 700024),
        ("no expiry", with("exp", Value::Null), 700024),
        ("not yet valid", with("nbf", json!(now() + 2 * SKEW)), 700024),
        ("foreign key", foreign.sign(&foreign.claims()), 700027),
        (
            "unknown kid",
            header(json!({"alg": "RS256", "kid": "other"})),
            700027,
        ),
        ("alg none", header(json!({"alg": "none", "kid": "aws"})), 5002738),
        (
            "alg ES384",
            header(json!({"alg": "ES384", "kid": "aws"})),
            5002738,
        ),
    ] {
        let (status, answer) = bench.ask(&url, &assertion, &[]).await;
        assert_eq!(answer["error_codes"], json!([code]), "{case}: {answer}");
        assert_eq!(
            (status, answer["error"].as_str()),
            (401, Some("invalid_client")),
            "{case}"
        );
        let description = answer["error_description"].as_str().unwrap();
        assert!(
            description.starts_with(&format!("AADSTS{code}: ")),
            "{description}"
        );
    }
    assert_eq!(bench.entra.issued(), 0);
}

#[tokio::test]
async fn each_bad_request_gets_its_code() {
    let bench = Bench::start().await;
    let url = bench.entra.token_url();
    let assertion = bench.federation.sign(&bench.federation.claims());
    for (changed, code, error) in [
        (("grant_type", ""), 900144, "invalid_request"),
        (("client_id", ""), 900144, "invalid_request"),
        (("scope", ""), 900144, "invalid_request"),
        (("client_assertion_type", ""), 900144, "invalid_request"),
        (("client_assertion", ""), 7000218, "invalid_client"),
        (("client_assertion_type", "urn:other"), 7000218, "invalid_client"),
        (("grant_type", "password"), 70003, "unsupported_grant_type"),
        (("scope", "api://orders/read"), 1002012, "invalid_scope"),
        (
            ("scope", "openid api://orders/.default"),
            1002012,
            "invalid_scope",
        ),
        (("scope", "api://other/.default"), 500011, "invalid_resource"),
        (("client_id", OPERATOR.client_id), 700016, "unauthorized_client"),
    ] {
        let (_, answer) = bench.ask(&url, &assertion, &[changed]).await;
        assert_eq!(answer["error_codes"], json!([code]), "{changed:?}");
        assert_eq!(answer["error"], error, "{changed:?}");
    }

    let other = url.replace(TENANT_ID, "99999999-2222-4333-8444-555555555555");
    let (status, answer) = bench.ask(&other, &assertion, &[]).await;
    assert_eq!((status, &answer["error_codes"]), (400, &json!([90002])));

    let twice = format!(
        "grant_type=client_credentials&{}",
        encode(&Parameters::from_iter([("grant_type".into(), "x".into())]))
    );
    let (_, answer) = bench.post(&url, twice).await;
    assert_eq!(answer["error_codes"], json!([9000411]));
}
