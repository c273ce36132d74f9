//! The daemon as a supervisor and Envoy see it: the real binary, its exit codes, its signals, its socket.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, SystemTime},
};

use envoy_types::pb::envoy::{
    config::core::v3::{data_source::Specifier, DataSource},
    extensions::transport_sockets::tls::v3::{secret::Type, Secret},
    service::{
        discovery::v3::{DiscoveryRequest, DiscoveryResponse},
        secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
    },
};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream, UnixStream},
    process::{Child, ChildStderr, Command},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    transport::{Endpoint, Uri},
    Streaming,
};

const DAEMON: &str = env!("CARGO_BIN_EXE_isthmus-rotation");

/// Only bounds how long a failing test hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with a configuration for one daemon.
struct Home(tempfile::TempDir);

impl Home {
    fn new(secrets: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let yaml = format!(
            "sds: {{ unix: {{ path: {} }} }}\n\
             admin: {{ address: '127.0.0.1:0' }}\n\
             local_ca: {{ directory: {}, trust_domain: isthmus.local }}\n\
             secrets:\n{secrets}",
            home.socket().display(),
            home.0.path().join("ca").display(),
        );
        std::fs::write(home.config(), yaml).unwrap();
        home
    }

    fn with_local_ca() -> Self {
        Self::new(
            "  - { name: tls/bridge, certificate: { local_ca: { dns_sans: [bridge.local] } } }\n\
             \x20 - { name: tls/trust, trust_bundle: { local_ca: {} } }\n",
        )
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("rotation.yaml")
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("run/sds.sock")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(DAEMON);
        command.arg("--config").arg(self.config()).kill_on_drop(true);
        command
            .env_remove("ISTHMUS_LOG")
            .env_remove("IDENTITY_ENDPOINT")
            .env_remove("IDENTITY_HEADER");
        command
    }

    async fn output(&self, arguments: &[&str]) -> Output {
        let output = self.command().args(arguments).output();
        timeout(PATIENCE, output)
            .await
            .expect("the daemon goes on")
            .unwrap()
    }
}

/// A running daemon.
struct Daemon {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    seen: String,
}

impl Daemon {
    async fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut daemon = Self {
            child,
            log,
            seen: String::new(),
        };
        daemon.wait_for("serving SDS").await;
        daemon
    }

    /// Reads the log up to a line that holds `text`.
    async fn wait_for(&mut self, text: &str) -> String {
        let found = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                self.seen.push_str(&line);
                self.seen.push('\n');
                if line.contains(text) {
                    return line;
                }
            }
            panic!("the daemon ended:\n{}", self.seen)
        };
        timeout(PATIENCE, found).await.expect(text)
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let kill = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{name} {pid}"))
            .status();
        assert!(kill.await.unwrap().success());
    }

    async fn end(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait())
            .await
            .expect("the daemon goes on")
            .unwrap()
            .code()
    }
}

/// Subscribes to one secret. The sender keeps the stream open.
async fn subscribe(
    socket: &Path,
    name: &str,
) -> (mpsc::Sender<DiscoveryRequest>, Streaming<DiscoveryResponse>) {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://sds")
        .connect_with_connector(connect)
        .await
        .unwrap();
    let (sender, receiver) = mpsc::channel(1);
    let request = DiscoveryRequest {
        resource_names: vec![name.to_owned()],
        type_url: isthmus_rotation::TYPE_URL.to_owned(),
        ..DiscoveryRequest::default()
    };
    sender.send(request).await.unwrap();
    let mut client = SecretDiscoveryServiceClient::new(channel);
    let answers = client
        .stream_secrets(ReceiverStream::new(receiver))
        .await
        .unwrap();
    (sender, answers.into_inner())
}

async fn first(socket: &Path, name: &str) -> Type {
    let (_sender, mut answers) = subscribe(socket, name).await;
    let answer = timeout(PATIENCE, answers.message())
        .await
        .expect("no answer")
        .unwrap()
        .unwrap();
    let secret = Secret::decode(answer.resources[0].value.as_slice()).unwrap();
    assert_eq!(secret.name, name);
    secret.r#type.unwrap()
}

fn text(source: Option<DataSource>) -> String {
    match source.unwrap().specifier {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes).unwrap(),
        other => panic!("inline bytes, not {other:?}"),
    }
}

async fn bundle(socket: &Path) -> String {
    match first(socket, "tls/trust").await {
        Type::ValidationContext(context) => text(context.trusted_ca),
        other => panic!("a validation context, not {other:?}"),
    }
}

async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn check_accepts_a_valid_configuration_and_touches_nothing() {
    let home = Home::with_local_ca();
    let output = home.output(&["--check"]).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "OK: 2 secrets\n");
    assert_eq!(
        std::fs::read_dir(home.0.path()).unwrap().count(),
        1,
        "only the configuration is there"
    );
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_2_and_its_path() {
    let home = Home::new("  - { name: a, entra_token: { scope: orders, managed_identity: {} } }\n");
    for arguments in [&["--check"][..], &[]] {
        let output = home.output(arguments).await;
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.contains("secrets[0].entra_token.scope: expected a scope"),
            "{message}"
        );
    }
    std::fs::remove_file(home.config()).unwrap();
    assert_eq!(home.output(&[]).await.status.code(), Some(2));
}

#[tokio::test]
async fn a_socket_or_a_ca_that_cannot_be_had_ends_with_1() {
    let home = Home::with_local_ca();
    let mut daemon = Daemon::start(&mut home.command()).await;
    let output = home.output(&[]).await;
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("is served by another process"), "{message}");
    bundle(&home.socket()).await;

    daemon.child.kill().await.unwrap();
    std::fs::write(home.0.path().join("ca/ca.crt"), "damaged").unwrap();
    let output = home.output(&[]).await;
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("does not hold the PEM certificate of a CA"),
        "{message}"
    );
}

#[tokio::test]
async fn either_signal_ends_open_streams_and_removes_the_socket() {
    for signal in ["TERM", "INT"] {
        let home = Home::with_local_ca();
        let mut daemon = Daemon::start(&mut home.command()).await;
        let (_sender, mut answers) = subscribe(&home.socket(), "tls/trust").await;
        timeout(PATIENCE, answers.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        daemon.signal(signal).await;
        assert_eq!(timeout(PATIENCE, answers.message()).await.unwrap().unwrap(), None);
        drop(answers);
        assert_eq!(daemon.end().await, Some(0), "{}", daemon.seen);
        assert!(!home.socket().exists());
    }
}

#[tokio::test]
async fn a_killed_daemon_is_replaced_by_one_with_the_same_ca() {
    let home = Home::with_local_ca();
    let mut daemon = Daemon::start(&mut home.command()).await;
    let before = bundle(&home.socket()).await;
    daemon.child.kill().await.unwrap();
    assert!(home.socket().exists(), "a killed process cannot clean up");

    let _daemon = Daemon::start(&mut home.command()).await;
    assert_eq!(bundle(&home.socket()).await, before);
    let Type::TlsCertificate(certificate) = first(&home.socket(), "tls/bridge").await else {
        panic!("a certificate")
    };
    assert!(text(certificate.certificate_chain).contains("BEGIN CERTIFICATE"));
    assert!(text(certificate.private_key).contains("PRIVATE KEY"));
}

/// The App Service endpoint is named by the environment, so that only a process of its own can be tested with it.
#[tokio::test]
async fn a_managed_identity_is_served_from_the_endpoint_in_the_environment() {
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = endpoint.local_addr().unwrap();
    let (seen, mut requests) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = endpoint.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            seen.send(String::from_utf8(request).unwrap()).await.unwrap();
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs();
            let body = format!(
                r#"{{"access_token":"t.o.k","expires_on":"{}","token_type":"Bearer","resource":"api://orders"}}"#,
                now + 3_600
            );
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream
                .write_all(format!("{head}{body}").as_bytes())
                .await
                .unwrap();
        }
    });
    let home = Home::new(
        "  - { name: azure/operator, entra_token: { scope: api://orders/.default, managed_identity: {} } }\n",
    );
    let mut command = home.command();
    command
        .env("IDENTITY_ENDPOINT", format!("http://{address}/msi/token"))
        .env("IDENTITY_HEADER", "proof");
    // Not even the loudest log may hold a secret.
    command.env("ISTHMUS_LOG", "trace");
    // A proxy in the environment must not get the request.
    command
        .env("http_proxy", "http://127.0.0.1:9")
        .env("HTTP_PROXY", "http://127.0.0.1:9");
    let mut daemon = Daemon::start(&mut command).await;
    let Type::GenericSecret(secret) = first(&home.socket(), "azure/operator").await else {
        panic!("a generic secret")
    };
    assert_eq!(text(secret.secret), "t.o.k");
    let request = requests.recv().await.unwrap();
    assert!(
        request.starts_with("GET /msi/token?") && request.contains("x-identity-header: proof"),
        "{request}"
    );
    daemon.wait_for("published").await;
    daemon.signal("TERM").await;
    daemon.wait_for("stopping").await;
    for secret in ["t.o.k", "proof"] {
        assert!(!daemon.seen.contains(secret), "{}", daemon.seen);
    }
}

#[tokio::test]
async fn readiness_follows_the_secrets() {
    let home = Home::new(
        "  - { name: azure/reader, entra_token: { scope: api://orders/.default, managed_identity: {} } }\n\
         \x20 - { name: tls/trust, trust_bundle: { local_ca: {} } }\n",
    );
    // Nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let mut command = home.command();
    command.arg("--json-logs");
    command
        .env("IDENTITY_ENDPOINT", format!("http://{closed}/"))
        .env("IDENTITY_HEADER", "proof");
    let mut daemon = Daemon::start(&mut command).await;
    bundle(&home.socket()).await;
    daemon.wait_for(r#""reason":"unreachable""#).await;

    let line = daemon.seen.lines().find(|line| line.contains("/readyz")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let address = line["address"].as_str().unwrap();
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    let ready = get(address, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    let body = ready.split_once("\r\n\r\n").unwrap().1;
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!([
        {"name": "azure/reader", "state": "pending"},
        {"name": "tls/trust", "state": "fresh"},
    ]);
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_daemon_with_every_secret_fresh_is_ready() {
    let home = Home::with_local_ca();
    let mut daemon = Daemon::start(home.command().arg("--json-logs")).await;
    bundle(&home.socket()).await;
    first(&home.socket(), "tls/bridge").await;
    let line = daemon.seen.lines().find(|line| line.contains("/readyz")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let ready = get(line["address"].as_str().unwrap(), "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
    daemon.signal("TERM").await;
    assert_eq!(daemon.end().await, Some(0));
}
