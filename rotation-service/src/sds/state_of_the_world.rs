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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use envoy_types::pb::google::rpc;

    use super::*;
    use crate::{config::SecretName, secret::Value, store::Versioned, token::Token};

    fn store() -> Store {
        let name = |name: &str| SecretName::try_from(name.to_owned()).unwrap();
        let store = Store::new([name("a"), name("b")]);
        publish(&store, "a", "one");
        publish(&store, "b", "one");
        store
    }

    fn publish(store: &Store, name: &str, token: &str) {
        let value = Value::Token(Token::parse(token).unwrap());
        store
            .cell(name)
            .unwrap()
            .publish(Versioned::fresh(value, SystemTime::UNIX_EPOCH));
    }

    fn request(names: &[&str], nonce: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            ..DiscoveryRequest::default()
        }
    }

    /// A stream that subscribed to `a` and got its first answer.
    fn subscribed(store: &Store) -> (StateOfTheWorld, DiscoveryResponse) {
        let mut stream = StateOfTheWorld::new();
        stream.receive(request(&["a"], "")).unwrap();
        let answer = stream.answer(store).unwrap();
        (stream, answer)
    }

    #[test]
    fn neither_an_acknowledgement_nor_a_refusal_is_answered() {
        let store = store();
        let (mut stream, first) = subscribed(&store);
        let accepted = request(&["a"], &first.nonce);
        let refused = DiscoveryRequest {
            error_detail: Some(rpc::Status::default()),
            ..accepted.clone()
        };
        for request in [accepted, refused.clone(), refused] {
            stream.receive(request).unwrap();
            assert_eq!(stream.answer(&store), None);
        }
        publish(&store, "a", "two");
        assert!(stream.answer(&store).is_some());
        assert_eq!(stream.answer(&store), None);
    }

    #[test]
    fn a_stale_nonce_changes_nothing() {
        let store = store();
        let (mut stream, first) = subscribed(&store);
        publish(&store, "a", "two");
        stream.answer(&store).unwrap();
        stream.receive(request(&["b"], &first.nonce)).unwrap();
        assert_eq!(stream.answer(&store), None);
        assert!(stream.names().contains("a") && !stream.names().contains("b"));
    }

    #[test]
    fn a_changed_subscription_is_owed_an_answer_until_there_is_one() {
        let store = store();
        let (mut stream, first) = subscribed(&store);
        stream.receive(request(&["nobody"], &first.nonce)).unwrap();
        assert_eq!(stream.answer(&store), None, "there is nothing to tell");
        stream.receive(request(&["a"], &first.nonce)).unwrap();
        let again = stream.answer(&store).unwrap();
        assert_eq!(
            (again.version_info, again.resources),
            (first.version_info, first.resources)
        );
        assert_ne!(again.nonce, first.nonce);
    }

    #[test]
    fn the_version_depends_on_the_values_and_not_on_the_stream() {
        let store = store();
        let (_, one) = subscribed(&store);
        let (_, same) = subscribed(&store);
        publish(&store, "b", "two");
        let (_, unrelated) = subscribed(&store);
        publish(&store, "a", "two");
        let (_, other) = subscribed(&store);
        assert_eq!(one.version_info, same.version_info);
        assert_eq!(one.version_info, unrelated.version_info);
        assert_ne!(one.version_info, other.version_info);
        assert_ne!(one.nonce, same.nonce);
    }
}
