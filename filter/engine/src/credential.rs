//! Where a caller's credential lies in a request (RFC 6750, section 2.1).

use crate::{Reason, Request};

/// The header that carries it.
pub(crate) const HEADER: &str = "authorization";

/// The bearer token of a request. Two candidates are no credential: a proxy and a backend could each take another one.
/// Envoy joins repeated fields by commas for some readers, so a comma counts as two.
pub(crate) fn bearer_token<'a>(request: &Request<'a>) -> Result<&'a str, Reason> {
    let mut fields = request.headers.all(HEADER);
    let field = fields.next().ok_or(Reason::MissingToken)?;
    if fields.next().is_some() || field.contains(&b',') {
        return Err(Reason::AmbiguousToken);
    }
    let field = std::str::from_utf8(field).map_err(|_| Reason::MalformedToken)?;
    match field.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => Ok(token),
        _ => Err(Reason::MissingToken),
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;
    use crate::{Headers, Peer};

    fn token(fields: &[&[u8]]) -> Result<String, Reason> {
        let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|value| (HEADER.as_bytes(), *value)).collect();
        let request = Request {
            headers: Headers(&fields),
            peer: Peer::default(),
        };
        bearer_token(&request).map(str::to_owned)
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn takes_one_bearer_token_and_nothing_that_could_be_two() {
        assert_eq!(token(&[b"Bearer abc"]), Ok("abc".into()));
        assert_eq!(token(&[b"bEARER abc"]), Ok("abc".into()));
        assert_eq!(token(&[]), Err(Reason::MissingToken));
        assert_eq!(token(&[b""]), Err(Reason::MissingToken));
        assert_eq!(token(&[b"Bearer"]), Err(Reason::MissingToken));
        assert_eq!(token(&[b"Basic YTpi"]), Err(Reason::MissingToken));
        assert_eq!(token(&[b"Bearer a", b"Bearer a"]), Err(Reason::AmbiguousToken));
        assert_eq!(token(&[b"Bearer a", b"Basic YTpi"]), Err(Reason::AmbiguousToken));
        assert_eq!(token(&[b"Bearer a,Bearer b"]), Err(Reason::AmbiguousToken));
        assert_eq!(token(&[b"Bearer \xff"]), Err(Reason::MalformedToken));
    }
}
