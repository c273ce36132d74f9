//! Envoy's secret discovery service (`envoy.service.secret.v3.SecretDiscoveryService`).
//!
//! Follows "xDS REST and gRPC protocol" of Envoy's documentation, both the state-of-the-world and the incremental variant.
//! What it adds for secrets: a name without a value yet, or without any meaning here, is held in silence with the stream
//! open, because Envoy would take an answer without it for a removal and keep the old secret in use.

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use envoy_types::pb::envoy::service::{
    discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse},
    secret::v3::secret_discovery_service_server::{SecretDiscoveryService, SecretDiscoveryServiceServer},
};
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::{
    wrappers::{ReceiverStream, WatchStream},
    StreamMap,
};
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};

use crate::{
    config::MAX_NAME,
    store::{Store, Versioned},
};

mod delta;
mod resource;
pub(crate) mod socket;
mod state_of_the_world;

use delta::Delta;
pub use resource::TYPE_URL;
use state_of_the_world::StateOfTheWorld;

/// Most names one request or stream may ask for.
pub const MAX_NAMES: usize = 1000;

/// A thousand names of the longest kind fit well into it.
const MAX_REQUEST: usize = 512 * 1024;

/// Longest piece of a client's text that is logged.
const MAX_LOGGED: usize = 200;

/// The gRPC service.
#[derive(Debug)]
pub(crate) struct Sds {
    store: Arc<Store>,
    shutdown: watch::Receiver<bool>,
}

impl Sds {
    /// The service over a store. Its streams end when `shutdown` changes.
    pub(crate) fn server(
        store: Arc<Store>,
        shutdown: watch::Receiver<bool>,
    ) -> SecretDiscoveryServiceServer<Self> {
        SecretDiscoveryServiceServer::new(Self { store, shutdown }).max_decoding_message_size(MAX_REQUEST)
    }

    fn open<P: Protocol>(&self, protocol: P, requests: Streaming<P::Request>) -> Answers<P::Response> {
        // One answer in flight: a client that does not read gets the newest value when it does, and not a queue.
        let (sender, receiver) = mpsc::channel(1);
        let conversation = Conversation {
            protocol,
            store: self.store.clone(),
            watched: StreamMap::new(),
            unknown: BTreeSet::new(),
        };
        tokio::spawn(conversation.run(requests, sender, self.shutdown.clone()));
        Box::pin(ReceiverStream::new(receiver))
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Sds {
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Answers<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        Ok(Response::new(
            self.open(StateOfTheWorld::new(), request.into_inner()),
        ))
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Ok(Response::new(self.open(Delta::new(), request.into_inner())))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let mut protocol = StateOfTheWorld::new();
        protocol.receive(request.into_inner())?;
        let answer = protocol.answer(&self.store);
        answer
            .map(Response::new)
            .ok_or_else(|| Status::unavailable("none of these secrets has a value yet"))
    }
}

/// One side of one stream, without any I/O: what the client has asked for and has been told.
trait Protocol: Send + 'static {
    type Request: Send;
    type Response: Send;

    /// Takes a request in. The status ends the stream.
    fn receive(&mut self, request: Self::Request) -> Result<(), Status>;

    /// The names that the client wants to hear about.
    fn names(&self) -> &BTreeSet<String>;

    /// What to tell the client now, if there is anything that it does not know.
    fn answer(&mut self, store: &Store) -> Option<Self::Response>;
}

/// A stream's task: it waits for requests and for new values of the secrets that the client subscribed to.
struct Conversation<P> {
    protocol: P,
    store: Arc<Store>,
    watched: StreamMap<String, WatchStream<Option<Arc<Versioned>>>>,
    unknown: BTreeSet<String>,
}

impl<P: Protocol> Conversation<P> {
    async fn run(
        mut self,
        mut requests: Streaming<P::Request>,
        answers: mpsc::Sender<Result<P::Response, Status>>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut may_answer = false;
        loop {
            tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => {
                        if let Err(status) = self.protocol.receive(request) {
                            warn!(reason = status.message(), "refused an SDS request");
                            let _ = answers.send(Err(status)).await;
                            return;
                        }
                        self.watch_names();
                        may_answer = true;
                    }
                    // A client that goes away is no error: Envoy does so at every reload.
                    Some(Err(status)) => return debug!(%status, "an SDS client vanished"),
                    None => return debug!("an SDS client left"),
                },
                Some(_) = self.watched.next() => may_answer = true,
                permit = answers.reserve(), if may_answer => {
                    may_answer = false;
                    match (permit, self.protocol.answer(&self.store)) {
                        (Ok(permit), Some(answer)) => permit.send(Ok(answer)),
                        (Ok(_), None) => {}
                        (Err(_), _) => return debug!("an SDS client vanished"),
                    }
                }
                () = answers.closed() => return debug!("an SDS client vanished"),
                _ = shutdown.changed() => return,
            }
        }
    }

    /// Makes the watched secrets those that the client wants, as far as they exist.
    fn watch_names(&mut self) {
        let wanted = self.protocol.names();
        let unwanted: Vec<String> = self
            .watched
            .keys()
            .filter(|name| !wanted.contains(*name))
            .cloned()
            .collect();
        for name in unwanted {
            self.watched.remove(&name);
        }
        self.unknown.retain(|name| wanted.contains(name));
        for name in wanted {
            if self.watched.contains_key(name) || self.unknown.contains(name) {
                continue;
            }
            match self.store.cell(name) {
                Some(cell) => {
                    let changes = WatchStream::from_changes(cell.subscribe());
                    self.watched.insert(name.clone(), changes);
                }
                None => {
                    warn!(
                        name = loggable(name),
                        "an SDS client asks for a secret that is not configured"
                    );
                    self.unknown.insert(name.clone());
                }
            }
        }
    }
}

fn check_type_url(type_url: &str) -> Result<(), Status> {
    // This service has one type, so that a client may leave it out.
    if type_url.is_empty() || type_url == TYPE_URL {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "expected the type URL {TYPE_URL}"
    )))
}

fn check_names<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> Result<(), Status> {
    if names.len() > MAX_NAMES {
        return Err(Status::invalid_argument(format!(
            "expected at most {MAX_NAMES} resource names"
        )));
    }
    for name in names {
        if name.is_empty() || name.len() > MAX_NAME {
            let message = format!("expected resource names of 1 to {MAX_NAME} bytes");
            return Err(Status::invalid_argument(message));
        }
    }
    Ok(())
}

/// A client's text, fit for a log line.
fn loggable(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_LOGGED).map(clean).collect()
}

/// Numbers the answers of one stream. The random part keeps a nonce of an earlier stream from being taken for one of this.
struct Nonces {
    stream: u64,
    count: u64,
}

impl Nonces {
    fn new() -> Self {
        Self {
            stream: fastrand::u64(..),
            count: 0,
        }
    }

    fn next(&mut self) -> String {
        self.count += 1;
        format!("{:016x}-{}", self.stream, self.count)
    }
}

#[cfg(test)]
mod tests;
