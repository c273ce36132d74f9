use std::time::Duration;

use reqwest::header::HeaderValue;

use super::*;
use crate::{
    entra::{OPERATOR, READER},
    jws::SigningKey,
};

async fn app() -> (EchoApp, Arc<Directory>, reqwest::Client) {
    let key = SigningKey::generate("entra".into()).await.unwrap();
    let directory = Arc::new(Directory::new(key, Duration::from_secs(60)));
    let app = EchoApp::start(Arc::clone(&directory)).await.unwrap();
    (
        app,
        directory,
        reqwest::Client::builder().no_proxy().build().unwrap(),
    )
}

#[tokio::test]
async fn only_a_live_entra_token_for_this_api_is_accepted() {
    let (app, directory, client) = app().await;
    let good = directory.claims(&READER, RESOURCE);
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        Some(format!("Bearer {}", directory.sign(&claims)))
    };
    let foreign = SigningKey::generate("entra".into()).await.unwrap();
    let foreign = foreign.sign(&json!({"alg": "RS256", "kid": "entra"}), &good);
    for (authorization, error) in [
        (with("uti", json!("one")), None),
        (with("exp", json!(now())), Some("expired")),
        (with("exp", Value::Null), Some("expired")),
        (with("nbf", json!(now() + 60)), Some("not_yet_valid")),
        (with("aud", json!("api://other")), Some("audience")),
        (
            with("iss", json!("https://sts.windows.net/other/")),
            Some("issuer"),
        ),
        (Some(format!("Bearer {foreign}")), Some("signature")),
        (Some("Bearer x.y.z".into()), Some("malformed")),
        (Some("Basic eDp5".into()), Some("no_token")),
        (None, Some("no_token")),
    ] {
        let mut request = client.get(format!("http://{}/metrics", app.address()));
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), if error.is_some() { 401 } else { 200 });
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(body["azure"]["valid"], error.is_none(), "{body}");
        assert_eq!(body["azure"]["error"].as_str(), error);
    }
    assert_eq!((app.requests(), app.tokens_seen(READER.client_id)), (10, 1));
    assert_eq!(app.tokens_seen(OPERATOR.client_id), 0);
}

#[tokio::test]
async fn it_shows_and_remembers_what_it_saw_but_does_not_give_the_token_away() {
    let (app, directory, client) = app().await;
    let token = directory.token(&OPERATOR, RESOURCE);
    let answer = client
        .delete(format!("http://{}/storage/a?b=c", app.address()))
        .bearer_auth(&token)
        .header("x-user", "first")
        .header("x-user", HeaderValue::from_bytes(b"\xff\xfe").unwrap())
        .body("four")
        .send()
        .await
        .unwrap();
    let text = answer.text().await.unwrap();
    assert!(!text.contains(&token));
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["headers"]["x-user"], json!(["first", "\\xff\\xfe"]));
    assert_eq!(
        (&body["path"], &body["body_bytes"]),
        (&json!("/storage/a?b=c"), &json!(4))
    );

    let seen = app.seen();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].header("x-user")),
        ("DELETE", Some("first"))
    );
    assert_eq!(
        seen[0].header("authorization"),
        Some(format!("Bearer {token}").as_str())
    );
}
