//! The rules for a directory that was started under other addresses.
//!
//! It may be the node, moved; or a copy of a node that still runs somewhere. Two processes must never vote with one Raft
//! id. So:
//!
//! * Where a leader is found that a quorum confirms, it becomes a *new* member, which replaces its former self. That is
//!   safe whatever runs elsewhere.
//! * Where no such leader can exist, because the voters that did not move are no quorum, the movers go on as who they
//!   were, if all voters of every configuration are found, each once, nothing answers at an old address, and each mover
//!   was stopped cleanly. A running original that nobody here can reach is not ruled out by that:
//!   `docs/operations.md` says so.
//! * Otherwise it waits, and says for whom.

use std::collections::{BTreeMap, BTreeSet};

use super::search::{Heard, Sighting};
use crate::node::rpc::{Identification, MemberAnswer, Moved};
use crate::node_id::PublicId;
use crate::raft_types::{ClusterId, RaftId};

/// A directory that was started under other addresses.
#[derive(Debug, Clone)]
pub struct Mover {
    /// Its Raft id.
    pub raft_id: RaftId,
    /// A random number of this process.
    pub boot: u64,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// The addresses that it was settled under.
    pub from: PublicId,
    /// The addresses that it was started under.
    pub to: PublicId,
    /// Its log has the mark of a clean stop.
    pub clean: bool,
    /// The addresses of all members, as its log has them.
    pub members: BTreeMap<RaftId, PublicId>,
    /// The voters of every configuration in force, as far as its log goes.
    pub voters: Vec<BTreeSet<RaftId>>,
}

/// A leader that a quorum confirmed, and its word about the mover.
pub type LeaderWord = (PublicId, MemberAnswer);

/// What a mover may do, by one look around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its former self runs at these addresses: this directory is a copy.
    IsCopy(PublicId),
    /// Go on as a new member that replaces the former self.
    Replace,
    /// It never votes: its addresses are all that changes.
    Settle,
    /// It was removed, by the membership at this index.
    Removed(u64),
    /// Go on as who it was, if this stays so for a while. The voters that were found.
    GoOn(BTreeMap<RaftId, PublicId>),
    /// Wait.
    Wait {
        /// For what.
        reasons: Vec<String>,
        /// The voters that were found; `None` where no word of an operator helps, because there is a leader somewhere.
        found: Option<BTreeMap<RaftId, PublicId>>,
    },
    /// The leader of these addresses has just heard the former self. Where that lasts, this directory is a copy.
    StillHeard(PublicId),
    /// Another process, of these addresses, was started on a copy of the same directory, and takes no part either.
    HasTwin(PublicId),
}

/// Judges by one look around.
pub fn judge(mover: &Mover, seen: &[Sighting], leader: Option<&LeaderWord>) -> Verdict {
    let found = Found::of(mover, seen);
    if let Some(selves) = found.processes.get(&mover.raft_id) {
        if let Some(original) = selves.values().find(|who| !who.standing.moved.is_passive()) {
            return Verdict::IsCopy(original.id.clone());
        }
        if let Some(twin) = selves.values().next() {
            return Verdict::HasTwin(twin.id.clone());
        }
    }
    match leader {
        Some((_, MemberAnswer::Removed(index))) => return Verdict::Removed(*index),
        Some((by, MemberAnswer::Member { heard: true, .. })) => return Verdict::StillHeard(by.clone()),
        Some((_, MemberAnswer::Member { voter: false, .. })) => return Verdict::Settle,
        Some((_, MemberAnswer::Member { voter: true, .. })) => return Verdict::Replace,
        Some((_, MemberAnswer::Unknown)) | None => {}
    }
    if mover.members.is_empty() {
        // Who was made a voter has the entry that did it.
        return Verdict::Settle;
    }
    found.may_go_on(mover, seen)
}

/// The nodes of the mover's cluster that were seen, but for itself.
struct Found<'a> {
    /// The processes of each Raft id, by their random numbers.
    processes: BTreeMap<RaftId, BTreeMap<u64, &'a Identification>>,
    configs: BTreeSet<BTreeSet<RaftId>>,
}

impl<'a> Found<'a> {
    fn of(mover: &Mover, seen: &'a [Sighting]) -> Self {
        let mut processes: BTreeMap<RaftId, BTreeMap<u64, &Identification>> = BTreeMap::new();
        let mut configs: BTreeSet<BTreeSet<RaftId>> = mover.voters.iter().cloned().collect();
        for who in seen.iter().filter_map(Sighting::node) {
            if who.cluster == mover.cluster && who.boot != mover.boot {
                processes.entry(who.raft_id).or_default().insert(who.boot, who);
                configs.extend(who.standing.voters.iter().cloned());
            }
        }
        Self { processes, configs }
    }

    fn may_go_on(&self, mover: &Mover, seen: &[Sighting]) -> Verdict {
        let name = |raft_id: &RaftId| match mover.members.get(raft_id) {
            Some(id) => id.to_string(),
            None => format!("a voter of Raft id {raft_id}"),
        };
        let voters: BTreeSet<RaftId> = self.configs.iter().flatten().copied().collect();
        let others = || voters.iter().filter(|raft_id| **raft_id != mover.raft_id);
        let mut reasons = Vec::new();
        if !voters.contains(&mover.raft_id) {
            reasons.push("no leader is found, and it is no voter".to_owned());
        }
        let missing: Vec<String> = others().filter(|raft_id| !self.processes.contains_key(raft_id)).map(name).collect();
        if !missing.is_empty() {
            reasons.push(format!("{} of {} voters are not found: {}", missing.len(), voters.len(), missing.join(" ")));
        }
        let mut book = BTreeMap::new();
        let mut settled = BTreeSet::new();
        let mut hears_leader = false;
        for raft_id in others() {
            let Some(processes) = self.processes.get(raft_id) else { continue };
            if processes.len() > 1 {
                let places: Vec<String> = processes.values().map(|who| who.id.to_string()).collect();
                reasons.push(format!("{} is found twice: {}", name(raft_id), places.join(" ")));
            } else {
                book.extend(processes.values().map(|who| (*raft_id, who.id.clone())));
            }
            for who in processes.values() {
                match &who.standing.moved {
                    Moved::No => {
                        settled.insert(*raft_id);
                        if let Some((_, leader)) =
                            who.standing.leader.as_ref().filter(|(id, _)| !self.leads_nobody(*id))
                        {
                            hears_leader = true;
                            reasons.push(format!("{} hears the leader {leader}, which does not answer here", who.id));
                        }
                    }
                    Moved::Passive { clean, .. } | Moved::WentOn { clean, .. } if !clean => {
                        reasons.push(format!("{} was not stopped cleanly before it moved", name(raft_id)));
                    }
                    Moved::Passive { .. } | Moved::WentOn { .. } => {}
                }
            }
        }
        if !mover.clean {
            reasons.push("it was not stopped cleanly before it moved".to_owned());
        }
        let is_quorum = |config: &BTreeSet<RaftId>| config.intersection(&settled).count() > config.len() / 2;
        if missing.is_empty() && self.configs.iter().all(is_quorum) {
            reasons.push("the voters that did not move are a quorum, and no leader of theirs is found".to_owned());
        }
        for silent in self.silent_places(mover, &book, seen) {
            reasons.push(format!("something listens at {silent}, an old address, and does not say who it is"));
        }
        if reasons.is_empty() {
            return Verdict::GoOn(book);
        }
        Verdict::Wait { reasons, found: (!hears_leader).then_some(book) }
    }

    /// True where this leader was found, once and taking part, and says itself that it leads nobody: it lacks a quorum.
    /// Those that it calls hear it still.
    fn leads_nobody(&self, leader: RaftId) -> bool {
        let found = self.processes.get(&leader).filter(|processes| processes.len() == 1);
        let is_idle = |who: &&Identification| !who.standing.moved.is_passive() && who.standing.leader.is_none();
        found.is_some_and(|processes| processes.values().all(is_idle))
    }

    /// The old addresses of movers at which somebody listens that does not say who it is.
    fn silent_places<'b>(
        &self,
        mover: &'b Mover,
        book: &BTreeMap<RaftId, PublicId>,
        seen: &[Sighting],
    ) -> BTreeSet<&'b PublicId> {
        let moved = |(raft_id, id): &(&RaftId, &PublicId)| book.get(raft_id).is_some_and(|found| found != *id);
        let mut old: BTreeSet<&PublicId> = mover.members.iter().filter(moved).map(|(_, id)| id).collect();
        old.insert(&mover.from);
        old.extend(mover.members.get(&mover.raft_id).filter(|id| **id != mover.to));
        let is_silent = |id: &PublicId| seen.iter().any(|place| place.at == *id && place.heard == Heard::Somebody);
        old.retain(|id| is_silent(id));
        old
    }
}
