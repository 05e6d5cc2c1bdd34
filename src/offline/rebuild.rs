//! Turns the directory of a survivor into that of a cluster of one.
//!
//! * All entries, committed or not, are applied over the newest snapshot. The result is a snapshot at a later term
//!   and a much later index: no index that a client was ever given is given again.
//! * The new log has a vote and a purge point and nothing else.
//! * The new identity has a new Raft id and a new cluster. This node and those of the old cluster are strangers.
//!
//! [`replace`] puts it in place at once: a crash leaves the old directory or the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use openraft::storage::RaftLogStorage as _;
use openraft::vote::RaftLeaderId as _;
use openraft::{EntryPayload, Membership};

use super::survey::Survey;
use crate::kv::KvStore;
use crate::raft_types::alias::{LogId, SnapshotMeta, StoredMembership, Vote};
use crate::raft_types::{ClusterId, Member, RaftId, Role};
use crate::storage::disk::Disk;
use crate::storage::log::{LogOptions, LogStore};
use crate::storage::{ClusterHandle, Identity, SnapshotStore, StorageError, note_authentication, replace};

/// How far the index jumps, in entries: further than any index that clients of the lost cluster were told.
pub const INDEX_STEP: u64 = 1 << 20;

/// The content that a directory is to get.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The new identity.
    pub identity: Identity,
    /// The new cluster.
    pub cluster: ClusterId,
    /// The log id of the new snapshot.
    pub at: LogId,
    /// The vote that the new log begins with: for the node itself.
    pub vote: Vote,
}

impl Plan {
    /// A plan for a directory that has an identity and something to keep.
    pub fn new(survey: &Survey, raft_id: RaftId, cluster: ClusterId) -> Option<Self> {
        let (identity, last) = (survey.identity.as_ref()?, survey.last()?);
        let voted = survey.log.vote().map_or(0, |vote| vote.leader_id.term);
        let vote = Vote::new(voted.max(last.leader_id.term) + 1, raft_id);
        let at = LogId::new(vote.leader_id.to_committed(), last.index + INDEX_STEP);
        let identity = Identity { cluster: Some(cluster), ..Identity::new(identity.public_id.clone(), raft_id) };
        Some(Self { identity, cluster, at, vote })
    }

    fn meta(&self) -> SnapshotMeta {
        let raft_id = self.identity.raft_id;
        let member = Member { id: self.identity.public_id.clone(), role: Role::Voter };
        let members = BTreeMap::from([(raft_id, member)]);
        let membership = Membership::new(vec![BTreeSet::from([raft_id])], members).expect("one voter, who is a member");
        SnapshotMeta { last_log_id: Some(self.at), last_membership: StoredMembership::new(Some(self.at), membership) }
    }
}

/// The map with all entries applied.
///
/// # Errors
/// `Damaged`, `Version`, `Io`: the snapshot or the log cannot be read.
pub fn state(disk: &dyn Disk, survey: &Survey) -> Result<KvStore, StorageError> {
    let mut kv = survey.snapshot().map_or_else(|| Ok(KvStore::new()), |view| view.load())?;
    if let Some(from) = survey.replay_from() {
        let mut events = Vec::new();
        let applied = survey.log.for_each(from, |entry| {
            if let EntryPayload::Normal(command) = entry.payload {
                kv.apply(entry.log_id.index, &command, &mut events);
                // Nobody watches.
                events.clear();
            }
            Ok::<_, io::Error>(())
        });
        applied.map_err(|error| StorageError::io(disk.display("log-*"), error))?;
    }
    Ok(kv)
}

/// Carries a plan out. Blocks.
///
/// # Errors
/// `Io`; the directory is then the old one or the new one.
pub fn rebuild(disk: &Arc<dyn Disk>, plan: &Plan, kv: &KvStore) -> Result<(), StorageError> {
    let built = replace::begin(disk)?;
    let io = |error| StorageError::io(disk.display(""), error);
    let options = LogOptions { prezero: false, owner: Some(plan.identity.raft_id), ..LogOptions::default() };
    let mut log = LogStore::open(built.clone(), options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(io)?;
    runtime
        .block_on(async {
            log.save_committed(Some(plan.at)).await?;
            log.purge(plan.at).await?;
            // Waits for the flush of all three.
            log.save_vote(&plan.vote).await
        })
        .and_then(|()| log.close())
        .map_err(io)?;
    drop(log);
    let snapshots = SnapshotStore::open(built, ClusterHandle::new(Some(plan.cluster)))?;
    if kv.auth().is_on() {
        // In the directory itself: it is true of the old content, too.
        note_authentication(&**disk)?;
    }
    snapshots.write(&plan.meta(), plan.cluster, kv)?;
    drop(snapshots);
    replace::commit(disk, &plan.identity)
}
