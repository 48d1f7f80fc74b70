//! Whose word on a server's certificate is taken.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::chain::ChainError;

/// Certificates in a file, at most.
const MAX_CERTIFICATES: usize = 512;

/// How to speak TLS: with those in the file, or with those that the machine trusts.
pub(super) fn client(file: Option<&Path>) -> Result<Arc<ClientConfig>, ChainError> {
    let mut roots = RootCertStore::empty();
    let why = match file {
        Some(path) => {
            roots.add_parsable_certificates(read(path)?);
            format!("{} has none", path.display())
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            found.errors.first().map_or_else(|| "this machine has none".to_owned(), to_line)
        }
    };
    if roots.is_empty() {
        return Err(ChainError::NoAuthorities(why));
    }
    let client = ClientConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| ChainError::NoAuthorities(to_line(&error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(client))
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, ChainError> {
    let unreadable = |error: rustls::pki_types::pem::Error| {
        ChainError::NoAuthorities(format!("{}: {error}", path.display()))
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    certificates.take(MAX_CERTIFICATES).collect::<Result<_, _>>().map_err(unreadable)
}

fn to_line(error: &impl ToString) -> String {
    error.to_string().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named_with_its_cure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        for text in [None, Some("no certificate")] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = client(Some(&path)).unwrap_err().to_string();
            assert!(error.contains("ca.pem") && error.contains("`ca_file`"), "{error}");
        }
    }
}
