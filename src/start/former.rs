//! What the directory of a stopped node says of it, read without changing a byte.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use openraft::EntryPayload;

use crate::node_id::PublicId;
use crate::raft_types::RaftId;
use crate::raft_types::alias::{LogId, StoredMembership};
use crate::storage::disk::Disk;
use crate::storage::log::{Ending, LogView};
use crate::storage::snapshot::views;
use crate::storage::{Identity, StorageError};

/// The node that a directory was, when it was last used.
#[derive(Debug)]
pub(super) struct Former {
    /// It never voted and holds nothing.
    pub is_empty: bool,
    /// Its log has the mark of a clean stop.
    pub clean: bool,
    /// The last entry of its log.
    pub last: Option<LogId>,
    /// The last entry that it knew to be committed.
    pub committed: Option<LogId>,
    /// The addresses of all members.
    pub members: BTreeMap<RaftId, PublicId>,
    /// The voters of every configuration in force: those of the newest membership, and of the one before if that of the
    /// newest is not known to be committed.
    pub voters: Vec<BTreeSet<RaftId>>,
}

impl Former {
    /// Reads it. Blocks.
    ///
    /// # Errors
    /// `Damaged`, `Version`, `Io`: a start would not get further.
    pub fn read(disk: &dyn Disk, identity: &Identity) -> Result<Self, StorageError> {
        let log = LogView::read(disk, Some(identity.log_owner()));
        if let Some(damage) = log.damage {
            return Err(damage);
        }
        // A snapshot that cannot be read is one that a start skips, or reports.
        let snapshot = views(disk)?.into_iter().find_map(Result::ok).map(|view| view.meta);
        let mut memberships: Vec<StoredMembership> = snapshot.iter().map(|meta| meta.last_membership.clone()).collect();
        let from = snapshot.and_then(|meta| meta.last_log_id).map_or(0, |id| id.index + 1);
        let found = log.for_each(from, |entry| {
            if let EntryPayload::Membership(membership) = entry.payload {
                memberships.push(StoredMembership::new(Some(entry.log_id), membership));
            }
            Ok::<_, io::Error>(())
        });
        found.map_err(|error| StorageError::io(disk.display("log-*"), error))?;
        let committed = log.committed();
        // There is at most one that is not committed.
        let is_committed = memberships.last().is_some_and(|newest| *newest.log_id() <= committed);
        let in_force = memberships.iter().rev().take(if is_committed { 1 } else { 2 });
        let mut members = BTreeMap::new();
        let mut voters = Vec::new();
        for stored in in_force {
            members.extend(stored.nodes().map(|(raft_id, member)| (*raft_id, member.id.clone())));
            voters.extend(stored.membership().get_joint_config().iter().cloned());
        }
        Ok(Self {
            is_empty: log.is_empty(),
            clean: log.ending == Ending::Clean,
            last: log.last(),
            committed,
            members,
            voters,
        })
    }
}
