//! A directory of an older version under this one.

use std::sync::Arc;

use hraftd::command::{Action, Command};
use hraftd::kv::KvStore;
use hraftd::raft_types::alias::LogEntry;
use hraftd::record::Marks;
use hraftd::storage::disk::{Disk, MemDisk};
use hraftd::storage::log::LogStore;
use hraftd::storage::{ClusterHandle, SnapshotStore};
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};

use crate::content::{apply, identity};
use crate::{copy, disk, options, v1};

/// What a start has: the snapshot, and the entries of the log after it.
async fn started() -> (KvStore, Vec<LogEntry>) {
    let copy = copy("v1");
    let disk = disk(copy.path());
    let store = SnapshotStore::open(disk.clone(), ClusterHandle::new(identity("v1").cluster)).unwrap();
    let kv = store.load(&store.current().unwrap()).unwrap();
    let mut log = LogStore::open(disk, options()).unwrap();
    (kv, log.get_log_reader().await.try_get_log_entries(4..).await.unwrap())
}

/// Through a snapshot of today.
fn restored(kv: &KvStore) -> KvStore {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    let store = SnapshotStore::open(disk, ClusterHandle::new(identity("v1").cluster)).unwrap();
    let file = store.write(&v1::content().snapshot_meta(), identity("v1").cluster.unwrap(), kv).unwrap();
    store.load(&file).unwrap()
}

#[tokio::test]
async fn all_keys_are_there_and_nothing_is_known_of_them() {
    let (mut kv, entries) = started().await;
    apply(&mut kv, &entries);
    let keys: Vec<&str> = kv.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["a", "fill", "purged", "z", "ключ/ß"], "some of the snapshot, some of the log");
    assert!(kv.iter().all(|(_, record)| record.marks() == Marks::UNKNOWN));
    assert_eq!((kv.log_time_ms(), kv.next_deadline(), kv.locks().count(), kv.kept().count()), (0, None, 0, 0));
}

/// When a replica was upgraded, and what it had in a snapshot by then, makes no difference.
#[tokio::test]
async fn replicas_upgraded_at_different_points_are_equal() {
    let (from_snapshot, entries) = started().await;
    let after: Vec<Command> = vec![
        Action::Incr { key: "z".into(), by: 1, ttl_ms: Some(1_000), conditions: Vec::new() }.into(),
        Action::Set { pairs: vec![("a".into(), "1".into())], ttl_ms: None, conditions: Vec::new() }.into(),
    ];
    let finish = |mut kv: KvStore| {
        for (index, mut command) in (100..).zip(after.clone()) {
            command.stamp(index);
            kv.apply(index, &command, &mut Vec::new());
        }
        kv
    };
    let mut from_nothing = KvStore::new();
    apply(&mut from_nothing, &v1::content().all());
    let expected = finish(from_nothing);
    let marks = |key| expected.get(key).unwrap().marks();
    assert_eq!(marks("z"), Marks { create_index: 1, modify_index: 100, version: 2 });
    assert_eq!(marks("fill"), Marks::UNKNOWN);
    for at in 0..=entries.len() {
        let mut kv = from_snapshot.clone();
        apply(&mut kv, &entries[..at]);
        let mut kv = restored(&kv);
        apply(&mut kv, &entries[at..]);
        let kv = restored(&finish(kv));
        assert_eq!((kv.digest(), &kv), (expected.digest(), &expected), "upgraded at {at}");
    }
}
