//! The files of a certificate, and what is wrong with them.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{Error, ServerConfig};

use super::Tls;

/// Bytes of a file, at most.
const MAX_PEM_BYTES: u64 = 64 * 1_024;

/// Certificates in a chain, at most.
const MAX_CHAIN: usize = 8;

/// Why a certificate can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{path}: {error}: mend `certificate` or `key` in [portal.tls], or who may read it")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file is too long.
    #[error("{0} has more than {MAX_PEM_BYTES} bytes: give a certificate and its chain alone")]
    TooLong(PathBuf),
    /// There is no certificate in the file, or too many.
    #[error("{0} holds no chain of 1 to {MAX_CHAIN} certificates as PEM: give one that does")]
    NoCertificate(PathBuf),
    /// There is no private key in the file.
    #[error("{0} holds no private key as PEM, without a password: give one that does")]
    NoKey(PathBuf),
    /// They are not a pair.
    #[error("the key in {key} is not that of the certificate in {certificate}: give both of one")]
    NoPair {
        /// One file.
        certificate: PathBuf,
        /// The other.
        key: PathBuf,
    },
    /// It is for somebody else.
    #[error(
        "the certificate in {path} is not for {name}: get one that is, or mend `names` in [[lan]]"
    )]
    OtherName {
        /// Which.
        path: PathBuf,
        /// Who the portal is.
        name: String,
    },
    /// TLS can't use it.
    #[error("the certificate in {path} can't be used: {error}: get another")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: Error,
    },
}

/// What tells whether a file is another than before; none while it is not there.
pub(super) type Stamp = [Option<(u64, u64, i64, i64)>; 2];

/// The files as they are now.
pub(super) fn stamp(tls: &Tls) -> Stamp {
    [&tls.certificate, &tls.key].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
    })
}

/// Reads certificate and key. HTTP/1.1 alone is spoken over it.
pub(super) fn read(tls: &Tls, names: &[String]) -> Result<ServerConfig, TlsError> {
    let path = || tls.certificate.clone();
    let chain = chain(&tls.certificate)?;
    are_for(&chain, names, &tls.certificate)?;
    let key = bytes(&tls.key)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| TlsError::NoKey(tls.key.clone()))?;
    let unusable = |error| match error {
        Error::InconsistentKeys(_) => {
            TlsError::NoPair { certificate: path(), key: tls.key.clone() }
        }
        error => TlsError::Unusable { path: path(), error },
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = bytes(path)?;
    let read = CertificateDer::pem_slice_iter(&pem).take(MAX_CHAIN + 1);
    match read.collect::<Result<Vec<_>, _>>() {
        Ok(chain) if (1..=MAX_CHAIN).contains(&chain.len()) => Ok(chain),
        _ => Err(TlsError::NoCertificate(path.to_owned())),
    }
}

fn are_for(
    chain: &[CertificateDer<'static>],
    names: &[String],
    path: &Path,
) -> Result<(), TlsError> {
    let Some(own) = chain.first() else { return Err(TlsError::NoCertificate(path.to_owned())) };
    let parsed = ParsedCertificate::try_from(own)
        .map_err(|error| TlsError::Unusable { path: path.to_owned(), error })?;
    let is_for = |name: &String| {
        let host = ServerName::try_from(name.as_str());
        host.is_ok_and(|host| verify_server_name(&parsed, &host).is_ok())
    };
    match names.iter().find(|name| !is_for(name)) {
        Some(name) => Err(TlsError::OtherName { path: path.to_owned(), name: name.clone() }),
        None => Ok(()),
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error| TlsError::Unreadable { path: path.to_owned(), error };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_PEM_BYTES {
        return Err(TlsError::TooLong(path.to_owned()));
    }
    Ok(bytes)
}
