//! When the leader's process is gone, its followers need not wait out its lease.
//!
//! Every voter holds a standing request at the leader. When that breaks, and a new connection is
//! refused or finds another process there, the voter asks the others; if a majority, itself
//! included, saw the same, the one with the greatest log takes over through openraft's
//! leader-transfer entry point, and the others follow only if that one fails to.
//!
//! Safe because it is an ordinary election in a new term: it only skips the wait for the lease, and
//! no read relies on leases. The question to the others only keeps a voter with a broken cable from
//! disturbing a leader that is well.
//!
//! Caveat: a host that vanishes, or a cut network, refuses nothing: that failover takes the election
//! timeout, as ever.

use std::time::Duration;

use futures_util::future::join_all;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftServerMetrics;
use openraft::raft::TransferLeaderRequest;
use tokio::time::{sleep, timeout};

use crate::node::Node;
use crate::node::leader::{LEADER_CHANGE_WAIT, Leader};
use crate::node::rpc::{LeaderSeen, PeerError, PeerReply, PeerRequest, Target};
use crate::raft_types::alias::LogId;
use crate::raft_types::{RaftId, TypeConfig};

/// Changes with elections and members only: a task that waited on all of openraft's metrics would be woken several
/// times an entry.
type ServerMetrics = RaftServerMetrics<TypeConfig>;

/// How long a leader holds a standing request before it is renewed.
const LEADER_WATCH_DURATION: Duration = Duration::from_secs(20);

/// How long to wait for an answer that should come at once.
const VOTER_ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

/// How long the voter with the greatest log is given before the next one takes over.
const TAKE_OVER_STAGGER: Duration = Duration::from_millis(200);

/// A leader's process, as a follower knows it.
#[derive(Debug, Clone)]
struct WatchedLeader {
    leader: RaftId,
    term: u64,
    target: Target,
    /// Which process answers there; `None` where it has not said so yet.
    boot: Option<u64>,
}

impl Node {
    /// The task that notices when the leader's process is gone.
    pub(in crate::node) async fn watch_leader_process(self) {
        let mut metrics = self.inner.raft.server_metrics();
        loop {
            if metrics.wait_until(follows_as_voter).await.is_err() {
                return;
            }
            let Some(mut watched) = self.watched() else {
                sleep(LEADER_CHANGE_WAIT).await;
                continue;
            };
            watched.boot = self.boot_of(&watched.target).await.ok();
            let asked = self.inner.peers.call(&watched.target, PeerRequest::LeaderWatch, LEADER_WATCH_DURATION * 2);
            let moved_on =
                |m: &ServerMetrics| m.current_leader != Some(watched.leader) || m.vote.leader_id.term != watched.term;
            tokio::select! {
                moved = metrics.wait_until(moved_on) => if moved.is_err() {
                    return;
                },
                answer = asked => {
                    let broke = matches!(answer, Err(PeerError::Unreachable(_) | PeerError::Lost(_)));
                    if broke && self.is_gone(&watched).await {
                        self.take_over(&watched).await;
                    }
                    sleep(LEADER_CHANGE_WAIT).await;
                }
            }
        }
    }

    /// As the leader: holds a standing request until it no longer leads.
    pub(in crate::node) async fn hold_leader_watch(&self) {
        let mut metrics = self.inner.raft.server_metrics();
        let no_longer = metrics.wait_until(|m| m.state != ServerState::Leader);
        // Whichever comes first, the other side looks again.
        let _ = timeout(LEADER_WATCH_DURATION, no_longer).await;
    }

    fn watched(&self) -> Option<WatchedLeader> {
        let Some(Leader::Other(target)) = self.leader() else { return None };
        let term = self.inner.raft.server_metrics().borrow_watched().vote.leader_id.term;
        Some(WatchedLeader { leader: target.raft_id?, term, target, boot: None })
    }

    async fn boot_of(&self, target: &Target) -> Result<u64, PeerError> {
        match self.inner.peers.call(target, PeerRequest::Identify, VOTER_ANSWER_TIMEOUT).await? {
            PeerReply::Identify(who) => Ok(who.boot),
            other => Err(PeerError::Lost(format!("{other:?}"))),
        }
    }

    /// Tells whether nobody listens where the leader was, or another process does.
    async fn is_gone(&self, watched: &WatchedLeader) -> bool {
        match self.boot_of(&watched.target).await {
            Err(PeerError::Unreachable(_)) => true,
            Err(_) => false,
            Ok(boot) => watched.boot.is_some_and(|before| before != boot),
        }
    }

    /// Asks the other voters, and leads where most agree and none has more of the log.
    async fn take_over(&self, watched: &WatchedLeader) {
        let (vote, configs, mine) = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.vote, metrics.membership_config.membership().get_joint_config().clone(), metrics.id)
        };
        let members = self.members();
        let others = members.iter().filter(|m| m.server.voter && m.raft_id != mine && m.raft_id != watched.leader);
        let asked = others.map(async |member| {
            let target = Target { raft_id: Some(member.raft_id), id: member.server.id.clone() };
            let seen = LeaderSeen { leader: watched.leader, term: watched.term, boot: watched.boot };
            match self.inner.peers.call(&target, PeerRequest::IsLeaderGone(seen), VOTER_ANSWER_TIMEOUT).await {
                Ok(PeerReply::IsLeaderGone(Some(last_log_id))) => Some((last_log_id, member.raft_id)),
                _ => None,
            }
        });
        let mut agree: Vec<(Option<LogId>, RaftId)> = join_all(asked).await.into_iter().flatten().collect();
        agree.push((self.inner.log.last_log_id(), mine));
        let quorum = |voters: &std::collections::BTreeSet<RaftId>| {
            agree.iter().filter(|(_, id)| voters.contains(id)).count() > voters.len() / 2
        };
        if !configs.iter().all(quorum) {
            return;
        }
        agree.sort();
        let ahead = agree.iter().rev().take_while(|(_, id)| *id != mine).count();
        let stagger = TAKE_OVER_STAGGER * u32::try_from(ahead).unwrap_or(u32::MAX);
        let mut metrics = self.inner.raft.server_metrics();
        let settled =
            metrics.wait_until(|m| m.current_leader != Some(watched.leader) || m.vote.leader_id.term != watched.term);
        if timeout(stagger, settled).await.is_ok() {
            return;
        }
        tracing::warn!("the leader {} is gone: taking over", watched.target.id);
        self.inner.journal.takes_over(&watched.target.id.to_string(), watched.term + 1);
        let request = TransferLeaderRequest::new(vote, mine, None);
        // Where the vote has changed meanwhile, another election is under way, and that is well.
        let _ = self.inner.raft.handle_transfer_leader(request).await;
    }

    /// Answers a voter that lost the leader: this voter's last log id where it lost it too.
    pub(in crate::node) async fn is_leader_gone(&self, seen: LeaderSeen) -> Option<Option<LogId>> {
        let mut watched = self.watched()?;
        if watched.leader != seen.leader || watched.term != seen.term {
            return None;
        }
        watched.boot = seen.boot;
        self.is_gone(&watched).await.then(|| self.inner.log.last_log_id())
    }
}

fn follows_as_voter(m: &ServerMetrics) -> bool {
    m.state == ServerState::Follower
        && m.current_leader.is_some_and(|leader| leader != m.id)
        && m.membership_config.voter_ids().any(|id| id == m.id)
}
