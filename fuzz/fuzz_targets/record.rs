//! Any bytes as what was stored: a payer's channel, the chain's cursor, a cell of the gateway's
//! database. It is read or refused; a database that can be read either makes a gateway or says why
//! not.
//!
//! The input's first byte says which. Of a cell, the second says which column; the rest is what is
//! in it.

#![no_main]

use std::cell::OnceCell;

use bitmesh::chain::Cursor;
use bitmesh::payer::ChannelRecord;
use bitmesh::store::Store;
use bitmesh::store::conformance::channels::{channel, ended_channel, update};
use bitmesh::store::conformance::{EPOCH, account, credit, usage};
use bitmesh_core::{BatchId, BootTime, Gateway, Record, Sample};
use libfuzzer_sys::fuzz_target;
use rusqlite::types::Value;
use tempfile::TempDir;

/// A database with a row in each table, and its columns.
struct Template {
    folder: TempDir,
    columns: Vec<(String, String)>,
}

thread_local! {
    static TEMPLATE: OnceCell<Template> = const { OnceCell::new() };
}

impl Template {
    fn make() -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("db");
        let mut store = Store::open(&path).expect("a store");
        store.begin_epoch(EPOCH).expect("an epoch");
        let records = vec![
            Record::Account(account(1, 1)),
            Record::Credit(credit(1, 1, 5)),
            Record::Usage(usage(1, 5)),
            Record::KeyIndex(3),
            Record::Channel(Box::new(channel(1, 1))),
            Record::Channel(Box::new(ended_channel(2, 1, 5))),
            Record::Update(update(1, 500)),
        ];
        store.commit(&[(BatchId(1), records)]);
        store.keep_cursor("[]").expect("kept");
        drop(store);
        let db = rusqlite::Connection::open(&path).expect("opened");
        let mut query = db
            .prepare(
                "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c
                 WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' ORDER BY 1, c.cid",
            )
            .expect("a query");
        let columns = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("asked");
        let columns = columns.collect::<Result<_, _>>().expect("columns");
        drop(query);
        drop(db);
        Self { folder, columns }
    }

    /// Every row of a column gets this value, as far as the schema allows it.
    fn with_cell(&self, column: u8, kind: u8, value: &[u8]) {
        let index = usize::from(column) % self.columns.len();
        let Some((table, column)) = self.columns.get(index) else { return };
        let number = value.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
        let value = match kind % 4 {
            0 => Value::Blob(value.to_vec()),
            1 => Value::Integer(number),
            2 => Value::Text(String::from_utf8_lossy(value).into_owned()),
            _ => Value::Null,
        };
        let path = self.folder.path().join("fuzzed");
        std::fs::copy(self.folder.path().join("db"), &path).expect("copied");
        let db = rusqlite::Connection::open(&path).expect("opened");
        db.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF").expect("set");
        let written = db.execute(&format!("UPDATE {table} SET {column} = ?1"), [value]);
        drop(db);
        if written.is_err() {
            return;
        }
        let store = Store::open(&path).expect("only a cell is another");
        let _ = (store.current_epoch(), store.cursor());
        if let Ok(snapshot) = store.load() {
            let _ = Gateway::restore(BootTime(1), EPOCH, snapshot, Vec::<Sample>::new())
                .map(|gateway| (gateway.accounts(), gateway.summary()));
        }
    }
}

fn payer(bytes: &[u8]) {
    let Ok(record) = serde_json::from_slice::<ChannelRecord>(bytes) else { return };
    let written = serde_json::to_vec(&record).expect("what was read can be written");
    let again: ChannelRecord = serde_json::from_slice(&written).expect("and read");
    assert_eq!(again, record);
    let _ = (record.id(), record.opened(), record.funded(), record.newest_update());
}

fuzz_target!(|input: &[u8]| {
    match input {
        [b'a', bytes @ ..] => payer(bytes),
        [b'b', bytes @ ..] => {
            if let Ok(cursor) = serde_json::from_slice::<Cursor>(bytes) {
                let written = serde_json::to_vec(&cursor).expect("what was read can be written");
                assert_eq!(serde_json::from_slice::<Cursor>(&written).expect("and read"), cursor);
            }
        }
        [_, column, kind, value @ ..] => TEMPLATE
            .with(|template| template.get_or_init(Template::make).with_cell(*column, *kind, value)),
        _ => {}
    }
});
