//! The small valid types a configuration is made of. Each can only be built from text that passed its check, so the rest
//! of the service never checks again.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

/// Longest secret name, in bytes. SDS requests are held to the same bound.
pub const MAX_NAME: usize = 256;

/// `sockaddr_un` holds 107 bytes; the socket is first bound under a temporary name beside its final one.
const MAX_SOCKET_PATH: usize = 96;

const MIN_LIFETIME: Duration = Duration::from_secs(10);
const MAX_LIFETIME: Duration = Duration::from_secs(397 * 86_400);

/// Declares a newtype over `String` that is only built through its check.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:path, $expected:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The checked text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                if $check(&text) { Ok(Self(text)) } else { Err($expected) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text!(
    /// The SDS resource name of a secret.
    SecretName,
    is_name,
    "expected 1 to 256 printable ASCII characters without spaces"
);

checked_text!(
    /// A tenant, client or object id: a GUID in its 8-4-4-4-12 form.
    Guid,
    is_guid,
    "expected a GUID such as 7b795fb9-09d3-42f4-a494-38864f99ba3c"
);

checked_text!(
    /// An OAuth 2.0 scope for a token that belongs to an application. Entra accepts only `<resource>/.default` there
    /// (Microsoft identity platform, "client credentials flow").
    Scope,
    is_scope,
    "expected a scope such as api://orders/.default: a resource followed by /.default"
);

checked_text!(
    /// The Azure resource id of a user-assigned managed identity.
    ResourceId,
    is_resource_id,
    "expected a resource id that starts with /subscriptions/"
);

checked_text!(
    /// A SPIFFE trust domain name (SPIFFE ID specification, section 2.1).
    TrustDomain,
    is_trust_domain,
    "expected a trust domain of lower-case letters, digits, dots, dashes and underscores"
);

checked_text!(
    /// A URI subject alternative name.
    UriSan,
    is_uri,
    "expected an absolute URI such as spiffe://isthmus.local/bridge"
);

checked_text!(
    /// A DNS subject alternative name, perhaps with a leading `*.`.
    DnsSan,
    is_dns_name,
    "expected a DNS name such as bridge.local"
);

checked_text!(
    /// The base URL of an Entra authority. Always https: the assertion and the token cross it.
    Authority,
    is_authority,
    "expected an https URL with a host and no path, such as https://login.microsoftonline.com"
);

impl Default for Authority {
    fn default() -> Self {
        Self("https://login.microsoftonline.com".to_owned())
    }
}

impl UriSan {
    /// The trust domain, if this is a SPIFFE id.
    pub(crate) fn spiffe_trust_domain(&self) -> Option<&str> {
        let rest = self.0.strip_prefix("spiffe://")?;
        rest.split('/').next()
    }
}

/// The path of a file or directory. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FilePath(PathBuf);

impl FilePath {
    /// The path.
    pub fn as_path(&self) -> &std::path::Path {
        &self.0
    }
}

impl TryFrom<String> for FilePath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() || text.contains('\0') {
            return Err("expected a path");
        }
        Ok(Self(text.into()))
    }
}

/// The path of a Unix socket, short enough for the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SocketPath(PathBuf);

impl SocketPath {
    /// The path.
    pub fn as_path(&self) -> &std::path::Path {
        &self.0
    }
}

impl TryFrom<String> for SocketPath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let named = !text.ends_with('/') && !text.contains('\0');
        if !named || text.is_empty() || text.len() > MAX_SOCKET_PATH {
            return Err("expected the path of a socket of at most 96 bytes");
        }
        Ok(Self(text.into()))
    }
}

/// The permission bits of the SDS socket. Whoever may write to it may read every secret, so "others" never may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SocketMode(u32);

impl SocketMode {
    /// The permission bits, as `chmod` takes them.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Default for SocketMode {
    fn default() -> Self {
        Self(0o600)
    }
}

impl TryFrom<String> for SocketMode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const EXPECTED: &str = "expected an octal mode such as \"0660\", with nothing for others";
        let bits = u32::from_str_radix(&text, 8).map_err(|_| EXPECTED)?;
        if text.starts_with('+') || text.len() > 4 || bits > 0o777 || bits & 0o007 != 0 {
            return Err(EXPECTED);
        }
        Ok(Self(bits))
    }
}

/// The lifetime of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Lifetime(Duration);

impl Lifetime {
    /// The lifetime.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self(Duration::from_secs(86_400))
    }
}

impl TryFrom<String> for Lifetime {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const EXPECTED: &str = "expected a duration from 10s to 397d, such as 90m or 24h";
        let (digits, seconds) = match text.char_indices().last() {
            Some((at, 's')) => (text.get(..at), 1),
            Some((at, 'm')) => (text.get(..at), 60),
            Some((at, 'h')) => (text.get(..at), 3_600),
            Some((at, 'd')) => (text.get(..at), 86_400),
            _ => return Err(EXPECTED),
        };
        let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let count: u64 = digits.and_then(|d| d.parse().ok()).ok_or(EXPECTED)?;
        let lifetime = Duration::from_secs(count.checked_mul(seconds).ok_or(EXPECTED)?);
        if !(MIN_LIFETIME..=MAX_LIFETIME).contains(&lifetime) {
            return Err(EXPECTED);
        }
        Ok(Self(lifetime))
    }
}

/// An IP subject alternative name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct IpSan(IpAddr);

impl IpSan {
    /// The address.
    pub fn address(self) -> IpAddr {
        self.0
    }
}

impl TryFrom<String> for IpSan {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| "expected an IP address")
    }
}

fn is_graphic(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_name(text: &str) -> bool {
    is_graphic(text, MAX_NAME)
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.concat().bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_scope(text: &str) -> bool {
    let resource = text.strip_suffix("/.default");
    resource.is_some_and(|resource| is_graphic(resource, 512))
}

fn is_resource_id(text: &str) -> bool {
    is_graphic(text, 1024) && text.starts_with("/subscriptions/")
}

fn is_trust_domain(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(legal)
}

fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"+.-".contains(&b);
    is_graphic(text, 2048)
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(legal)
        && !rest.is_empty()
}

fn is_dns_name(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && name.split('.').all(label)
}

fn is_authority(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://") else {
        return false;
    };
    let host = rest.strip_suffix('/').unwrap_or(rest);
    let legal = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    !host.is_empty() && host.bytes().all(legal) && reqwest::Url::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_never_lets_others_in() {
        let good = [("0600", 0o600), ("660", 0o660), ("0770", 0o770)];
        for (text, bits) in good {
            assert_eq!(
                SocketMode::try_from(text.to_owned()).map(SocketMode::bits),
                Ok(bits)
            );
        }
        for text in ["", "0666", "0604", "1777", "9", "+600", "rw", "-1", "00000600"] {
            assert!(SocketMode::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_lifetime_is_a_number_with_a_unit_within_bounds() {
        let good = [
            ("10s", 10),
            ("90m", 5_400),
            ("24h", 86_400),
            ("397d", 397 * 86_400),
        ];
        for (text, seconds) in good {
            let lifetime = Lifetime::try_from(text.to_owned()).map(Lifetime::duration);
            assert_eq!(lifetime, Ok(Duration::from_secs(seconds)));
        }
        let bad = [
            "",
            "h",
            "9s",
            "398d",
            "-5h",
            "+5h",
            "1.5h",
            "24",
            "24 h",
            "24ü",
            "99999999999999999999h",
        ];
        for text in bad {
            assert!(Lifetime::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_authority_is_an_https_origin() {
        let good = [
            "https://login.microsoftonline.com",
            "https://login.example/",
            "https://127.0.0.1:8443",
            "https://[::1]:1",
        ];
        for text in good {
            assert!(is_authority(text), "{text}");
        }
        let bad = [
            "http://a",
            "https://",
            "https://a/b",
            "https://u@a",
            "https://a?b",
            "https://a:x",
            "login.example",
            "https://a#b",
        ];
        for text in bad {
            assert!(!is_authority(text), "{text}");
        }
    }

    #[test]
    fn names_in_certificates_are_checked() {
        for text in ["bridge.local", "*.bridge.local", "a-b", "localhost"] {
            assert!(is_dns_name(text), "{text}");
        }
        for text in ["", ".", "a..b", "-a", "a-", "*", "a b", "*.*.a", "ä.de", "a/b"] {
            assert!(!is_dns_name(text), "{text}");
        }
        for text in ["spiffe://isthmus.local/bridge", "urn:x"] {
            assert!(is_uri(text), "{text}");
        }
        for text in ["", "bridge", ":x", "spiffe:", "a b:c", "1a:b", "a:b c"] {
            assert!(!is_uri(text), "{text}");
        }
    }
}
