//! One event per request, in the Open Cybersecurity Schema Framework 1.8: API Activity (6003) for what was decided
//! about a known or public caller, Authentication (3002) for refused credentials. No token, no secret, no query
//! string.

use serde_json::{json, Map, Value};

use crate::{
    decision::{Caller, Decision, Grant},
    path,
    provider::Provider,
    time::UnixMillis,
    Reason, Request,
};

const OCSF_VERSION: &str = "1.8.0";
const OCSF_METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];
const MAX_TEXT: usize = 1024;

/// The event for a decision, as one line of JSON.
pub(crate) fn event(
    decision: &Decision,
    providers: &[Provider],
    request: &Request<'_>,
    now: UnixMillis,
) -> String {
    let (reason, caller, grant) = match decision {
        Decision::Allow(allowed) => (allowed.reason, allowed.caller.as_deref(), allowed.grant.as_ref()),
        Decision::Deny(denied) => (denied.reason, denied.caller.as_deref(), None),
        // A held request has no outcome yet; one that is dropped while held was answered by nobody.
        Decision::Wait => (Reason::KeysUnavailable, None, None),
    };
    let provider = caller.and_then(|caller| providers.get(caller.provider));
    let facts = Facts {
        reason,
        caller,
        provider,
        grant,
        enforced: decision.labels().enforced,
        request,
    };
    let mut event = if matches!(reason.status(), 401 | 503) {
        facts.authentication()
    } else {
        facts.api_activity()
    };
    event.extend(facts.common(now));
    Value::Object(event).to_string()
}

struct Facts<'f> {
    reason: Reason,
    caller: Option<&'f Caller>,
    provider: Option<&'f Provider>,
    grant: Option<&'f Grant>,
    /// Whether what was decided was also done.
    enforced: bool,
    request: &'f Request<'f>,
}

impl Facts<'_> {
    fn api_activity(&self) -> Map<String, Value> {
        let activity = match self.request.method() {
            Some("POST") => 1,
            Some("GET" | "HEAD" | "OPTIONS") => 2,
            Some("PUT" | "PATCH") => 3,
            Some("DELETE") => 4,
            _ => 99,
        };
        let mut api = Map::new();
        api.insert(
            "operation".into(),
            bounded(self.request.method().unwrap_or("-")).into(),
        );
        if let Some(id) = self.request.request_id() {
            api.insert("request".into(), json!({ "uid": bounded(id) }));
        }
        if let Some(host) = self.request.authority() {
            api.insert("service".into(), json!({ "name": bounded(host) }));
        }
        let mut actor = Map::new();
        actor.insert("user".into(), self.user());
        if let Some(provider) = self.provider {
            actor.insert(
                "idp".into(),
                json!({"name": provider.name, "issuer": self.issuer()}),
            );
        }
        if let Some(client) = self.caller.and_then(|caller| caller.identity.client.as_deref()) {
            actor.insert("app_uid".into(), bounded(client).into());
        }
        if let Some(session) = self.session() {
            actor.insert("session".into(), session);
        }
        if let Some(grant) = self.grant {
            let policy = json!({"name": grant.role, "uid": format!("{}/allow[{}]", grant.role, grant.rule)});
            actor.insert(
                "authorizations".into(),
                json!([{"decision": "allow", "policy": policy}]),
            );
        }
        let mut event = self.class(6, 3, activity);
        event.insert("api".into(), Value::Object(api));
        event.insert("actor".into(), Value::Object(actor));
        event
    }

    fn authentication(&self) -> Map<String, Value> {
        let mut event = self.class(3, 2, 1);
        event.insert("user".into(), self.user());
        event.insert("is_remote".into(), true.into());
        event.insert("auth_protocol_id".into(), 6.into());
        event.insert("auth_protocol".into(), "OpenID".into());
        if let Some(host) = self.request.authority() {
            event.insert("service".into(), json!({ "name": bounded(host) }));
        }
        event
    }

    /// `category` and `class` as in OCSF: class 6003 is the third of category 6.
    fn class(&self, category: u64, class: u64, activity: u64) -> Map<String, Value> {
        let class_uid = category * 1000 + class;
        let mut event = Map::new();
        event.insert("category_uid".into(), category.into());
        event.insert("class_uid".into(), class_uid.into());
        event.insert("activity_id".into(), activity.into());
        event.insert("type_uid".into(), (class_uid * 100 + activity).into());
        event
    }

    fn common(&self, now: UnixMillis) -> Map<String, Value> {
        let passed = self.reason.status() == 200;
        let mut event = Map::new();
        event.insert("time".into(), now.0.into());
        event.insert("severity_id".into(), if passed { 1 } else { 3 }.into());
        event.insert("status_id".into(), if passed { 1 } else { 2 }.into());
        event.insert("status".into(), if passed { "Success" } else { "Failure" }.into());
        event.insert("status_code".into(), self.reason.status().to_string().into());
        event.insert("status_detail".into(), self.reason.code().into());
        event.insert("metadata".into(), self.metadata());
        event.insert("src_endpoint".into(), self.source());
        event.insert("http_request".into(), self.http_request());
        event.insert("unmapped".into(), self.unmapped());
        event
    }

    fn metadata(&self) -> Value {
        let mut metadata = json!({
            "version": OCSF_VERSION,
            "product": {
                "name": "Isthmus", "vendor_name": "Isthmus", "version": env!("CARGO_PKG_VERSION"),
            },
        });
        if let (Some(members), Some(trace)) = (metadata.as_object_mut(), self.request.trace_id()) {
            members.insert("correlation_uid".into(), trace.into());
        }
        metadata
    }

    /// The caller by the identity their provider vouches for. What an unverified token claims is nobody's identity.
    fn user(&self) -> Value {
        let subject = self.caller.and_then(|caller| caller.identity.subject.as_deref());
        match (subject, self.provider) {
            (Some(subject), Some(_)) => {
                json!({"uid": bounded(subject), "domain": self.issuer()})
            }
            (None, Some(_)) => json!({"name": "unnamed", "domain": self.issuer()}),
            _ => json!({"name": "unauthenticated"}),
        }
    }

    fn issuer(&self) -> Option<&str> {
        self.caller.map(|caller| bounded(&caller.identity.issuer))
    }

    fn session(&self) -> Option<Value> {
        let token_id = self.caller?.identity.token_id.as_deref()?;
        Some(json!({"uid": bounded(token_id), "issuer": self.issuer()}))
    }

    fn source(&self) -> Value {
        let Some(address) = self.request.peer.address else {
            return json!({"name": "unknown"});
        };
        match address
            .rsplit_once(':')
            .map(|(ip, port)| (ip, port.parse::<u16>()))
        {
            Some((ip, Ok(port))) => json!({"ip": ip.trim_matches(['[', ']']), "port": port}),
            _ => json!({"name": bounded(address)}),
        }
    }

    fn http_request(&self) -> Value {
        let mut request = Map::new();
        // A closed list in OCSF; `api.operation` carries what is not on it.
        if let Some(method) = self
            .request
            .method()
            .filter(|method| OCSF_METHODS.contains(method))
        {
            request.insert("http_method".into(), method.into());
        }
        let target = self.request.path_and_query().unwrap_or("-");
        let mut url = json!({"path": bounded(path::without_query(target))});
        if let (Some(members), Some(host)) = (url.as_object_mut(), self.request.authority()) {
            members.insert("hostname".into(), bounded(host).into());
        }
        request.insert("url".into(), url);
        if let Some(id) = self.request.request_id() {
            request.insert("uid".into(), bounded(id).into());
        }
        Value::Object(request)
    }

    /// What OCSF has no field for.
    fn unmapped(&self) -> Value {
        let mut ours = Map::new();
        ours.insert(
            "decision".into(),
            if self.reason.status() == 200 {
                "allow"
            } else {
                "deny"
            }
            .into(),
        );
        if !self.enforced {
            ours.insert("mode".into(), "shadow".into());
        }
        if let Some(grant) = self.grant {
            ours.insert("role".into(), grant.role.as_str().into());
            if let Some(credential) = &grant.credential {
                ours.insert("credential".into(), credential.as_str().into());
            }
        }
        let peer = self.request.peer;
        for (name, value) in [
            ("peer_uri_san", peer.uri_san),
            ("peer_certificate_sha256", peer.certificate_sha256),
        ] {
            if let Some(value) = value {
                ours.insert(name.into(), bounded(value).into());
            }
        }
        json!({ "isthmus": ours })
    }
}

/// Callers choose these texts; an event stays small whatever they send.
fn bounded(text: &str) -> &str {
    let end = (0..=MAX_TEXT.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(bounded("short"), "short");
        let long = "é".repeat(MAX_TEXT);
        assert_eq!(bounded(&long).len(), MAX_TEXT);
        assert_eq!(bounded(&format!("x{long}")).len(), MAX_TEXT - 1);
    }
}
