//! `rotation.yaml`: what to keep fresh, from where, and how to serve it.
//!
//! The text is compiled once into valid types; a wrong one is refused with the path of the value at fault.

use std::{collections::BTreeSet, net::SocketAddr};

mod file;
mod types;

pub use types::{
    Authority, DnsSan, FilePath, Guid, IpSan, Lifetime, ResourceId, Scope, SecretName, SocketMode,
    SocketPath, TrustDomain, UriSan, MAX_NAME,
};

/// Most secrets one service keeps.
pub const MAX_SECRETS: usize = 1000;

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Unix socket that serves SDS.
    pub sds: SdsConfig,
    /// Where `/healthz` and `/readyz` answer, if anywhere.
    pub admin: Option<SocketAddr>,
    /// How to reach Entra.
    pub cloud: CloudConfig,
    /// The built-in CA. Present if any secret uses it.
    pub local_ca: Option<LocalCaConfig>,
    /// The secrets, each with a name of its own.
    pub secrets: Vec<SecretConfig>,
}

/// The Unix socket that serves SDS.
#[derive(Clone, Debug)]
pub struct SdsConfig {
    /// Where the socket is made.
    pub path: SocketPath,
    /// Its permission bits; 0600 unless configured.
    pub mode: SocketMode,
}

/// How to reach Entra.
#[derive(Clone, Debug, Default)]
pub struct CloudConfig {
    /// The authority that issues tokens; the public cloud unless configured.
    pub authority: Authority,
    /// PEM certificates to trust for it, beside the system's own.
    pub ca_file: Option<FilePath>,
}

/// The built-in CA.
#[derive(Clone, Debug)]
pub struct LocalCaConfig {
    /// Where its key and certificate are kept.
    pub directory: FilePath,
    /// The SPIFFE trust domain it is the authority of.
    pub trust_domain: TrustDomain,
}

/// One secret: its name and where it comes from.
#[derive(Clone, Debug)]
pub struct SecretConfig {
    /// The SDS resource name.
    pub name: SecretName,
    /// Where the value comes from.
    pub source: SourceConfig,
}

/// Where a secret's value comes from.
#[derive(Clone, Debug)]
pub enum SourceConfig {
    /// An access token from Entra, served as a generic secret.
    EntraToken(EntraTokenConfig),
    /// A certificate and key from the local CA.
    Certificate(LeafConfig),
    /// The local CA's own certificate, served as a validation context.
    TrustBundle,
}

/// An access token from Entra.
#[derive(Clone, Debug)]
pub struct EntraTokenConfig {
    /// What the token is for.
    pub scope: Scope,
    /// Whose token it is.
    pub identity: IdentityConfig,
}

/// The identity that a token belongs to.
#[derive(Clone, Debug)]
pub enum IdentityConfig {
    /// An application or user-assigned identity with a federated credential: an assertion is exchanged for a token.
    Federated {
        /// The directory.
        tenant_id: Guid,
        /// The application or managed identity.
        client_id: Guid,
        /// A file that holds the assertion. Read again at every exchange, because whoever writes it rotates it.
        assertion_file: FilePath,
    },
    /// The managed identity of the machine this runs on.
    ManagedIdentity(ManagedIdentityConfig),
}

/// Which managed identity of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagedIdentityConfig {
    /// The one that belongs to the machine itself.
    System,
    /// A user-assigned one, by client id.
    ClientId(Guid),
    /// A user-assigned one, by object (principal) id.
    ObjectId(Guid),
    /// A user-assigned one, by resource id.
    ResourceId(ResourceId),
}

/// A certificate from the local CA.
#[derive(Clone, Debug)]
pub struct LeafConfig {
    /// URI names.
    pub uri_sans: Vec<UriSan>,
    /// DNS names.
    pub dns_sans: Vec<DnsSan>,
    /// IP addresses.
    pub ip_sans: Vec<IpSan>,
    /// How long each certificate lives; 24 h unless configured.
    pub lifetime: Lifetime,
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{message}", .path, if .path.is_empty() { "" } else { ": " })]
pub struct ConfigError {
    /// The path of the value at fault, such as `secrets[1].entra_token.scope`. Empty for the document itself.
    pub path: String,
    /// What was expected there.
    pub message: String,
}

impl Config {
    /// Compiles a configuration.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its path.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        let document = serde_norway::Deserializer::from_str(text);
        let file: file::File = serde_path_to_error::deserialize(document).map_err(ConfigError::from_serde)?;
        Self::compile(file)
    }

    fn compile(file: file::File) -> Result<Self, ConfigError> {
        if file.secrets.is_empty() || file.secrets.len() > MAX_SECRETS {
            return Err(ConfigError::new(
                "secrets",
                format!("expected 1 to {MAX_SECRETS} secrets"),
            ));
        }
        let local_ca = file.local_ca.map(|ca| LocalCaConfig {
            directory: ca.directory,
            trust_domain: ca.trust_domain,
        });

        let mut names = BTreeSet::new();
        let mut secrets = Vec::with_capacity(file.secrets.len());
        for (index, secret) in file.secrets.into_iter().enumerate() {
            let at = format!("secrets[{index}]");
            if !names.insert(secret.name.clone()) {
                let message = format!("expected a name of its own, but `{}` is taken", secret.name);
                return Err(ConfigError::new(format!("{at}.name"), message));
            }
            secrets.push(compile_secret(&at, secret, local_ca.as_ref())?);
        }

        Ok(Self {
            sds: SdsConfig {
                path: file.sds.unix.path,
                mode: file.sds.unix.mode,
            },
            admin: file.admin.map(|admin| admin.address),
            cloud: CloudConfig {
                authority: file.cloud.authority,
                ca_file: file.cloud.ca_file,
            },
            local_ca,
            secrets,
        })
    }
}

impl ConfigError {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }

    fn from_serde(error: serde_path_to_error::Error<serde_norway::Error>) -> Self {
        let path = match error.path().to_string() {
            dot if dot == "." => String::new(),
            path => path,
        };
        // The YAML reader puts its own path in front of some messages: ours, or where ours begins.
        let message = error.into_inner().to_string();
        let message = match message.split_once(": ") {
            Some((theirs, rest)) if is_start_of(theirs, &path) => rest.to_owned(),
            _ => message,
        };
        Self { path, message }
    }
}

fn compile_secret(
    at: &str,
    secret: file::Secret,
    local_ca: Option<&LocalCaConfig>,
) -> Result<SecretConfig, ConfigError> {
    let source = match (secret.entra_token, secret.certificate, secret.trust_bundle) {
        (Some(token), None, None) => {
            SourceConfig::EntraToken(compile_token(&format!("{at}.entra_token"), token)?)
        }
        (None, Some(certificate), None) => {
            let at = format!("{at}.certificate.local_ca");
            let ca = local_ca.ok_or_else(|| missing_ca(&at))?;
            SourceConfig::Certificate(compile_leaf(&at, certificate.local_ca, ca)?)
        }
        (None, None, Some(_)) => {
            let at = format!("{at}.trust_bundle.local_ca");
            local_ca.ok_or_else(|| missing_ca(&at))?;
            SourceConfig::TrustBundle
        }
        _ => {
            let message = "expected exactly one of entra_token, certificate, trust_bundle";
            return Err(ConfigError::new(at, message));
        }
    };
    Ok(SecretConfig {
        name: secret.name,
        source,
    })
}

fn compile_token(at: &str, token: file::EntraToken) -> Result<EntraTokenConfig, ConfigError> {
    let identity = match (token.federated, token.managed_identity) {
        (Some(federated), None) => IdentityConfig::Federated {
            tenant_id: federated.tenant_id,
            client_id: federated.client_id,
            assertion_file: federated.assertion_file,
        },
        (None, Some(identity)) => {
            let at = format!("{at}.managed_identity");
            IdentityConfig::ManagedIdentity(compile_managed_identity(&at, identity)?)
        }
        _ => {
            return Err(ConfigError::new(
                at,
                "expected exactly one of federated, managed_identity",
            ))
        }
    };
    Ok(EntraTokenConfig {
        scope: token.scope,
        identity,
    })
}

fn compile_managed_identity(
    at: &str,
    identity: file::ManagedIdentity,
) -> Result<ManagedIdentityConfig, ConfigError> {
    match (identity.client_id, identity.object_id, identity.resource_id) {
        (None, None, None) => Ok(ManagedIdentityConfig::System),
        (Some(id), None, None) => Ok(ManagedIdentityConfig::ClientId(id)),
        (None, Some(id), None) => Ok(ManagedIdentityConfig::ObjectId(id)),
        (None, None, Some(id)) => Ok(ManagedIdentityConfig::ResourceId(id)),
        _ => Err(ConfigError::new(
            at,
            "expected at most one of client_id, object_id, resource_id",
        )),
    }
}

fn compile_leaf(at: &str, leaf: file::Leaf, ca: &LocalCaConfig) -> Result<LeafConfig, ConfigError> {
    if leaf.uri_sans.is_empty() && leaf.dns_sans.is_empty() && leaf.ip_sans.is_empty() {
        let message = "expected at least one of uri_sans, dns_sans, ip_sans to name something";
        return Err(ConfigError::new(at, message));
    }
    for (index, san) in leaf.uri_sans.iter().enumerate() {
        // A certificate that names another domain would be a lie its own trust bundle vouches for.
        if san
            .spiffe_trust_domain()
            .is_some_and(|domain| domain != ca.trust_domain.as_str())
        {
            let message = format!("expected a SPIFFE id in the trust domain {}", ca.trust_domain);
            return Err(ConfigError::new(format!("{at}.uri_sans[{index}]"), message));
        }
    }
    Ok(LeafConfig {
        uri_sans: leaf.uri_sans,
        dns_sans: leaf.dns_sans,
        ip_sans: leaf.ip_sans,
        lifetime: leaf.lifetime,
    })
}

fn is_start_of(start: &str, path: &str) -> bool {
    let rest = path.strip_prefix(start);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn missing_ca(at: &str) -> ConfigError {
    ConfigError::new(at, "expected a local_ca section at the top of the file")
}

#[cfg(test)]
mod tests;
