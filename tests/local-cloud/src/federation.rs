//! The issuer of AWS outbound identity federation: what `sts:GetWebIdentityToken` signs.
//!
//! The claims follow the AWS IAM User Guide, "Understanding token claims": an issuer URL of the account's
//! own, the role ARN in `sub`, and what STS knows about the session under `https://sts.amazonaws.com/`.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{json, Value};
use tokio::task::AbortHandle;

use crate::{
    jws::{now, BadToken, SigningKey},
    random, CloudError,
};

/// The account's issuer URL. AWS makes one per account; this one is obviously nobody's.
pub const ISSUER: &str = "https://00000000-0000-4000-8000-000000000000.tokens.sts.global.api.aws";
/// The role that the bridge runs under in AWS.
pub const ROLE_ARN: &str = "arn:aws:iam::123456789012:role/isthmus-bridge";
/// The audience that Entra ID wants in a client assertion.
pub const AUDIENCE: &str = "api://AzureADTokenExchange";

const ASSERTION_LIFETIME: Duration = Duration::from_secs(600);

/// The issuer and its key.
#[derive(Debug)]
pub struct Federation {
    key: SigningKey,
}

impl Federation {
    pub(crate) fn new(key: SigningKey) -> Self {
        Self { key }
    }

    /// The claims of an assertion as STS would issue it now. Tests change one and sign the rest with
    /// [`sign`](Self::sign).
    pub fn claims(&self) -> Value {
        let now = now();
        json!({
            "iss": ISSUER,
            "sub": ROLE_ARN,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + ASSERTION_LIFETIME.as_secs(),
            "jti": random::uuid(),
            "https://sts.amazonaws.com/": {
                "aws_account": "123456789012",
                "source_region": "us-east-1",
                "principal_id": ROLE_ARN,
            },
        })
    }

    /// Signs any claims with the issuer's key.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with_header(
            &json!({"alg": "RS256", "typ": "JWT", "kid": self.key.kid()}),
            claims,
        )
    }

    /// Signs any claims under any header.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> String {
        self.key.sign(header, claims)
    }

    /// The key set that Entra ID reads at the issuer's `jwks_uri`.
    pub fn jwks(&self) -> Value {
        json!({"keys": [self.key.jwk()]})
    }

    /// The key id of the issuer's key.
    pub fn kid(&self) -> &str {
        self.key.kid()
    }

    pub(crate) fn verify(&self, token: &str) -> Result<Value, BadToken> {
        self.key.verify(token)
    }

    /// Puts a fresh assertion into `path`, mode 0600, in one step: a reader sees the old one or the new one.
    pub fn write_assertion(&self, path: &Path) -> Result<(), CloudError> {
        let write = |source| CloudError::io("writing the client assertion", source);
        let directory = path.parent().unwrap_or(Path::new("."));
        // A NamedTempFile is made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(write)?;
        file.write_all(self.sign(&self.claims()).as_bytes())
            .map_err(write)?;
        file.persist(path).map_err(|e| write(e.error))?;
        Ok(())
    }

    /// Writes the assertion now, and again whenever half its life is over.
    pub(crate) async fn keep_fresh(self: &Arc<Self>, path: &Path) -> Result<AssertionFile, CloudError> {
        self.write_assertion(path)?;
        let federation = Arc::clone(self);
        let path = PathBuf::from(path);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(ASSERTION_LIFETIME / 2).await;
                // It fails when the directory is gone, and then nobody reads the file any more.
                if federation.write_assertion(&path).is_err() {
                    return;
                }
            }
        });
        Ok(AssertionFile(task.abort_handle()))
    }
}

/// Keeps the assertion file fresh until it is dropped.
pub(crate) struct AssertionFile(AbortHandle);

impl Drop for AssertionFile {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn the_assertion_file_is_private_and_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("assertion.jwt");
        let federation = Arc::new(Federation::new(SigningKey::generate("aws".into()).await.unwrap()));
        let _guard = federation.keep_fresh(&path).await.unwrap();

        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let claims = federation
            .verify(&std::fs::read_to_string(&path).unwrap())
            .unwrap();
        assert_eq!(claims["sub"], ROLE_ARN);
        assert_eq!(claims["aud"], AUDIENCE);
    }
}
