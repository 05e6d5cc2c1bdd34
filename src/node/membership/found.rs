//! Several nodes found a cluster together: `--bootstrap-expect N`.
//!
//! Each looks for the others at the listed addresses until it sees N, itself included, and says whom it sees. Once all N
//! see the same N, the one with the lowest Raft id proposes a [`Founding`]: a cluster id, and all N as its first voters.
//! Each adopts one, durably, and never another. Only once all N have adopted it does the lowest write it as the first
//! entry of its log, and is elected. Two foundings that are used have no node in common, so of N nodes there is one.
//!
//! Caveats: where more than N are seen, nobody forms. A founding that one of its nodes lost with its disk is never used:
//! the others say so, and an operator deletes their directories, which hold nothing yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;

use super::look::Sight;
use crate::node::rpc::{Envelope, Founder, PeerReply, PeerRequest, Target};
use crate::node::{Node, NodeError};
use crate::node_id::PublicId;
use crate::raft_types::{ClusterId, Founding, RaftId, Role};
use crate::task;

/// How long a node may take to say what it founds.
const FOUNDER_TIMEOUT: Duration = Duration::from_secs(1);

/// Nodes of which others have told that are asked in one round.
const MAX_SEEN: usize = 128;

/// What this node founds with others.
#[derive(Debug, Default)]
pub(in crate::node) struct Muster {
    /// How many nodes are to found; `None` where it founds nothing.
    pub(in crate::node) expect: Option<usize>,
    /// Those that it sees, itself included.
    pub(in crate::node) seen: BTreeMap<RaftId, PublicId>,
}

impl Node {
    /// Answers one who founds a cluster, after adopting what it proposes if this node may.
    pub(in crate::node) async fn answer_founder(&self, envelope: &Envelope, proposed: Option<Founding>) -> PeerReply {
        if let Some(founding) = proposed
            && self.may_adopt(envelope, &founding)
        {
            // The answer shows what was adopted, or that nothing was.
            if let Err(error) = self.adopt_founding(founding).await {
                tracing::error!("{error}");
            }
        }
        PeerReply::Found(self.founder())
    }

    fn founder(&self) -> Founder {
        let muster = self.inner.muster.lock();
        Founder {
            who: self.inner.me.identification(self.inner.log.is_empty()),
            expect: muster.expect.map(|expect| expect as u64),
            seen: muster.seen.clone(),
            adopted: self.inner.me.founding(),
        }
    }

    /// True for a founding of exactly the nodes that this node sees, by the lowest of them.
    fn may_adopt(&self, envelope: &Envelope, founding: &Founding) -> bool {
        let me = self.inner.me.raft_id();
        let muster = self.inner.muster.lock();
        envelope.to_raft == Some(me)
            && self.is_free()
            && self.inner.me.removed().borrow().is_none()
            && muster.expect == Some(founding.members.len())
            && founding.members.get(&me) == Some(self.id())
            && founding.members.keys().next() == Some(&envelope.from_raft)
            && muster.seen == founding.members
    }

    async fn adopt_founding(&self, founding: Founding) -> Result<(), NodeError> {
        let me = self.inner.me.clone();
        let internal = |error: String| NodeError::Internal(format!("cannot note the cluster that is founded: {error}"));
        let adopted = task::spawn_blocking(move || me.adopt_founding(founding)).await;
        adopted.map_err(|error| internal(error.to_string()))?.map_err(|error| internal(error.to_string()))
    }

    /// Looks for the founders, and agrees with them. The founding that all have adopted, where this node is to use it.
    ///
    /// # Errors
    /// The reason to wait, for an operator.
    pub(super) async fn agree_to_found(
        &self,
        expect: usize,
        sight: &Sight,
        known: &mut BTreeSet<PublicId>,
        cluster: ClusterId,
    ) -> Result<Founding, String> {
        let me = self.inner.me.raft_id();
        known.extend(sight.without.iter().cloned());
        let founders = self.ask_founders(known).await;
        let members: BTreeMap<RaftId, PublicId> = founders
            .iter()
            .map(|(raft_id, founder)| (*raft_id, founder.who.id.clone()))
            .chain([(me, self.id().clone())])
            .collect();
        {
            let mut muster = self.inner.muster.lock();
            muster.expect = Some(expect);
            muster.seen.clone_from(&members);
        }
        let names = members.values().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        if members.len() + sight.unknown.len() > expect {
            let silent = sight.unknown.join(", ");
            let silent = if silent.is_empty() { silent } else { format!(", and does not hear {silent}") };
            return Err(format!(
                "--bootstrap-expect is {expect}, and this node sees {}: {names}{silent}; nobody forms a cluster: stop those \
                 that are too many, or correct the number",
                members.len()
            ));
        }
        if let Some(other) = founders.values().find(|founder| founder.expect.is_some_and(|n| n != expect as u64)) {
            return Err(format!(
                "{} was started with --bootstrap-expect {}, this node with {expect}; nobody forms a cluster: start all with \
                 the same",
                other.who.id,
                other.expect.unwrap_or_default()
            ));
        }
        if members.len() < expect {
            return Err(format!(
                "waiting to form a cluster of {expect} (--bootstrap-expect); {} are here: {names}",
                members.len()
            ));
        }
        if let Some(founding) = self.inner.me.founding().filter(|founding| founding.members != members) {
            return Err(format!(
                "this node agreed to form cluster {} with {}, and finds {names}: one of them lost its disk or has other \
                 addresses. Nothing was stored yet: stop all, delete {} and those of the others, and start them again",
                founding.cluster,
                founding.members.values().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                self.inner.me.data_place
            ));
        }
        if let Some(other) = founders.values().find(|founder| founder.seen != members) {
            return Err(format!("waiting for {} to see all {expect} nodes that are to form the cluster", other.who.id));
        }
        let lowest = members.keys().next().copied();
        if lowest != Some(me) {
            let proposer = lowest.and_then(|id| members.get(&id)).map(ToString::to_string).unwrap_or_default();
            return Err(format!("all {expect} nodes are here; {proposer} forms the cluster"));
        }
        let founding = self.inner.me.founding().unwrap_or(Founding { cluster, members });
        self.propose_founding(founding).await
    }

    /// As the lowest: has all adopt the founding, this node first.
    async fn propose_founding(&self, founding: Founding) -> Result<Founding, String> {
        self.adopt_founding(founding.clone()).await.map_err(|error| error.to_string())?;
        let me = self.inner.me.raft_id();
        let asked = founding.members.iter().filter(|(raft_id, _)| **raft_id != me).map(async |(raft_id, id)| {
            let target = Target { raft_id: Some(*raft_id), id: id.clone() };
            let request = PeerRequest::Found(Some(founding.clone()));
            match self.inner.peers.call(&target, request, FOUNDER_TIMEOUT).await {
                Ok(PeerReply::Found(founder)) if founder.who.raft_id == *raft_id => {
                    if founder.adopted.as_ref() == Some(&founding) { Ok(()) } else { Err(id.to_string()) }
                }
                _ => Err(id.to_string()),
            }
        });
        let missing: Vec<String> = join_all(asked).await.into_iter().filter_map(Result::err).collect();
        if missing.is_empty() && self.inner.me.founding().as_ref() == Some(&founding) {
            return Ok(founding);
        }
        Err(format!("waiting for {} to agree to form cluster {}", missing.join(" "), founding.cluster))
    }

    /// Asks all that are known what they found; forgets those that do not answer. Learners found nothing.
    async fn ask_founders(&self, known: &mut BTreeSet<PublicId>) -> BTreeMap<RaftId, Founder> {
        let asked = known.iter().map(async |id| {
            let target = Target { raft_id: None, id: id.clone() };
            match self.inner.peers.call(&target, PeerRequest::Found(None), FOUNDER_TIMEOUT).await {
                Ok(PeerReply::Found(founder)) if founder.who.id == *id => Some(founder),
                _ => None,
            }
        });
        let answers: Vec<Founder> = join_all(asked).await.into_iter().flatten().collect();
        known.retain(|id| answers.iter().any(|founder| founder.who.id == *id));
        // A balancer leads each to others. Whom one has seen the next round asks.
        known.extend(
            answers.iter().filter(|f| f.expect.is_some()).flat_map(|f| f.seen.values().cloned()).take(MAX_SEEN),
        );
        let me = self.inner.me.raft_id();
        let founders = answers.into_iter().filter(|f| f.who.role == Role::Voter && f.who.raft_id != me);
        founders.map(|founder| (founder.who.raft_id, founder)).collect()
    }
}
