use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::stream;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{Membership, RaftSnapshotBuilder};

use super::*;
use crate::command::{Command, Key};
use crate::raft_types::{ClusterId, Member, RaftId};
use crate::storage::disk::{Disk, MemDisk, RealDisk};
use crate::storage::log::{LogOptions, LogStore};

const CLUSTER: ClusterId = ClusterId(7);

pub(super) fn open(disk: &MemDisk) -> StateMachine {
    let cluster = ClusterHandle::new(Some(CLUSTER));
    let snapshots = SnapshotStore::open(Arc::new(disk.clone()), cluster.clone()).unwrap();
    StateMachine::open(snapshots, cluster, HistoryLimits::default()).unwrap()
}

fn log_id(index: u64) -> LogId {
    LogId::new(openraft::alias::CommittedLeaderIdOf::<TypeConfig>::new(1), index)
}

fn entry(index: u64, payload: EntryPayload<Arc<Command>, RaftId, Member>) -> LogEntry {
    LogEntry { log_id: log_id(index), payload }
}

fn set(index: u64, key: &str, value: &str) -> LogEntry {
    entry(index, EntryPayload::Normal(Command::Set(vec![(key.into(), Bytes::from(value.to_owned()))]).into()))
}

fn membership(index: u64) -> LogEntry {
    let nodes: BTreeMap<RaftId, Member> = [(1, Member::default())].into();
    entry(index, EntryPayload::Membership(Membership::new_with_defaults(vec![[1].into()], nodes.into_keys())))
}

async fn apply(sm: &mut StateMachine, entries: impl IntoIterator<Item = LogEntry>) {
    let entries: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
    sm.apply(stream::iter(entries)).await.unwrap();
}

async fn build(sm: &mut StateMachine, force: bool) -> io::Result<Snapshot> {
    sm.try_create_snapshot_builder(force).await.unwrap().build_snapshot().await
}

#[tokio::test]
async fn it_applies_and_restores() {
    let disk = MemDisk::new();
    let mut sm = open(&disk);
    let reader = sm.reader();
    let mut applied = reader.applied();
    assert_eq!((reader.get("a"), reader.len(), *applied.borrow_and_update()), ((None, 0), 0, 0));
    apply(&mut sm, [membership(0), entry(1, EntryPayload::Blank), set(2, "a", "1"), set(3, "b", "2")]).await;
    assert_eq!(reader.get("a"), (Some("1".into()), 3));
    assert!(applied.has_changed().unwrap());
    assert_eq!(*applied.borrow_and_update(), 3);
    let (last, members) = sm.applied_state().await.unwrap();
    assert_eq!((last, *members.log_id()), (Some(log_id(3)), Some(log_id(0))));

    let mut builder = sm.try_create_snapshot_builder(true).await.unwrap();
    let (then, _) = reader.view();
    apply(&mut sm, [entry(4, EntryPayload::Normal(Command::Delete("a".into()).into()))]).await;
    let snapshot = builder.build_snapshot().await.unwrap();
    assert_eq!(snapshot.meta.last_log_id, Some(log_id(3)), "the view, not what came later");
    assert_eq!(reader.get("a"), (None, 4));
    drop(sm);

    let mut sm = open(&disk);
    assert_eq!(sm.applied_state().await.unwrap(), (Some(log_id(3)), members));
    assert_eq!((sm.reader().get("a"), *sm.reader().applied().borrow()), ((Some("1".into()), 3), 3));
    assert_eq!(sm.reader().view(), (then, 3), "all of it");
    assert_eq!(sm.get_current_snapshot().await.unwrap().unwrap().meta, snapshot.meta);
}

#[tokio::test]
async fn batches_of_all_sizes_are_applied() {
    let (mut sm, mut model) = (open(&MemDisk::new()), KvStore::new());
    let many = |index: u64, keys: usize| -> LogEntry {
        let pair = |i| (Key::from(format!("{index}-{i}")), Bytes::from(index.to_string()));
        entry(index, EntryPayload::Normal(Command::Set((0..keys).map(pair).collect()).into()))
    };
    let entries: Vec<LogEntry> = (1..=1000u64)
        .map(|i| match i % 250 {
            0 => many(i, 3 * MAX_KEYS_A_HOLD),
            _ => many(i, 1),
        })
        .collect();
    for entry in &entries {
        if let EntryPayload::Normal(command) = &entry.payload {
            model.apply(entry.log_id.index, command, &mut Vec::new());
        }
    }
    apply(&mut sm, entries).await;
    assert!(sm.state().kv == model);
    assert_eq!(*sm.reader().applied().borrow(), 1000);
}

#[tokio::test]
async fn what_came_before_an_unreadable_entry_is_applied() {
    let mut sm = open(&MemDisk::new());
    let entries = vec![Ok((set(1, "a", "1"), None)), Err(io::Error::other("unreadable")), Ok((set(2, "a", "2"), None))];
    assert_eq!(sm.apply(stream::iter(entries)).await.unwrap_err().to_string(), "unreadable");
    assert_eq!(sm.reader().get("a"), (Some("1".into()), 1));
}

#[tokio::test]
async fn a_snapshot_is_installed_as_received() {
    let (mut from, mut to) = (open(&MemDisk::new()), open(&MemDisk::new()));
    apply(&mut from, [membership(0), set(1, "a", "1"), set(2, "b", "2")]).await;
    apply(&mut to, [set(1, "old", "1")]).await;
    let sent = build(&mut from, true).await.unwrap();

    let mut incoming = to.snapshots().receive().unwrap();
    let mut bytes = vec![0; usize::try_from(sent.snapshot.len()).unwrap()];
    sent.snapshot.file().read_exact_at(&mut bytes, 0).unwrap();
    incoming.write(&bytes).unwrap();
    let received = incoming.finish(Some(&sent.meta)).unwrap();

    let other = SnapshotMeta { last_log_id: Some(log_id(3)), ..sent.meta.clone() };
    assert_eq!(to.install_snapshot(&other, received.clone()).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    to.install_snapshot(&sent.meta, received.clone()).await.unwrap();
    assert_eq!(to.reader().get("old"), (None, 2));
    assert_eq!((to.reader().get("b").0, to.reader().len()), (Some("2".into()), 2));
    assert_eq!(to.applied_state().await.unwrap(), from.applied_state().await.unwrap());
    assert_eq!(to.get_current_snapshot().await.unwrap().unwrap().meta, sent.meta);

    apply(&mut to, [set(3, "c", "3")]).await;
    let older = to.install_snapshot(&sent.meta, received).await.unwrap_err();
    assert_eq!(older.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(to.reader().get("c"), (Some("3".into()), 3), "it does not go back");
}

#[tokio::test]
async fn a_failed_background_snapshot_gives_the_previous() {
    let disk = MemDisk::new();
    let mut sm = open(&disk);
    apply(&mut sm, [set(1, "a", "1")]).await;
    disk.fail_with(Some(io::ErrorKind::StorageFull));
    assert_eq!(build(&mut sm, false).await.unwrap().meta, SnapshotMeta::default());
    assert_eq!(build(&mut sm, true).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.fail_with(None);
    assert_eq!(build(&mut sm, false).await.unwrap().meta.last_log_id, Some(log_id(1)));
    apply(&mut sm, [set(2, "a", "2")]).await;
    disk.fail_with(Some(io::ErrorKind::StorageFull));
    assert_eq!(build(&mut sm, false).await.unwrap().meta.last_log_id, Some(log_id(1)));
}

#[tokio::test]
async fn dropping_it_stops_a_build() {
    let disk = MemDisk::new();
    let mut sm = open(&disk);
    apply(&mut sm, [set(1, "a", "1")]).await;
    let mut builder = sm.try_create_snapshot_builder(true).await.unwrap();
    drop(sm);
    assert_eq!(builder.build_snapshot().await.unwrap_err().kind(), io::ErrorKind::Interrupted);
    assert!(disk.list().unwrap().is_empty());
}

/// A reader on another thread never sees half a command, nor a map that goes back.
#[tokio::test]
async fn readers_see_whole_commands() {
    let mut sm = open(&MemDisk::new());
    let (reader, done) = (sm.reader(), Arc::new(AtomicBool::new(false)));
    let stop = done.clone();
    let check = tokio::task::spawn_blocking(move || {
        let mut last = 0;
        while !stop.load(Ordering::Relaxed) {
            let (value, index) = reader.get("k299");
            let seen = value.map_or(0, |value| std::str::from_utf8(value.value()).unwrap().parse().unwrap());
            assert!(seen == index && index >= last, "{seen} {index} {last}");
            last = index;
        }
    });
    for index in 1..200u64 {
        let pair = |i| (Key::from(format!("k{i}")), Bytes::from(index.to_string()));
        let keys = if index % 2 == 0 { 299..300 } else { 0..300 };
        apply(&mut sm, [entry(index, EntryPayload::Normal(Command::Set(keys.map(pair).collect()).into()))]).await;
    }
    done.store(true, Ordering::Relaxed);
    check.await.unwrap();
}

/// Stores on a real directory, with segments and a cache so small that both are left all the time.
struct Stores;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Stores {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), openraft::StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::open(dir.path()).unwrap());
        let options = LogOptions { segment_bytes: 400, cache_bytes: 0, prezero: true, ..LogOptions::default() };
        Ok((dir, LogStore::open(disk, options).unwrap(), open(&MemDisk::new())))
    }
}

// Paused, because it sleeps for seconds.
#[tokio::test(start_paused = true)]
async fn openrafts_own_suite_passes_on_the_real_store() {
    Suite::test_all(Stores).await.unwrap();
}
