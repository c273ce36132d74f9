//! The `rsa` crate links a source of randomness for signing. The filter only verifies, so there is none to give: a call
//! fails instead of returning bytes that only look random.

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "the registration macro exports a C symbol")]
mod registration {
    fn refuse(_buffer: &mut [u8]) -> Result<(), getrandom::Error> {
        Err(getrandom::Error::UNSUPPORTED)
    }

    getrandom::register_custom_getrandom!(refuse);
}
