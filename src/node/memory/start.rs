//! What a start can know of the memory of its directory: from the identity beside the log, and from the members that answer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::superseded;
use crate::node::NodeIdentity;
use crate::node::rpc::{MemberAnswer, PeerReply, PeerRequest, Peers, Target};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::RaftId;
use crate::storage::LogMark;

/// How long each member is given to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The standing of a Raft id in its cluster, as a leader knows that a quorum confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is a member.
    Member,
    /// It was removed, by the membership at this index.
    Removed(u64),
    /// No such leader answered.
    Unknown,
}

/// The answers of those who were asked about this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its standing.
    pub standing: Standing,
    /// Why its directory has lost its memory, if one of them remembers more of it.
    pub lost: Option<String>,
    /// One of them is a member of the same cluster that this node did not know.
    pub strangers: bool,
}

/// Asks the members that a node knows, and those that the nodes at `others` (client addresses) know, about this node.
pub async fn ask_standing(
    peers: &Arc<dyn Peers>,
    me: &Arc<NodeIdentity>,
    members: Vec<(RaftId, PublicId)>,
    others: &[HostPort],
) -> Asked {
    let mut asked = Asked { standing: Standing::Unknown, lost: None, strangers: false };
    ask(peers, me, &members, &mut asked).await;
    if asked.standing == Standing::Unknown {
        let mut found = members_at(peers, me, others).await;
        found.retain(|(raft_id, id)| !members.contains(&(*raft_id, id.clone())));
        asked.strangers = found.iter().any(|(found, _)| members.iter().all(|(known, _)| known != found));
        ask(peers, me, &found, &mut asked).await;
    }
    asked
}

async fn ask(peers: &Arc<dyn Peers>, me: &Arc<NodeIdentity>, members: &[(RaftId, PublicId)], asked: &mut Asked) {
    let mine = me.raft_id();
    let calls = members.iter().filter(|(raft_id, _)| *raft_id != mine).map(async |(raft_id, id)| {
        let target = Target { raft_id: Some(*raft_id), id: id.clone() };
        let call = peers.call(&target, PeerRequest::IsMember(mine), ANSWER_TIMEOUT);
        match timeout(ANSWER_TIMEOUT, call).await {
            Ok(Ok(PeerReply::IsMember(answer, seen))) => Some((answer, seen)),
            _ => None,
        }
    });
    for (answer, seen) in join_all(calls).await.into_iter().flatten() {
        match answer {
            MemberAnswer::Member { .. } => asked.standing = Standing::Member,
            MemberAnswer::Removed(index) if asked.standing == Standing::Unknown => {
                asked.standing = Standing::Removed(index);
            }
            MemberAnswer::Removed(_) | MemberAnswer::Unknown => {}
        }
        if let Some(seen) = seen.filter(|seen| me.start().is_stale_beside(*seen)) {
            asked.lost.get_or_insert_with(|| superseded(me.start(), seen));
        }
    }
}

/// The members of this node's cluster that the nodes at these client addresses know, with the Raft ids that they tell
/// themselves.
async fn members_at(peers: &Arc<dyn Peers>, me: &Arc<NodeIdentity>, others: &[HostPort]) -> Vec<(RaftId, PublicId)> {
    let probes = others.iter().map(|haddr| peers.probe(haddr, ANSWER_TIMEOUT));
    let mut ids: Vec<PublicId> = join_all(probes)
        .await
        .into_iter()
        .flatten()
        .flat_map(|probe| probe.members)
        .filter(|id| *id != me.id())
        .collect();
    ids.sort();
    ids.dedup();
    let cluster = me.cluster();
    let calls = ids.into_iter().map(async |id| {
        let target = Target { raft_id: None, id: id.clone() };
        match timeout(ANSWER_TIMEOUT, peers.call(&target, PeerRequest::Identify, ANSWER_TIMEOUT)).await {
            Ok(Ok(PeerReply::Identify(who))) if who.cluster.is_some() && who.cluster == cluster => {
                Some((who.raft_id, id))
            }
            _ => None,
        }
    });
    join_all(calls).await.into_iter().flatten().collect()
}

/// Why a directory has lost its memory, if its log is behind what its identity says that it was.
pub fn is_behind(known: LogMark, found: LogMark) -> Option<String> {
    if known.began && !found.began {
        return Some("the files log-* of its data directory are missing".to_owned());
    }
    let is_less = found.term < known.term || found.committed < known.committed;
    is_less.then(|| {
        format!(
            "its log had come to term {} and committed index {}, and ends at term {} and committed index {}: the files \
             log-* were put back from the past, or deleted",
            known.term, known.committed, found.term, found.committed
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_behind_its_identity_is_told() {
        let mark = |term, committed| LogMark { began: true, term, committed };
        assert_eq!(is_behind(LogMark::default(), LogMark::default()), None, "a new directory");
        assert_eq!(is_behind(LogMark::default(), mark(3, 4)), None, "one that an older version used");
        assert_eq!(is_behind(mark(3, 4), mark(3, 4)), None);
        assert_eq!(is_behind(mark(3, 4), mark(4, 9)), None);
        for found in [mark(2, 4), mark(3, 3), LogMark { began: false, term: 0, committed: 0 }] {
            assert!(is_behind(mark(3, 4), found).is_some(), "{found:?}");
        }
    }
}
