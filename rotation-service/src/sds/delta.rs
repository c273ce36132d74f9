//! The incremental variant: requests add and remove names, answers hold what the client does not have.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};
use tonic::Status;
use tracing::{debug, info, warn};

use super::{check_names, check_type_url, loggable, resource, Nonces, Protocol, MAX_NAMES};
use crate::store::Store;

pub(super) struct Delta {
    names: BTreeSet<String>,
    /// The version of each name that the client has, or has been sent and may have refused.
    told: BTreeMap<String, String>,
    nonces: Nonces,
    last_nonce: Option<String>,
    opened: bool,
}

impl Delta {
    pub(super) fn new() -> Self {
        Self {
            names: BTreeSet::new(),
            told: BTreeMap::new(),
            nonces: Nonces::new(),
            last_nonce: None,
            opened: false,
        }
    }

    fn note_acknowledgement(&self, request: &DeltaDiscoveryRequest) {
        if request.response_nonce.is_empty() {
            return;
        }
        match &request.error_detail {
            // Counted as told, so that it is not sent again until there is a newer value.
            Some(error) => warn!(
                names = ?self.names,
                message = loggable(&error.message),
                "an SDS client refused an answer and keeps what it had"
            ),
            None => {
                let stale = self.last_nonce.as_ref() != Some(&request.response_nonce);
                debug!(names = ?self.names, stale, "acknowledged");
            }
        }
    }
}

impl Protocol for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn receive(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        check_type_url(&request.type_url)?;
        check_names(request.resource_names_subscribe.iter())?;
        check_names(request.resource_names_unsubscribe.iter())?;
        check_names(request.initial_resource_versions.keys())?;
        self.note_acknowledgement(&request);

        if !self.opened {
            // What the client kept from an earlier stream.
            self.told = request.initial_resource_versions.into_iter().collect();
        }
        for name in &request.resource_names_unsubscribe {
            self.names.remove(name);
            self.told.remove(name);
        }
        if !request.resource_names_subscribe.is_empty() {
            let node = request.node.map(|node| loggable(&node.id)).unwrap_or_default();
            info!(node, names = ?request.resource_names_subscribe, "an SDS client subscribed");
        }
        for name in request.resource_names_subscribe {
            // Asking again for a name means that the client wants it again, whatever it was told.
            if self.opened {
                self.told.remove(&name);
            }
            self.names.insert(name);
        }
        self.opened = true;
        if self.names.len() > MAX_NAMES {
            return Err(Status::invalid_argument(format!(
                "expected at most {MAX_NAMES} resource names"
            )));
        }
        Ok(())
    }

    fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    fn answer(&mut self, store: &Store) -> Option<DeltaDiscoveryResponse> {
        let mut resources = Vec::new();
        for name in &self.names {
            let Some(current) = store.cell(name).and_then(|cell| cell.current()) else {
                continue;
            };
            let version = current.version().to_string();
            if self.told.get(name) == Some(&version) {
                continue;
            }
            resources.push(Resource {
                name: name.clone(),
                version: version.clone(),
                resource: Some(resource::encode(name, current.value())),
                ..Resource::default()
            });
            self.told.insert(name.clone(), version);
        }
        if resources.is_empty() {
            return None;
        }
        let nonce = self.nonces.next();
        self.last_nonce = Some(nonce.clone());
        Some(DeltaDiscoveryResponse {
            resources,
            nonce,
            type_url: super::TYPE_URL.to_owned(),
            ..DeltaDiscoveryResponse::default()
        })
    }
}
