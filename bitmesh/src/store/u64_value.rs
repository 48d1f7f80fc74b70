//! 64 bits without a sign, in a database whose integers have one.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, Value, ValueRef};

/// A `u64` as SQLite keeps it: an integer as long as it fits, so that people can read it, else its
/// eight bytes, big-endian. SQLite orders every integer before every blob and blobs by their
/// bytes, so stored values compare as the numbers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored(pub(super) u64);

impl ToSql for Stored {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(match i64::try_from(self.0) {
            Ok(small) => Value::Integer(small),
            Err(_) => Value::Blob(self.0.to_be_bytes().to_vec()),
        }))
    }
}

impl FromSql for Stored {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Integer(small) => {
                u64::try_from(small).map(Self).map_err(|_| FromSqlError::OutOfRange(small))
            }
            ValueRef::Blob(bytes) => {
                let bytes: [u8; 8] = bytes.try_into().map_err(|_| {
                    FromSqlError::InvalidBlobSize { expected_size: 8, blob_size: bytes.len() }
                })?;
                Ok(Self(u64::from_be_bytes(bytes)))
            }
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    const CORNERS: [u64; 7] =
        [0, 1, 255, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX - 1, u64::MAX];

    #[test]
    fn every_number_comes_back_and_compares_as_it_did() {
        let db = Connection::open_in_memory().expect("memory");
        for a in CORNERS {
            let back: Stored = db.query_row("SELECT ?1", [Stored(a)], |r| r.get(0)).expect("one");
            assert_eq!(back, Stored(a));
            for b in CORNERS {
                let (less, larger): (bool, Stored) = db
                    .query_row("SELECT ?1 < ?2, max(?1, ?2)", [Stored(a), Stored(b)], |r| {
                        Ok((r.get(0)?, r.get(1)?))
                    })
                    .expect("one");
                assert_eq!(less, a < b, "{a} < {b}");
                assert_eq!(larger, Stored(a.max(b)));
            }
        }
    }

    #[test]
    fn what_is_no_number_of_ours_is_an_error() {
        let db = Connection::open_in_memory().expect("memory");
        for wrong in ["-1", "x'00'", "x'000000000000000000'", "'text'", "1.5", "NULL"] {
            let read = db.query_row(&format!("SELECT {wrong}"), [], |r| r.get::<_, Stored>(0));
            assert!(read.is_err(), "{wrong} gave {read:?}");
        }
    }
}
