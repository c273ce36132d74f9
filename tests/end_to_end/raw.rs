//! HTTP/1.1 byte for byte: what a library would refuse to send, or would tidy up.

use std::{io, sync::Arc};

use isthmus_local_cloud::stack::Stack;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    rustls::{
        crypto::aws_lc_rs,
        pki_types::{pem::PemObject as _, CertificateDer, PrivateKeyDer, ServerName},
        ClientConfig, RootCertStore,
    },
    TlsConnector,
};

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Sends requests over connections with the gateway's client certificate.
pub(crate) struct RawClient {
    connector: TlsConnector,
    address: String,
}

impl RawClient {
    pub(crate) fn new(stack: &Stack) -> Self {
        let files = stack.files();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&files.ca).expect("ca.pem") {
            roots.add(certificate.expect("a certificate")).expect("a root");
        }
        let chain = CertificateDer::pem_file_iter(&files.client_certificate)
            .expect("client.pem")
            .collect::<Result<_, _>>()
            .expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&files.client_key).expect("client.key");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("a client certificate");
        let address = stack.bridge_url().trim_start_matches("https://").to_owned();
        Self {
            connector: TlsConnector::from(Arc::new(config)),
            address,
        }
    }

    /// A request made of its parts; `Host` and `Connection: close` are added.
    pub(crate) async fn request(
        &self,
        method: &str,
        target: &[u8],
        fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)],
    ) -> io::Result<Answer> {
        let mut bytes = [
            method.as_bytes(),
            b" ",
            target,
            b" HTTP/1.1\r\nhost: bridge\r\nconnection: close\r\n",
        ]
        .concat();
        for (name, value) in fields {
            bytes.extend([name.as_ref(), b": ", value.as_ref(), b"\r\n"].concat());
        }
        bytes.extend(b"\r\n");
        self.send(&bytes).await
    }

    /// Sends bytes and reads one answer.
    pub(crate) async fn send(&self, bytes: &[u8]) -> io::Result<Answer> {
        let socket = TcpStream::connect(&self.address).await?;
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let mut stream = self.connector.connect(name, socket).await?;
        // The bridge may refuse and close before it has read everything; what counts is its answer.
        let _ = stream.write_all(bytes).await;
        let mut received = Vec::new();
        loop {
            // An answer is whole by its own length: Envoy waits a second before it closes a connection.
            if let Some(answer) = parse(&received) {
                return Ok(answer);
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "half an answer or none",
                ));
            }
        }
    }
}

/// The answer, if all of it is there.
fn parse(received: &[u8]) -> Option<Answer> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    let status = head.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let rest = &received[end + 4..];
    let length = head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-length: "));
    let body = match length {
        Some(length) => rest.get(..length.parse().ok()?)?.to_vec(),
        None if head.contains("transfer-encoding: chunked") => unchunk(rest)?,
        None => Vec::new(),
    };
    Some(Answer { status, body })
}

/// The body, if its last chunk is there.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(&String::from_utf8_lossy(&rest[..line]), 16).ok()?;
        let chunk = rest.get(line + 2..line + 2 + size)?;
        rest = rest.get(line + 2 + size + 2..)?;
        if size == 0 {
            return Some(body);
        }
        body.extend(chunk);
    }
}
