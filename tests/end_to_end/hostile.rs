//! Garbage, huge, binary and repeated headers: Envoy stays alive, the filter's VM too, and nothing of it crosses.

use isthmus_local_cloud::openid::READER;

use crate::{
    raw::RawClient,
    support::{assert_filter_never_failed, get, options, stack, HOUR},
};

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_in_any_header_harm_nothing() {
    let stack = stack(options()).await;
    let client = RawClient::new(&stack);
    let token = stack.cloud().openid.access_token(READER, &["readers"], HOUR);
    let names = [
        "authorization",
        "x-user",
        "x-groups",
        "x-isthmus-role",
        "x-isthmus-credential",
        "x-request-id",
        "traceparent",
        "cookie",
        "accept",
        "user-agent",
        "x-forwarded-for",
        "x-forwarded-proto",
        "via",
        "te",
        "x-other",
        "host",
    ];
    let values: [&[u8]; 5] = [
        b"\xff",
        b"\xff\xfe\xfd",
        b"Bearer \xc3\x28.\xa0\xa1.\xe2\x28\xa1",
        b"\x80\x80\x80\x80",
        b"caf\xe9",
    ];
    for name in names {
        for value in values {
            let answer = client
                .request("GET", b"/metrics/cpu", &[(name.as_bytes(), value)])
                .await
                .unwrap();
            assert!(
                matches!(answer.status, 400 | 401),
                "{name}: {value:?} gave {}",
                answer.status
            );
        }
    }
    // With a good token beside them, too.
    let bearer = format!("Bearer {token}").into_bytes();
    for name in names.iter().filter(|name| **name != "authorization") {
        let fields = [
            ("authorization".as_bytes(), bearer.as_slice()),
            (name.as_bytes(), b"\xff\xfe"),
        ];
        let answer = client.request("GET", b"/metrics/cpu", &fields).await.unwrap();
        assert!(
            matches!(answer.status, 200 | 400),
            "{name} gave {}",
            answer.status
        );
    }
    for target in [&b"/metrics/\xff"[..], b"/\xc3\x28", b"/metrics?\xff", b"\xff"] {
        let answer = client
            .request("GET", target, &[("authorization", &bearer)])
            .await
            .unwrap();
        assert!(
            (400..500).contains(&answer.status),
            "{target:?} gave {}",
            answer.status
        );
    }
    for name in [&b"x-\xff"[..], b"x\x00y", b"", b"x y"] {
        let answer = client
            .request("GET", b"/metrics/cpu", &[(name, &bearer)])
            .await
            .unwrap();
        assert!(
            (400..500).contains(&answer.status),
            "{name:?} gave {}",
            answer.status
        );
    }
    assert_filter_never_failed(&stack).await;
    assert_eq!(get(&stack, "/metrics/cpu", &token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_and_repeated_headers_are_refused_and_never_cross() {
    let stack = stack(options()).await;
    let client = RawClient::new(&stack);
    let token = stack.cloud().openid.access_token(READER, &["readers"], HOUR);
    let bearer = format!("Bearer {token}");
    let long = |length: usize| format!("Bearer {}", "a".repeat(length));
    let dotted = format!("Bearer {}", ".".repeat(16_000));
    let nested = format!("Bearer {}.{}.c2ln", "eyJhIjpb".repeat(1500), "e30");
    for (fields, status) in [
        (vec![("authorization", long(16 * 1024))], 401),
        (vec![("authorization", long(17 * 1024))], 401),
        (vec![("authorization", long(64 * 1024))], 431),
        (vec![("authorization", dotted)], 401),
        (vec![("authorization", nested)], 401),
        (
            vec![
                ("authorization", bearer.clone()),
                ("authorization", bearer.clone()),
            ],
            401,
        ),
        (
            vec![("authorization", bearer.clone()), ("Authorization", long(8))],
            401,
        ),
        ((0..200).map(|_| ("x-many", "1".to_owned())).collect(), 431),
    ] {
        let answer = client.request("GET", b"/metrics/cpu", &fields).await.unwrap();
        let (name, value) = &fields[0];
        assert_eq!(answer.status, status, "{} × {name}: {value:.40}…", fields.len());
    }
    let requests = stack.cloud().app.requests();
    assert_eq!(requests, 0, "something of it reached the VM");
    assert_filter_never_failed(&stack).await;
    assert_eq!(get(&stack, "/metrics/cpu", &token).await, 200);
}
