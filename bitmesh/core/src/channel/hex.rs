//! Byte strings that travel as hex.

/// Gives a newtype of bytes its hex form, for people and for JSON.
macro_rules! hex_newtype {
    ($name:ident, $bytes:literal) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", bitcoin::hex::DisplayHex::as_hex(self.0.as_slice()))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                bitcoin::hex::DisplayHex::to_lower_hex_string(value.0.as_slice())
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::channel::KeyError;

            fn try_from(hex: String) -> Result<Self, $crate::channel::KeyError> {
                <[u8; $bytes] as bitcoin::hex::FromHex>::from_hex(&hex)
                    .map(Self)
                    .map_err(|_| $crate::channel::KeyError::Malformed)
            }
        }
    };
}

pub(super) use hex_newtype;
