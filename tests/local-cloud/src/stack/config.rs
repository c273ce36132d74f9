//! The shipped configuration files, with addresses and paths of this machine.
//!
//! Whatever is not an address or a path stays as the user gets it, because the point is to run *that*. A
//! patch whose place is not in the file is an error: it would mean that the file and this module have drifted
//! apart.

mod patch;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde_json::{json, Value};

use crate::Cloud;

pub use patch::{Config, ConfigError};

/// `envoy/bridge.yaml` as shipped.
pub const BRIDGE: &str = include_str!("../../../../envoy/bridge.yaml");
/// `envoy/vm.yaml` as shipped.
pub const VM: &str = include_str!("../../../../envoy/vm.yaml");
/// `envoy/rotation.yaml` as shipped.
pub const ROTATION: &str = include_str!("../../../../envoy/rotation.yaml");

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Paths that the processes agree on.
pub(super) struct Paths {
    /// The rotation service's SDS socket.
    pub(super) socket: PathBuf,
    /// The directory of its certificate authority.
    pub(super) local_ca: PathBuf,
}

/// The filter's configuration in the shipped `bridge.yaml`: where a caller starts that wants to change a part
/// of it.
pub fn shipped_filter_config() -> Result<Value, ConfigError> {
    let mut bridge = Config::parse("bridge.yaml", BRIDGE)?;
    let text = bridge
        .at(&filter_pointer("configuration/value"))?
        .as_str()
        .unwrap_or_default();
    serde_json::from_str(text).map_err(|e| ConfigError::Parse {
        file: "bridge.yaml, the filter's configuration",
        problem: e.to_string(),
    })
}

pub(super) fn rotation(cloud: &Cloud, paths: &Paths) -> Result<String, ConfigError> {
    let mut config = Config::parse("rotation.yaml", ROTATION)?;
    config.set("/sds/unix/path", json!(paths.socket))?;
    config.set("/admin/address", json!(ANY_PORT.to_string()))?;
    config.set("/cloud/authority", json!(cloud.entra.url()))?;
    config.at("/cloud")?["ca_file"] = json!(cloud.ca_file);
    config.set("/local_ca/directory", json!(paths.local_ca))?;
    let reader = config.named("/secrets", "azure/reader")?;
    let file = "/entra_token/federated/assertion_file";
    config.set(&format!("{reader}{file}"), json!(cloud.assertion_file))?;
    config.to_yaml()
}

pub(super) fn vm(paths: &Paths, app: SocketAddr, access_log: &Path) -> Result<String, ConfigError> {
    let mut config = Config::parse("vm.yaml", VM)?;
    common(&mut config, "vm", ANY_PORT, paths, access_log)?;
    config.connect("app", app)?;
    config.to_yaml()
}

/// What a bridge has besides the paths and the cloud.
pub(super) struct Bridge<'a> {
    pub(super) listen: SocketAddr,
    pub(super) vm: SocketAddr,
    pub(super) module: &'a Path,
    /// The filter's configuration, if it is not the shipped one.
    pub(super) filter: Option<&'a Value>,
    /// The provider, if it is not the cloud's; by plain HTTP.
    pub(super) provider: Option<SocketAddr>,
    pub(super) access_log: &'a Path,
}

pub(super) fn bridge(paths: &Paths, cloud: &Cloud, bridge: &Bridge<'_>) -> Result<String, ConfigError> {
    let mut config = Config::parse("bridge.yaml", BRIDGE)?;
    common(&mut config, "bridge", bridge.listen, paths, bridge.access_log)?;
    config.connect("vm-reader", bridge.vm)?;
    config.connect("vm-operator", bridge.vm)?;
    config.connect("vm-public", bridge.vm)?;
    let cognito = config.named("/static_resources/clusters", "cognito")?;
    if let Some(provider) = bridge.provider {
        config.connect("cognito", provider)?;
        config.remove(&cognito, "transport_socket")?;
    } else {
        config.connect("cognito", cloud.openid.address())?;
        let trusted =
            "/transport_socket/typed_config/common_tls_context/validation_context/trusted_ca/filename";
        config.set(&format!("{cognito}{trusted}"), json!(cloud.ca_file))?;
    }
    config.set(
        &filter_pointer("vm_config/code/local/filename"),
        json!(bridge.module),
    )?;
    if let Some(filter) = bridge.filter {
        config.set(&filter_pointer("configuration/value"), json!(filter.to_string()))?;
    }
    config.to_yaml()
}

fn common(
    config: &mut Config,
    listener: &str,
    listen: SocketAddr,
    paths: &Paths,
    access_log: &Path,
) -> Result<(), ConfigError> {
    config.listen(listener, listen)?;
    config.set("/admin/address/socket_address/port_value", json!(0))?;
    config.connect_socket("rotation", &paths.socket)?;
    config.log_to_file(access_log)
}

/// A place in the wasm filter's plugin configuration: the first filter of the bridge's one filter chain.
fn filter_pointer(rest: &str) -> String {
    const PLUGIN: &str =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
    format!("{PLUGIN}/{rest}")
}

#[cfg(test)]
mod tests;
