//! The state-of-the-world variant: each request names all secrets of the stream, each answer holds all that have a value.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use tonic::Status;
use tracing::{debug, info, warn};

use super::{check_names, check_type_url, loggable, resource, Nonces, Protocol};
use crate::{secret::Fingerprint, store::Store};

pub(super) struct StateOfTheWorld {
    names: BTreeSet<String>,
    nonces: Nonces,
    last: Option<Sent>,
    /// The client changed its subscription and waits for an answer, even if it would be the same as the last one.
    owed: bool,
}

/// The last answer of a stream.
struct Sent {
    nonce: String,
    version: String,
}

impl StateOfTheWorld {
    pub(super) fn new() -> Self {
        Self {
            names: BTreeSet::new(),
            nonces: Nonces::new(),
            last: None,
            owed: false,
        }
    }
}

impl Protocol for StateOfTheWorld {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn receive(&mut self, request: DiscoveryRequest) -> Result<(), Status> {
        check_type_url(&request.type_url)?;
        check_names(request.resource_names.iter())?;

        if let (Some(last), false) = (&self.last, request.response_nonce.is_empty()) {
            if request.response_nonce != last.nonce {
                // It crossed a newer answer on the way. The client answers that one too.
                debug!("ignored an SDS request with a stale nonce");
                return Ok(());
            }
            match &request.error_detail {
                // Not sent again: the client would refuse it again. It gets the next value when there is one.
                Some(error) => warn!(
                    version = last.version,
                    names = ?self.names,
                    message = loggable(&error.message),
                    "an SDS client refused an answer and keeps what it had"
                ),
                None => debug!(version = last.version, names = ?self.names, "acknowledged"),
            }
        }

        let names: BTreeSet<String> = request.resource_names.into_iter().collect();
        if names != self.names {
            let node = request.node.map(|node| loggable(&node.id)).unwrap_or_default();
            info!(node, ?names, "an SDS client subscribed");
            self.names = names;
            self.owed = true;
        }
        Ok(())
    }

    fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    fn answer(&mut self, store: &Store) -> Option<DiscoveryResponse> {
        let mut resources = Vec::new();
        let mut versions = Vec::new();
        for name in &self.names {
            if let Some(current) = store.cell(name).and_then(|cell| cell.current()) {
                resources.push(resource::encode(name, current.value()));
                versions.push(format!("{name} {}", current.version()));
            }
        }
        // Nothing to tell yet: what is owed stays owed.
        if resources.is_empty() {
            return None;
        }
        let parts: Vec<&[u8]> = versions.iter().map(|version| version.as_bytes()).collect();
        let version = Fingerprint::of(&parts).to_string();
        let known = self.last.as_ref().is_some_and(|last| last.version == version);
        if known && !self.owed {
            return None;
        }

        self.owed = false;
        let nonce = self.nonces.next();
        self.last = Some(Sent {
            nonce: nonce.clone(),
            version: version.clone(),
        });
        Some(DiscoveryResponse {
            version_info: version,
            resources,
            type_url: super::TYPE_URL.to_owned(),
            nonce,
            ..DiscoveryResponse::default()
        })
    }
}
