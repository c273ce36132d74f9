//! Where the local CA lives on disk: `ca.key` and `ca.crt` in one directory.
//!
//! Nothing that exists is ever overwritten. Whoever deletes or damages a file gets an error and decides; a CA that silently
//! made itself anew would break trust with every peer that holds the old one.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use x509_parser::{extensions::GeneralName, pem::parse_x509_pem};
use zeroize::Zeroizing;

use crate::{
    config::{LocalCaConfig, TrustDomain},
    local_ca::{new_key, self_signed, trust_domain_uri, IssueError, LocalCa},
};

const KEY: &str = "ca.key";
const CERTIFICATE: &str = "ca.crt";

/// No key or certificate of the CA comes near this.
const MAX_FILE: u64 = 64 * 1024;

/// The local CA cannot be loaded or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A file or the directory cannot be used.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else may read the key or change the directory.
    #[error("{} must not be accessible by others, but its mode is {mode:04o}", .path.display())]
    TooOpen {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is a certificate and no key.
    #[error("{} has no key beside it: restore {KEY}, or delete the certificate to make a new CA", .0.display())]
    KeyMissing(PathBuf),
    /// The key file holds no key of the kind this CA makes.
    #[error("{} does not hold a P-256 private key in PKCS#8 PEM", .0.display())]
    KeyCorrupt(PathBuf),
    /// The certificate file holds no CA certificate.
    #[error("{} does not hold the PEM certificate of a CA", .0.display())]
    CertificateCorrupt(PathBuf),
    /// The key belongs to another certificate.
    #[error("the key and the certificate in {} do not belong together", .0.display())]
    Mismatch(PathBuf),
    /// The CA was made for another trust domain.
    #[error("the CA in {} is not for the trust domain {trust_domain}", .path.display())]
    OtherTrustDomain {
        /// The directory.
        path: PathBuf,
        /// The configured trust domain.
        trust_domain: TrustDomain,
    },
    /// The CA's certificate has expired.
    #[error("the certificate in {} has expired", .0.display())]
    Expired(PathBuf),
    /// A new CA could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl LocalCa {
    /// Loads the CA from its directory, or makes it there if there is none. When two processes do so at once, both get the
    /// same one. It reads and writes files and may wait for another process.
    ///
    /// # Errors
    ///
    /// See [`CaError`]. Files that exist are never changed.
    pub fn open(config: &LocalCaConfig, now: SystemTime) -> Result<Self, CaError> {
        let directory = config.directory.as_path();
        prepare(directory)?;
        // Held until the end of this function. The kernel frees it when a process dies.
        let lock = File::open(directory).map_err(|source| failed("open", directory, source))?;
        lock.lock().map_err(|source| failed("lock", directory, source))?;

        let key_path = directory.join(KEY);
        let certificate_path = directory.join(CERTIFICATE);
        let key_pem = match (read_private(&key_path)?, certificate_path.exists()) {
            (Some(key), _) => key,
            (None, true) => return Err(CaError::KeyMissing(certificate_path)),
            (None, false) => {
                let key = new_key()?;
                write(directory, KEY, key.as_bytes())?;
                key
            }
        };
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(&key_pem, &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| CaError::KeyCorrupt(key_path))?;

        let certificate_pem = match read(&certificate_path)? {
            Some(certificate) => certificate,
            // The first start was interrupted between the two files. The same key gives the same CA.
            None => {
                let certificate = self_signed(&key, &config.trust_domain, now)?;
                write(directory, CERTIFICATE, certificate.as_bytes())?;
                Zeroizing::new(certificate)
            }
        };
        Self::assemble(config, key, &certificate_pem, now)
    }

    fn assemble(
        config: &LocalCaConfig,
        key: KeyPair,
        certificate_pem: &str,
        now: SystemTime,
    ) -> Result<Self, CaError> {
        let directory = config.directory.as_path();
        let path = directory.join(CERTIFICATE);
        let corrupt = || CaError::CertificateCorrupt(path.clone());

        let (rest, pem) = parse_x509_pem(certificate_pem.as_bytes()).map_err(|_| corrupt())?;
        let certificate = pem.parse_x509().map_err(|_| corrupt())?;
        // Peers get the file's text as their trust bundle: it must hold this certificate and nothing else.
        let alone =
            rest.trim_ascii().is_empty() && certificate_pem.trim_ascii_start().starts_with("-----BEGIN");
        if !alone || !certificate.is_ca() {
            return Err(corrupt());
        }
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(CaError::Mismatch(directory.to_owned()));
        }
        certificate.verify_signature(None).map_err(|_| corrupt())?;

        let names = certificate.subject_alternative_name().map_err(|_| corrupt())?;
        let wanted = trust_domain_uri(&config.trust_domain);
        let is_wanted = |name: &GeneralName<'_>| matches!(name, GeneralName::URI(uri) if *uri == wanted);
        if !names.is_some_and(|names| names.value.general_names.iter().any(is_wanted)) {
            return Err(CaError::OtherTrustDomain {
                path: directory.to_owned(),
                trust_domain: config.trust_domain.clone(),
            });
        }

        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).map_err(|_| corrupt())?;
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(not_after);
        if not_after <= now {
            return Err(CaError::Expired(path));
        }
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key).map_err(|_| corrupt())?;
        Ok(Self {
            issuer,
            certificate_pem: certificate_pem.to_owned(),
            not_after,
        })
    }
}

/// Makes the directory if there is none, for its owner only, and refuses one that others can write to.
fn prepare(directory: &Path) -> Result<(), CaError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| failed("create", directory, source))?;
    let metadata = fs::metadata(directory).map_err(|source| failed("inspect", directory, source))?;
    refuse_if_open(directory, metadata.mode(), 0o022)
}

fn refuse_if_open(path: &Path, mode: u32, forbidden: u32) -> Result<(), CaError> {
    if mode & forbidden == 0 {
        return Ok(());
    }
    Err(CaError::TooOpen {
        path: path.to_owned(),
        mode: mode & 0o7777,
    })
}

/// Reads a file that only its owner may read. `None` if there is none.
fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, CaError> {
    if let Ok(metadata) = fs::metadata(path) {
        refuse_if_open(path, metadata.mode(), 0o077)?;
    }
    read(path)
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>, CaError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("open", path, source)),
    };
    // Room for the whole file at once: a buffer that grows leaves copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize));
    let read = file.take(MAX_FILE).read_to_string(&mut text);
    match read {
        Ok(_) => Ok(Some(text)),
        // Not text at all: let the reader of the contents say what it should have been.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(Zeroizing::default())),
        Err(source) => Err(failed("read", path, source)),
    }
}

/// Writes a file for its owner only: whole or not at all.
fn write(directory: &Path, name: &str, contents: &[u8]) -> Result<(), CaError> {
    let path = directory.join(name);
    let written = (|| {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        file.persist_noclobber(&path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    })();
    written.map_err(|source| failed("write", &path, source))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> CaError {
    CaError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
