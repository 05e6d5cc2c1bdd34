//! The files of a data directory, as every hraftd from now on has to read them.
//!
//! Each directory of `tests/golden` is a small real one: identity, a log of several segments with every kind of record,
//! and a snapshot. They are only ever opened as copies. `v1` and `v1-removed` were written by hraftd 0.1 and are never
//! written again; nor is `v2`, whose log did not say whose it is, nor `v3`, whose identity did not count the starts. `v4` is of the first
//! format (see `src/formats.rs`), which is still written until a cluster's is raised; `v5` of the second, the newest. If a test here fails, a format changed: either the change is a mistake, or it needs
//! a new format version, a new golden directory beside the old ones, and code that still reads the old. A new kind of
//! command is added to the *newest* directory only if it was not released yet.
//!
//! To write the newest anew: `HRAFTD_WRITE_GOLDEN=1 cargo test --test formats`.

#![allow(clippy::unwrap_used, missing_docs)]

mod backup;
mod content;
mod upgrade;
mod v1;
mod v2;
mod v5;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use content::Content;
use hraftd::storage::disk::{Disk, ReadOnlyDisk, RealDisk};
use hraftd::storage::log::{Ending, LogOptions, LogStore, LogView};
use hraftd::storage::{ClusterHandle, Identity, IdentityStore, SnapshotStore, StorageError};
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use tempfile::TempDir;

const NEWEST: &str = "v5";

/// The versions of a directory's files.
#[derive(Clone, Copy)]
struct Versions {
    identity: u32,
    log: u32,
    snapshot: u32,
}

/// Directories with a log and a snapshot.
fn dirs() -> [(&'static str, Versions, Content); 5] {
    [
        ("v1", Versions { identity: 1, log: 1, snapshot: 1 }, v1::content()),
        ("v2", Versions { identity: 1, log: 2, snapshot: 2 }, v2::content()),
        // The same commands, in a log that says whose it is.
        ("v3", Versions { identity: 1, log: 3, snapshot: 2 }, v2::content()),
        ("v4", Versions { identity: 2, log: 3, snapshot: 2 }, v2::content()),
        (NEWEST, Versions { identity: 2, log: 4, snapshot: 3 }, v5::content()),
    ]
}

fn golden(dir: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(dir)
}

/// A copy of a golden directory; the newest is written anew first where that is asked for.
fn copy(dir: &str) -> TempDir {
    static WRITTEN: std::sync::Once = std::sync::Once::new();
    if std::env::var_os("HRAFTD_WRITE_GOLDEN").is_some_and(|value| value == "1") {
        WRITTEN.call_once(|| {
            let _ = fs::remove_dir_all(golden(NEWEST));
            fs::create_dir_all(golden(NEWEST)).unwrap();
            v5::content().write(&disk(&golden(NEWEST)));
        });
    }
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in files(&golden(dir)) {
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    copy
}

fn disk(path: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::open(path).unwrap())
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
    };
    entries.map(file).collect()
}

fn options() -> LogOptions {
    content::log_options()
}

#[test]
fn the_identity_is_read() {
    for dir in ["v1", "v1-removed", "v2", "v3", "v4", NEWEST] {
        let copy = copy(dir);
        let expected = if ["v4", NEWEST].contains(&dir) { content::newest_identity() } else { content::identity(dir) };
        assert_eq!(IdentityStore::new(disk(copy.path())).load().unwrap(), Some(expected), "{dir}");
    }
}

#[tokio::test]
async fn the_log_is_read() {
    for (dir, _, content) in dirs() {
        let copy = copy(dir);
        let mut log = LogStore::open(disk(copy.path()), options()).unwrap();
        let state = log.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(content.purged));
        assert_eq!(state.last_log_id, content.entries().last().map(|entry| entry.log_id));
        assert_eq!(log.read_committed().await.unwrap(), Some(content.committed));
        let mut reader = log.get_log_reader().await;
        assert_eq!(reader.read_vote().await.unwrap(), Some(content.vote()));
        assert_eq!(reader.try_get_log_entries(..).await.unwrap(), content.entries(), "{dir}");
    }
}

#[test]
fn the_log_is_read_without_changing_it() {
    for (dir, _, content) in dirs() {
        let copy = copy(dir);
        let view = LogView::read(&ReadOnlyDisk::new(copy.path()), Some(content::identity(dir).raft_id));
        assert!(view.damage.is_none(), "{view:?}");
        assert_eq!((view.vote(), view.committed()), (Some(content.vote()), Some(content.committed)));
        assert_eq!((view.purged(), &view.ending), (Some(content.purged), &Ending::Clean));
        assert!(view.segments.len() > 2, "{view:?}");
        let mut entries = Vec::new();
        let take = |entry| {
            entries.push(entry);
            Ok::<_, std::io::Error>(())
        };
        view.for_each(0, take).unwrap();
        assert_eq!(entries, content.entries(), "{dir}");
        assert_eq!(files(copy.path()), files(&golden(dir)));
    }
}

#[test]
fn the_snapshot_is_read() {
    for (dir, _, content) in dirs() {
        let copy = copy(dir);
        let cluster = content::identity(dir).cluster;
        let store = SnapshotStore::open(disk(copy.path()), ClusterHandle::new(cluster)).unwrap();
        let snapshot = store.current().unwrap();
        assert_eq!((snapshot.meta(), Some(snapshot.cluster())), (&content.snapshot_meta(), cluster));
        assert_eq!(store.load(&snapshot).unwrap(), content.snapshot_state(), "{dir}");
    }
}

/// What is written today is what is read here: no field, order or width changed unnoticed.
#[test]
fn the_same_bytes_are_written() {
    let same = |dir: &str, write: &dyn Fn(&Arc<dyn Disk>)| {
        let golden = files(copy(dir).path());
        let now = tempfile::tempdir().unwrap();
        write(&disk(now.path()));
        let now = files(now.path());
        assert_eq!(now.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
        for (name, bytes) in golden {
            assert_eq!(now[&name], bytes, "{dir}/{name}");
        }
    };
    // An older node of the cluster may yet be started on it.
    same("v4", &|disk| v2::content().write(disk));
    same(NEWEST, &|disk| v5::content().write(disk));
}

/// Replicas of different versions compare their digests.
#[test]
fn the_digest_is_the_same_in_every_version() {
    let digests: Vec<String> =
        dirs().iter().map(|(_, _, content)| format!("{:016x}", content.snapshot_state().digest())).collect();
    assert_eq!(
        digests,
        ["295f0efb6eb22976", "470db74b2d8c04d3", "470db74b2d8c04d3", "470db74b2d8c04d3", "38839e7f2f7b98e5"]
    );
}

/// A kind that is missing here could change unnoticed.
#[test]
fn the_newest_has_every_kind() {
    let content = v5::content();
    let kv = content.snapshot_state();
    let shown = |what: &dyn std::fmt::Debug| format!("{what:?}");
    let snapshot = [shown(&kv), shown(&kv.kept().collect::<Vec<_>>()), shown(&kv.locks().collect::<Vec<_>>())].concat();
    let in_snapshot = "is_bytes: true|image/png|deadline_ms: Some|waiters: [(|Done|Put {|Deleted(|Number(|Txn {|Set(2)|\
        Numbers(|NotKept|Touched {|Granted {|Queued|Precondition {|Missing|place: None|place: Some|Overflow|Other|\
        TextOfNumber|Locked(|LockLost";
    let in_log = "Set(|Set {|Put {|Delete {|DeletePrefix {|Incr {|Touch {|Txn(|Acquire {|Renew {|Release {|Cancel {|Tick {|Raise {|\
        Grant {|KeepAlive {|Revoke {|Leased {|write: Set {|write: Put {|write: Incr {|write: Acquire {|SetLeased {|\
        IncrLeased {|Touch { keys|Number(Less,|Number(LessOrEqual,|Number(Greater,|Number(GreaterOrEqual,|Holder(|Alive(|\
        Exists|Missing|ModifiedBy(|NotModifiedBy(|ModifyIndex(|CreateIndex(|Version(|Value(|Delete(|DeletePrefix(|Get(";
    let log = format!("{:?} {:?}", content.first[2], content.entries());
    for (kinds, shown) in [(in_snapshot, snapshot), (in_log, log)] {
        for kind in kinds.split('|') {
            assert!(shown.contains(kind), "{kind} is not in {shown}");
        }
    }
}

/// What only a transaction of many MiB is answered is not in the directory.
#[test]
fn a_reply_that_is_too_large_for_it() {
    let failure = hraftd::command::Failure::ReadsTooMuch { place: hraftd::command::OpIndex { then: true, at: 3 } };
    let reply = hraftd::command::Reply::failed(failure);
    assert_eq!(postcard::to_stdvec(&reply).unwrap(), [9, 7, 1, 3]);
}

/// It could be told by nothing, and the node would forget its votes.
#[test]
fn the_log_of_another_node_is_refused() {
    let copy = copy(NEWEST);
    let path = copy.path();
    let identity = Identity { raft_id: 99, ..content::identity(NEWEST) };
    IdentityStore::new(disk(path)).save(&identity).unwrap();
    let error = LogStore::open(disk(path), LogOptions { owner: Some(99), ..options() }).unwrap_err();
    let StorageError::Foreign { found, expected: 99, .. } = error else { panic!("{error}") };
    assert_eq!(found, content::identity(NEWEST).raft_id);
    assert!(error.is_bad_directory());
}

fn magic(name: &str) -> &'static [u8] {
    match name.split('-').next().unwrap() {
        "identity" => b"hraftdID",
        "log" => b"hraftlog",
        "snapshot" => b"hraftdSN",
        other => panic!("a file of an unknown kind, {other}"),
    }
}

/// The magic and the place of the version, which no version may change.
#[test]
fn every_file_starts_with_magic_and_version() {
    for (dir, versions, _) in dirs() {
        for (name, bytes) in files(copy(dir).path()) {
            let version = match name.split('-').next().unwrap() {
                "identity" => versions.identity,
                "log" => versions.log,
                _ => versions.snapshot,
            };
            assert_eq!(&bytes[..8], magic(&name), "{name}");
            assert_eq!(bytes[8..12], version.to_le_bytes(), "{name}");
        }
    }
}

#[test]
fn a_later_version_is_refused_with_a_message() {
    for (dir, _, _) in dirs() {
        let whole = copy(dir);
        for name in files(whole.path()).into_keys() {
            let copy = copy(dir);
            let path = copy.path().join(&name);
            let known: u32 = match name.split('-').next().unwrap() {
                "identity" => 2,
                "log" => 4,
                _ => 3,
            };
            let mut bytes = fs::read(&path).unwrap();
            bytes[8..12].copy_from_slice(&(known + 1).to_le_bytes());
            let checked = match name.starts_with("log-") {
                true => 20,
                false => 16 + u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize,
            };
            let crc = crc32c::crc32c(&bytes[..checked]);
            bytes[checked..checked + 4].copy_from_slice(&crc.to_le_bytes());
            fs::write(&path, bytes).unwrap();

            let error = open_all(copy.path()).expect_err(&name);
            let StorageError::Version { found, known: said, .. } = &error else { panic!("{name}: {error}") };
            assert_eq!((*found, *said), (known + 1, known));
            assert!(error.is_bad_directory(), "{name}");
            let message = error.to_string();
            let (found, reads) = (format!("format version {found}"), format!("reads up to {known}"));
            for part in [path.to_str().unwrap(), &found, &reads, "newer hraftd"] {
                assert!(message.contains(part), "{message}");
            }
        }
        open_all(whole.path()).unwrap();
    }
}

/// What a start opens.
fn open_all(dir: &Path) -> Result<(), StorageError> {
    let identity = IdentityStore::new(disk(dir)).load()?.unwrap();
    LogStore::open(disk(dir), options())?;
    SnapshotStore::open(disk(dir), ClusterHandle::new(identity.cluster)).map(drop)
}
