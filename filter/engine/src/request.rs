//! What the engine is asked about: one HTTP request and the peer it came from.

/// The header fields of a request in the order in which they came, pseudo-headers (`:method`, `:path`, `:authority`)
/// among them. Names are in lower case, as Envoy and HTTP/2 have them; values are bytes, not text (RFC 9110, section
/// 5.5).
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a>(pub &'a [(&'a [u8], &'a [u8])]);

impl<'a> Headers<'a> {
    /// All fields as (name, value).
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.0.iter().copied()
    }

    /// Whether every name is of the characters that a name can have (RFC 9110, section 5.1, as far as ASCII goes). Another one could
    /// be the filter's own to a backend, and cannot be taken away by its name.
    pub(crate) fn have_plain_names(self) -> bool {
        self.iter().all(|(name, _)| name.is_ascii())
    }

    /// The values of every field with this name.
    pub fn all(self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(candidate, _)| *candidate == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// The value of the only field with this name, if it is text; nothing if there are none, several, or other bytes.
    pub fn only_text(self, name: &'a str) -> Option<&'a str> {
        let mut values = self.all(name);
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        std::str::from_utf8(value).ok()
    }
}

/// The other end of the connection, as Envoy verified it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer<'a> {
    /// IP address and port.
    pub address: Option<&'a str>,
    /// First URI subject alternative name of the client certificate, a SPIFFE ID for instance.
    pub uri_san: Option<&'a str>,
    /// SHA-256 of the client certificate in lower-case hexadecimal.
    pub certificate_sha256: Option<&'a str>,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its header fields.
    pub headers: Headers<'a>,
    /// Where it came from.
    pub peer: Peer<'a>,
}

impl<'a> Request<'a> {
    /// The method; nothing if there is not exactly one.
    pub fn method(&self) -> Option<&'a str> {
        self.headers.only_text(":method")
    }

    /// The target's path and query as they came.
    pub fn path_and_query(&self) -> Option<&'a str> {
        self.headers.only_text(":path")
    }

    /// The host (and port) that the request is for.
    pub fn authority(&self) -> Option<&'a str> {
        self.headers.only_text(":authority")
    }

    /// The request id that Envoy gave the request.
    pub fn request_id(&self) -> Option<&'a str> {
        self.headers.only_text("x-request-id")
    }

    /// The trace id out of a W3C `traceparent` (32 hexadecimal digits).
    pub fn trace_id(&self) -> Option<&'a str> {
        let id = self.headers.only_text("traceparent")?.split('-').nth(1)?;
        (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn a_repeated_or_binary_header_is_no_text() {
        let fields: &[(&[u8], &[u8])] = &[(b"a", b"1"), (b"b", b"1"), (b"b", b"2"), (b"c", b"\xff")];
        let headers = Headers(fields);
        assert_eq!(headers.only_text("a"), Some("1"));
        assert_eq!(headers.only_text("b"), None);
        assert_eq!(headers.only_text("c"), None);
        assert_eq!(headers.only_text("d"), None);
        assert_eq!(headers.all("b").count(), 2);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn the_trace_id_is_taken_only_from_a_well_formed_traceparent() {
        let trace = |value: &'static [u8]| {
            let fields: [(&[u8], &[u8]); 1] = [(b"traceparent", value)];
            Request {
                headers: Headers(&fields),
                peer: Peer::default(),
            }
            .trace_id()
            .map(str::to_owned)
        };
        assert_eq!(
            trace(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").as_deref(),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
        assert_eq!(trace(b"00-4bf9-00f067aa0ba902b7-01"), None);
        assert_eq!(trace(b"junk"), None);
    }
}
