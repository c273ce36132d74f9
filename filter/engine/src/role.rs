//! Roles: who holds one, and what it may do. Least privilege, default deny.

use crate::{
    claims::{ClaimPath, Claims},
    config::{ConfigError, HolderConfig, RoleConfig, RuleConfig},
    path::{NormalPath, PathPattern},
    provider::Provider,
};

/// A role. Requests run under exactly one.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) name: String,
    /// The Azure credential that requests under this role get, by the name of its secret.
    pub(crate) credential: Option<String>,
    holders: Vec<Holder>,
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

#[derive(Debug)]
struct Holder {
    provider: usize,
    claim: Option<(ClaimPath, Vec<String>)>,
}

/// Methods and paths. `*` among the methods stands for any.
#[derive(Debug)]
pub(crate) struct Rule {
    methods: Option<Vec<String>>,
    paths: Vec<PathPattern>,
}

impl Role {
    pub(crate) fn compile(config: RoleConfig, providers: &[Provider], at: &str) -> Result<Self, ConfigError> {
        if !is_name(&config.name) {
            return Err(ConfigError::at(format_args!("{at}.name"), NAME_EXPECTED));
        }
        if config.credential.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(ConfigError::at(format_args!("{at}.credential"), NAME_EXPECTED));
        }
        if config.holders.is_empty() {
            return Err(ConfigError::at(
                format_args!("{at}.holders"),
                "expected at least one holder",
            ));
        }
        let holders = compile_each(config.holders, &format!("{at}.holders"), |holder, at| {
            Holder::compile(holder, providers, at)
        })?;
        Ok(Self {
            name: config.name,
            credential: config.credential,
            holders,
            allow: compile_each(config.allow, &format!("{at}.allow"), Rule::compile)?,
            deny: compile_each(config.deny, &format!("{at}.deny"), |rule, at| {
                Rule::compile(rule, at).map(Rule::folded)
            })?,
        })
    }

    /// Whether a caller with these claims from this provider holds the role.
    pub(crate) fn held_by(&self, provider: usize, claims: &Claims) -> bool {
        self.holders.iter().any(|holder| {
            holder.provider == provider
                && holder
                    .claim
                    .as_ref()
                    .is_none_or(|(path, values)| path.holds_any(claims, values))
        })
    }

    /// The place of the `allow` rule that covers the request, unless a `deny` rule covers it too: deny wins.
    pub(crate) fn allows(&self, method: &str, path: &NormalPath) -> Option<usize> {
        let rule = self.allow.iter().position(|rule| rule.covers(method, path))?;
        (!self.denies(method, path)).then_some(rule)
    }

    /// A backend may read a path more generously than the rules that allow it do: what is denied is so in every spelling.
    fn denies(&self, method: &str, path: &NormalPath) -> bool {
        if self.deny.is_empty() {
            return false;
        }
        let path = path.folded();
        self.deny.iter().any(|rule| rule.covers_loosely(method, &path))
    }
}

impl Holder {
    fn compile(config: HolderConfig, providers: &[Provider], at: &str) -> Result<Self, ConfigError> {
        let provider = providers
            .iter()
            .position(|provider| provider.name == config.provider)
            .ok_or_else(|| {
                ConfigError::at(format_args!("{at}.provider"), "expected the name of a provider")
            })?;
        let claim = match (config.claim, config.any) {
            (Some(path), Some(values)) if !values.is_empty() => Some((path, values)),
            (None, None) => None,
            (Some(_), _) => {
                return Err(ConfigError::at(
                    format_args!("{at}.any"),
                    "expected the values that the claim may have",
                ))
            }
            (None, Some(_)) => {
                return Err(ConfigError::at(
                    format_args!("{at}.claim"),
                    "expected the claim that \"any\" speaks of",
                ))
            }
        };
        Ok(Self { provider, claim })
    }
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
        Ok(Self {
            methods: (!any).then_some(config.methods),
            paths,
        })
    }

    /// The rule for folded paths.
    fn folded(mut self) -> Self {
        for pattern in &mut self.paths {
            *pattern = pattern.folded();
        }
        self
    }

    /// Whether a folded rule speaks of a request with this folded path, the method in whatever case.
    fn covers_loosely(&self, method: &str, path: &NormalPath) -> bool {
        let named = |methods: &Vec<String>| methods.iter().any(|own| own.eq_ignore_ascii_case(method));
        self.methods.as_ref().is_none_or(named) && self.paths.iter().any(|pattern| pattern.matches(path))
    }

    /// Whether the rule speaks of this request. Methods are case-sensitive (RFC 9110, section 9.1).
    pub(crate) fn covers(&self, method: &str, path: &NormalPath) -> bool {
        let method_fits = self
            .methods
            .as_ref()
            .is_none_or(|methods| methods.iter().any(|candidate| candidate == method));
        method_fits && self.paths.iter().any(|pattern| pattern.matches(path))
    }
}

const NAME_EXPECTED: &str = "expected a name of letters, digits and \"/._-\", at most 128 characters";

/// Names of roles and credentials stand in headers, logs and metrics as they are.
fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-'))
}

/// Compiles a list, telling each element's path.
pub(crate) fn compile_each<C, T>(
    list: Vec<C>,
    at: &str,
    compile: impl Fn(C, &str) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    list.into_iter()
        .enumerate()
        .map(|(place, element)| compile(element, &format!("{at}[{place}]")))
        .collect()
}
