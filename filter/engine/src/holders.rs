//! Who holds which role: found by what a caller has, not by asking every role, so that a thousand roles that do not
//! apply cost nothing.

use std::{collections::HashMap, rc::Rc};

use crate::{
    claims::{ClaimPath, Claims},
    config::{compile_each, ConfigError, HolderConfig},
    provider::Provider,
};

/// The holders of all roles.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    /// By the provider's place.
    by_provider: HashMap<usize, ProviderHolders>,
}

/// The callers of one provider who hold a role.
#[derive(Debug, Default)]
struct ProviderHolders {
    /// Whatever their claims say.
    anyone: Vec<Holding>,
    /// By a claim and its value.
    by_claim: HashMap<ClaimPath, HashMap<String, Vec<Holding>>>,
}

/// A role for those who also fulfil the rest.
#[derive(Clone, Debug)]
struct Holding {
    /// The role's place.
    role: usize,
    /// Their ARN must be one of these, unless there are none.
    arns: Rc<[ArnPattern]>,
    /// Their peer must be one of these, unless there are none.
    peers: Rc<[SpiffePattern]>,
}

/// A role that a caller holds, from any peer or from certain ones.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The role's place.
    pub(crate) role: usize,
    /// From any peer if there are none.
    peers: Vec<Rc<[SpiffePattern]>>,
}

impl Held {
    /// Whether the role is held by a caller who comes through this peer.
    pub(crate) fn through(&self, peer: Option<&str>) -> bool {
        self.peers.is_empty()
            || peer.is_some_and(|peer| {
                self.peers
                    .iter()
                    .flat_map(|any| any.iter())
                    .any(|own| own.matches(peer))
            })
    }
}

impl Holders {
    /// Takes the holders of the role at the place `role`.
    pub(crate) fn add(
        &mut self,
        role: usize,
        holders: Vec<HolderConfig>,
        providers: &[Provider],
        at: &str,
    ) -> Result<(), ConfigError> {
        if holders.is_empty() {
            return Err(ConfigError::at(at, "expected at least one holder"));
        }
        for (place, holder) in holders.into_iter().enumerate() {
            self.add_one(role, holder, providers, &format!("{at}[{place}]"))?;
        }
        Ok(())
    }

    fn add_one(
        &mut self,
        role: usize,
        config: HolderConfig,
        providers: &[Provider],
        at: &str,
    ) -> Result<(), ConfigError> {
        let wrong = |field: &str, problem: &str| Err(ConfigError::at(format_args!("{at}.{field}"), problem));
        let Some(provider) = providers
            .iter()
            .position(|provider| provider.name == config.provider)
        else {
            return wrong("provider", "expected the name of a provider");
        };
        let holding = Holding {
            role,
            arns: patterns(config.arns, &format!("{at}.arns"), ArnPattern::parse)?,
            peers: patterns(
                config.spiffe_ids,
                &format!("{at}.spiffe_ids"),
                SpiffePattern::parse,
            )?,
        };
        let of_provider = self.by_provider.entry(provider).or_default();
        match (config.claim, config.any) {
            (Some(path), Some(values)) if !values.is_empty() => {
                let by_value = of_provider.by_claim.entry(path).or_default();
                for value in values {
                    by_value.entry(value).or_default().push(holding.clone());
                }
            }
            (None, None) => match holding
                .arns
                .iter()
                .map(ArnPattern::exact)
                .collect::<Option<Vec<_>>>()
            {
                // Found by its value like any other claim.
                Some(arns) if !arns.is_empty() => {
                    let by_arn = of_provider.by_claim.entry(ClaimPath::subject()).or_default();
                    for arn in arns {
                        by_arn.entry(arn).or_default().push(holding.clone());
                    }
                }
                _ => of_provider.anyone.push(holding),
            },
            (Some(_), _) => return wrong("any", "expected the values that the claim may have"),
            (None, Some(_)) => return wrong("claim", "expected the claim that \"any\" speaks of"),
        }
        Ok(())
    }

    /// The roles of a caller with these claims from this provider, in the configuration's order.
    pub(crate) fn roles_of(&self, provider: usize, claims: &Claims) -> Vec<Held> {
        let Some(of_provider) = self.by_provider.get(&provider) else {
            return Vec::new();
        };
        let mut found: Vec<&Holding> = of_provider.anyone.iter().collect();
        for (path, by_value) in &of_provider.by_claim {
            path.each_value(claims, |value| {
                found.extend(by_value.get(value).into_iter().flatten());
            });
        }
        let subject = ClaimPath::subject();
        let arn = subject.find(claims).and_then(|subject| subject.as_str());
        found.retain(|holding| {
            holding.arns.is_empty() || arn.is_some_and(|arn| holding.arns.iter().any(|own| own.matches(arn)))
        });
        found.sort_by_key(|holding| holding.role);
        found
            .chunk_by(|one, other| one.role == other.role)
            .filter_map(|of_role| {
                // Whoever holds a role in one way from any peer holds it from any peer.
                let anywhere = of_role.iter().any(|holding| holding.peers.is_empty());
                let peers = of_role.iter().map(|holding| Rc::clone(&holding.peers));
                Some(Held {
                    role: of_role.first()?.role,
                    peers: if anywhere { Vec::new() } else { peers.collect() },
                })
            })
            .collect()
    }
}

fn patterns<P>(
    texts: Option<Vec<String>>,
    at: &str,
    parse: impl Fn(String, &str) -> Result<P, ConfigError>,
) -> Result<Rc<[P]>, ConfigError> {
    match texts {
        Some(texts) if texts.is_empty() => Err(ConfigError::at(at, "expected at least one")),
        texts => Ok(compile_each(texts.unwrap_or_default(), at, parse)?.into()),
    }
}

/// An ARN of AWS, in which `*` stands for any signs but `:` and `/`
/// (docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html).
#[derive(Debug)]
struct ArnPattern(Vec<String>);

impl ArnPattern {
    fn parse(text: String, at: &str) -> Result<Self, ConfigError> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let pinned = matches!(parts[..], ["arn", partition, service, _, account, resource]
            if [partition, service, account].iter().all(|part| !part.is_empty() && !part.contains('*')) && !resource.is_empty());
        if !pinned {
            let problem = "expected an ARN with a service and an account, as in \"arn:aws:iam::123456789012:role/orders-*\"";
            return Err(ConfigError::at(at, problem));
        }
        Ok(Self(text.split('*').map(str::to_owned).collect()))
    }

    fn exact(&self) -> Option<String> {
        match &self.0[..] {
            [whole] => Some(whole.clone()),
            _ => None,
        }
    }

    fn matches(&self, arn: &str) -> bool {
        let Some((first, rest)) = self.0.split_first() else {
            return false;
        };
        let Some(mut left) = arn.strip_prefix(first.as_str()) else {
            return false;
        };
        let Some((last, between)) = rest.split_last() else {
            return left.is_empty();
        };
        let within_one_part = |skipped: &str| !skipped.contains([':', '/']);
        for literal in between {
            // The earliest place is as good as any: what follows it may skip the same signs.
            let Some((skipped, after)) = left.split_once(literal.as_str()) else {
                return false;
            };
            if !within_one_part(skipped) {
                return false;
            }
            left = after;
        }
        left.strip_suffix(last.as_str()).is_some_and(within_one_part)
    }
}

/// A SPIFFE ID (SPIFFE-ID, section 2), or with `/*` at its end all below it.
#[derive(Debug)]
struct SpiffePattern {
    id: String,
    below: bool,
}

impl SpiffePattern {
    fn parse(text: String, at: &str) -> Result<Self, ConfigError> {
        let (id, below) = match text.strip_suffix("/*") {
            Some(id) => (id, true),
            None => (text.as_str(), false),
        };
        let named = id
            .strip_prefix("spiffe://")
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
        if !named || id.contains(['*', '?', '#', '%']) {
            let problem = "expected a SPIFFE ID, as in \"spiffe://example.org/gateway\", with or without \"/*\" at its end";
            return Err(ConfigError::at(at, problem));
        }
        Ok(Self {
            id: id.to_owned(),
            below,
        })
    }

    fn matches(&self, id: &str) -> bool {
        match id.strip_prefix(self.id.as_str()) {
            Some(rest) if self.below => rest.strip_prefix('/').is_some_and(|rest| !rest.is_empty()),
            Some(rest) => rest.is_empty(),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn a_star_in_an_arn_stays_within_its_part() {
        let matches =
            |pattern: &str, arn: &str| ArnPattern::parse(pattern.to_owned(), "p").unwrap().matches(arn);
        let role = |name: &str| format!("arn:aws:iam::123456789012:role/{name}");
        assert!(matches(&role("orders"), &role("orders")));
        assert!(!matches(&role("orders"), &role("orders2")));
        assert!(matches(&role("orders-*"), &role("orders-blue")));
        assert!(matches(&role("orders-*"), &role("orders-")));
        assert!(matches(&role("*-orders-*-x"), &role("a-orders-b-x")));
        assert!(matches(&role("*/x"), &role("team/x")));
        assert!(!matches(&role("orders-*"), &role("orders-a/b")));
        assert!(!matches(
            &role("orders-*"),
            "arn:aws:iam::210987654321:role/orders-a"
        ));
        assert!(!matches(&role("orders-*"), &format!("x{}", role("orders-a"))));
        assert!(!matches(&role("a*b"), &role("a")));
        for pattern in [
            "",
            "*",
            "arn:aws:iam::*:role/x",
            "arn:*:iam::1:role/x",
            "arn:aws:iam:::role/x",
            "arn:aws:iam::1:",
            "role/x",
        ] {
            assert!(ArnPattern::parse(pattern.to_owned(), "p").is_err(), "{pattern}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn spiffe_ids_match_whole_or_by_whole_segments_below() {
        let matches =
            |pattern: &str, id: &str| SpiffePattern::parse(pattern.to_owned(), "p").unwrap().matches(id);
        assert!(matches("spiffe://a/b", "spiffe://a/b"));
        assert!(!matches("spiffe://a/b", "spiffe://a/b/c"));
        assert!(matches("spiffe://a/b/*", "spiffe://a/b/c/d"));
        assert!(!matches("spiffe://a/b/*", "spiffe://a/b"));
        assert!(!matches("spiffe://a/b/*", "spiffe://a/bc"));
        assert!(!matches("spiffe://a/b/*", "spiffe://a/b/"));
        for pattern in [
            "",
            "a/b",
            "spiffe://",
            "spiffe:///x",
            "spiffe://a/*/b",
            "https://a/b",
        ] {
            assert!(
                SpiffePattern::parse(pattern.to_owned(), "p").is_err(),
                "{pattern}"
            );
        }
    }
}
