//! The operator's certificate, and a device that trusts nothing else.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::agent::{Settings, Tariff};
use crate::lab::Subscriber;

/// What the portal is called.
pub const NAME: &str = "portal.example";

/// Where it speaks TLS, unless the configuration says otherwise.
pub const TLS_PORT: u16 = 2122;

/// How long a step of an exchange may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of an answer, at most.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// The operator's folder, removed on drop.
#[derive(Debug)]
pub struct Operator(TempDir);

impl Operator {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// Fails if no folder can be made.
    pub fn new() -> Result<Self> {
        Ok(Self(TempDir::with_prefix("bitmesh-tls-")?))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A gateway that shows what is there.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let (certificate, key) = (self.at("portal.pem"), self.at("portal.key"));
        let tls = format!("[portal.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
        let names = format!("names = [{NAME:?}]\n");
        Settings::new(Tariff::bytes(1_000)).on_lan(&names).with(&tls)
    }

    /// Puts a new certificate there, and gives it.
    ///
    /// # Errors
    ///
    /// Fails if it can't be made or written.
    pub fn renew(&self) -> Result<CertificateDer<'static>> {
        self.renew_for(NAME)
    }

    /// The same for another name.
    ///
    /// # Errors
    ///
    /// As [`Self::renew`].
    pub fn renew_for(&self, name: &str) -> Result<CertificateDer<'static>> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()])?;
        // A pair that is half new is refused until the other half is there.
        for (name, text) in
            [("portal.key", signing_key.serialize_pem()), ("portal.pem", cert.pem())]
        {
            fs::write(self.at("new"), text)?;
            fs::rename(self.at("new"), self.at(name))?;
        }
        Ok(cert.der().clone())
    }

    /// Puts something there that is no certificate.
    ///
    /// # Errors
    ///
    /// Fails if it can't be written.
    pub fn spoil(&self) -> Result<()> {
        Ok(fs::write(self.at("portal.pem"), "no certificate\n")?)
    }
}

/// Asks for a page over TLS, and gives all that comes back.
///
/// # Errors
///
/// Fails unless this certificate is shown, for [`NAME`].
pub fn over_tls(
    from: &Subscriber,
    to: SocketAddr,
    trusted: &CertificateDer<'static>,
    path: &str,
) -> Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME)?)?;
    let port = to.port();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {NAME}:{port}\r\nConnection: close\r\n\r\n");
    from.namespace.enter(|| {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(connection, stream);
        stream.write_all(request.as_bytes())?;
        let mut said = String::new();
        stream.take(MAX_ANSWER_BYTES).read_to_string(&mut said)?;
        Ok(said)
    })
}
