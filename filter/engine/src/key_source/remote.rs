//! Where a provider's keys are: at a configured address, or at the one that its discovery document names.

use std::time::Duration;

use serde_json::Value;

use crate::{
    config::{ConfigError, JwksConfig},
    strict_json,
    time::UnixMillis,
};

/// How long a discovery document is believed before it is read again, together with a refresh of the keys.
const DISCOVERY_AGE: Duration = Duration::from_secs(3600);
const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// An absolute address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) scheme: &'static str,
    pub(super) authority: String,
    pub(super) path: String,
}

#[derive(Debug)]
pub(super) enum Remote {
    /// At a configured address.
    Fixed(Place),
    Discovered(Discovery),
}

/// An address and the name of the Envoy cluster that reaches it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) cluster: String,
}

#[derive(Debug)]
pub(super) struct Discovery {
    document: Place,
    /// The issuers of which the document must name one.
    issuers: Vec<String>,
    keys_cluster: String,
    /// Where the document says that the keys are, and when it was read.
    keys: Option<(Place, UnixMillis)>,
}

impl Remote {
    /// Nothing if the keys are in line.
    pub(super) fn compile(
        config: JwksConfig,
        issuers: Vec<String>,
        at: &str,
    ) -> Result<Option<Self>, ConfigError> {
        let wrong = |field: &str, problem: &str| ConfigError::at(format_args!("{at}.{field}"), problem);
        let address = |uri: &str, field: &str| {
            Address::parse(uri).ok_or_else(|| wrong(field, "expected an absolute https:// or http:// URI"))
        };
        let cluster_is = "expected the name of the Envoy cluster that reaches the provider";
        let named = |cluster: Option<String>, field: &str| match cluster {
            Some(cluster) if cluster.is_empty() => Err(wrong(field, cluster_is)),
            cluster => Ok(cluster),
        };
        let remote_only = [
            ("cluster", config.cluster.is_some()),
            ("refresh", config.refresh.is_some()),
            ("max_stale", config.max_stale.is_some()),
        ];
        let has_keys_cluster = config.keys_cluster.is_some();
        match (config.uri, config.discovery, config.inline) {
            (None, None, Some(_)) if !has_keys_cluster => match remote_only.iter().find(|(_, given)| *given) {
                Some((field, _)) => Err(wrong(field, "keys in line are not fetched")),
                None => Ok(None),
            },
            (Some(uri), None, None) if !has_keys_cluster => Ok(Some(Self::Fixed(Place {
                address: address(&uri, "uri")?,
                cluster: named(config.cluster, "cluster")?.ok_or_else(|| wrong("cluster", cluster_is))?,
            }))),
            (None, Some(uri), None) => {
                let cluster = named(config.cluster, "cluster")?.ok_or_else(|| wrong("cluster", cluster_is))?;
                Ok(Some(Self::Discovered(Discovery {
                    keys_cluster: named(config.keys_cluster, "keys_cluster")?.unwrap_or_else(|| cluster.clone()),
                    document: Place {
                        address: address(&uri, "discovery")?,
                        cluster,
                    },
                    issuers,
                    keys: None,
                })))
            }
            _ => Err(ConfigError::at(
                at,
                "expected \"inline\", or \"uri\" and \"cluster\", or \"discovery\" and \"cluster\" (and \"keys_cluster\" where it is another)",
            )),
        }
    }

    /// Names the configured place, how it is reached and whose keys are taken from there: what a discovery document
    /// may not give to one provider, that provider may not get from another one's fetch either.
    pub(super) fn name(&self) -> String {
        let (place, keys_cluster, issuers) = match self {
            Self::Fixed(place) => (place, "", String::new()),
            Self::Discovered(discovery) => (
                &discovery.document,
                discovery.keys_cluster.as_str(),
                discovery.issuers.join(" "),
            ),
        };
        let Address {
            scheme,
            authority,
            path,
        } = &place.address;
        format!(
            "{} {keys_cluster} {scheme}://{authority}{path} {issuers}",
            place.cluster
        )
    }

    /// The place to ask next.
    pub(super) fn next(&mut self, now: UnixMillis) -> &Place {
        match self {
            Self::Fixed(place) => place,
            Self::Discovered(discovery) => {
                let fresh = |read_at: UnixMillis| read_at <= now && now.since(read_at) < DISCOVERY_AGE;
                discovery.keys.take_if(|(_, read_at)| !fresh(*read_at));
                discovery
                    .keys
                    .as_ref()
                    .map_or(&discovery.document, |(place, _)| place)
            }
        }
    }

    /// The discovery that must end before keys can be fetched.
    pub(super) fn pending_discovery(&mut self) -> Option<&mut Discovery> {
        match self {
            Self::Discovered(discovery) if discovery.keys.is_none() => Some(discovery),
            _ => None,
        }
    }

    /// After a failure the document is read again: the keys may have moved.
    pub(super) fn forget_discovery(&mut self) {
        if let Self::Discovered(discovery) = self {
            discovery.keys = None;
        }
    }
}

impl Discovery {
    /// Takes the document (OpenID Connect Discovery 1.0, sections 3 and 4.3; RFC 8414, section 3.3): it must speak of
    /// our issuer.
    pub(super) fn take(&mut self, document: &[u8], now: UnixMillis) -> Result<(), &'static str> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err("too large");
        }
        let document = strict_json::parse_object(document).map_err(|_| "malformed")?;
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        let issuer = text("issuer").ok_or("it names no issuer")?;
        if !self.issuers.iter().any(|own| own == issuer) {
            return Err("it names another issuer");
        }
        let address = text("jwks_uri")
            .and_then(Address::parse)
            .ok_or("it names no address of keys")?;
        if self.document.address.scheme == "https" && address.scheme != "https" {
            return Err("its keys are not served by https");
        }
        let cluster = self.keys_cluster.clone();
        self.keys = Some((Place { address, cluster }, now));
        Ok(())
    }
}

impl Address {
    /// Scheme, authority and path of a URI whose characters are all visible ASCII; fragments and user information
    /// have no place in a key set's address.
    fn parse(uri: &str) -> Option<Self> {
        let (scheme, rest) = match uri.split_once("://")? {
            ("https", rest) => ("https", rest),
            ("http", rest) => ("http", rest),
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let clean =
            rest.bytes().all(|b| b.is_ascii_graphic() && b != b'#') && !authority.contains(['@', '?', '\\']);
        (clean && !authority.is_empty()).then(|| Self {
            scheme,
            authority: authority.to_owned(),
            path: if path.is_empty() { "/" } else { path }.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn addresses_of_key_sets_are_read_strictly() {
        let address = Address::parse("https://h:8443").unwrap();
        assert_eq!(
            (address.scheme, &*address.authority, &*address.path),
            ("https", "h:8443", "/")
        );
        for uri in [
            "",
            "h/x",
            "ftp://h/x",
            "https://",
            "https:///x",
            "https://u@h/x",
            "https://h/x#f",
            "https://h/a b",
            "https://h\\x",
        ] {
            assert_eq!(Address::parse(uri), None, "{uri}");
        }
    }
}
