//! What happened, as events: whoever sees it happen calls this.

use openraft::raft::{VoteRequest, VoteResponse};
use openraft::{EntryPayload, Membership};

use super::{Journal, Step};
use crate::node::rpc::{Event, EventKind, VoteAction};
use crate::raft_types::alias::{LogEntry, LogId, Vote};
use crate::raft_types::{Member, RaftId, TypeConfig};
use crate::storage::SnapshotStep;
use crate::storage::log::LogWatch;

/// Whom a vote would be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum Ballot {
    /// Nobody yet: only a question.
    PreVote,
    /// The candidate.
    Vote,
}

impl Ballot {
    fn kind(self) -> EventKind {
        match self {
            Self::PreVote => EventKind::PreVote,
            Self::Vote => EventKind::Vote,
        }
    }

    fn asks(self) -> &'static str {
        match self {
            Self::PreVote => "whether it would vote for it",
            Self::Vote => "for its vote",
        }
    }

    fn gives(self) -> &'static str {
        match self {
            Self::PreVote => "would vote for",
            Self::Vote => "votes for",
        }
    }

    fn refuses(self) -> &'static str {
        match self {
            Self::PreVote => "would not vote for",
            Self::Vote => "does not vote for",
        }
    }
}

fn shown(id: Option<LogId>) -> String {
    id.map_or_else(|| "nothing".to_owned(), |id| format!("index {} of term {}", id.index, id.leader_id.term))
}

fn index(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index)
}

impl Journal {
    /// Why a vote was given or not: by what the voter says of its own vote and log, which openraft decided by.
    fn why(&self, rpc: &VoteRequest<TypeConfig>, answer: &VoteResponse<TypeConfig>) -> String {
        let (term, voters) = (rpc.vote.leader_id.term, answer.vote.leader_id);
        if answer.vote_granted {
            return format!("the candidate's log, {}, has all of the voter's", shown(rpc.last_log_id));
        }
        if rpc.last_log_id < answer.last_log_id {
            let (theirs, own) = (shown(rpc.last_log_id), shown(answer.last_log_id));
            return format!("the candidate's log ends at {theirs}, the voter's at {own}");
        }
        if answer.vote.leader_id.term > term {
            return format!("the voter is in term {} already", voters.term);
        }
        let for_another = voters.term == term && voters.voted_for != rpc.vote.leader_id.voted_for;
        if for_another {
            return format!("the voter has voted for {} in term {term}", self.name(voters.voted_for));
        }
        if answer.vote.committed {
            return format!("the voter heard its leader {} just now", self.name(voters.voted_for));
        }
        "the voter leads, and a quorum answers it".to_owned()
    }

    /// This node asks a member.
    pub(in crate::node) fn asks(&self, ballot: Ballot, of: RaftId, rpc: &VoteRequest<TypeConfig>) {
        if ballot == Ballot::PreVote {
            *self.pre_voted.lock() = true;
            if self.numbers.asks_for_pre_vote(of) {
                self.begins_election(rpc.vote.leader_id.term);
            }
        }
        let (peer, term) = (self.name(of), rpc.vote.leader_id.term);
        let text = format!("{} asks {peer} {} in term {term}.", self.node, ballot.asks());
        let event = Event::new(ballot.kind(), term, index(rpc.last_log_id), text).peer(peer);
        self.events.push(event.vote(VoteAction::Asked, None));
    }

    /// A member answers this node.
    pub(in crate::node) fn hears(
        &self,
        ballot: Ballot,
        from: RaftId,
        rpc: &VoteRequest<TypeConfig>,
        answer: &VoteResponse<TypeConfig>,
    ) {
        self.decided(ballot, (self.name(from), self.node.clone()), self.name(from), rpc, answer);
    }

    /// This node answers a candidate.
    pub(in crate::node) fn answers(
        &self,
        ballot: Ballot,
        candidate: RaftId,
        rpc: &VoteRequest<TypeConfig>,
        answer: &VoteResponse<TypeConfig>,
    ) {
        self.decided(ballot, (self.node.clone(), self.name(candidate)), self.name(candidate), rpc, answer);
    }

    fn decided(
        &self,
        ballot: Ballot,
        (voter, candidate): (String, String),
        peer: String,
        rpc: &VoteRequest<TypeConfig>,
        answer: &VoteResponse<TypeConfig>,
    ) {
        let (term, reason) = (rpc.vote.leader_id.term, self.why(rpc, answer));
        let (action, does) = match answer.vote_granted {
            true => (VoteAction::Granted, ballot.gives()),
            false => (VoteAction::Refused, ballot.refuses()),
        };
        let text = format!("{voter} {does} {candidate} in term {term}: {reason}.");
        let event = Event::new(ballot.kind(), term, index(rpc.last_log_id), text).peer(peer);
        self.events.push(event.vote(action, Some(reason)));
    }

    /// A candidate's message was not taken at all.
    pub(in crate::node) fn refuses_candidate(&self, ballot: Ballot, candidate: &str, term: u64, why: &str) {
        let text = format!("{} does not listen to {candidate}, which asks in term {term}: {why}.", self.node);
        let event = Event::new(ballot.kind(), term, 0, text).peer(candidate.to_owned());
        self.events.push(event.vote(VoteAction::Refused, Some(why.to_owned())));
    }

    fn begins_election(&self, term: u64) {
        let silence = self.silence.get().and_then(|silence| silence());
        let reason = match (self.cause.lock().take(), silence) {
            (Some(cause), _) => cause,
            (None, Some(silence)) => format!("no leader was heard for {} ms", silence.as_millis()),
            (None, None) => "no leader was heard since this process began".to_owned(),
        };
        let text = format!("{} begins an election for term {term}: {reason}.", self.node);
        self.events.push(Event::new(EventKind::Timeout, term, 0, text).because(reason));
    }

    /// The next election has this cause.
    pub(in crate::node) fn will_elect_because(&self, cause: String) {
        *self.cause.lock() = Some(cause);
    }

    /// The leader's process is gone: this node takes over.
    pub(in crate::node) fn takes_over(&self, from: &str, term: u64) {
        if self.now.lock().term >= term {
            // It has begun that election already.
            return;
        }
        self.numbers.takes_over();
        let why = format!("the process of the leader {from} is gone");
        let text = format!("{} takes over: {why}.", self.node);
        self.events.push(Event::new(EventKind::Takeover, term, 0, text).peer(from.to_owned()).because(why.clone()));
        self.will_elect_because(why);
    }

    /// Leadership is handed over.
    pub(in crate::node) fn transfers(&self, from: &str, to: &str, term: u64) {
        let text = format!("{from} hands leadership to {to}.");
        let peer = if to == self.node { from } else { to };
        self.events.push(Event::new(EventKind::Transfer, term, 0, text).peer(peer.to_owned()));
        if to == self.node {
            self.will_elect_because(format!("{from} hands leadership over"));
        }
    }

    /// The node is a learner, or does not take part any more; other roles are told by votes.
    pub(in crate::node) fn role(&self, role: &'static str, why: &str) {
        let term = {
            let mut now = self.now.lock();
            if now.role == role {
                return;
            }
            now.role = role;
            now.term
        };
        self.events.push(Event::new(EventKind::Role, term, 0, format!("{} is {role}: {why}.", self.node)));
    }

    /// A learner that votes from now on.
    pub(in crate::node) fn is_voter(&self) {
        if self.now.lock().role == "Learner" {
            self.role("Follower", "it has a vote now");
        }
    }

    /// Something that is told as it is.
    pub(in crate::node) fn note(&self, kind: EventKind, index: u64, peer: Option<String>, text: String) {
        let event = Event::new(kind, self.now.lock().term, index, text);
        self.events.push(peer.into_iter().fold(event, Event::peer).bounded());
    }

    /// A snapshot of all up to `index` is begun, or made, or not.
    pub(in crate::node) fn snapshot(&self, step: SnapshotStep, index: u64) {
        let text = match step {
            SnapshotStep::Begun => format!("It begins a snapshot of all up to {index}."),
            SnapshotStep::Written => format!("It has a snapshot of all up to {index}."),
            SnapshotStep::Failed => format!("The snapshot of all up to {index} could not be written."),
        };
        self.note(EventKind::Snapshot, index, None, text);
    }

    /// A member's log is not as this leader's: it is sent what is before.
    pub(in crate::node) fn conflicts(&self, with: RaftId, at: u64) {
        let peer = self.name(with);
        let text = format!("{peer} does not have what was sent after index {at}: it is sent what is before.");
        self.note(EventKind::Conflict, at, Some(peer), text);
    }

    fn configuration(&self, at: u64, membership: &Membership<RaftId, Member>) {
        for (id, member) in membership.nodes() {
            self.knows(*id, &member.id);
        }
        let names = |ids: Vec<RaftId>| ids.into_iter().map(|id| self.name(id)).collect::<Vec<_>>().join(" ");
        let configs = membership.get_joint_config();
        let voters: Vec<String> = configs.iter().map(|config| names(config.iter().copied().collect())).collect();
        let learners = names(membership.learner_ids().collect());
        let learners = if learners.is_empty() { learners } else { format!("; learners {learners}") };
        let text = match &voters[..] {
            [old, new] => format!("Joint configuration: a majority of {old} and one of {new}{learners}."),
            voters => format!("Configuration: voters {}{learners}.", voters.join(" ")),
        };
        self.note(EventKind::Membership, at, None, text);
    }
}

impl LogWatch for Journal {
    fn voted(&self, vote: &Vote) {
        self.numbers.votes(vote, self.me);
        let (term, is_own) = (vote.leader_id.term, vote.leader_id.voted_for == self.me);
        // What went on until now was of the term and the leader until now.
        self.tell();
        let whose = self.name(vote.leader_id.voted_for);
        let had_round = std::mem::replace(&mut *self.pre_voted.lock(), false);
        let (is_news, role) = {
            let mut now = self.now.lock();
            let is_news = term > now.term;
            now.term = now.term.max(term);
            now.led = (vote.committed && is_own).then_some(term);
            now.leader = vote.committed.then_some(vote.leader_id.voted_for);
            let role = match (is_own, vote.committed) {
                (true, true) => "Leader",
                (true, false) => "Candidate",
                (false, _) => "Follower",
            };
            // A learner that follows another leader stays one.
            let changes = now.role != role && !(now.role == "Learner" && role == "Follower");
            if changes {
                now.role = role;
            }
            (is_news, changes.then_some(role))
        };
        if !is_own {
            self.timeline.forget_peers();
            self.tally.forget_peers();
        }
        if is_own && !vote.committed && !had_round {
            self.begins_election(term);
        }
        if is_news {
            let why = match (is_own, vote.committed) {
                (true, _) => "it is a candidate".to_owned(),
                (false, true) => format!("{whose} leads in it"),
                (false, false) => format!("{whose} is a candidate in it"),
            };
            let text = format!("{} is in term {term} now: {why}.", self.node);
            self.events.push(Event::new(EventKind::Term, term, 0, text).because(why));
        }
        if let Some(role) = role {
            let why = match (is_own, vote.committed) {
                (true, true) => "a majority voted for it".to_owned(),
                (true, false) => "it asks for votes".to_owned(),
                (false, true) => format!("it follows {whose}"),
                (false, false) => format!("it voted for {whose}"),
            };
            let text = format!("{} is {role}: {why}.", self.node);
            self.events.push(Event::new(EventKind::Role, term, 0, text).because(why));
        } else if !is_own && vote.committed {
            self.events.push(
                Event::new(EventKind::Role, term, 0, format!("{} follows {whose} in term {term}.", self.node))
                    .peer(whose),
            );
        }
    }

    fn appended(&self, entries: &[LogEntry]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        self.timeline.reached(Step::Appended, first.log_id.index.saturating_sub(1), last.log_id.index);
        let led = self.now.lock().led;
        for entry in entries {
            let (at, term) = (entry.log_id.index, entry.log_id.leader_id.term);
            match &entry.payload {
                EntryPayload::Blank if led == Some(term) => {
                    let text = format!(
                        "{} is elected in term {term}; its first entry, which is empty, is {at}: once that is committed, \
                         so is all before it.",
                        self.node
                    );
                    self.events.push(Event::new(EventKind::Elected, term, at, text));
                }
                EntryPayload::Membership(membership) => self.configuration(at, membership),
                EntryPayload::Blank | EntryPayload::Normal(_) => {}
            }
        }
        if led.is_none() {
            self.tally.receives(entries.len() as u64, last.log_id.index);
        }
        self.stirred.notify_one();
    }

    fn flushed(&self, first: u64, last: u64) {
        self.timeline.reached(Step::Flushed, first.saturating_sub(1), last);
    }

    fn committed(&self, committed: Option<LogId>) {
        let Some(committed) = committed else { return };
        self.timeline.reached(Step::Committed, committed.index.saturating_sub(1), committed.index);
        self.tally.committed(committed.index);
        self.stirred.notify_one();
    }

    fn truncated(&self, after: Option<LogId>) {
        self.timeline.truncated(index(after));
        let text =
            format!("{} drops what follows {} in its log: its leader has other entries.", self.node, shown(after));
        self.note(EventKind::Conflict, index(after), None, text);
    }
}
