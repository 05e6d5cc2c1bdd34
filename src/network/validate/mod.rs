//! Validates what comes from a peer, before openraft or the state sees it: a buggy or old peer must not stop this node, or
//! store what no client could.
//!
//! * **Terms.** A message of a term more than [`MAX_TERM_STEP`] above this node's own is refused. A term only grows, so one
//!   message with the highest term would end all elections for ever. A node that has never voted takes any term up to
//!   [`MAX_FIRST_TERM`]: its cluster may be old.
//! * **Appends.** Entries follow one another and their predecessor by index, and terms never fall or exceed the leader's.
//!   Whether they contradict what is committed is the node's to judge: it may have diverged.
//! * **Entries** are of formats that this node understands: it could not write them.
//! * **Memberships** have a voter, and the address of each.
//! * **Forwarded commands** keep the limits of a client's request, by this node's flags. Commands in entries need only
//!   names that can be stored: their limits are the leader's.
//!
//! A peer that lies on purpose can still do harm, within these bounds.

mod commands;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult};
use openraft::{EntryPayload, Membership};
use parking_lot::Mutex;

use crate::formats::Format;
use crate::node::Node;
use crate::node::rpc::{Envelope, MAX_MARKS, PeerReply, PeerRequest};
use crate::node_id::PublicId;
use crate::raft_types::alias::{LogEntry, LogId, SnapshotMeta, Vote};
use crate::raft_types::{Member, RaftId, TypeConfig};
use commands::{check_key, client, names};

pub use commands::CommandLimits;
pub(super) use commands::{commands, merge};

/// Terms that a message may be above this node's own.
const MAX_TERM_STEP: u64 = 1 << 20;

/// The highest term that a node takes that has never voted.
const MAX_FIRST_TERM: u64 = 1 << 62;

/// The highest index of an entry: far above all that can be written, and far below an overflow.
const MAX_INDEX: u64 = 1 << 62;

/// Members of a cluster, learners included.
const MAX_MEMBERS: usize = 1024;

/// Refused messages are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Why a message is refused: a text for the log and for the sender.
type Checked = Result<(), String>;

/// Counts refused messages, and logs some of them.
#[derive(Debug, Default)]
pub(super) struct Refused {
    count: AtomicU64,
    logged: Mutex<Option<Instant>>,
}

impl Refused {
    /// Counts a message of `from`, refused for `why`.
    pub(super) fn note(&self, from: &PublicId, why: &str) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut logged = self.logged.lock();
        if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            *logged = Some(Instant::now());
            tracing::warn!("refused a message of {from}: {why} ({count} refused since the start)");
        }
    }
}

/// The facts of this node that a message must not contradict.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local {
    /// The highest term it has voted in; `None` before its first vote.
    term: Option<u64>,
    /// The newest format that it understands.
    newest: Format,
}

impl Local {
    pub(super) fn of(node: &Node) -> Self {
        Self { term: node.voted_term(), newest: node.speaks().newest }
    }

    fn term(&self, term: u64) -> Checked {
        let highest = self.term.map_or(MAX_FIRST_TERM, |own| own.saturating_add(MAX_TERM_STEP));
        check(term <= highest, || format!("its term {term} is too far above this node's, {}", self.term.unwrap_or(0)))
    }

    /// True for a message of a former leader: openraft tells it so, and takes nothing of it.
    fn is_later_than(&self, vote: &Vote) -> bool {
        self.term.is_some_and(|own| own > vote.leader_id.term)
    }
}

/// As [`request`], for a simulated node.
#[cfg(test)]
pub(crate) fn check_request(node: &Node, envelope: &Envelope, sent: &PeerRequest) -> Checked {
    request(envelope, sent, &Local::of(node))
}

/// As [`snapshot`], for a simulated node.
#[cfg(test)]
pub(crate) fn check_snapshot(node: &Node, envelope: &Envelope, sent: &Vote, meta: &SnapshotMeta) -> Checked {
    snapshot(envelope, sent, meta, &Local::of(node))
}

fn check(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(why()) }
}

/// Checks a request.
///
/// # Errors
/// The reason to refuse it whole.
pub(super) fn request(envelope: &Envelope, request: &PeerRequest, local: &Local) -> Checked {
    match request {
        PeerRequest::Append(rpc) => append(envelope, rpc, local),
        PeerRequest::Vote(rpc) | PeerRequest::PreVote(rpc) => {
            check(!rpc.vote.committed, || "a candidate is no leader yet".to_owned())?;
            vote(envelope, &rpc.vote, local)?;
            rpc.last_log_id.as_ref().map_or(Ok(()), |last| log_id(last, &rpc.vote))
        }
        PeerRequest::TransferLeader(rpc) => {
            vote(envelope, &rpc.from, local)?;
            rpc.last_log_id.as_ref().map_or(Ok(()), |last| log_id(last, &rpc.from))
        }
        PeerRequest::Forgotten { vote: claimed, acknowledged } => {
            vote(envelope, claimed, local)?;
            log_id(acknowledged, claimed)
        }
        PeerRequest::Read { key, .. } => check_key(key),
        PeerRequest::Marks(marks) => {
            let is_bounded = marks.len() <= MAX_MARKS && marks.iter().all(|(_, mark)| mark.is_bounded());
            check(is_bounded, || "marks of requests that no node sends".to_owned())
        }
        PeerRequest::ReadBy { by, key, .. } => {
            client(by)?;
            check_key(key)
        }
        PeerRequest::AdminBy { by, .. } => client(by),
        PeerRequest::Forward { .. }
        | PeerRequest::Events { .. }
        | PeerRequest::Examine
        | PeerRequest::Clock
        | PeerRequest::Acknowledged { .. }
        | PeerRequest::ReadIndex { .. }
        | PeerRequest::WeakIndex
        | PeerRequest::Status
        | PeerRequest::Identify
        | PeerRequest::LeaderWatch
        | PeerRequest::IsLeaderGone(_)
        | PeerRequest::IsMember(_)
        | PeerRequest::Join { .. }
        | PeerRequest::Lead { .. }
        | PeerRequest::Remove { .. }
        | PeerRequest::Found(_)
        | PeerRequest::Vouch
        | PeerRequest::Witness { .. } => Ok(()),
    }
}

/// Checks an append.
///
/// # Errors
/// The reason to refuse it.
pub(super) fn append(envelope: &Envelope, rpc: &AppendEntriesRequest<TypeConfig>, local: &Local) -> Checked {
    check(rpc.vote.committed, || "its sender does not lead".to_owned())?;
    vote(envelope, &rpc.vote, local)?;
    if local.is_later_than(&rpc.vote) {
        return Ok(());
    }
    for id in rpc.prev_log_id.iter().chain(&rpc.leader_commit) {
        log_id(id, &rpc.vote)?;
    }
    let mut last = rpc.prev_log_id;
    for entry in &rpc.entries {
        let id = &entry.log_id;
        log_id(id, &rpc.vote)?;
        let index = last.map_or(0, |last| last.index + 1);
        let term = last.map_or(0, |last| last.leader_id.term);
        check(id.index == index && id.leader_id.term >= term, || {
            format!(
                "its entry {id} cannot follow {}",
                last.map_or_else(|| "nothing".to_owned(), |last| last.to_string())
            )
        })?;
        payload(entry, local).map_err(|why| format!("its entry {id}: {why}"))?;
        last = Some(*id);
    }
    Ok(())
}

/// Checks the head of a snapshot.
///
/// # Errors
/// The reason to refuse it.
pub(super) fn snapshot(envelope: &Envelope, sent: &Vote, meta: &SnapshotMeta, local: &Local) -> Checked {
    check(sent.committed, || "its sender does not lead".to_owned())?;
    vote(envelope, sent, local)?;
    if local.is_later_than(sent) {
        return Ok(());
    }
    let last = meta.last_log_id.as_ref().ok_or("it is a snapshot of nothing")?;
    log_id(last, sent)?;
    let stored = &meta.last_membership;
    check(stored.log_id().as_ref().is_some_and(|id| id.index <= last.index), || {
        "its membership is not of an entry in it".to_owned()
    })?;
    membership(stored.membership())
}

/// Checks the reply to a request that was sent in `term`.
///
/// # Errors
/// The reason to drop it.
pub(super) fn reply(term: u64, reply: &PeerReply) -> Checked {
    match reply {
        PeerReply::Append(AppendEntriesResponse::HigherVote(vote), _) | PeerReply::Snapshot(vote) => {
            replied_term(term, vote)
        }
        PeerReply::Vote(response) => replied_term(term, &response.vote),
        _ => Ok(()),
    }
}

/// As [`reply`], for a stream of appends.
///
/// # Errors
/// The reason to drop it.
pub(super) fn append_reply(term: u64, reply: &StreamAppendResult<TypeConfig>) -> Checked {
    match reply {
        Err(StreamAppendError::HigherVote(vote)) => replied_term(term, vote),
        _ => Ok(()),
    }
}

/// The term that a request is sent in, if replies to it carry one.
pub(super) fn term_of(request: &PeerRequest) -> Option<u64> {
    match request {
        PeerRequest::Append(rpc) => Some(rpc.vote.leader_id.term),
        PeerRequest::Vote(rpc) | PeerRequest::PreVote(rpc) => Some(rpc.vote.leader_id.term),
        _ => None,
    }
}

fn replied_term(term: u64, replied: &Vote) -> Checked {
    let theirs = replied.leader_id.term;
    check(theirs <= term.saturating_add(MAX_TERM_STEP), || {
        format!("the term {theirs} of its answer is too far above this node's, {term}")
    })
}

/// Checks a vote that its sender claims as its own.
fn vote(envelope: &Envelope, vote: &Vote, local: &Local) -> Checked {
    local.term(vote.leader_id.term)?;
    let (claims, is) = (vote.leader_id.voted_for, envelope.from_raft);
    check(claims == is, || format!("it comes from {is} and is in the name of {claims}"))
}

fn log_id(id: &LogId, vote: &Vote) -> Checked {
    check(id.index <= MAX_INDEX, || format!("there is no entry {id}"))?;
    let term = vote.leader_id.term;
    check(id.leader_id.term <= term, || format!("its entry {id} is of a later term than its own, {term}"))
}

fn payload(entry: &LogEntry, local: &Local) -> Checked {
    match &entry.payload {
        EntryPayload::Blank => Ok(()),
        EntryPayload::Normal(command) => {
            let format = command.format();
            check(format <= local.newest, || format!("it is of format {format}, for {} or newer", format.since()))?;
            names(command)
        }
        EntryPayload::Membership(new) => membership(new),
    }
}

fn membership(membership: &Membership<RaftId, Member>) -> Checked {
    let configs = membership.get_joint_config();
    check(matches!(configs.len(), 1 | 2) && configs.iter().all(|config| !config.is_empty()), || {
        "a membership without voters".to_owned()
    })?;
    check(membership.nodes().count() <= MAX_MEMBERS, || format!("a membership of more than {MAX_MEMBERS} nodes"))?;
    match membership.voter_ids().find(|voter| membership.get_node(voter).is_none()) {
        Some(voter) => Err(format!("a membership whose voter {voter} has no address")),
        None => Ok(()),
    }
}
