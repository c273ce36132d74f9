//! A certificate authority and the certificates it issues, for the local cloud's own servers and for test
//! clients.

use std::sync::Arc;

use rcgen::{
    string::Ia5String, BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    pki_types::{pem::PemObject as _, CertificateDer, PrivateKeyDer},
    ServerConfig,
};
use time::{Duration, OffsetDateTime};

use crate::CloudError;

/// A root certificate with its key.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, both PEM. The key is in the open: it guards nothing but a test.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key, PKCS#8.
    pub key_pem: String,
}

impl Authority {
    /// Makes a new root, good for a week.
    pub fn generate(name: &str) -> Result<Self, CloudError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = OffsetDateTime::now_utc() - Duration::HOUR;
        params.not_after = OffsetDateTime::now_utc() + Duration::WEEK;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// An authority that exists already, for example the rotation service's local CA.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, CloudError> {
        let key = KeyPair::from_pem(key_pem)?;
        Ok(Self {
            pem: certificate_pem.to_owned(),
            issuer: Issuer::from_ca_cert_pem(certificate_pem, key)?,
        })
    }

    /// The root certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a client, known by a URI such as its SPIFFE ID.
    pub fn client(&self, uri: &str) -> Result<Identity, CloudError> {
        self.issue(
            vec![SanType::URI(Ia5String::try_from(uri)?)],
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    /// The TLS side of a server that is `name` on the internet, and 127.0.0.1 here.
    pub(crate) fn server(&self, name: &str) -> Result<Arc<ServerConfig>, CloudError> {
        let names =
            CertificateParams::new([name.into(), "localhost".into(), "127.0.0.1".into()])?.subject_alt_names;
        let identity = self.issue(names, ExtendedKeyUsagePurpose::ServerAuth)?;
        let unreadable = |e| rustls::Error::General(format!("PEM: {e}"));
        let chain =
            vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).map_err(unreadable)?];
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(unreadable)?;
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, key)?;
        Ok(Arc::new(config))
    }

    fn issue(&self, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) -> Result<Identity, CloudError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params.not_before = OffsetDateTime::now_utc() - Duration::HOUR;
        params.not_after = OffsetDateTime::now_utc() + Duration::DAY;
        Ok(Identity {
            certificate_pem: params.signed_by(&key, &self.issuer)?.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}
