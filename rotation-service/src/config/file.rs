//! The shape of `rotation.yaml` as it is written. Single values are checked while they are read, so that an error carries
//! their path; what spans several values is checked by `Config`.

use std::net::SocketAddr;

use serde::Deserialize;

use super::types::{
    Authority, DnsSan, FilePath, Guid, IpSan, Lifetime, ResourceId, Scope, SecretName, SocketMode,
    SocketPath, TrustDomain, UriSan,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) sds: Sds,
    pub(super) admin: Option<Admin>,
    #[serde(default)]
    pub(super) cloud: Cloud,
    pub(super) local_ca: Option<LocalCa>,
    pub(super) secrets: Vec<Secret>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sds {
    pub(super) unix: Unix,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unix {
    pub(super) path: SocketPath,
    #[serde(default)]
    pub(super) mode: SocketMode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) address: SocketAddr,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cloud {
    #[serde(default)]
    pub(super) authority: Authority,
    pub(super) ca_file: Option<FilePath>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LocalCa {
    pub(super) directory: FilePath,
    pub(super) trust_domain: TrustDomain,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secret {
    pub(super) name: SecretName,
    pub(super) entra_token: Option<EntraToken>,
    pub(super) certificate: Option<Certificate>,
    pub(super) trust_bundle: Option<TrustBundle>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntraToken {
    pub(super) scope: Scope,
    pub(super) federated: Option<Federated>,
    pub(super) managed_identity: Option<ManagedIdentity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Federated {
    pub(super) tenant_id: Guid,
    pub(super) client_id: Guid,
    pub(super) assertion_file: FilePath,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManagedIdentity {
    pub(super) client_id: Option<Guid>,
    pub(super) object_id: Option<Guid>,
    pub(super) resource_id: Option<ResourceId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) local_ca: Leaf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Leaf {
    #[serde(default)]
    pub(super) uri_sans: Vec<UriSan>,
    #[serde(default)]
    pub(super) dns_sans: Vec<DnsSan>,
    #[serde(default)]
    pub(super) ip_sans: Vec<IpSan>,
    #[serde(default)]
    pub(super) lifetime: Lifetime,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrustBundle {
    // Read for its check only: there is nothing to choose about the local CA's own certificate yet.
    #[serde(rename = "local_ca")]
    pub(super) _local_ca: Nothing,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}
