//! What nodes tell of themselves in their answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::formats::Speaks;
use crate::node_id::PublicId;
use crate::raft_types::alias::LogId;
use crate::raft_types::{ClusterId, Founding, RaftId, Role};

/// The identity of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identification {
    /// The public id it goes by.
    pub id: PublicId,
    /// Its Raft id.
    pub raft_id: RaftId,
    /// The cluster it belongs to, if any.
    pub cluster: Option<ClusterId>,
    /// It has no vote, no log and no snapshot.
    pub empty: bool,
    /// The role it asks for.
    pub role: Role,
    /// A random number of the process.
    pub boot: u64,
    /// It was removed from its cluster, and takes no part in any until it is started again.
    pub removed: bool,
    /// More, for those that look for the members of a cluster.
    pub standing: Box<Standing>,
    /// What it understands. It travels behind the message, where older nodes do not look.
    #[serde(skip)]
    pub speaks: Speaks,
}

/// What a node tells those that look for the members of a cluster. Blank but in answers to [`PeerRequest::Identify`](super::PeerRequest::Identify).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// How it came to its addresses.
    pub moved: Moved,
    /// The Raft ids of its former selves, which it is to replace.
    pub replaces: BTreeSet<RaftId>,
    /// The leader that it hears, itself perhaps.
    pub leader: Option<(RaftId, PublicId)>,
    /// The last entry of its log.
    pub last: Option<LogId>,
    /// The last entry that it knows to be committed.
    pub committed: Option<LogId>,
    /// The voters of each configuration in force, as far as its log goes.
    pub voters: Vec<BTreeSet<RaftId>>,
}

/// How a process came to its addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moved {
    /// Its directory was used under them before, or is new.
    #[default]
    No,
    /// It was started under them, and takes no part.
    Passive {
        /// The addresses that the directory was settled under.
        from: PublicId,
        /// Its log has the mark of a clean stop.
        clean: bool,
    },
    /// It was started under them, and goes on as who it was.
    WentOn {
        /// Its log had the mark of a clean stop.
        clean: bool,
    },
}

impl Moved {
    /// True for one that takes no part.
    pub fn is_passive(&self) -> bool {
        matches!(self, Moved::Passive { .. })
    }
}

/// A leader's process as a voter saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderSeen {
    /// The leader's Raft id.
    pub leader: RaftId,
    /// The term it leads in.
    pub term: u64,
    /// Which process it was; `None` where it never said.
    pub boot: Option<u64>,
}

/// The membership of a Raft node, as a leader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberAnswer {
    /// It is.
    Member {
        /// It is a voter of some configuration in force.
        voter: bool,
        /// The leader heard it within the election maximum.
        heard: bool,
    },
    /// It is not, by the membership at this index.
    Removed(u64),
    /// The one who was asked cannot know.
    Unknown,
}

/// A node that founds a cluster with others, or does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founder {
    /// Who it is.
    pub who: Identification,
    /// How many nodes are to found; `None` where it founds nothing.
    pub expect: Option<u64>,
    /// Those that it sees, itself included.
    pub seen: BTreeMap<RaftId, PublicId>,
    /// What it has adopted.
    pub adopted: Option<Founding>,
}

/// The digest of a node's state right after a [`Mark`](crate::command::Action::Mark). It is the same at all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The index of the entry.
    pub index: u64,
    /// The digest.
    pub digest: u64,
}

/// A leader's word on its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The log id at the index that was asked for, if the log still has it.
    pub log_id: Option<LogId>,
    /// The newest mark that it has applied.
    pub mark: Option<Mark>,
}
