//! A log that an older hraftd wrote: read, and gone on with in a segment of its own.

use super::damage::{played_with, put};
use super::*;
use crate::command::Action;
use crate::formats::{NEWEST, OLDEST};
use crate::storage::log::LogView;
use crate::storage::log::segment::{self, FILE_HEADER_BYTES};
use crate::storage::test_disk::crash_everywhere;
use openraft::EntryPayload;

/// A log as version 1 would have written it.
async fn old(seed: u64, close: bool) -> (Script, MemDisk) {
    let (script, mut log) = played_with(LogOptions { owner: None, ..small() }, seed, close).await;
    for (name, bytes) in &mut log.files {
        let id = segment::id_of(name).unwrap();
        bytes[..FILE_HEADER_BYTES].copy_from_slice(&segment::header(id, 1));
    }
    (script, put(&log.files))
}

fn versions(disk: &MemDisk) -> Vec<u32> {
    let version = |name: &String| segment::version(&disk.bytes(name)?, segment::id_of(name)?);
    disk.list().unwrap().iter().filter_map(version).collect()
}

fn new_entry(index: u64) -> LogEntry {
    LogEntry { log_id: id(99, index), payload: EntryPayload::Normal(Command::from(Action::Tick { most: 1 }).into()) }
}

#[tokio::test]
async fn an_old_log_is_gone_on_with_in_a_new_segment() {
    for seed in 0..8 {
        let (script, disk) = old(seed, seed % 2 == 0).await;
        let before = versions(&disk);
        assert!(before.iter().all(|version| *version == 1), "{before:?}");
        let store = open(&disk).unwrap();
        let mut expected = script.now().clone();
        assert_eq!(state(&store).await, expected);
        let entry = new_entry(expected.last.map_or(0, |id| id.index + 1));
        append(&store, vec![entry.clone()]).await.unwrap();
        store.close().unwrap();
        (expected.last, expected.entries) = (Some(entry.log_id), [expected.entries, vec![entry]].concat());
        let after = versions(&disk);
        assert!(after.is_sorted() && after.contains(&OLDEST.log()), "{after:?}");
        assert_eq!(state(&open(&disk).unwrap()).await, expected);
        // Once is enough.
        let segments = versions(&disk).len();
        drop(open(&disk).unwrap());
        assert_eq!(versions(&disk).len(), segments);
    }
}

fn raise(index: u64) -> LogEntry {
    let payload = EntryPayload::Normal(Command::from(Action::Raise { to: NEWEST }).into());
    LogEntry { log_id: id(99, index), payload }
}

/// A log that an older hraftd may still be started on.
async fn of_first_format(seed: u64, close: bool) -> (Script, MemDisk) {
    let (script, log) = played_with(LogOptions { owner: None, ..small() }, seed, close).await;
    (script, put(&log.files))
}

#[tokio::test]
async fn an_entry_of_a_newer_format_begins_a_segment_of_its_version() {
    for seed in 0..8 {
        let (script, disk) = of_first_format(seed, seed % 2 == 0).await;
        let (old, new) = (OLDEST.log(), NEWEST.log());
        let store = open(&disk).unwrap();
        let mut expected = script.now().clone();
        let next = expected.last.map_or(0, |id| id.index + 1);
        append(&store, vec![new_entry(next)]).await.unwrap();
        assert!(versions(&disk).iter().all(|version| *version == old), "nothing needs more");
        append(&store, vec![new_entry(next + 1), raise(next + 2)]).await.unwrap();
        append(&store, vec![raise(next + 3)]).await.unwrap();
        let before = versions(&disk);
        assert!(before.is_sorted() && before.contains(&old) && before.last() == Some(&new), "{before:?}");
        // It stays so, over a start, and where the entry is taken back: an older hraftd would have to read over it.
        let mut store = if seed % 2 == 0 { store } else { open(&disk.crash(|_, _, len| len)).unwrap() };
        store.truncate_after(Some(id(99, next))).await.unwrap();
        let last: Vec<LogEntry> = (next + 1..next + 60).map(new_entry).collect();
        append(&store, last.clone()).await.unwrap();
        store.close().unwrap();
        expected.entries.push(new_entry(next));
        expected.entries.extend(last);
        expected.last = expected.entries.last().map(|entry| entry.log_id);
        assert_eq!(state(&store).await, expected);
    }
}

/// Bytes that an older hraftd would take for damage stand only where it says "use a newer hraftd".
#[test]
fn no_crash_leaves_what_is_new_in_an_old_segment() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    no_crash_of(&runtime, || runtime.block_on(old(1, false)), new_entry, 1);
    no_crash_of(&runtime, || runtime.block_on(of_first_format(1, false)), raise, OLDEST.log());
}

fn no_crash_of(
    runtime: &tokio::runtime::Runtime,
    base: impl Fn() -> (Script, MemDisk),
    entry: fn(u64) -> LogEntry,
    old: u32,
) {
    let (script, _) = base();
    let entry = entry(script.now().last.map_or(0, |id| id.index + 1));
    let go_on = |disk: Arc<dyn Disk>| {
        let store = LogStore::open(disk, LogOptions { scheduler: Some(Arc::new(AtOnce)), ..small() });
        store.is_ok_and(|store| runtime.block_on(append(&store, vec![entry.clone()])).is_ok())
    };
    let points = crash_everywhere(
        || base().1,
        go_on,
        |disk, done| {
            let old_last = versions(disk).last() == Some(&old);
            let view = LogView::read(disk, None);
            assert!(view.damage.is_none(), "{view:?}");
            let mut entries = Vec::new();
            let take = |entry| {
                entries.push(entry);
                io::Result::Ok(())
            };
            view.for_each(0, take).unwrap();
            let has_new = entries.last() == Some(&entry);
            assert!(has_new || !done);
            assert!(!(has_new && old_last));
            entries.truncate(script.now().entries.len());
            assert_eq!(entries, script.now().entries);
            let found = runtime.block_on(async { state(&open(disk).unwrap()).await });
            assert_eq!(found.vote, script.now().vote);
        },
    );
    assert!(points > 8, "{points}");
}
