//! What a role may do: methods, hosts and paths.

use crate::{
    config::{compile_each, ConfigError, RuleConfig},
    path::{NormalPath, PathPattern},
};

/// What a request is for, read once for all rules.
#[derive(Debug)]
pub(crate) struct Target<'r> {
    pub(crate) method: &'r str,
    /// In lower case, without port and without the dot that may end a name.
    pub(crate) host: String,
    pub(crate) path: NormalPath,
}

/// The authority of a request can be read in more than one way, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedAuthority;

impl<'r> Target<'r> {
    /// An empty authority is none.
    pub(crate) fn new(
        method: &'r str,
        authority: &str,
        path: NormalPath,
    ) -> Result<Self, MalformedAuthority> {
        Ok(Self {
            method,
            host: host_of(authority).ok_or(MalformedAuthority)?,
            path,
        })
    }

    /// The target as the most generous backend could read it.
    pub(crate) fn folded(&self) -> Self {
        Self {
            method: self.method,
            host: self.host.clone(),
            path: self.path.folded(),
        }
    }
}

/// The host of `host`, `host:port` or `[address]:port` (RFC 9110, section 7.2); nothing for what else stands there, such as user
/// information or two ports, of which backends make different hosts.
fn host_of(authority: &str) -> Option<String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (
                authority.get(..address.len() + 2)?,
                port.strip_prefix(':').or((port.is_empty()).then_some("")),
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    let is_port = port?.bytes().all(|byte| byte.is_ascii_digit());
    let inner = host.trim_start_matches('[').trim_end_matches(']');
    let is_host = if host.starts_with('[') {
        inner
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
    } else {
        inner
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    (is_port && is_host).then(|| host.trim_end_matches('.').to_ascii_lowercase())
}

/// Methods, hosts and paths; a request must fit all three.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Nothing stands for any method.
    methods: Option<Vec<String>>,
    /// Nothing stands for any host.
    hosts: Option<Vec<HostPattern>>,
    paths: Vec<PathPattern>,
}

/// A host's name, or all names below one.
#[derive(Debug)]
enum HostPattern {
    Exact(String),
    /// With the dot in front.
    Below(String),
}

impl Rule {
    pub(crate) fn compile(config: RuleConfig, at: &str) -> Result<Self, ConfigError> {
        if config.methods.is_empty() || config.paths.is_empty() {
            return Err(ConfigError::at(at, "expected at least one method and one path"));
        }
        let any = config.methods.iter().any(|method| method == "*");
        let upper =
            |method: &String| method == "*" || method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        if let Some(place) = config
            .methods
            .iter()
            .position(|method| method.is_empty() || !upper(method))
        {
            let problem = "expected \"*\" or a method in upper case, such as \"GET\"";
            return Err(ConfigError::at(format_args!("{at}.methods[{place}]"), problem));
        }
        let paths = compile_each(config.paths, &format!("{at}.paths"), |pattern, at| {
            PathPattern::parse(&pattern).map_err(|expected| {
                ConfigError::at(at, format_args!("expected {expected}, found {pattern:?}"))
            })
        })?;
        let hosts = match config.hosts {
            Some(hosts) if hosts.is_empty() => {
                return Err(ConfigError::at(
                    format_args!("{at}.hosts"),
                    "expected at least one host",
                ))
            }
            Some(hosts) => Some(compile_each(hosts, &format!("{at}.hosts"), HostPattern::parse)?),
            None => None,
        };
        Ok(Self {
            methods: (!any).then_some(config.methods),
            hosts,
            paths,
        })
    }

    /// The rule for folded targets.
    pub(crate) fn folded(mut self) -> Self {
        for pattern in &mut self.paths {
            *pattern = pattern.folded();
        }
        self
    }

    /// Whether the rule covers every request that the other one covers.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        let methods = match (&self.methods, &other.methods) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others.iter().all(|method| own.contains(method)),
        };
        let hosts = match (&self.hosts, &other.hosts) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others
                .iter()
                .all(|host| own.iter().any(|wider| wider.contains(host))),
        };
        let covered = |path: &PathPattern| self.paths.iter().any(|wider| wider.contains(path));
        methods && hosts && other.paths.iter().all(covered)
    }

    /// Whether the rule speaks of this request. Methods are case-sensitive (RFC 9110, section 9.1).
    pub(crate) fn covers(&self, target: &Target<'_>) -> bool {
        let named = |methods: &Vec<String>| methods.iter().any(|own| own == target.method);
        let hosted = |hosts: &Vec<HostPattern>| hosts.iter().any(|pattern| pattern.matches(&target.host));
        self.methods.as_ref().is_none_or(named)
            && self.hosts.as_ref().is_none_or(hosted)
            && self.covers_path(target)
    }

    /// Whether a folded rule speaks of this folded target, the method in whatever case. A request without a host may be for
    /// any.
    pub(crate) fn covers_loosely(&self, target: &Target<'_>) -> bool {
        let named = |methods: &Vec<String>| methods.iter().any(|own| own.eq_ignore_ascii_case(target.method));
        let hosted = |hosts: &Vec<HostPattern>| {
            target.host.is_empty() || hosts.iter().any(|pattern| pattern.matches(&target.host))
        };
        self.methods.as_ref().is_none_or(named)
            && self.hosts.as_ref().is_none_or(hosted)
            && self.covers_path(target)
    }

    fn covers_path(&self, target: &Target<'_>) -> bool {
        self.paths.iter().any(|pattern| pattern.matches(&target.path))
    }
}

impl HostPattern {
    fn parse(text: String, at: &str) -> Result<Self, ConfigError> {
        let name = text.strip_prefix("*.").unwrap_or(&text);
        let is_host = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'[' | b']' | b':');
        if name.is_empty() || !name.bytes().all(is_host) || host_of(name).as_deref() != Some(name) {
            let problem = "expected a host in lower case without a port, or \"*.\" and one";
            return Err(ConfigError::at(at, problem));
        }
        Ok(match text.strip_prefix('*') {
            Some(below) => Self::Below(below.to_owned()),
            None => Self::Exact(text),
        })
    }

    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Below(suffix), Self::Below(other)) => other.ends_with(suffix.as_str()),
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn rule(config: Value) -> Result<Rule, ConfigError> {
        Rule::compile(serde_json::from_value(config).unwrap(), "r")
    }

    fn target<'t>(method: &'t str, authority: &str, path: &str) -> Target<'t> {
        Target::new(method, authority, NormalPath::parse(path).unwrap()).unwrap()
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_rule_covers_its_methods_on_its_hosts_and_paths() {
        let orders = rule(
            json!({"methods": ["GET"], "hosts": ["orders.example", "*.shop.example"], "paths": ["/o/**"]}),
        )
        .unwrap();
        for (method, authority, path, covered) in [
            ("GET", "orders.example", "/o/1", true),
            ("GET", "ORDERS.example.:8443", "/o/1", true),
            ("GET", "a.b.shop.example", "/o", true),
            ("GET", "shop.example", "/o/1", false),
            ("GET", "evilshop.example", "/o/1", false),
            ("GET", ".shop.example", "/o/1", false),
            ("GET", "orders.example.evil", "/o/1", false),
            ("GET", "", "/o/1", false),
            ("get", "orders.example", "/o/1", false),
            ("POST", "orders.example", "/o/1", false),
            ("GET", "orders.example", "/p", false),
        ] {
            assert_eq!(
                orders.covers(&target(method, authority, path)),
                covered,
                "{method} {authority} {path}"
            );
        }
        let v6 = rule(json!({"methods": ["*"], "hosts": ["[::1]"], "paths": ["/**"]})).unwrap();
        assert!(v6.covers(&target("X", "[::1]:8443", "/")));
        for authority in [
            "u@h", "h:1:2", "h:x", "h/p", "h h", "[::1", "[::1]x", "[x]", "h#", "h\\x", "é",
        ] {
            let path = NormalPath::parse("/").unwrap();
            assert_eq!(
                Target::new("GET", authority, path).err(),
                Some(MalformedAuthority),
                "{authority}"
            );
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_rule_contains_what_covers_no_more() {
        let wide = json!({"methods": ["GET", "PUT"], "hosts": ["*.example"], "paths": ["/a/**", "/b"]});
        for (narrow, contained) in [
            (wide.clone(), true),
            (
                json!({"methods": ["GET"], "hosts": ["x.example", "*.y.example"], "paths": ["/a/1", "/b"]}),
                true,
            ),
            (
                json!({"methods": ["*"], "hosts": ["x.example"], "paths": ["/b"]}),
                false,
            ),
            (json!({"methods": ["GET"], "paths": ["/b"]}), false),
            (
                json!({"methods": ["GET"], "hosts": ["example"], "paths": ["/b"]}),
                false,
            ),
            (
                json!({"methods": ["GET"], "hosts": ["x.example"], "paths": ["/b", "/c"]}),
                false,
            ),
        ] {
            assert_eq!(
                rule(wide.clone())
                    .unwrap()
                    .contains(&rule(narrow.clone()).unwrap()),
                contained,
                "{narrow}"
            );
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_denying_rule_reads_generously() {
        let deny = rule(json!({"methods": ["DELETE"], "paths": ["/Locked/**"]}))
            .unwrap()
            .folded();
        assert!(deny.covers_loosely(&target("delete", "h", "/LOCKED;x/1").folded()));
        assert!(!deny.covers_loosely(&target("GET", "h", "/locked/1").folded()));
        let deny = rule(json!({"methods": ["*"], "hosts": ["h.example"], "paths": ["/**"]}))
            .unwrap()
            .folded();
        for authority in ["h.example", "H.EXAMPLE..:8443", ""] {
            assert!(
                deny.covers_loosely(&target("GET", authority, "/").folded()),
                "{authority}"
            );
        }
        assert!(!deny.covers_loosely(&target("GET", "other.example", "/").folded()));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_rule_that_means_less_than_it_seems_to_is_an_error() {
        for (config, path) in [
            (json!({"methods": [], "paths": ["/"]}), "r"),
            (json!({"methods": ["GET"], "paths": []}), "r"),
            (json!({"methods": ["get"], "paths": ["/"]}), "r.methods[0]"),
            (json!({"methods": ["GET", ""], "paths": ["/"]}), "r.methods[1]"),
            (json!({"methods": ["GET"], "paths": ["/a", "b"]}), "r.paths[1]"),
            (
                json!({"methods": ["GET"], "hosts": [], "paths": ["/"]}),
                "r.hosts",
            ),
            (
                json!({"methods": ["GET"], "hosts": ["H"], "paths": ["/"]}),
                "r.hosts[0]",
            ),
            (
                json!({"methods": ["GET"], "hosts": ["h:80"], "paths": ["/"]}),
                "r.hosts[0]",
            ),
            (
                json!({"methods": ["GET"], "hosts": ["*.*.h"], "paths": ["/"]}),
                "r.hosts[0]",
            ),
            (
                json!({"methods": ["GET"], "hosts": ["*"], "paths": ["/"]}),
                "r.hosts[0]",
            ),
        ] {
            assert_eq!(rule(config.clone()).unwrap_err().path, path, "{config}");
        }
    }
}
