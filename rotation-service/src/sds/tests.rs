//! The protocol as a client sees it: a tonic client over a Unix socket. Whether something is *not* sent is shown by order: a
//! second secret is published afterwards and its answer is the next one to arrive.

use std::time::{Duration, SystemTime};

use envoy_types::pb::{
    envoy::{
        config::core::v3::{data_source::Specifier, DataSource},
        extensions::transport_sockets::tls::v3::{secret::Type, Secret},
        service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
    },
    google::{protobuf::Any, rpc},
};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{net::UnixStream, time::timeout};
use tonic::{
    transport::{Channel, Endpoint, Server, Uri},
    Code,
};

use super::*;
use crate::{
    config::{SdsConfig, SecretName},
    sds::socket::Socket,
    secret::{CertifiedKey, SecretBytes, Value},
    token::Token,
};

mod delta;

/// Only bounds how long a failing test hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// A served store.
struct Bridge {
    store: Arc<Store>,
    directory: tempfile::TempDir,
    stop: watch::Sender<bool>,
}

impl Bridge {
    fn serve(names: &[&str]) -> Self {
        let names = names
            .iter()
            .map(|name| SecretName::try_from((*name).to_owned()).unwrap());
        let store = Arc::new(Store::new(names));
        let directory = tempfile::tempdir().unwrap();
        let config = SdsConfig {
            path: directory
                .path()
                .join("s")
                .to_str()
                .unwrap()
                .to_owned()
                .try_into()
                .unwrap(),
            mode: Default::default(),
        };
        let socket = Socket::bind(&config).unwrap();
        let (stop, stopped) = watch::channel(false);
        let server = Server::builder().add_service(Sds::server(store.clone(), stopped));
        tokio::spawn(async move {
            let (incoming, _file) = socket.into_incoming();
            server.serve_with_incoming(incoming).await
        });
        Self {
            store,
            directory,
            stop,
        }
    }

    fn publish(&self, name: &str, token: &str) {
        self.publish_value(name, Value::Token(Token::parse(token).unwrap()));
    }

    fn publish_value(&self, name: &str, value: Value) {
        let expires_at = SystemTime::now() + Duration::from_secs(60);
        self.store
            .cell(name)
            .unwrap()
            .publish(Versioned::fresh(value, expires_at));
    }

    async fn client(&self) -> SecretDiscoveryServiceClient<Channel> {
        let path = self.directory.path().join("s");
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://sds");
        SecretDiscoveryServiceClient::new(endpoint.connect_with_connector(connect).await.unwrap())
    }

    async fn stream(&self) -> Stream {
        let (sender, receiver) = mpsc::channel(8);
        let answers = self
            .client()
            .await
            .stream_secrets(ReceiverStream::new(receiver))
            .await
            .unwrap();
        Stream {
            sender,
            answers: answers.into_inner(),
        }
    }
}

/// A state-of-the-world stream as Envoy uses it.
struct Stream {
    sender: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

impl Stream {
    async fn send(&self, request: DiscoveryRequest) {
        self.sender.send(request).await.unwrap();
    }

    async fn subscribe(&self, names: &[&str]) {
        self.send(request(names)).await;
    }

    async fn answer_or_end(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        timeout(PATIENCE, self.answers.message())
            .await
            .expect("no answer")
    }

    async fn answer(&mut self) -> DiscoveryResponse {
        self.answer_or_end().await.unwrap().expect("the stream ended")
    }

    async fn acknowledge(&self, names: &[&str], answer: &DiscoveryResponse) {
        self.send(DiscoveryRequest {
            version_info: answer.version_info.clone(),
            response_nonce: answer.nonce.clone(),
            ..request(names)
        })
        .await;
    }

    async fn refuse(&self, names: &[&str], answer: &DiscoveryResponse) {
        self.send(DiscoveryRequest {
            response_nonce: answer.nonce.clone(),
            error_detail: Some(refusal()),
            ..request(names)
        })
        .await;
    }
}

fn request(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: TYPE_URL.to_owned(),
        ..DiscoveryRequest::default()
    }
}

fn refusal() -> rpc::Status {
    rpc::Status {
        code: Code::Internal as i32,
        message: "no\r\nthanks".to_owned(),
        ..rpc::Status::default()
    }
}

fn secret(resource: &Any) -> Secret {
    assert_eq!(resource.type_url, TYPE_URL);
    Secret::decode(resource.value.as_slice()).unwrap()
}

fn bytes(source: &Option<DataSource>) -> String {
    let Some(Specifier::InlineBytes(bytes)) = source.as_ref().and_then(|source| source.specifier.as_ref())
    else {
        panic!("inline bytes")
    };
    String::from_utf8(bytes.clone()).unwrap()
}

/// Names and tokens of an answer.
fn tokens(answer: &DiscoveryResponse) -> Vec<(String, String)> {
    assert_eq!(answer.type_url, TYPE_URL);
    answer.resources.iter().map(token).collect()
}

fn token(resource: &Any) -> (String, String) {
    let secret = secret(resource);
    match secret.r#type {
        Some(Type::GenericSecret(generic)) => (secret.name, bytes(&generic.secret)),
        other => panic!("a generic secret, not {other:?}"),
    }
}

fn pair(name: &str, token: &str) -> (String, String) {
    (name.to_owned(), token.to_owned())
}

#[tokio::test]
async fn a_subscriber_gets_the_value_at_once() {
    let bridge = Bridge::serve(&["a", "b"]);
    bridge.publish("a", "one");
    bridge.publish("b", "other");
    let mut stream = bridge.stream().await;
    stream.subscribe(&["a"]).await;
    let answer = stream.answer().await;
    assert_eq!(tokens(&answer), [pair("a", "one")]);
    assert!(!answer.version_info.is_empty() && !answer.nonce.is_empty());
}

#[tokio::test]
async fn each_kind_of_value_has_its_kind_of_secret() {
    let bridge = Bridge::serve(&["bundle", "pair"]);
    bridge.publish_value("bundle", Value::TrustBundle(b"ca".to_vec()));
    let certified = CertifiedKey {
        chain_pem: b"chain".to_vec(),
        key_pem: SecretBytes::new(b"key".to_vec()),
    };
    bridge.publish_value("pair", Value::CertifiedKey(certified));
    let mut stream = bridge.stream().await;
    stream.subscribe(&["bundle", "pair"]).await;
    let answer = stream.answer().await;
    let Some(Type::ValidationContext(context)) = secret(&answer.resources[0]).r#type else {
        panic!("a validation context")
    };
    assert_eq!(bytes(&context.trusted_ca), "ca");
    let Some(Type::TlsCertificate(certificate)) = secret(&answer.resources[1]).r#type else {
        panic!("a certificate")
    };
    assert_eq!(
        (
            bytes(&certificate.certificate_chain),
            bytes(&certificate.private_key)
        ),
        ("chain".to_owned(), "key".to_owned())
    );
}

#[tokio::test]
async fn a_subscriber_is_held_until_there_is_a_value() {
    let bridge = Bridge::serve(&["a", "b"]);
    let mut stream = bridge.stream().await;
    stream.subscribe(&["a"]).await;
    let mut control = bridge.stream().await;
    bridge.publish("b", "other");
    control.subscribe(&["b"]).await;
    control.answer().await;

    bridge.publish("a", "one");
    assert_eq!(tokens(&stream.answer().await), [pair("a", "one")]);
}

#[tokio::test]
async fn the_first_answer_does_not_wait_for_every_name() {
    let bridge = Bridge::serve(&["a", "b"]);
    bridge.publish("a", "one");
    let mut stream = bridge.stream().await;
    stream.subscribe(&["a", "b"]).await;
    assert_eq!(tokens(&stream.answer().await), [pair("a", "one")]);
    bridge.publish("b", "two");
    assert_eq!(
        tokens(&stream.answer().await),
        [pair("a", "one"), pair("b", "two")]
    );
}

#[tokio::test]
async fn an_acknowledgement_is_not_answered() {
    let bridge = Bridge::serve(&["a"]);
    bridge.publish("a", "one");
    let mut stream = bridge.stream().await;
    stream.subscribe(&["a"]).await;
    let first = stream.answer().await;
    stream.acknowledge(&["a"], &first).await;
    stream.acknowledge(&["a"], &first).await;
    // Answers come in order: the changed name is the marker after which nothing can be left in between.
    stream.subscribe(&["a", "marker"]).await;
    let marker = stream.answer().await;
    bridge.publish("a", "two");
    let second = stream.answer().await;
    assert_eq!(
        (marker.version_info, tokens(&second)),
        (first.version_info, vec![pair("a", "two")])
    );
}

#[tokio::test]
async fn a_refusal_is_answered_by_the_next_value_only() {
    let bridge = Bridge::serve(&["a"]);
    bridge.publish("a", "one");
    let mut stream = bridge.stream().await;
    stream.subscribe(&["a"]).await;
    let first = stream.answer().await;
    for _ in 0..20 {
        stream.refuse(&["a"], &first).await;
    }
    // The same value again is no change either.
    bridge.publish("a", "one");
    stream.subscribe(&["a", "marker"]).await;
    let marker = stream.answer().await;
    assert_eq!(
        marker.nonce,
        first.nonce.replace("-1", "-2"),
        "nothing was sent in between"
    );
    bridge.publish("a", "two");
    assert_eq!(tokens(&stream.answer().await), [pair("a", "two")]);
}

#[tokio::test]
async fn an_update_reaches_its_subscribers_only() {
    let bridge = Bridge::serve(&["a", "b"]);
    bridge.publish("a", "one");
    bridge.publish("b", "one");
    let (mut first, mut second, mut other) = (
        bridge.stream().await,
        bridge.stream().await,
        bridge.stream().await,
    );
    first.subscribe(&["a"]).await;
    second.subscribe(&["a"]).await;
    other.subscribe(&["b"]).await;
    for stream in [&mut first, &mut second, &mut other] {
        stream.answer().await;
    }
    bridge.publish("a", "two");
    assert_eq!(tokens(&first.answer().await), [pair("a", "two")]);
    assert_eq!(tokens(&second.answer().await), [pair("a", "two")]);
    bridge.publish("b", "two");
    assert_eq!(tokens(&other.answer().await), [pair("b", "two")]);
}

#[tokio::test]
async fn an_unknown_name_is_held_with_the_stream_open() {
    let bridge = Bridge::serve(&["a"]);
    let mut stream = bridge.stream().await;
    stream.subscribe(&["nobody", "not even \u{1F511}"]).await;
    stream.subscribe(&["nobody", "a"]).await;
    bridge.publish("a", "one");
    assert_eq!(tokens(&stream.answer().await), [pair("a", "one")]);
}

#[tokio::test]
async fn a_changed_subscription_is_answered() {
    let bridge = Bridge::serve(&["a", "b"]);
    bridge.publish("a", "one");
    bridge.publish("b", "two");
    let mut stream = bridge.stream().await;
    stream.subscribe(&["a"]).await;
    let first = stream.answer().await;
    stream.acknowledge(&["a", "b"], &first).await;
    let both = stream.answer().await;
    assert_eq!(tokens(&both), [pair("a", "one"), pair("b", "two")]);
    stream.acknowledge(&["b"], &both).await;
    assert_eq!(tokens(&stream.answer().await), [pair("b", "two")]);
    bridge.publish("a", "unwanted");
    bridge.publish("b", "three");
    assert_eq!(tokens(&stream.answer().await), [pair("b", "three")]);
}

#[tokio::test]
async fn a_client_that_reconnects_gets_the_current_value() {
    let bridge = Bridge::serve(&["a"]);
    bridge.publish("a", "one");
    let mut stream = bridge.stream().await;
    stream.subscribe(&["a"]).await;
    let old = stream.answer().await;
    drop(stream);
    bridge.publish("a", "two");

    let mut again = bridge.stream().await;
    again
        .send(DiscoveryRequest {
            version_info: old.version_info.clone(),
            ..request(&["a"])
        })
        .await;
    let answer = again.answer().await;
    assert_eq!(tokens(&answer), [pair("a", "two")]);
    assert_ne!(answer.version_info, old.version_info);
}

#[tokio::test]
async fn a_nonce_of_an_earlier_stream_does_not_silence_a_new_one() {
    let bridge = Bridge::serve(&["a"]);
    bridge.publish("a", "one");
    let mut stream = bridge.stream().await;
    stream
        .send(DiscoveryRequest {
            response_nonce: "old".to_owned(),
            ..request(&["a"])
        })
        .await;
    assert_eq!(tokens(&stream.answer().await), [pair("a", "one")]);
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    let bridge = Bridge::serve(&["a"]);
    bridge.publish("a", "one");
    let mut stream = bridge.stream().await;
    stream.subscribe(&["a"]).await;
    stream.answer().await;
    let watched = || bridge.store.cell("a").unwrap().subscribers();
    assert_eq!(watched(), 1);
    drop(stream);
    timeout(PATIENCE, async {
        while watched() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the subscription stays");
    // And the service still serves.
    let mut stream = bridge.stream().await;
    stream.subscribe(&["a"]).await;
    assert_eq!(tokens(&stream.answer().await), [pair("a", "one")]);
}

#[tokio::test]
async fn a_request_out_of_bounds_ends_the_stream_as_invalid() {
    let bridge = Bridge::serve(&["a"]);
    bridge.publish("a", "one");
    let many: Vec<String> = (0..=MAX_NAMES).map(|index| index.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "n".repeat(MAX_NAME + 1);
    let wrong_type = DiscoveryRequest {
        type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
        ..request(&["a"])
    };
    for bad in [wrong_type, request(&many), request(&[&long]), request(&[""])] {
        let mut stream = bridge.stream().await;
        stream.send(bad).await;
        let status = stream.answer_or_end().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let longest = "n".repeat(MAX_NAME);
    let mut stream = bridge.stream().await;
    let mut most: Vec<&str> = many.iter().take(MAX_NAMES - 2).copied().collect();
    most.extend([longest.as_str(), "a"]);
    stream.subscribe(&most).await;
    assert_eq!(tokens(&stream.answer().await), [pair("a", "one")]);
}

#[tokio::test]
async fn fetch_answers_once() {
    let bridge = Bridge::serve(&["a"]);
    let mut client = bridge.client().await;
    let status = client.fetch_secrets(request(&["a"])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    bridge.publish("a", "one");
    let answer = client.fetch_secrets(request(&["a"])).await.unwrap().into_inner();
    assert_eq!(tokens(&answer), [pair("a", "one")]);
}

#[tokio::test]
async fn streams_end_when_the_service_stops() {
    let bridge = Bridge::serve(&["a"]);
    bridge.publish("a", "one");
    let mut stream = bridge.stream().await;
    stream.subscribe(&["a"]).await;
    stream.answer().await;
    bridge.stop.send_replace(true);
    assert_eq!(stream.answer_or_end().await.unwrap(), None);
}

#[test]
fn a_clients_text_cannot_forge_a_log_line() {
    assert_eq!(loggable("no\r\nERROR \u{1b}[31m"), "no  ERROR  [31m");
    assert_eq!(loggable(&"ü".repeat(1_000)).chars().count(), MAX_LOGGED);
}
