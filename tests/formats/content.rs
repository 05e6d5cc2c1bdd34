//! What is in the golden directories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use hraftd::command::{Command, Key};
use hraftd::kv::KvStore;
use hraftd::raft_types::alias::{LogEntry, LogId, SnapshotMeta, StoredMembership, Vote};
use hraftd::raft_types::{ClusterId, Member, Role, TypeConfig};
use hraftd::storage::disk::Disk;
use hraftd::storage::log::{LogOptions, LogStore};
use hraftd::storage::{ClusterHandle, Identity, IdentityStore, SnapshotStore};
use openraft::storage::{IOFlushed, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use openraft::{EntryPayload, Membership};

/// Small, so that the log has several.
pub const SEGMENT_BYTES: u64 = 700;

const NODES: [(u64, &str, Role); 3] = [
    (0x0123_4567_89ab_cdef, "127.0.0.1:11001,127.0.0.1:12001", Role::Voter),
    (7, "[::1]:11002,[::1]:12002", Role::Voter),
    (u64::MAX, "node-3.example:11003,node-3.example:12003", Role::Learner),
];

pub fn identity(dir: &str) -> Identity {
    Identity {
        public_id: NODES[0].1.parse().unwrap(),
        raft_id: NODES[0].0,
        cluster: Some(ClusterId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)),
        removed: (dir == "v1-removed").then_some(300),
    }
}

fn id(term: u64, index: u64) -> LogId {
    openraft::testing::log_id::<TypeConfig>(term, 0, index)
}

fn membership(joint: bool) -> Membership<u64, Member> {
    let nodes: BTreeMap<_, _> =
        NODES.iter().map(|(raft_id, id, role)| (*raft_id, Member { id: id.parse().unwrap(), role: *role })).collect();
    let mut sets = vec![BTreeSet::from([NODES[0].0])];
    if joint {
        sets.push(BTreeSet::from([NODES[0].0, NODES[1].0]));
    }
    Membership::new(sets, nodes).unwrap()
}

fn set(pairs: &[(&str, &str)]) -> Command {
    Command::Set(pairs.iter().map(|(key, value)| (Key::from(*key), Bytes::from(value.to_string()))).collect())
}

fn entry(term: u64, index: u64, payload: EntryPayload<Command, u64, Member>) -> LogEntry {
    LogEntry { log_id: id(term, index), payload }
}

/// Entries 0 to 11 of term 1, before the truncation.
fn first_entries() -> Vec<LogEntry> {
    let mut entries = vec![
        entry(1, 0, EntryPayload::Membership(membership(false))),
        entry(1, 1, EntryPayload::Blank),
        entry(1, 2, EntryPayload::Normal(set(&[("purged", "true")]))),
        entry(
            1,
            3,
            EntryPayload::Normal(set(&[("a", r#"{"x":[1,2.50,1e400]}"#), ("ключ/ß", "null"), ("b", r#""\u0000""#)])),
        ),
        entry(1, 4, EntryPayload::Normal(Command::Delete("b".into()))),
        entry(1, 5, EntryPayload::Membership(membership(true))),
    ];
    // Long enough to fill segments.
    let fill = |index| entry(1, index, EntryPayload::Normal(set(&[("fill", &format!("\"{}\"", "x".repeat(300)))])));
    entries.extend((6..12).map(fill));
    entries
}

/// Entries that took the place of the truncated ones.
fn second_entries() -> Vec<LogEntry> {
    vec![entry(3, 10, EntryPayload::Blank), entry(3, 11, EntryPayload::Normal(set(&[("z", "0")])))]
}

/// The entries that the log holds in the end: 3 to 11.
pub fn entries() -> Vec<LogEntry> {
    first_entries().drain(3..10).chain(second_entries()).collect()
}

pub fn purged() -> LogId {
    id(1, 2)
}

pub fn committed() -> LogId {
    id(3, 10)
}

pub fn vote() -> Vote {
    Vote::new_committed(3, NODES[1].0)
}

pub fn snapshot_meta() -> SnapshotMeta {
    let last_membership = StoredMembership::new(Some(id(1, 0)), membership(false));
    SnapshotMeta { last_log_id: Some(id(1, 3)), last_membership }
}

/// What the snapshot holds.
pub fn snapshot_state() -> KvStore {
    let mut kv = KvStore::new();
    for entry in first_entries().drain(..4) {
        if let EntryPayload::Normal(command) = entry.payload {
            kv.apply(entry.log_id.index, command, &mut Vec::new());
        }
    }
    kv
}

/// Writes a golden directory, with the code that a node runs.
pub fn write(disk: &Arc<dyn Disk>, dir: &str) {
    IdentityStore::new(disk.clone()).save(&identity(dir)).unwrap();
    if dir != "v1" {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(write_log(disk));
    let handle = ClusterHandle::new(identity(dir).cluster);
    let store = SnapshotStore::open(disk.clone(), handle).unwrap();
    store.write(&snapshot_meta(), identity(dir).cluster.unwrap(), &snapshot_state()).unwrap();
}

async fn write_log(disk: &Arc<dyn Disk>) {
    let options = LogOptions { segment_bytes: SEGMENT_BYTES, prezero: false, ..LogOptions::default() };
    let mut log = LogStore::open(disk.clone(), options).unwrap();
    log.save_vote(&Vote::new(1, NODES[0].0)).await.unwrap();
    for entry in first_entries() {
        append(&mut log, vec![entry]).await;
    }
    log.save_committed(Some(id(1, 3))).await.unwrap();
    log.save_vote(&vote()).await.unwrap();
    log.truncate_after(Some(id(1, 9))).await.unwrap();
    append(&mut log, second_entries()).await;
    log.save_committed(Some(committed())).await.unwrap();
    log.purge(purged()).await.unwrap();
    log.close().unwrap();
}

async fn append(log: &mut LogStore, entries: Vec<LogEntry>) {
    let (sender, receiver) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(sender)).await.unwrap();
    receiver.await.unwrap().unwrap();
}
