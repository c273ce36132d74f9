//! The calls to Envoy that the filter makes: the SDK's where they return errors and bytes, our own where the SDK would
//! unwrap what a client sent. Every failure is a [`HostError`], never a panic.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use isthmus_engine::{Fetch, Headers, Peer, UnixMillis};
use proxy_wasm::{
    hostcalls,
    types::{BufferType, LogLevel, MapType, Status},
};

/// The host refused a call or answered with something that is not of the protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostError;

impl From<Status> for HostError {
    fn from(_: Status) -> Self {
        Self
    }
}

/// The filter state that holds a request's audit event: `%FILTER_STATE(wasm.isthmus_audit:PLAIN)%` in access logs.
const AUDIT_PROPERTY: &str = "isthmus_audit";

/// Name and value.
pub(crate) type Field<'b> = (&'b [u8], &'b [u8]);

/// All header fields of a request as one buffer, and where they lie in it.
pub(crate) struct HeaderBuffer {
    bytes: Vec<u8>,
}

impl HeaderBuffer {
    /// Reads the current request's fields in one call.
    pub(crate) fn of_request() -> Result<Self, HostError> {
        abi::header_map(MapType::HttpRequestHeaders).map(|bytes| Self { bytes })
    }

    /// Reads the current request's trailers in one call.
    pub(crate) fn of_trailers() -> Result<Self, HostError> {
        abi::header_map(MapType::HttpRequestTrailers).map(|bytes| Self { bytes })
    }

    /// The fields as (name, value).
    pub(crate) fn fields(&self) -> Result<Vec<Field<'_>>, HostError> {
        pairs(&self.bytes).ok_or(HostError)
    }
}

/// The proxy-wasm encoding of a header map: the number of pairs, the lengths of each name and value (all `u32`, little
/// endian), then the names and values themselves, each followed by a NUL.
fn pairs(bytes: &[u8]) -> Option<Vec<Field<'_>>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (count, rest) = take_u32(bytes)?;
    let (mut lengths, mut texts) = rest.split_at_checked(count.checked_mul(8)?)?;
    let mut fields = Vec::with_capacity(count);
    while !lengths.is_empty() {
        let (name_length, value_length);
        (name_length, lengths) = take_u32(lengths)?;
        (value_length, lengths) = take_u32(lengths)?;
        let (name, value);
        (name, texts) = take_text(texts, name_length)?;
        (value, texts) = take_text(texts, value_length)?;
        fields.push((name, value));
    }
    Some(fields)
}

fn take_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

fn take_text(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(length)?;
    Some((text, rest.split_first()?.1))
}

/// The facts about the connection that the engine wants, owned.
#[derive(Default)]
pub(crate) struct PeerFacts {
    address: Option<String>,
    uri_san: Option<String>,
    certificate_sha256: Option<String>,
}

impl PeerFacts {
    pub(crate) fn of_request() -> Self {
        Self {
            address: text_property(&["source", "address"]),
            uri_san: text_property(&["connection", "uri_san_peer_certificate"]),
            certificate_sha256: text_property(&["connection", "sha256_peer_certificate_digest"]),
        }
    }

    pub(crate) fn as_peer(&self) -> Peer<'_> {
        Peer {
            address: self.address.as_deref(),
            uri_san: self.uri_san.as_deref(),
            certificate_sha256: self.certificate_sha256.as_deref(),
        }
    }
}

/// A property that is absent, empty or no text is none.
fn text_property(path: &[&str]) -> Option<String> {
    let bytes = hostcalls::get_property(path.to_vec()).ok()??;
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

pub(crate) fn now() -> UnixMillis {
    // Without a clock it is the end of time, at which every token has expired.
    let elapsed = hostcalls::get_current_time()
        .ok()
        .and_then(|time: SystemTime| time.duration_since(UNIX_EPOCH).ok())
        .unwrap_or(Duration::MAX);
    UnixMillis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn configuration() -> Vec<u8> {
    hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX)
        .ok()
        .flatten()
        .unwrap_or_default()
}

pub(crate) fn remove_request_header(name: &str) -> Result<(), HostError> {
    Ok(hostcalls::remove_map_value(MapType::HttpRequestHeaders, name)?)
}

pub(crate) fn remove_request_trailer(name: &str) -> Result<(), HostError> {
    Ok(hostcalls::remove_map_value(MapType::HttpRequestTrailers, name)?)
}

pub(crate) fn set_request_header(name: &str, value: &str) -> Result<(), HostError> {
    Ok(hostcalls::set_map_value(
        MapType::HttpRequestHeaders,
        name,
        Some(value),
    )?)
}

pub(crate) fn set_audit_event(event: &str) -> Result<(), HostError> {
    Ok(hostcalls::set_property(
        vec![AUDIT_PROPERTY],
        Some(event.as_bytes()),
    )?)
}

pub(crate) fn send_response(status: u16, headers: &[(&str, &str)], body: &str) -> Result<(), HostError> {
    Ok(hostcalls::send_http_response(
        u32::from(status),
        headers.to_vec(),
        Some(body.as_bytes()),
    )?)
}

pub(crate) fn resume_request() -> Result<(), HostError> {
    Ok(hostcalls::resume_http_request()?)
}

/// Makes the following calls speak of that stream. Fails when the stream is gone.
pub(crate) fn speak_of(context_id: u32) -> Result<(), HostError> {
    Ok(hostcalls::set_effective_context(context_id)?)
}

/// Starts a fetch; gives the token by which its answer is known.
pub(crate) fn dispatch(fetch: &Fetch) -> Result<u32, HostError> {
    let headers = vec![
        (":method", "GET"),
        (":scheme", fetch.scheme),
        (":authority", fetch.authority.as_str()),
        (":path", fetch.path.as_str()),
        ("accept", "application/json"),
    ];
    Ok(hostcalls::dispatch_http_call(
        &fetch.cluster,
        headers,
        None,
        vec![],
        fetch.timeout,
    )?)
}

/// The status of the answer to a dispatched call; nothing if there was none.
pub(crate) fn response_status() -> Option<u16> {
    let status = hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status").ok()??;
    std::str::from_utf8(&status).ok()?.parse().ok()
}

/// The answer's body, at most `length` bytes.
pub(crate) fn response_body(length: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, length)
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Calls `on_tick` of the root context after this time, and then again and again.
pub(crate) fn set_tick_period(period: Duration) -> Result<(), HostError> {
    Ok(hostcalls::set_tick_period(period)?)
}

pub(crate) fn log(level: LogLevel, message: &str) {
    // A host that takes no logs leaves nobody to tell.
    let _ = hostcalls::log(level, message);
}

/// Joins the engine's view of a request.
pub(crate) fn request<'a>(fields: &'a [Field<'a>], peer: &'a PeerFacts) -> isthmus_engine::Request<'a> {
    isthmus_engine::Request {
        headers: Headers(fields),
        peer: peer.as_peer(),
    }
}

#[allow(
    unsafe_code,
    reason = "the SDK unwraps UTF-8 in header names, so the call is made here"
)]
mod abi {
    use std::ptr;

    use proxy_wasm::types::{MapType, Status};

    use super::HostError;

    #[link(wasm_import_module = "env")]
    extern "C" {
        fn proxy_get_header_map_pairs(map_type: MapType, data: *mut *mut u8, size: *mut usize) -> Status;
    }

    pub(super) fn header_map(map_type: MapType) -> Result<Vec<u8>, HostError> {
        let mut data = ptr::null_mut();
        let mut size = 0;
        // SAFETY: both pointers are valid for the call. On success the host has called our exported allocator
        // (`malloc`, the SDK's) for exactly `size` bytes and left them to us, initialised; a null pointer is no buffer.
        unsafe {
            match proxy_get_header_map_pairs(map_type, &mut data, &mut size) {
                Status::Ok if data.is_null() => Ok(Vec::new()),
                Status::Ok => Ok(Vec::from_raw_parts(data, size, size)),
                _ => Err(HostError),
            }
        }
    }
}
