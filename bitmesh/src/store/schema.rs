//! The tables, and how they came about.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// `PRAGMA application_id`: "BMSH". Tells `file` and us whose database it is.
const APPLICATION_ID: i64 = 0x424d_5348;

/// Each step leads from the version that is its index to the next. Steps are only ever appended.
const MIGRATIONS: [&str; 7] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
];

/// The version that this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Refuses a database that belongs to another program or to a newer version of this one.
///
/// # Errors
///
/// As said; and if it can't be read.
pub(super) fn check_identity(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let read = |name| {
        db.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(|error| StoreError::sqlite(path, error))
    };
    let (application, found) = (read("application_id")?, read("user_version")?);
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| StoreError::sqlite(path, error))?;
    let is_new = application == 0 && found == 0 && tables == 0;
    if !is_new && application != APPLICATION_ID {
        return Err(StoreError::Foreign(path.to_owned()));
    }
    if found > VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: VERSION });
    }
    Ok(())
}

/// Brings the tables to [`VERSION`], each step as a whole.
///
/// # Errors
///
/// Fails if the disk does; the database is then at the version of the last step that was done.
pub(super) fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(found).unwrap_or(0);
    for (step, version) in MIGRATIONS.iter().zip(1_i64..).skip(done) {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
