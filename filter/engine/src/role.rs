//! Roles: what each may do. Least privilege, default deny.

use crate::{
    config::{compile_each, ConfigError, RuleConfig},
    rule::{Rule, Target},
};

/// A role. Requests run under exactly one.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) name: String,
    /// The Azure credential that requests under this role get, by the name of its secret.
    pub(crate) credential: Option<String>,
    allow: Vec<Rule>,
    /// Folded.
    deny: Vec<Rule>,
}

impl Role {
    pub(crate) fn compile(
        name: String,
        credential: Option<String>,
        allow: Vec<RuleConfig>,
        deny: Vec<RuleConfig>,
        at: &str,
    ) -> Result<Self, ConfigError> {
        if !is_name(&name) {
            return Err(ConfigError::at(format_args!("{at}.name"), NAME_EXPECTED));
        }
        if credential.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(ConfigError::at(format_args!("{at}.credential"), NAME_EXPECTED));
        }
        Ok(Self {
            name,
            credential,
            allow: compile_each(allow, &format!("{at}.allow"), Rule::compile)?,
            deny: compile_each(deny, &format!("{at}.deny"), |rule, at| {
                Rule::compile(rule, at).map(Rule::folded)
            })?,
        })
    }

    /// The place of the `allow` rule that covers the request, unless a `deny` rule covers it too: deny wins.
    pub(crate) fn allows(&self, target: &Target<'_>) -> Option<usize> {
        let rule = self.allow.iter().position(|rule| rule.covers(target))?;
        (!self.denies(target)).then_some(rule)
    }

    /// A backend may read a path more generously than the rules that allow it do: what is denied is so in every
    /// spelling.
    fn denies(&self, target: &Target<'_>) -> bool {
        if self.deny.is_empty() {
            return false;
        }
        let folded = target.folded();
        self.deny.iter().any(|rule| rule.covers_loosely(&folded))
    }
}

const NAME_EXPECTED: &str = "expected a name of letters, digits and \"/._-\", at most 128 characters";

/// Names of roles and credentials stand in headers and metrics.
fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-'))
}
