//! What the engine answers.

use std::rc::Rc;

use crate::{holders::Held, provider::Identity, Reason};

/// The outcome for one request.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Forward the request, altered as [`Allowed`] says.
    Allow(Allowed),
    /// Answer the request with [`crate::Engine::answer`].
    Deny(Denied),
    /// Hold the request, start what [`crate::Engine::due_fetches`] lists, and decide again when a fetch has ended.
    Wait,
}

/// A request that passes.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// Why it does; in shadow mode also why it would not.
    pub reason: Reason,
    /// Header fields to take away, by their names as they stand in the request.
    pub remove: Vec<String>,
    /// Header fields to set, after taking away.
    pub set: Vec<(String, String)>,
    pub(crate) caller: Option<Rc<Caller>>,
    pub(crate) grant: Option<Grant>,
}

/// A request that may not pass.
#[derive(Clone, Debug)]
pub struct Denied {
    /// Why not.
    pub reason: Reason,
    pub(crate) caller: Option<Rc<Caller>>,
}

/// What metrics tell decisions apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The place of the caller's provider; see [`crate::Engine::provider_name`].
    pub provider: Option<usize>,
    /// The place of the role that the request runs under; see [`crate::Engine::role_name`].
    pub role: Option<usize>,
    /// Why.
    pub reason: Reason,
    /// Whether what was decided is also done: not for refusals in shadow mode.
    pub enforced: bool,
}

impl Decision {
    /// What metrics tell it apart by. A request that waits is one whose keys are not to be had yet.
    pub fn labels(&self) -> Labels {
        let (reason, caller, grant) = match self {
            Decision::Allow(allowed) => (allowed.reason, &allowed.caller, allowed.grant.as_ref()),
            Decision::Deny(denied) => (denied.reason, &denied.caller, None),
            Decision::Wait => (Reason::KeysUnavailable, &None, None),
        };
        Labels {
            provider: caller.as_ref().map(|caller| caller.provider),
            role: grant.map(|grant| grant.place),
            reason,
            enforced: reason.status() == 200 || !matches!(self, Decision::Allow(_)),
        }
    }
}

impl Denied {
    /// A refusal for a reason that lies outside of the engine, such as [`Reason::HostFailure`].
    pub fn new(reason: Reason) -> Self {
        Self { reason, caller: None }
    }
}

impl Allowed {
    /// The role that the request runs under; none on public paths.
    pub fn role(&self) -> Option<&str> {
        self.grant.as_ref().map(|grant| grant.role.as_str())
    }

    /// The Azure credential that the request's role names, if it names one.
    pub fn credential(&self) -> Option<&str> {
        self.grant.as_ref()?.credential.as_deref()
    }
}

/// A caller whose token was verified, with all that does not change from one of their requests to the next.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The provider's place in the configuration.
    pub(crate) provider: usize,
    pub(crate) identity: Identity,
    /// The roles they hold, in the configuration's order.
    pub(crate) roles: Vec<Held>,
    /// The header fields that their claims become.
    pub(crate) headers: Vec<(String, String)>,
}

/// The role under which a request runs.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The role's place in the configuration.
    pub(crate) place: usize,
    pub(crate) role: String,
    pub(crate) credential: Option<String>,
    /// The place of the `allow` rule that covered the request.
    pub(crate) rule: usize,
}
