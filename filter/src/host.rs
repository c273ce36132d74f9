//! The calls to Envoy that the filter makes: the SDK's where they return errors and bytes, our own where the SDK would
//! unwrap what a client sent. Every failure is a [`HostError`], never a panic.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use isthmus_engine::{Fetch, Headers, Peer, UnixMillis};
use proxy_wasm::{
    hostcalls,
    types::{BufferType, LogLevel, MapType, MetricType, Status},
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

/// The beginning of an answer to a dispatched call.
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    /// The `Cache-Control` field, if it is text.
    pub(crate) cache_control: Option<String>,
}

impl ResponseHead {
    /// Nothing if there was no answer, or one that broke off: the host then has no header fields to give.
    pub(crate) fn of_answer() -> Option<Self> {
        let bytes = abi::header_map(MapType::HttpCallResponseHeaders).ok()?;
        let fields = pairs(&bytes)?;
        let text = |name: &[u8]| {
            let (_, value) = fields.iter().find(|(candidate, _)| *candidate == name)?;
            std::str::from_utf8(value).ok()
        };
        Some(Self {
            status: text(b":status")?.parse().ok()?,
            cache_control: text(b"cache-control").map(str::to_owned),
        })
    }
}

/// The answer's body, at most `length` bytes.
pub(crate) fn response_body(length: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, length)
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Calls one of the host's own functions.
pub(crate) fn call_foreign_function(name: &str, arguments: &[u8]) -> Result<Vec<u8>, HostError> {
    abi::call_foreign_function(name, arguments)
}

/// What workers share under this key, and its version.
pub(crate) fn shared(key: &str) -> Result<(Option<Vec<u8>>, Option<u32>), HostError> {
    Ok(hostcalls::get_shared_data(key)?)
}

pub(crate) fn set_shared(key: &str, value: &[u8]) -> Result<(), HostError> {
    Ok(hostcalls::set_shared_data(key, Some(value), None)?)
}

/// Sets what workers share if it still has this version, or if there still is nothing. Says whether it did.
pub(crate) fn set_shared_if(key: &str, value: &[u8], version: Option<u32>) -> Result<bool, HostError> {
    // The host compares versions only where there is a value, and no value has this one.
    const ABSENT: u32 = u32::MAX;
    match hostcalls::set_shared_data(key, Some(value), Some(version.unwrap_or(ABSENT))) {
        Ok(()) => Ok(true),
        Err(Status::CasMismatch) => Ok(false),
        Err(_) => Err(HostError),
    }
}

pub(crate) fn define_metric(metric_type: MetricType, name: &str) -> Result<u32, HostError> {
    Ok(hostcalls::define_metric(metric_type, name)?)
}

pub(crate) fn increment_metric(id: u32, by: u32) {
    // A count that is lost changes no decision.
    let _ = hostcalls::increment_metric(id, i64::from(by));
}

pub(crate) fn record_metric(id: u32, value: u64) {
    let _ = hostcalls::record_metric(id, value);
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
    reason = "the SDK unwraps UTF-8 in header names and panics on statuses that it does not know"
)]
mod abi {
    use std::ptr;

    use proxy_wasm::types::{MapType, Status};

    use super::HostError;

    #[link(wasm_import_module = "env")]
    extern "C" {
        fn proxy_get_header_map_pairs(map_type: MapType, data: *mut *mut u8, size: *mut usize) -> u32;
        fn proxy_call_foreign_function(
            name: *const u8,
            name_size: usize,
            arguments: *const u8,
            arguments_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
    }

    const OK: u32 = Status::Ok as u32;

    pub(super) fn header_map(map_type: MapType) -> Result<Vec<u8>, HostError> {
        // SAFETY: both pointers are valid for the call.
        returned(|data, size| unsafe { proxy_get_header_map_pairs(map_type, data, size) })
    }

    pub(super) fn call_foreign_function(name: &str, arguments: &[u8]) -> Result<Vec<u8>, HostError> {
        let (name, name_size) = (name.as_ptr(), name.len());
        let (arguments, arguments_size) = (arguments.as_ptr(), arguments.len());
        // SAFETY: the texts are borrowed and both pointers are valid for the call.
        returned(|data, size| unsafe {
            proxy_call_foreign_function(name, name_size, arguments, arguments_size, data, size)
        })
    }

    /// Makes a call that returns data.
    fn returned(call: impl FnOnce(&mut *mut u8, &mut usize) -> u32) -> Result<Vec<u8>, HostError> {
        let mut data = ptr::null_mut();
        let mut size = 0;
        match call(&mut data, &mut size) {
            OK if data.is_null() => Ok(Vec::new()),
            // SAFETY: on success the host has called our exported allocator (`malloc`, the SDK's) for exactly `size`
            // bytes and left them to us, initialised; a null pointer is no buffer.
            OK => Ok(unsafe { Vec::from_raw_parts(data, size, size) }),
            _ => Err(HostError),
        }
    }
}
