//! How the node is told who asks.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::chain::ChainError;

/// Bytes of a cookie file, at most.
pub const MAX_COOKIE_BYTES: u64 = 4_096;

/// A password. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// This password.
    #[must_use]
    pub const fn new(password: String) -> Self {
        Self(password)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Whoever can read the cookie file. It is read for each question, since the node writes a
    /// new one when it starts.
    Cookie(PathBuf),
    /// A user of the node's configuration (`rpcauth`, or `rpcuser` and `rpcpassword`).
    User {
        /// The name.
        name: String,
        /// The password.
        password: Password,
    },
}

impl Auth {
    /// The value of the `Authorization` header (RFC 7617). A secret.
    pub(super) fn header(&self) -> Result<String, ChainError> {
        let pair = match self {
            Self::Cookie(path) => {
                let unreadable = |error| ChainError::Cookie { path: path.clone(), error };
                let file = File::open(path).map_err(unreadable)?;
                let mut cookie = String::new();
                file.take(MAX_COOKIE_BYTES).read_to_string(&mut cookie).map_err(unreadable)?;
                cookie.trim_end().to_owned()
            }
            Self::User { name, password } => format!("{name}:{}", password.0),
        };
        Ok(format!("Basic {}", STANDARD.encode(pair)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown_but_sent() {
        let password = Password::new("open sesame".to_owned());
        let auth = Auth::User { name: "Aladdin".to_owned(), password };
        assert!(!format!("{auth:?}").contains("sesame"));
        // The example of RFC 7617.
        assert_eq!(auth.header().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn a_cookie_is_read_anew_each_time_and_its_absence_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".cookie");
        let auth = Auth::Cookie(path.clone());
        let error = auth.header().unwrap_err();
        assert!(error.is_transient() && error.to_string().contains(".cookie"), "{error}");
        for cookie in ["__cookie__:aa", "__cookie__:bb"] {
            std::fs::write(&path, cookie).unwrap();
            assert_eq!(auth.header().unwrap(), format!("Basic {}", STANDARD.encode(cookie)));
        }
    }
}
