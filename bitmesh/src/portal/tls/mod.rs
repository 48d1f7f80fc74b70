//! TLS with a certificate that the operator has. It is read again when its files change; until a
//! new one is good, the old one stays.

mod files;
#[cfg(test)]
pub(super) mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;

pub use self::files::TlsError;
use self::files::{Stamp, read, stamp};
use super::REFRESH_EVERY;

/// Where TLS is spoken, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and those between it and its root, as PEM (RFC 7468), its own first.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
    /// The TCP port.
    pub port: u16,
}

/// The certificate that is shown now.
#[derive(Debug)]
pub(super) struct Certificates {
    tls: Tls,
    /// Names that it has to be for.
    names: Vec<String>,
    shown: Mutex<Arc<ServerConfig>>,
    seen: Mutex<Stamp>,
}

impl Certificates {
    /// Reads it for the first time.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if it can't be used for these names.
    pub(super) fn load(tls: Tls, names: Vec<String>) -> Result<Self, TlsError> {
        let seen = Mutex::new(stamp(&tls));
        let shown = Mutex::new(Arc::new(read(&tls, &names)?));
        Ok(Self { tls, names, shown, seen })
    }

    /// What shakes hands with whoever comes now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&shown))
    }

    /// Looks at the files every [`REFRESH_EVERY`], for ever.
    pub(super) async fn keep_fresh(self: Arc<Self>) {
        let mut pulse = interval(REFRESH_EVERY);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pulse.tick().await;
            match self.refresh() {
                Ok(false) => {}
                Ok(true) => tracing::info!("the portal shows its new certificate"),
                Err(error) => {
                    tracing::warn!(%error, "the portal goes on with the certificate that it has");
                }
            }
        }
    }

    /// Reads the files again if they changed since they were read last. Says whether they did.
    fn refresh(&self) -> Result<bool, TlsError> {
        // First the stamp: what is written meanwhile is then read the next time.
        let now = stamp(&self.tls);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        let new = Arc::new(read(&self.tls, &self.names)?);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(true)
    }
}
