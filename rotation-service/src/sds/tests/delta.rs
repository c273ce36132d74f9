//! The incremental variant.

use std::collections::HashMap;

use super::*;

struct DeltaStream {
    sender: mpsc::Sender<DeltaDiscoveryRequest>,
    answers: Streaming<DeltaDiscoveryResponse>,
}

impl DeltaStream {
    async fn open(bridge: &Bridge) -> Self {
        let (sender, receiver) = mpsc::channel(8);
        let answers = bridge
            .client()
            .await
            .delta_secrets(ReceiverStream::new(receiver))
            .await
            .unwrap();
        Self {
            sender,
            answers: answers.into_inner(),
        }
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.sender.send(request).await.unwrap();
    }

    async fn answer(&mut self) -> DeltaDiscoveryResponse {
        let answer = timeout(PATIENCE, self.answers.message())
            .await
            .expect("no answer");
        answer.unwrap().expect("the stream ended")
    }
}

fn subscribe(names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: TYPE_URL.to_owned(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn contents(answer: &DeltaDiscoveryResponse) -> Vec<(String, String)> {
    assert!(answer.removed_resources.is_empty(), "nothing is ever removed");
    let content = |resource: &envoy_types::pb::envoy::service::discovery::v3::Resource| {
        let content = token(resource.resource.as_ref().unwrap());
        assert_eq!(resource.name, content.0);
        content
    };
    answer.resources.iter().map(content).collect()
}

#[tokio::test]
async fn only_what_changed_is_sent() {
    let bridge = Bridge::serve(&["a", "b"]);
    bridge.publish("a", "one");
    bridge.publish("b", "one");
    let mut stream = DeltaStream::open(&bridge).await;
    stream.send(subscribe(&["a", "b", "nobody"])).await;
    assert_eq!(
        contents(&stream.answer().await),
        [pair("a", "one"), pair("b", "one")]
    );
    bridge.publish("b", "two");
    assert_eq!(contents(&stream.answer().await), [pair("b", "two")]);
}

#[tokio::test]
async fn names_are_added_and_taken_away() {
    let bridge = Bridge::serve(&["a", "b"]);
    bridge.publish("a", "one");
    bridge.publish("b", "one");
    let mut stream = DeltaStream::open(&bridge).await;
    stream.send(subscribe(&["a"])).await;
    assert_eq!(contents(&stream.answer().await), [pair("a", "one")]);
    stream
        .send(DeltaDiscoveryRequest {
            resource_names_unsubscribe: vec!["a".to_owned()],
            ..subscribe(&["b"])
        })
        .await;
    assert_eq!(contents(&stream.answer().await), [pair("b", "one")]);
    bridge.publish("a", "unwanted");
    bridge.publish("b", "two");
    assert_eq!(contents(&stream.answer().await), [pair("b", "two")]);
}

#[tokio::test]
async fn a_client_that_reconnects_gets_only_what_it_lacks() {
    let bridge = Bridge::serve(&["a", "b"]);
    bridge.publish("a", "one");
    bridge.publish("b", "one");
    let mut stream = DeltaStream::open(&bridge).await;
    stream.send(subscribe(&["a", "b"])).await;
    let versions: HashMap<String, String> = stream
        .answer()
        .await
        .resources
        .into_iter()
        .map(|resource| (resource.name, resource.version))
        .collect();
    drop(stream);
    bridge.publish("b", "two");

    let mut again = DeltaStream::open(&bridge).await;
    again
        .send(DeltaDiscoveryRequest {
            initial_resource_versions: versions,
            ..subscribe(&["a", "b"])
        })
        .await;
    assert_eq!(contents(&again.answer().await), [pair("b", "two")]);
}

#[tokio::test]
async fn a_refusal_is_answered_by_the_next_value_only() {
    let bridge = Bridge::serve(&["a", "b"]);
    bridge.publish("a", "one");
    let mut stream = DeltaStream::open(&bridge).await;
    stream.send(subscribe(&["a", "b"])).await;
    let first = stream.answer().await;
    for _ in 0..20 {
        stream
            .send(DeltaDiscoveryRequest {
                response_nonce: first.nonce.clone(),
                error_detail: Some(refusal()),
                ..subscribe(&[])
            })
            .await;
    }
    bridge.publish("b", "marker");
    assert_eq!(contents(&stream.answer().await), [pair("b", "marker")]);
    bridge.publish("a", "two");
    assert_eq!(contents(&stream.answer().await), [pair("a", "two")]);
}

#[tokio::test]
async fn asking_again_for_a_name_sends_it_again() {
    let bridge = Bridge::serve(&["a"]);
    bridge.publish("a", "one");
    let mut stream = DeltaStream::open(&bridge).await;
    stream.send(subscribe(&["a"])).await;
    stream.answer().await;
    stream.send(subscribe(&["a"])).await;
    assert_eq!(contents(&stream.answer().await), [pair("a", "one")]);
}

#[tokio::test]
async fn names_add_up_to_a_bound() {
    let bridge = Bridge::serve(&["a"]);
    let mut stream = DeltaStream::open(&bridge).await;
    for round in 0..2 {
        let names: Vec<String> = (0..MAX_NAMES).map(|index| format!("{round}-{index}")).collect();
        stream
            .send(subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>()))
            .await;
    }
    let status = timeout(PATIENCE, stream.answers.message())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}
