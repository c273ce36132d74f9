//! A caller reaches the VM as their role's Azure identity, by the bridge or not at all.

use isthmus_local_cloud::{
    entra,
    openid::{OPERATOR, READER},
};

use crate::support::{assert_filter_never_failed, get, options, stack, DEADLINE, HOUR};

#[tokio::test(flavor = "multi_thread")]
async fn each_role_arrives_with_its_own_azure_identity() {
    let stack = stack(options()).await;
    let openid = &stack.cloud().openid;
    for (client, group, method, path, application) in [
        (READER, "readers", "GET", "/metrics/cpu", entra::READER),
        (
            OPERATOR,
            "operators",
            "DELETE",
            "/storage/orders",
            entra::OPERATOR,
        ),
    ] {
        let token = openid.access_token(client, &[group], HOUR);
        let request = stack
            .client()
            .request(method.parse().unwrap(), format!("{}{path}", stack.bridge_url()));
        let answer = request.bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{client}");
        let seen = stack.cloud().app.seen().pop().unwrap();
        assert_eq!(seen.azure.appid(), Some(application.client_id));
        let carried: Vec<_> = seen.headers.values().flatten().collect();
        assert!(
            carried.iter().all(|value| !value.contains(&token)),
            "the caller's token crossed"
        );
        assert_eq!(seen.header("x-isthmus-credential"), None);
    }
    assert_filter_never_failed(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_leaves_one_audit_line_without_secrets() {
    let stack = stack(options()).await;
    let openid = &stack.cloud().openid;
    let tokens = [
        openid.access_token(READER, &["readers"], HOUR),
        openid.access_token("somebody-else", &["readers"], HOUR),
        openid.mint_with_foreign_key(&openid.access_claims(READER, &["readers"], HOUR)),
    ];
    let mut sent = 0;
    for token in &tokens {
        for path in [
            "/metrics/cpu?secret=in-the-query",
            "/storage/orders",
            "/metrics/%252e",
        ] {
            get(&stack, path, token).await;
            sent += 1;
        }
    }
    // The last request is written last.
    get(&stack, "/the-end", &tokens[0]).await;
    let path = |event: &serde_json::Value| event["http_request"]["url"]["path"] == "/the-end";
    stack.wait_for_audit(DEADLINE, path).await.unwrap();
    let lines = stack.access_log().unwrap();
    assert_eq!(lines.len(), sent + 1, "{lines:#?}");
    assert_eq!(stack.audit_events().unwrap().len(), sent + 1);
    let text = format!("{lines:?}{}{}", stack.bridge_log(), stack.vm_log());
    for token in &tokens {
        let signature = token.rsplit('.').next().unwrap();
        assert!(!text.contains(signature), "a token was written down");
    }
    assert!(!text.contains("in-the-query"), "a query was written down");
    let allowed = lines
        .iter()
        .find(|event| event["status_detail"] == "allowed")
        .expect("an allowed request");
    let peer = &allowed["unmapped"]["isthmus"]["peer_uri_san"];
    assert_eq!(peer, isthmus_local_cloud::stack::GATEWAY_ID);
    assert_eq!(allowed["unmapped"]["isthmus"]["credential"], "azure/reader");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_gateway_calls_the_bridge_and_nobody_but_the_bridge_calls_the_vm() {
    let stack = stack(options()).await;
    let token = stack.cloud().openid.access_token(READER, &["readers"], HOUR);
    for identity in [None, Some("spiffe://isthmus.local/somebody")] {
        let client = stack.client_as(identity).unwrap();
        let url = format!("{}/metrics/cpu", stack.bridge_url());
        let answer = client.get(url).bearer_auth(&token).send().await;
        assert!(
            answer.is_err(),
            "{identity:?} was let in to the bridge: {answer:?}"
        );
    }
    for identity in [None, Some(isthmus_local_cloud::stack::GATEWAY_ID)] {
        let client = stack.client_as(identity).unwrap();
        let answer = client
            .get(format!("https://{}/metrics/cpu", stack.vm_address()))
            .send()
            .await;
        assert!(answer.is_err(), "{identity:?} was let in to the VM: {answer:?}");
    }
    assert_eq!(stack.cloud().app.requests(), 0);
}
