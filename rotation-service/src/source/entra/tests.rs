//! Both kinds of identity against a scripted server that speaks HTTP by hand, so that it can also break off.

use std::{net::SocketAddr, path::Path, sync::Mutex, time::Instant};

use azure_core::http::{AsyncRawResponse, Request};
use rustls::pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    config::{CloudConfig, LeafConfig, LocalCaConfig},
    local_ca::LocalCa,
    source::Refusal,
    token::TokenError,
};

const ASSERTION: &str = "aGVhZGVy.cGF5bG9hZA.c2lnbmF0dXJl";
const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const CLIENT: &str = "22222222-2222-2222-2222-222222222222";

/// What the server does with a request.
#[derive(Clone)]
enum Reply {
    Send(String),
    Never,
}

/// A server on a port of its own that answers every request alike and keeps what it was sent.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(reply: Reply, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (reply, seen, tls) = (reply.clone(), seen.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                answer(stream, reply, &seen).await;
                            }
                        }
                        None => answer(tcp, reply, &seen).await,
                    }
                });
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: Reply, seen: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while !is_whole(&request) {
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
    seen.lock().unwrap().push(String::from_utf8(request).unwrap());
    match reply {
        Reply::Send(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Reply::Never => std::future::pending().await,
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

fn reply(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Send(format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    ))
}

fn ok(body: &str) -> Reply {
    reply("200 OK", "content-type: application/json\r\n", body)
}

/// An authority with a certificate from a CA of its own, and a source that trusts that CA.
struct Authority {
    server: Server,
    source: EntraToken,
    directory: tempfile::TempDir,
}

impl Authority {
    async fn start(reply: Reply) -> Self {
        Self::with(reply, Duration::from_secs(10), true).await
    }

    async fn with(reply: Reply, timeout: Duration, trusted: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(reply, Some(acceptor(directory.path()))).await;
        let assertion_file = directory.path().join("assertion.jwt");
        std::fs::write(&assertion_file, format!("{ASSERTION}\n")).unwrap();
        let cloud = CloudConfig {
            authority: format!("https://{}", server.address).try_into().unwrap(),
            ca_file: trusted.then(|| text(&directory.path().join("ca.crt")).try_into().unwrap()),
        };
        let config = EntraTokenConfig {
            scope: "api://orders/.default".to_owned().try_into().unwrap(),
            identity: IdentityConfig::Federated {
                tenant_id: TENANT.to_owned().try_into().unwrap(),
                client_id: CLIENT.to_owned().try_into().unwrap(),
                assertion_file: text(&assertion_file).try_into().unwrap(),
            },
        };
        let http = Arc::new(client(&cloud).unwrap());
        Self {
            source: EntraToken::new(config, &cloud.authority, http, timeout),
            server,
            directory,
        }
    }

    fn write_assertion(&self, contents: impl AsRef<[u8]>) {
        std::fs::write(self.directory.path().join("assertion.jwt"), contents).unwrap();
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn acceptor(directory: &Path) -> TlsAcceptor {
    let config = LocalCaConfig {
        directory: text(directory).try_into().unwrap(),
        trust_domain: "test".to_owned().try_into().unwrap(),
    };
    let ca = LocalCa::open(&config, SystemTime::now()).unwrap();
    let leaf = LeafConfig {
        uri_sans: vec![],
        dns_sans: vec![],
        ip_sans: vec!["127.0.0.1".to_owned().try_into().unwrap()],
        lifetime: Default::default(),
    };
    let (pair, _) = ca.issue(&leaf, SystemTime::now()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(&pair.chain_pem).unwrap()],
            PrivateKeyDer::from_pem_slice(pair.key_pem.expose()).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Sends what is meant for the metadata service of a virtual machine to the test's server.
#[derive(Debug)]
struct ToMetadata(reqwest::Client, SocketAddr);

#[async_trait]
impl HttpClient for ToMetadata {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        assert_eq!(request.url().host_str(), Some("169.254.169.254"));
        let mut request = request.clone();
        request.url_mut().set_ip_host(self.1.ip()).unwrap();
        request.url_mut().set_port(Some(self.1.port())).unwrap();
        self.0.execute_request(&request).await
    }
}

async fn machine(reply: Reply, identity: ManagedIdentityConfig) -> (Server, EntraToken) {
    let server = Server::start(reply, None).await;
    let cloud = CloudConfig::default();
    let config = EntraTokenConfig {
        scope: "api://orders/.default".to_owned().try_into().unwrap(),
        identity: IdentityConfig::ManagedIdentity(identity),
    };
    let http = Arc::new(ToMetadata(client(&cloud).unwrap(), server.address));
    let source = EntraToken::new(config, &cloud.authority, http, Duration::from_secs(10));
    (server, source)
}

fn expires_on(seconds: u64) -> String {
    let at = SystemTime::now() + Duration::from_secs(seconds);
    at.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        .to_string()
}

fn msi(token: &str, expires_on: &str) -> String {
    format!(
        r#"{{"access_token":"{token}","expires_on":"{expires_on}","token_type":"Bearer","resource":"api://orders"}}"#
    )
}

fn assert_token(obtained: &Obtained, token: &str, lives: u64) {
    assert_eq!(obtained.value, Value::Token(Token::parse(token).unwrap()));
    let left = obtained
        .expires_at
        .duration_since(SystemTime::now())
        .unwrap()
        .as_secs();
    assert!((lives - 5..=lives).contains(&left), "{left} s");
}

#[tokio::test]
async fn a_federated_identity_exchanges_its_assertion_for_a_token() {
    let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"t.o.k"}"#;
    let authority = Authority::start(ok(body)).await;
    assert_token(&authority.source.obtain().await.unwrap(), "t.o.k", 3_599);

    let requests = authority.server.requests();
    assert_eq!(requests.len(), 1);
    assert!(
        requests[0].starts_with(&format!("POST /{TENANT}/oauth2/v2.0/token HTTP/1.1")),
        "{}",
        requests[0]
    );
    for part in [
        format!("client_assertion={ASSERTION}"),
        format!("client_id={CLIENT}"),
        "scope=api%3A%2F%2Forders%2F.default".to_owned(),
        "grant_type=client_credentials".to_owned(),
    ] {
        assert!(requests[0].contains(&part), "{part} in {}", requests[0]);
    }
}

#[tokio::test]
async fn every_attempt_asks_anew_with_the_assertion_of_the_day() {
    let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"t"}"#;
    let authority = Authority::start(ok(body)).await;
    authority.source.obtain().await.unwrap();
    authority.write_assertion("bmV3.bmV3.bmV3");
    authority.source.obtain().await.unwrap();
    let requests = authority.server.requests();
    assert_eq!(requests.len(), 2, "a cached token would not reach the server");
    assert!(requests[1].contains("client_assertion=bmV3.bmV3.bmV3"));
}

#[tokio::test]
async fn a_managed_identity_asks_the_metadata_service() {
    let id = ManagedIdentityConfig::ClientId(CLIENT.to_owned().try_into().unwrap());
    let (server, source) = machine(ok(&msi("t.o.k", &expires_on(86_400))), id).await;
    assert_token(&source.obtain().await.unwrap(), "t.o.k", 86_400);
    source.obtain().await.unwrap();

    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for part in [
        "GET /metadata/identity/oauth2/token?",
        "metadata: true",
        "resource=api%3A%2F%2Forders",
        CLIENT,
    ] {
        assert!(requests[0].contains(part), "{part} in {}", requests[0]);
    }
}

/// Bad answers to a federated identity, each with the error that must come of it.
#[tokio::test]
async fn a_bad_answer_of_the_authority_is_an_error_and_never_a_token() {
    let token = |token: &str, lives: &str| {
        ok(&format!(
            r#"{{"token_type":"Bearer","expires_in":{lives},"access_token":"{token}"}}"#
        ))
    };
    let refused = |status, aadsts, oauth, seconds: Option<u64>| {
        SourceError::Refused(Refusal {
            status,
            aadsts,
            oauth,
            retry_after: seconds.map(Duration::from_secs),
        })
    };
    let not_yet = "{\"error\":\"invalid_client\",\"error_codes\":[70021],\"error_description\":\"AADSTS70021: No matching\\r\\nfederated\"}";
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"access_token\":\"t";
    let huge = format!(
        r#"{{"token_type":"Bearer","expires_in":60,"access_token":"{}"}}"#,
        "a".repeat(MAX_TOKEN + 1)
    );
    let cases = [
        ("empty body", ok(""), SourceError::Malformed),
        ("no JSON", ok("<html>"), SourceError::Malformed),
        ("another JSON", ok("[1]"), SourceError::Malformed),
        ("no token", ok("{}"), SourceError::Token(TokenError::Empty)),
        ("cut off", Reply::Send(cut.to_owned()), SourceError::BrokenOff),
        ("no answer", Reply::Send(String::new()), SourceError::BrokenOff),
        ("endless", ok(&"x".repeat(100_000)), SourceError::TooLarge),
        (
            "empty token",
            token("", "60"),
            SourceError::Token(TokenError::Empty),
        ),
        (
            "token with a line end",
            token("a\\r\\nb: c", "60"),
            SourceError::Token(TokenError::IllegalCharacter),
        ),
        (
            "token too long",
            ok(&huge),
            SourceError::Token(TokenError::TooLong),
        ),
        ("expires_in 0", token("t", "0"), SourceError::AlreadyExpired),
        (
            "expires_in negative",
            token("t", "-5"),
            SourceError::AlreadyExpired,
        ),
        (
            "expires_in absurd",
            token("t", "9223372036854775807"),
            SourceError::Malformed,
        ),
        ("expires_in as text", token("t", "\"60\""), SourceError::Malformed),
        (
            "not yet propagated",
            reply("401 Unauthorized", "", not_yet),
            refused(401, Some(70021), Some("invalid_client"), None),
        ),
        (
            "throttled",
            reply("429 Too Many Requests", "retry-after: 7\r\n", ""),
            refused(429, None, None, Some(7)),
        ),
        (
            "server error",
            reply("500 Internal Server Error", "", "oops"),
            refused(500, None, None, None),
        ),
        (
            "redirect",
            reply("302 Found", "location: https://elsewhere.example/\r\n", ""),
            refused(302, None, None, None),
        ),
    ];
    for (what, reply, error) in cases {
        let authority = Authority::start(reply).await;
        let got = authority.source.obtain().await.map(|_| ());
        assert_eq!(got, Err(error), "{what}");
        assert_eq!(
            authority.server.requests().len(),
            1,
            "{what}: one try and no retries"
        );
    }
}

#[tokio::test]
async fn a_bad_answer_of_the_metadata_service_is_an_error_and_never_a_token() {
    let refused = |status, oauth| {
        SourceError::Refused(Refusal {
            status,
            aadsts: None,
            oauth,
            retry_after: None,
        })
    };
    let unknown = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
    let now = expires_on(0);
    let cases = [
        ("empty body", ok(""), SourceError::Malformed),
        (
            "empty token",
            ok(&msi("", &expires_on(60))),
            SourceError::Token(TokenError::Empty),
        ),
        ("expired", ok(&msi("t", &now)), SourceError::AlreadyExpired),
        ("no time", ok(&msi("t", "soon")), SourceError::Malformed),
        (
            "absurd time",
            ok(&msi("t", "9223372036854775807")),
            SourceError::Malformed,
        ),
        (
            "no such identity",
            reply("400 Bad Request", "", unknown),
            refused(400, Some("invalid_request")),
        ),
        ("not ready", reply("404 Not Found", "", ""), refused(404, None)),
        (
            "overloaded",
            reply("503 Service Unavailable", "", ""),
            refused(503, None),
        ),
    ];
    for (what, reply, error) in cases {
        let (server, source) = machine(reply, ManagedIdentityConfig::System).await;
        let started = Instant::now();
        assert_eq!(source.obtain().await.map(|_| ()), Err(error), "{what}");
        assert_eq!(server.requests().len(), 1, "{what}: one try and no retries");
        assert!(started.elapsed() < Duration::from_secs(5), "{what}");
    }
}

#[tokio::test]
async fn a_lifetime_beyond_belief_is_cut() {
    let (_server, source) = machine(ok(&msi("t", "253402300799")), ManagedIdentityConfig::System).await;
    assert_token(&source.obtain().await.unwrap(), "t", LONGEST_LIFETIME.as_secs());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let timeout = Duration::from_millis(50);
    let authority = Authority::with(Reply::Never, timeout, true).await;
    assert_eq!(
        authority.source.obtain().await.map(|_| ()),
        Err(SourceError::Timeout(timeout))
    );
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gets_no_assertion() {
    let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"t"}"#;
    let authority = Authority::with(ok(body), Duration::from_secs(10), false).await;
    assert_eq!(
        authority.source.obtain().await.map(|_| ()),
        Err(SourceError::Tls("its certificate is not trusted"))
    );
    assert!(authority.server.requests().is_empty());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let mut authority = Authority::start(Reply::Never).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: crate::config::Authority = format!("https://{}", closed.local_addr().unwrap())
        .try_into()
        .unwrap();
    drop(closed);
    let http = Arc::new(client(&CloudConfig::default()).unwrap());
    authority.source = EntraToken::new(authority.source.config.clone(), &address, http, TIMEOUT);
    assert_eq!(
        authority.source.obtain().await.map(|_| ()),
        Err(SourceError::Unreachable)
    );
}

#[tokio::test]
async fn an_assertion_that_cannot_be_sent_is_named_and_nothing_is_sent() {
    let authority = Authority::start(Reply::Never).await;
    let long = format!("a.b.{}", "c".repeat(MAX_TOKEN));
    let cases: [&[u8]; 8] = [
        b"",
        b"\n",
        b"secret",
        b"a.b",
        b"a..c",
        b"a.b.c.d",
        b"a.b c.d",
        long.as_bytes(),
    ];
    for contents in cases {
        authority.write_assertion(contents);
        assert_eq!(
            authority.source.obtain().await.map(|_| ()),
            Err(SourceError::AssertionMalformed),
            "{contents:?}"
        );
    }
    std::fs::remove_file(authority.directory.path().join("assertion.jwt")).unwrap();
    assert_eq!(
        authority.source.obtain().await.map(|_| ()),
        Err(SourceError::AssertionUnreadable(std::io::ErrorKind::NotFound))
    );
    assert!(authority.server.requests().is_empty());
}

/// Whatever a server sends back, and whatever was sent to it, must not be found in the error.
#[tokio::test]
async fn no_error_holds_a_token_an_assertion_or_a_body() {
    let secrets = ["s3cr3t", ASSERTION];
    let body = format!(
        r#"{{"error":"s3cr3t","error_description":"s3cr3t {ASSERTION}","access_token":"s3cr3t s3cr3t","expires_in":60}}"#
    );
    for reply in [
        ok(&body),
        ok(r#"{"access_token":{"s3cr3t":1}}"#),
        ok(r#"{"expires_in":"s3cr3t","access_token":"t"}"#),
        reply("400 Bad Request", "", &body),
        reply(
            "500 Internal Server Error",
            "www-authenticate: s3cr3t\r\n",
            "s3cr3t",
        ),
    ] {
        let authority = Authority::start(reply.clone()).await;
        let federated = authority.source.obtain().await.unwrap_err();
        let (_server, source) = machine(reply, ManagedIdentityConfig::System).await;
        let managed = source.obtain().await.unwrap_err();
        let printed = format!("{federated} {federated:?} {managed} {managed:?}");
        for secret in secrets {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}

#[test]
fn trust_anchors_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let cloud = CloudConfig {
        ca_file: Some(text(&path).try_into().unwrap()),
        ..CloudConfig::default()
    };
    assert!(matches!(client(&cloud), Err(CloudError::Read { .. })));
    for contents in [
        "",
        "garbage",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    ] {
        std::fs::write(&path, contents).unwrap();
        assert!(client(&cloud).is_err(), "{contents}");
    }
}
