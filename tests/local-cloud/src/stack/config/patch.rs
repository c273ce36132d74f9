//! Changes to one place of a YAML document, found by JSON pointer and by name.

use std::{net::SocketAddr, path::Path};

use serde_json::{json, Value};

const STDOUT_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
const FILE_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";

/// A configuration file that is being changed.
#[derive(Debug, Clone)]
pub struct Config {
    file: &'static str,
    document: Value,
}

impl Config {
    /// Reads YAML; `file` is its name in errors.
    pub fn parse(file: &'static str, yaml: &str) -> Result<Self, ConfigError> {
        let document = serde_norway::from_str(yaml).map_err(|e| ConfigError::Parse {
            file,
            problem: e.to_string(),
        })?;
        Ok(Self { file, document })
    }

    /// What stands at a JSON pointer (RFC 6901).
    pub fn at(&mut self, pointer: &str) -> Result<&mut Value, ConfigError> {
        let file = self.file;
        self.document
            .pointer_mut(pointer)
            .ok_or_else(|| ConfigError::NoPlace {
                file,
                place: pointer.to_owned(),
            })
    }

    /// Replaces what stands there.
    pub fn set(&mut self, pointer: &str, value: Value) -> Result<(), ConfigError> {
        *self.at(pointer)? = value;
        Ok(())
    }

    /// Takes a member away from the object that stands there.
    pub fn remove(&mut self, pointer: &str, member: &str) -> Result<(), ConfigError> {
        let object = self.at(pointer)?.as_object_mut();
        let removed = object.and_then(|object| object.remove(member));
        removed.map(drop).ok_or_else(|| ConfigError::NoPlace {
            file: self.file,
            place: format!("{pointer}/{member}"),
        })
    }

    /// The pointer of the element of a list that has this `name`.
    pub fn named(&mut self, list: &str, name: &str) -> Result<String, ConfigError> {
        let elements = self.at(list)?.as_array().map(Vec::as_slice).unwrap_or_default();
        let found = elements.iter().position(|element| element["name"] == name);
        found
            .map(|index| format!("{list}/{index}"))
            .ok_or_else(|| ConfigError::NoName {
                file: self.file,
                list: list.to_owned(),
                name: name.to_owned(),
            })
    }

    /// Lets a listener listen elsewhere.
    pub fn listen(&mut self, listener: &str, address: SocketAddr) -> Result<(), ConfigError> {
        let listener = self.named("/static_resources/listeners", listener)?;
        self.set(
            &format!("{listener}/address/socket_address"),
            socket_address(address),
        )
    }

    /// Lets the one endpoint of a cluster be elsewhere.
    pub fn connect(&mut self, cluster: &str, address: SocketAddr) -> Result<(), ConfigError> {
        let endpoint = self.endpoint(cluster)?;
        self.set(&format!("{endpoint}/socket_address"), socket_address(address))
    }

    /// The same for a cluster that is a Unix socket.
    pub fn connect_socket(&mut self, cluster: &str, path: &Path) -> Result<(), ConfigError> {
        let endpoint = self.endpoint(cluster)?;
        self.set(&format!("{endpoint}/pipe/path"), json!(path))
    }

    /// Turns every access log on standard output into one in a file.
    pub fn log_to_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        if redirect_logs(&mut self.document, path) == 0 {
            return Err(ConfigError::NoPlace {
                file: self.file,
                place: STDOUT_LOG.to_owned(),
            });
        }
        Ok(())
    }

    /// The changed document.
    pub fn to_yaml(&self) -> Result<String, ConfigError> {
        serde_norway::to_string(&self.document).map_err(|e| ConfigError::Parse {
            file: self.file,
            problem: e.to_string(),
        })
    }

    fn endpoint(&mut self, cluster: &str) -> Result<String, ConfigError> {
        let cluster = self.named("/static_resources/clusters", cluster)?;
        Ok(format!(
            "{cluster}/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address"
        ))
    }
}

/// Why a file could not be changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read or written.
    #[error("{file}: {problem}")]
    Parse {
        /// Which file.
        file: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// It has no such place.
    #[error("{file} has nothing at {place}")]
    NoPlace {
        /// Which file.
        file: &'static str,
        /// The JSON pointer, or the type that was looked for.
        place: String,
    },
    /// A list in it has no such element.
    #[error("{file} has no `{name}` in {list}")]
    NoName {
        /// Which file.
        file: &'static str,
        /// The JSON pointer of the list.
        list: String,
        /// The name that was looked for.
        name: String,
    },
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"address": address.ip(), "port_value": address.port()})
}

/// How many there were.
fn redirect_logs(value: &mut Value, path: &Path) -> usize {
    match value {
        Value::Object(object) if object.get("@type").is_some_and(|kind| kind == STDOUT_LOG) => {
            object.insert("@type".into(), FILE_LOG.into());
            object.insert("path".into(), json!(path));
            1
        }
        Value::Object(object) => object.values_mut().map(|value| redirect_logs(value, path)).sum(),
        Value::Array(array) => array.iter_mut().map(|value| redirect_logs(value, path)).sum(),
        _ => 0,
    }
}
