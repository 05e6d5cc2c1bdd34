//! What a node did, as it tells others.

use serde::{Deserialize, Serialize};

use crate::platform::wall_ms;

/// The most bytes of each text of an event.
pub const MAX_TEXT_BYTES: usize = 512;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// The node has another role.
    Role,
    /// The node is in a later term.
    Term,
    /// The node begins an election, and why.
    Timeout,
    /// Would you vote for me?
    PreVote,
    /// Vote for me.
    Vote,
    /// The node leads.
    Elected,
    /// Entries went to a member, or came from the leader.
    Append,
    /// Heartbeats went out, or came.
    Heartbeat,
    /// A log is not as its leader's.
    Conflict,
    /// Entries are committed.
    Commit,
    /// Entries are applied.
    Apply,
    /// A snapshot was made, sent or installed.
    Snapshot,
    /// Another configuration is in force.
    Membership,
    /// Leadership is handed over.
    Transfer,
    /// The leader's process is gone.
    Takeover,
    /// Rounds that confirm a read index.
    ReadIndex,
    /// A member is lost, or back.
    Peer,
    /// The node stops.
    Stopping,
}

impl EventKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Term => "term",
            Self::Timeout => "timeout",
            Self::PreVote => "pre_vote",
            Self::Vote => "vote",
            Self::Elected => "elected",
            Self::Append => "append",
            Self::Heartbeat => "heartbeat",
            Self::Conflict => "conflict",
            Self::Commit => "commit",
            Self::Apply => "apply",
            Self::Snapshot => "snapshot",
            Self::Membership => "membership",
            Self::Transfer => "transfer",
            Self::Takeover => "takeover",
            Self::ReadIndex => "read_index",
            Self::Peer => "peer",
            Self::Stopping => "stopping",
        }
    }
}

/// What became of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VoteAction {
    /// It was asked for.
    Asked,
    /// It was given.
    Granted,
    /// It was refused.
    Refused,
}

impl VoteAction {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Granted => "granted",
            Self::Refused => "refused",
        }
    }
}

/// One thing that a node did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number, counted from 1 by the process.
    pub id: u64,
    /// What happened.
    pub kind: EventKind,
    /// The term of the node, or the one that it is about.
    pub term: u64,
    /// The entry that it is about; 0 where it is about none.
    pub index: u64,
    /// When it happened, in milliseconds since 1970, by the clock of the node's machine.
    pub time_ms: u64,
    /// A sentence.
    pub text: String,
    /// The other node that it is about.
    pub peer: Option<String>,
    /// Of a vote.
    pub action: Option<VoteAction>,
    /// Why.
    pub reason: Option<String>,
    /// How many entries, heartbeats or rounds.
    pub count: Option<u64>,
    /// The last entry that a member is known to have.
    pub matched: Option<u64>,
    /// Requests that it has yet to answer.
    pub in_flight: Option<u64>,
}

impl Event {
    /// One that has no number yet.
    pub(in crate::node) fn new(kind: EventKind, term: u64, index: u64, text: String) -> Self {
        Self {
            id: 0,
            kind,
            term,
            index,
            time_ms: wall_ms(),
            text,
            peer: None,
            action: None,
            reason: None,
            count: None,
            matched: None,
            in_flight: None,
        }
    }

    pub(in crate::node) fn peer(self, peer: String) -> Self {
        Self { peer: Some(peer), ..self }
    }

    pub(in crate::node) fn vote(self, action: VoteAction, reason: Option<String>) -> Self {
        Self { action: Some(action), reason, ..self }
    }

    pub(in crate::node) fn because(self, reason: String) -> Self {
        Self { reason: Some(reason), ..self }
    }

    pub(in crate::node) fn count(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// The same with texts of at most [`MAX_TEXT_BYTES`]: what others say is bounded.
    pub(in crate::node) fn bounded(mut self) -> Self {
        let texts = [Some(&mut self.text), self.peer.as_mut(), self.reason.as_mut()];
        for text in texts.into_iter().flatten() {
            let mut end = text.len().min(MAX_TEXT_BYTES);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
        self
    }
}

/// The most that are read at a time.
pub const PAGE_EVENTS: usize = 200;

/// A position among the events of a process: all up to this number were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The random number of the process.
    pub boot: u64,
    /// The number of an event.
    pub id: u64,
}

/// Some events that follow one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The position after them.
    pub next: Cursor,
    /// The events.
    pub events: Vec<Event>,
    /// Events between the position that was asked for and these are not kept any more, or were of another process.
    pub missed: bool,
}
