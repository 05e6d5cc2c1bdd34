//! What is in the golden directories, and how one comes to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hraftd::command::Command;
use hraftd::kv::KvStore;
use hraftd::raft_types::alias::{LogEntry, LogId, SnapshotMeta, StoredMembership, Vote};
use hraftd::raft_types::{ClusterId, Founding, Member, Role, StartMark, TypeConfig};
use hraftd::storage::disk::Disk;
use hraftd::storage::log::{LogOptions, LogStore};
use hraftd::storage::{ClusterHandle, Identity, IdentityStore, LogMark, SnapshotStore};
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
        cluster: Some(ClusterId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)),
        removed: (dir == "v1-removed").then_some(300),
        ..Identity::new(NODES[0].1.parse().unwrap(), NODES[0].0)
    }
}

/// With every field of version 2.
pub fn newest_identity() -> Identity {
    Identity {
        starts: 300,
        moved_from: Some(NODES[1].1.parse().unwrap()),
        lost: Some("acknowledged entries".to_owned()),
        aside: Some("lost-1764460800000".to_owned()),
        log: LogMark { began: true, term: 3, committed: 40 },
        seen: BTreeMap::from([
            (NODES[1].0, StartMark { starts: 1, boot: u64::MAX }),
            (NODES[2].0, StartMark { starts: 2, boot: 1 }),
        ]),
        founding: Some(Founding {
            cluster: ClusterId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
            members: NODES.iter().take(2).map(|(raft_id, id, _)| (*raft_id, id.parse().unwrap())).collect(),
        }),
        log_owner: Some(NODES[0].0),
        replaces: BTreeSet::from([NODES[1].0, NODES[2].0]),
        ..identity("")
    }
}

pub fn log_options() -> LogOptions {
    let owner = Some(NODES[0].0);
    LogOptions { segment_bytes: SEGMENT_BYTES, prezero: false, owner, ..LogOptions::default() }
}

pub fn id(term: u64, index: u64) -> LogId {
    openraft::testing::log_id::<TypeConfig>(term, 0, index)
}

pub fn entry(term: u64, index: u64, payload: EntryPayload<Arc<Command>, u64, Member>) -> LogEntry {
    LogEntry { log_id: id(term, index), payload }
}

/// A JSON text of so many characters.
pub fn fill(characters: usize) -> String {
    format!("\"{}\"", "x".repeat(characters))
}

fn members(joint: bool) -> Membership<u64, Member> {
    let nodes: BTreeMap<_, _> =
        NODES.iter().map(|(raft_id, id, role)| (*raft_id, Member { id: id.parse().unwrap(), role: *role })).collect();
    let mut sets = vec![BTreeSet::from([NODES[0].0])];
    if joint {
        sets.push(BTreeSet::from([NODES[0].0, NODES[1].0]));
    }
    Membership::new(sets, nodes).unwrap()
}

pub fn membership(joint: bool) -> EntryPayload<std::sync::Arc<Command>, u64, Member> {
    EntryPayload::Membership(members(joint))
}

/// The life of one directory.
pub struct Content {
    /// Entries from 0 on, of term 1.
    pub first: Vec<LogEntry>,
    /// The last of them that is kept.
    pub truncated_after: u64,
    /// Entries that took the place of the truncated ones.
    pub second: Vec<LogEntry>,
    /// The last entry in the snapshot; its membership is that of entry 0.
    pub snapshot: u64,
    pub purged: LogId,
    pub committed: LogId,
    /// What was saved as committed before the truncation.
    pub saved_before: LogId,
}

impl Content {
    /// All entries that were not truncated.
    pub fn all(&self) -> Vec<LogEntry> {
        let kept = self.first.iter().filter(|entry| entry.log_id.index <= self.truncated_after);
        kept.chain(&self.second).cloned().collect()
    }

    /// What the log holds in the end.
    pub fn entries(&self) -> Vec<LogEntry> {
        self.all().into_iter().filter(|entry| entry.log_id.index > self.purged.index).collect()
    }

    pub fn vote(&self) -> Vote {
        Vote::new_committed(3, NODES[1].0)
    }

    pub fn snapshot_meta(&self) -> SnapshotMeta {
        let last_membership = StoredMembership::new(Some(id(1, 0)), members(false));
        SnapshotMeta { last_log_id: Some(id(1, self.snapshot)), last_membership }
    }

    /// What the snapshot holds.
    pub fn snapshot_state(&self) -> KvStore {
        let mut kv = KvStore::new();
        let covered = self.first.iter().filter(|entry| entry.log_id.index <= self.snapshot);
        apply(&mut kv, covered);
        kv
    }

    /// Writes the directory, with the code that a node runs.
    pub fn write(&self, disk: &Arc<dyn Disk>) {
        let identity = newest_identity();
        IdentityStore::new(disk.clone()).save(&identity).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.write_log(disk));
        let store = SnapshotStore::open(disk.clone(), ClusterHandle::new(identity.cluster)).unwrap();
        store.write(&self.snapshot_meta(), identity.cluster.unwrap(), &self.snapshot_state()).unwrap();
    }

    async fn write_log(&self, disk: &Arc<dyn Disk>) {
        let mut log = LogStore::open(disk.clone(), log_options()).unwrap();
        log.save_vote(&Vote::new(1, NODES[0].0)).await.unwrap();
        for entry in &self.first {
            append(&mut log, vec![entry.clone()]).await;
        }
        log.save_committed(Some(self.saved_before)).await.unwrap();
        log.save_vote(&self.vote()).await.unwrap();
        log.truncate_after(Some(id(1, self.truncated_after))).await.unwrap();
        append(&mut log, self.second.clone()).await;
        log.save_committed(Some(self.committed)).await.unwrap();
        log.purge(self.purged).await.unwrap();
        log.close().unwrap();
    }
}

pub fn apply<'a>(kv: &mut KvStore, entries: impl IntoIterator<Item = &'a LogEntry>) {
    for entry in entries {
        if let EntryPayload::Normal(command) = &entry.payload {
            kv.apply(entry.log_id.index, command, &mut Vec::new());
        }
    }
}

async fn append(log: &mut LogStore, entries: Vec<LogEntry>) {
    let (sender, receiver) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(sender)).await.unwrap();
    receiver.await.unwrap().unwrap();
}
