//! Access tokens: what is checked before one is ever published.

use std::fmt;

use crate::secret::SecretBytes;

/// Longest token, in bytes. Entra's stay under 4 KiB; Envoy's whole header block is 60 KiB by default.
pub const MAX_TOKEN: usize = 16 * 1024;

/// An access token without its scheme: Envoy's credential injector puts `Bearer ` in front of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(SecretBytes);

/// Why a token is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("the token is empty")]
    Empty,
    /// It is longer than [`MAX_TOKEN`].
    #[error("the token is longer than 16 KiB")]
    TooLong,
    /// It holds white space, a control character or something that is not ASCII.
    #[error("the token holds characters that are illegal in an Authorization header")]
    IllegalCharacter,
}

impl Token {
    /// Checks a token. It may hold what an HTTP field value may (RFC 9110, section 5.5) without any white space, so that
    /// nothing else can be smuggled into the header.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without the token.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::IllegalCharacter);
        }
        Ok(Self(SecretBytes::new(text.as_bytes().to_vec())))
    }

    /// The token itself.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// What stands in for a token that has expired: fixed, not empty, and obviously no token.
    pub(crate) fn expired() -> Self {
        Self(SecretBytes::new(b"isthmus-expired".to_vec()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clean_token_is_accepted() {
        let longest = "a".repeat(MAX_TOKEN);
        for text in ["a", "eyJhbGciOiJSUzI1NiJ9.eyJ9.c2ln", "a-b_c~d+e/f==", &longest] {
            assert_eq!(Token::parse(text).unwrap().expose(), text.as_bytes());
        }
        let too_long = "a".repeat(MAX_TOKEN + 1);
        let cases = [
            ("", TokenError::Empty),
            (too_long.as_str(), TokenError::TooLong),
            (" ", TokenError::IllegalCharacter),
            ("a b", TokenError::IllegalCharacter),
            ("a\n", TokenError::IllegalCharacter),
            ("\ta", TokenError::IllegalCharacter),
            ("a\r\nx-role: admin", TokenError::IllegalCharacter),
            ("a\0", TokenError::IllegalCharacter),
            ("a\u{7f}", TokenError::IllegalCharacter),
            ("tökën", TokenError::IllegalCharacter),
        ];
        for (text, error) in cases {
            assert_eq!(Token::parse(text), Err(error), "{text:?}");
        }
    }
}
