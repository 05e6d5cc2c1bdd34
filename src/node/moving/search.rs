//! Looks for members: asks `Identify` at every address that is known or listed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::node::rpc::{Identification, MemberAnswer, PeerError, PeerReply, PeerRequest, Peers, Target};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::RaftId;

/// How long each address is given to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The most addresses that are asked in one round.
const MAX_PLACES: usize = 256;

/// What answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Nobody listens there.
    Nobody,
    /// Somebody listens there, and does not say who: a process that stands still, or another program.
    Somebody,
    /// A node.
    Node(Box<Identification>),
}

/// An address, and what answers there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The address that was asked.
    pub at: PublicId,
    /// What answered.
    pub heard: Heard,
}

impl Sighting {
    /// The node that answered.
    pub fn node(&self) -> Option<&Identification> {
        match &self.heard {
            Heard::Node(who) => Some(who),
            Heard::Nobody | Heard::Somebody => None,
        }
    }
}

/// Asks at these addresses, and at each that a listed client address leads to.
pub async fn look(peers: &Arc<dyn Peers>, known: BTreeSet<PublicId>, listed: &[HostPort]) -> Vec<Sighting> {
    let named = join_all(listed.iter().map(|haddr| peers.ids_at(haddr, ANSWER_TIMEOUT))).await;
    let mut places = known;
    places.extend(named.into_iter().flatten());
    join_all(places.into_iter().take(MAX_PLACES).map(async |at| {
        let heard = ask(peers, &at).await;
        Sighting { at, heard }
    }))
    .await
}

async fn ask(peers: &Arc<dyn Peers>, at: &PublicId) -> Heard {
    let target = Target { raft_id: None, id: at.clone() };
    match timeout(ANSWER_TIMEOUT, peers.call(&target, PeerRequest::Identify, ANSWER_TIMEOUT)).await {
        Ok(Ok(PeerReply::Identify(who))) => Heard::Node(Box::new(who)),
        Ok(Err(PeerError::Unreachable(_))) => Heard::Nobody,
        // Where it is not known, somebody may be there.
        Ok(Ok(_) | Err(PeerError::Busy(_) | PeerError::Lost(_) | PeerError::Refused(_))) | Err(_) => Heard::Somebody,
    }
}

/// Asks the leaders that were seen, or that those seen hear, about a member. An answer comes only from one that a quorum
/// has just confirmed.
pub async fn ask_leaders(peers: &Arc<dyn Peers>, seen: &[Sighting], about: RaftId) -> Option<(PublicId, MemberAnswer)> {
    let mut leaders: Vec<(RaftId, PublicId)> =
        seen.iter().filter_map(Sighting::node).filter_map(|who| who.standing.leader.clone()).collect();
    leaders.sort();
    leaders.dedup();
    let asked = leaders.into_iter().take(MAX_PLACES).map(async |(raft_id, id)| {
        let target = Target { raft_id: Some(raft_id), id: id.clone() };
        match timeout(ANSWER_TIMEOUT, peers.call(&target, PeerRequest::IsMember(about), ANSWER_TIMEOUT)).await {
            Ok(Ok(PeerReply::IsMember(MemberAnswer::Unknown, _))) => None,
            Ok(Ok(PeerReply::IsMember(answer, _))) => Some((id, answer)),
            _ => None,
        }
    });
    join_all(asked).await.into_iter().flatten().next()
}
