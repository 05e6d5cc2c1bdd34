//! What a message says of a start, or of an acknowledgement, is believed once the node that it is about says the same when
//! it is asked, where it is known to be.
//!
//! Anybody can send a message in a member's name. Three things that a message may say would end a node's part for good:
//! that a later start of its own directory is known, that a later start of another's is, and that it acknowledged what its
//! log lacks. So none of them counts on the word of a message. The members are asked, at the addresses that this node dials
//! for them anyway; until they have answered the message is refused, and its sender repeats it.
//!
//! Caveats: a node whose known members are all gone learns of its loss only from those that `--rjoin` names. A way that
//! works in one direction only is none for a process that has started anew: it cannot be asked. A member of the first
//! format is not asked for more than its process, and not for what was acknowledged to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::start::ask_standing;
use crate::formats::OLDEST;
use crate::node::Node;
use crate::node::rpc::{Envelope, PeerReply, PeerRequest, Target};
use crate::raft_types::alias::{LogId, Vote};
use crate::raft_types::{RaftId, StartMark};

/// How long a node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The members are not asked about this node sooner again.
const ASK_PAUSE: Duration = Duration::from_millis(100);

/// What is asked because of messages that nobody vouches for.
#[derive(Debug, Default)]
pub(in crate::node) struct Questions {
    /// When the members were asked last about this node; locked while they are.
    own: tokio::sync::Mutex<Option<Instant>>,
    /// By the Raft ids of members.
    starts: Mutex<BTreeMap<RaftId, Arc<Told>>>,
}

/// What a member said of its start, and when it was asked; locked while it is.
type Told = tokio::sync::Mutex<Option<(Instant, Option<StartMark>)>>;

impl Node {
    /// Why this node has lost its memory, if a member says so when it is asked. `None` also where they were asked a moment
    /// ago, or are being asked.
    pub(super) async fn ask_about_own_start(&self) -> Option<String> {
        let mut last = self.inner.questions.own.try_lock().ok()?;
        if last.is_some_and(|at| at.elapsed() < ASK_PAUSE) {
            return None;
        }
        let others = self.inner.listed.get().map_or(&[][..], Vec::as_slice);
        let asked = ask_standing(&self.inner.peers, &self.inner.me, self.member_ids(), others).await;
        *last = Some(Instant::now());
        asked.lost
    }

    /// False while this member is being asked for its start. Strangers are bounded by themselves.
    pub(super) fn is_free_to_ask(&self, raft_id: RaftId) -> bool {
        let told = self.inner.questions.starts.lock().get(&raft_id).cloned();
        told.is_none_or(|told| told.try_lock().is_ok())
    }

    /// Whether the sender of a message, asked for its start, says what the message says. All who ask about one member at a
    /// time share an answer.
    pub(super) async fn stands_by_its_start(&self, envelope: &Envelope) -> bool {
        let raft_id = envelope.from_raft;
        let Some(member) = self.member(raft_id) else {
            // Of a stranger nothing is known, and it can harm nobody's start but its own.
            let Some(dialled) = self.inner.strangers.dial(&envelope.from) else { return false };
            let target = Target { raft_id: Some(raft_id), id: envelope.from.clone() };
            return tokio::select! {
                told = self.told_start(&target, envelope.start) => told == Some(envelope.start),
                () = dialled.gone.cancelled() => false,
            };
        };
        let began = Instant::now();
        let told = self.inner.questions.starts.lock().entry(raft_id).or_default().clone();
        let mut told = told.lock().await;
        if told.is_none_or(|(asked_at, _)| asked_at < began) {
            let asked_at = Instant::now();
            let known = Target { raft_id: Some(raft_id), id: member.server.id };
            let mut start = self.told_start(&known, envelope.start).await;
            // It may have moved, and nobody has told yet.
            if start.is_none() && known.id != envelope.from {
                let named = Target { raft_id: Some(raft_id), id: envelope.from.clone() };
                start = self.told_start(&named, envelope.start).await;
            }
            *told = Some((asked_at, start));
        }
        told.is_some_and(|(_, start)| start == Some(envelope.start))
    }

    /// The start that a node tells; `None` where it does not answer, or another one does.
    async fn told_start(&self, target: &Target, claimed: StartMark) -> Option<StartMark> {
        let raft_id = target.raft_id?;
        let call = |request| self.inner.peers.call(target, request, ANSWER_TIMEOUT);
        let Ok(PeerReply::Identify(who)) = call(PeerRequest::Identify).await else { return None };
        if who.raft_id != raft_id {
            return None;
        }
        if who.speaks.newest == OLDEST {
            // It tells its process and no more.
            return (who.boot == claimed.boot).then_some(claimed);
        }
        match call(PeerRequest::IsMember(raft_id)).await {
            Ok(PeerReply::IsMember(_, start)) => start,
            _ => None,
        }
    }

    /// Whether the leader of `vote`, asked where it is known to be, says that this node acknowledged the entry to it.
    /// `None`: it does not answer.
    pub(super) async fn leader_stands_by(&self, vote: Vote, entry: LogId) -> Option<bool> {
        if self.format() == OLDEST {
            return Some(true);
        }
        let leader = vote.leader_id.voted_for;
        let member = self.member(leader)?;
        let target = Target { raft_id: Some(leader), id: member.server.id };
        match self.inner.peers.call(&target, PeerRequest::Acknowledged { vote, entry }, ANSWER_TIMEOUT).await {
            Ok(PeerReply::Acknowledged(has)) => Some(has),
            _ => None,
        }
    }
}
