//! The types openraft is instantiated with.
//!
//! The *Raft* node id is a random number made once per data directory, so a wiped disk is a new
//! Raft node that never voted; people see the [`PublicId`] that travels in [`Member`] instead.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::impls::leader_id_std::LeaderId;
use openraft::{AnyError, Entry, EntryPayload, RaftTypeConfig, Vote};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::command::{Command, Reply};
use crate::node_id::PublicId;

/// A Raft node id: random, made with the data directory, never used again.
pub type RaftId = u64;

/// The id of a cluster: random, made when the cluster is formed. Printed as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// One start of a process on a data directory, as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartMark {
    /// How often a process was started on the directory: each start raises it before it says anything.
    pub starts: u64,
    /// A random number of the process.
    pub boot: u64,
}

impl StartMark {
    /// True for the mark of another process that has, or had, the same Raft id, where that is no later start of the
    /// directory: it is of a copy, or of a directory that was put back from the past.
    pub fn is_stale_beside(self, seen: StartMark) -> bool {
        self.starts < seen.starts || (self.starts == seen.starts && self.boot != seen.boot)
    }
}

/// The first membership of a cluster that several nodes found together. Each adopts one, and it is used once all have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The id of the cluster.
    pub cluster: ClusterId,
    /// Its first voters, and their addresses. The lowest proposes it, and is the only one that may use it.
    pub members: BTreeMap<RaftId, PublicId>,
}

/// The role that a member asked for. A learner with [`Role::Voter`] is promoted once it has caught up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Takes part in elections and quorums.
    Voter,
    /// Only follows.
    Learner,
}

/// A node, as the membership has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The addresses it is reached at.
    pub id: PublicId,
    /// The role it asked for.
    pub role: Role,
}

/// openraft's type parameters for hraftd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    // Shared: by the log's cache, by what travels to each follower, and by who applies it.
    type D = Arc<Command>;
    type R = Reply;
    type NodeId = RaftId;
    type Node = Member;
    type Term = u64;
    // One leader a term, as in the paper.
    type LeaderId = LeaderId<u64, RaftId>;
    type Vote = Vote<Self::LeaderId>;
    type Payload = EntryPayload<Self::D, RaftId, Member>;
    type Entry = Entry<openraft::alias::CommittedLeaderIdOf<Self>, Self::Payload>;
    type AsyncRuntime = crate::task::Runtime;
    type Responder<T>
        = Responder<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = AnyError;
}

/// Tells the waiting caller the outcome of a write.
pub struct Responder<T> {
    tell: oneshot::Sender<(T, u64)>,
    handed: u64,
    held: Vec<Box<dyn Any + Send>>,
}

impl<T: Send + 'static> Responder<T> {
    /// A responder, and the receiver of its outcome and of when it was [handed](Self::handed_at) on. The receiver gets
    /// nothing if Raft stops.
    pub fn new() -> (Self, oneshot::Receiver<(T, u64)>) {
        let (tell, told) = oneshot::channel();
        (Self { tell, handed: 0, held: Vec::new() }, told)
    }

    /// Notes when the command was handed to Raft, on the clock of whoever asks.
    pub fn handed_at(&mut self, at: u64) {
        self.handed = at;
    }

    /// Keeps something, beside what it keeps already, until the outcome is told, or nobody is left to tell it.
    pub fn hold(&mut self, held: Box<dyn Any + Send>) {
        self.held.push(held);
    }
}

impl<T: Send + 'static> openraft::raft::responder::Responder<TypeConfig, T> for Responder<T> {
    fn on_complete(self, result: T) {
        // Who gave up waiting knows that the outcome is unknown.
        let _ = self.tell.send((result, self.handed));
        drop(self.held);
    }
}

/// The names the rest of the crate uses for openraft's types.
pub mod alias {
    use super::TypeConfig;

    /// A log entry.
    pub type LogEntry = openraft::alias::EntryOf<TypeConfig>;
    /// Term and index of an entry.
    pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
    /// A vote: term, candidate, and whether a quorum granted it.
    pub type Vote = openraft::alias::VoteOf<TypeConfig>;
    /// A membership and the log id of the entry that holds it.
    pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
    /// Last log id and membership of a snapshot.
    pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
}

#[cfg(test)]
impl Default for Member {
    /// openraft's storage suite asks for a default node.
    fn default() -> Self {
        Self { id: "127.0.0.1:1,127.0.0.1:2".parse().expect("a fixed valid id"), role: Role::Voter }
    }
}
