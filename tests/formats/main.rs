//! The files of a data directory, as every hraftd from now on has to read them.
//!
//! `tests/golden/v1` is a small real directory: identity, a log of several segments with every kind of record, and a
//! snapshot. It is only ever opened as a copy. If a test here fails, a format changed: either the change is
//! a mistake, or it needs a new format version, a new golden directory beside the old one, and code that still reads
//! the old. A new kind of command is added to the *newest* directory only if it was not released yet.
//!
//! To write the golden files anew: `HRAFTD_WRITE_GOLDEN=1 cargo test --test formats`.

#![allow(clippy::unwrap_used, missing_docs)]

mod content;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hraftd::storage::disk::{Disk, ReadOnlyDisk, RealDisk};
use hraftd::storage::log::{Ending, LogOptions, LogStore, LogView};
use hraftd::storage::{ClusterHandle, IdentityStore, SnapshotStore, StorageError};
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use tempfile::TempDir;

const DIRS: [&str; 2] = ["v1", "v1-removed"];

fn golden(dir: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(dir)
}

/// A copy of a golden directory; written anew first where that is asked for.
fn copy(dir: &str) -> TempDir {
    static WRITTEN: std::sync::Once = std::sync::Once::new();
    if std::env::var_os("HRAFTD_WRITE_GOLDEN").is_some_and(|value| value == "1") {
        WRITTEN.call_once(|| DIRS.iter().for_each(|dir| write_golden(dir)));
    }
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in files(&golden(dir)) {
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    copy
}

fn write_golden(dir: &str) {
    let path = golden(dir);
    let _ = fs::remove_dir_all(&path);
    content::write(&disk(&path), dir);
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
    LogOptions { segment_bytes: content::SEGMENT_BYTES, prezero: false, ..LogOptions::default() }
}

#[test]
fn the_identity_is_read() {
    for dir in DIRS {
        let copy = copy(dir);
        assert_eq!(IdentityStore::new(disk(copy.path())).load().unwrap(), Some(content::identity(dir)), "{dir}");
    }
}

#[tokio::test]
async fn the_log_is_read() {
    let copy = copy("v1");
    let mut log = LogStore::open(disk(copy.path()), options()).unwrap();
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(content::purged()));
    assert_eq!(state.last_log_id, content::entries().last().map(|entry| entry.log_id));
    assert_eq!(log.read_committed().await.unwrap(), Some(content::committed()));
    let mut reader = log.get_log_reader().await;
    assert_eq!(reader.read_vote().await.unwrap(), Some(content::vote()));
    assert_eq!(reader.try_get_log_entries(..).await.unwrap(), content::entries());
}

#[test]
fn the_log_is_read_without_changing_it() {
    let copy = copy("v1");
    let view = LogView::read(&ReadOnlyDisk::new(copy.path()));
    assert!(view.damage.is_none(), "{view:?}");
    assert_eq!((view.vote(), view.committed()), (Some(content::vote()), Some(content::committed())));
    assert_eq!((view.purged(), &view.ending), (Some(content::purged()), &Ending::Clean));
    assert!(view.segments.len() > 2, "{view:?}");
    let mut entries = Vec::new();
    let take = |entry| {
        entries.push(entry);
        Ok::<_, std::io::Error>(())
    };
    view.for_each(0, take).unwrap();
    assert_eq!(entries, content::entries());
    assert_eq!(files(copy.path()), files(&golden("v1")));
}

#[test]
fn the_snapshot_is_read() {
    let copy = copy("v1");
    let cluster = content::identity("v1").cluster;
    let store = SnapshotStore::open(disk(copy.path()), ClusterHandle::new(cluster)).unwrap();
    let snapshot = store.current().unwrap();
    assert_eq!((snapshot.meta(), Some(snapshot.cluster())), (&content::snapshot_meta(), cluster));
    assert_eq!(store.load(&snapshot).unwrap(), content::snapshot_state());
}

/// What is written today is what is read here: no field, order or width changed unnoticed.
#[test]
fn the_same_bytes_are_written() {
    for dir in DIRS {
        let golden = files(copy(dir).path());
        let now = tempfile::tempdir().unwrap();
        content::write(&disk(now.path()), dir);
        let now = files(now.path());
        assert_eq!(now.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
        for (name, bytes) in golden {
            assert_eq!(now[&name], bytes, "{dir}/{name}");
        }
    }
}

/// The magic and the place of the version, which no version may change.
#[test]
fn every_file_starts_with_magic_and_version() {
    for (name, bytes) in files(copy("v1").path()) {
        let magic: &[u8] = match name.split('-').next().unwrap() {
            "identity" => b"hraftdID",
            "log" => b"hraftlog",
            "snapshot" => b"hraftdSN",
            other => panic!("a file of an unknown kind, {other}"),
        };
        assert_eq!(&bytes[..8], magic, "{name}");
        assert_eq!(bytes[8..12], 1u32.to_le_bytes(), "{name}");
    }
}

#[test]
fn a_later_version_is_refused_with_a_message() {
    let whole = copy("v1");
    for name in files(whole.path()).into_keys() {
        let copy = copy("v1");
        let path = copy.path().join(&name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
        let checked = match name.starts_with("log-") {
            true => 20,
            false => 16 + u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize,
        };
        let crc = crc32c::crc32c(&bytes[..checked]);
        bytes[checked..checked + 4].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, bytes).unwrap();

        let error = open_all(copy.path()).expect_err(&name);
        assert!(matches!(&error, StorageError::Version { found: 2, known: 1, .. }), "{name}: {error}");
        assert!(error.is_bad_directory(), "{name}");
        let message = error.to_string();
        for part in [path.to_str().unwrap(), "format version 2", "reads up to 1", "newer hraftd"] {
            assert!(message.contains(part), "{message}");
        }
    }
    open_all(whole.path()).unwrap();
}

/// What a start opens.
fn open_all(dir: &Path) -> Result<(), StorageError> {
    let identity = IdentityStore::new(disk(dir)).load()?.unwrap();
    LogStore::open(disk(dir), options())?;
    SnapshotStore::open(disk(dir), ClusterHandle::new(identity.cluster)).map(drop)
}
