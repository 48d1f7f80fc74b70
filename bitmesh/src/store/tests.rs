use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc;
use std::time::Duration;

use super::conformance::{self, Durable, account, credit, usage};
use super::*;
use tempfile::TempDir;

struct OnDisk {
    store: Store,
    directory: TempDir,
}

impl OnDisk {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let store = Store::open(&directory.path().join("db")).expect("a new store");
        Self { store, directory }
    }
}

impl Durable for OnDisk {
    fn begin_epoch(&mut self, epoch: Epoch) {
        self.store.begin_epoch(epoch).expect("begun");
    }
    fn current_epoch(&self) -> Option<Epoch> {
        self.store.current_epoch().expect("read")
    }
    fn commit(&mut self, group: &[(BatchId, Vec<Record>)]) -> Vec<(BatchId, bool)> {
        self.store.commit(group).iter().map(outcome).collect()
    }
    fn load(&self) -> Snapshot {
        self.store.load().expect("loaded")
    }
    /// The files are copied as they lie there, and nothing is closed first.
    fn crash(self) -> Self {
        let directory = TempDir::new().expect("a directory");
        for entry in fs::read_dir(self.directory.path()).expect("listed") {
            let from = entry.expect("an entry").path();
            // The shared-memory index does not survive a power cut.
            if !from.to_string_lossy().ends_with("-shm") {
                let to = directory.path().join(from.file_name().expect("a name"));
                fs::copy(&from, to).expect("copied");
            }
        }
        let store = Store::open(&directory.path().join("db")).expect("opened after a crash");
        Self { store, directory }
    }
}

fn outcome(report: &Report) -> (BatchId, bool) {
    match report {
        Report::Persisted(batch) => (*batch, true),
        Report::Failed(batch, _) => (*batch, false),
    }
}

macro_rules! conforms {
    ($suite:path: $($check:ident),* $(,)?) => { $(
        #[test]
        fn $check() {
            use $suite as suite;
            suite::$check(OnDisk::new());
        }
    )* };
}

conforms!(
    conformance: what_is_durable_survives_a_crash,
    the_largest_numbers_come_back,
    a_repeated_credit_counts_once,
    the_newest_revision_of_an_account_stays,
    usage_never_goes_backwards,
    a_bad_batch_fails_alone_and_whole,
    batches_are_written_in_their_order,
    an_epoch_that_is_begun_again_stays_current,
    only_what_was_given_is_forgotten,
);

conforms!(
    conformance::channels: a_channel_comes_back_as_it_was,
    the_newest_revision_of_a_channel_stays,
    the_newest_update_of_a_channel_stays,
    an_update_without_its_channel_fails_its_batch,
    a_transfer_is_written_once,
    the_key_index_never_goes_back,
    only_a_channel_without_an_update_is_forgotten,
);

#[test]
fn a_database_of_the_first_version_is_taken_over() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("db");
    let old = Connection::open(&path).expect("opened");
    old.execute_batch(include_str!("schema_1.sql")).expect("the first version");
    old.execute_batch("PRAGMA application_id = 0x424d5348; PRAGMA user_version = 1").expect("set");
    old.execute("INSERT INTO credits VALUES (zeroblob(16), zeroblob(6), 'grant', 5)", [])
        .expect("a credit");
    old.execute("INSERT INTO accounts VALUES (zeroblob(6), 1, 1, 1, 2, 3, 4, 5, 6, 7)", [])
        .expect("an account");
    drop(old);
    let loaded = Store::open(&path).expect("taken over").load().expect("loaded");
    assert_eq!(loaded.accounts[0].time_settled.0, 7);
    assert!(!loaded.accounts[0].tariff.is_limited());
    assert_eq!(loaded.credits.len(), 1);
    assert_eq!((loaded.channels, loaded.updates, loaded.key_index), (vec![], vec![], None));
}

#[test]
fn where_the_chain_was_read_to_is_kept_after_the_batches_before_it_and_not_after_one_that_failed() {
    let disk = OnDisk::new();
    assert_eq!(disk.store.cursor().expect("read"), None);
    let OnDisk { store, directory } = disk;
    let writer = Writer::start(store, |_| ()).expect("started");
    writer.keep_cursor("[1]".to_owned());
    let store = writer.finish().expect("no panic");
    assert_eq!(store.cursor().expect("read").as_deref(), Some("[1]"));
    // The writer waits until both are in its queue: they are one group.
    let (let_go, wait) = std::sync::mpsc::channel::<()>();
    let writer = Writer::start(store, move |_| wait.recv().unwrap_or_default()).expect("started");
    writer.persist(BatchId(1), vec![Record::Credit(credit(1, 1, 1))]).expect("room");
    // Its epoch was never begun.
    writer.persist(BatchId(2), vec![Record::Usage(usage(1, 77))]).expect("room");
    writer.keep_cursor("[2]".to_owned());
    drop(let_go);
    let store = writer.finish().expect("no panic");
    assert_eq!(store.cursor().expect("read").as_deref(), Some("[1]"));
    drop((store, directory));
}

#[test]
fn a_group_that_dies_before_its_commit_leaves_nothing() {
    let mut disk = OnDisk::new();
    let reports = disk.commit(&[(BatchId(1), vec![Record::Credit(credit(1, 1, 1))])]);
    assert_eq!(reports, [(BatchId(1), true)]);
    let transaction = disk.store.db.transaction().expect("begun");
    rows::write(&transaction, &Record::Credit(credit(2, 1, 1))).expect("written");
    std::mem::forget(transaction);
    let disk = disk.crash();
    assert_eq!(disk.load().credits, [credit(1, 1, 1)]);
}

#[test]
fn a_failed_commit_fails_every_batch_of_the_group() {
    let mut disk = OnDisk::new();
    let page: i64 = disk.store.db.pragma_query_value(None, "page_count", |r| r.get(0)).expect("n");
    disk.store.db.pragma_update(None, "max_page_count", page + 1).expect("a small disk");
    let many = (0..5_000).map(|id| Record::Credit(credit(id, 1, 1))).collect();
    let group = [(BatchId(1), vec![Record::Credit(credit(9_999, 1, 1))]), (BatchId(2), many)];
    let reports = disk.store.commit(&group);
    let Some(Report::Failed(_, error)) = reports.last() else { panic!("{reports:?}") };
    assert!(error.to_string().ends_with("the disk is full: make room"), "{error}");
    let loaded = disk.load().credits.len();
    let durable = reports.iter().filter(|r| outcome(r).1).count();
    assert_eq!(loaded, durable, "what is reported is what is there");
}

#[test]
fn the_writer_reports_every_batch_in_order_and_hands_the_store_back() {
    let disk = OnDisk::new();
    let (tx, reports) = mpsc::channel();
    let writer = Writer::start(disk.store, move |report| {
        tx.send(outcome(&report)).expect("somebody listens");
    })
    .expect("a thread");
    let batches = 2_000_u64;
    for n in 0..batches {
        let mut records = vec![Record::Credit(credit(u128::from(n), 1, 1))];
        loop {
            match writer.persist(BatchId(n), records) {
                Ok(()) => break,
                Err(Full::Waiting(back)) => records = back,
                Err(Full::Ended(_)) => panic!("the writer ended"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let store = writer.finish().expect("the thread ends well");
    let expected: Vec<_> = (0..batches).map(|n| (BatchId(n), true)).collect();
    assert_eq!(reports.iter().collect::<Vec<_>>(), expected);
    assert_eq!(store.load().expect("loaded").credits.len(), 2_000);
}

#[test]
fn a_full_queue_hands_the_batch_back_instead_of_waiting() {
    let disk = OnDisk::new();
    let (let_go, held) = mpsc::channel::<()>();
    let writer = Writer::start(disk.store, move |_| {
        let _ = held.recv();
    })
    .expect("a thread");
    let mut taken = 0;
    let refused = loop {
        match writer.persist(BatchId(taken), vec![Record::Account(account(1, taken))]) {
            Ok(()) => taken += 1,
            Err(full) => break full,
        }
        assert!(taken <= MAX_UNREAD_REPORTS as u64, "the queue has no end");
    };
    assert!(
        matches!(refused, Full::Waiting(records) if records == [Record::Account(account(1, taken))])
    );
    drop(let_go);
    writer.finish().expect("the thread ends well");
}

#[test]
fn a_second_agent_on_the_same_database_is_refused_by_name() {
    let disk = OnDisk::new();
    let error = Store::open(&disk.directory.path().join("db")).expect_err("held");
    let text = error.to_string();
    assert!(matches!(error, StoreError::Held { .. }), "{text}");
    assert!(text.contains(&format!("another agent (pid {}) uses ", std::process::id())), "{text}");
    drop(disk.store);
    Store::open(&disk.directory.path().join("db")).expect("free again");
}

#[test]
fn only_the_owner_can_read_any_file_of_the_database() {
    let mut disk = OnDisk::new();
    disk.begin_epoch(Epoch(1));
    let mut names = Vec::new();
    for entry in fs::read_dir(disk.directory.path()).expect("listed") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("stat").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, ["db", "db-lock", "db-shm", "db-wal"]);
}

#[test]
fn a_database_of_a_newer_version_is_refused_untouched() {
    let disk = OnDisk::new();
    let path = disk.directory.path().join("db");
    disk.store.db.pragma_update(None, "user_version", schema::VERSION + 1).expect("set");
    drop(disk.store);
    let error = Store::open(&path).expect_err("newer");
    assert_eq!(
        error.to_string(),
        format!(
            "{} was written by a newer bitmesh (version {}, this one knows up to {}): run that one",
            path.display(),
            schema::VERSION + 1,
            schema::VERSION
        )
    );
}

#[test]
fn a_database_of_another_program_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("other");
    let other = Connection::open(&path).expect("opened");
    other.execute_batch("CREATE TABLE t (x)").expect("a table");
    drop(other);
    assert!(matches!(Store::open(&path), Err(StoreError::Foreign(_))));
    fs::write(&path, "this is a text, long enough to be no header of a database".repeat(20))
        .expect("written");
    assert!(matches!(Store::open(&path), Err(StoreError::Foreign(_))));
}

#[test]
fn the_disk_is_asked_to_keep_every_commit() {
    let disk = OnDisk::new();
    let read = |name| -> i64 {
        disk.store.db.pragma_query_value(None, name, |row| row.get(0)).expect("a pragma")
    };
    assert_eq!(read("synchronous"), 2, "FULL");
    assert_eq!(read("foreign_keys"), 1);
    let mode: String =
        disk.store.db.pragma_query_value(None, "journal_mode", |row| row.get(0)).expect("mode");
    assert_eq!(mode, "wal");
}

#[test]
fn a_row_that_was_tampered_with_is_an_error_and_no_panic() {
    let mut disk = OnDisk::new();
    disk.begin_epoch(conformance::EPOCH);
    disk.commit(&[(BatchId(1), vec![Record::Usage(usage(1, 1))])]);
    disk.store.db.execute("UPDATE usages SET spent_units = -1", []).expect("tampered");
    assert!(matches!(disk.store.load(), Err(StoreError::Sqlite { .. })));
}
