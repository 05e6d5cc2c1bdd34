//! How a node finds its cluster: it forms one, joins one, or has one.
//!
//! The same list of addresses on every node, started at once in any order, gives one cluster: only
//! the first address may form it, and only after it has listened for a second in which every living
//! leader that knows the address calls it.
//!
//! Caveat: a first node that comes back empty while *all* others are down forms a second cluster; it
//! stops taking writes as soon as one of them calls it ([`crate::node::replication::serve`]).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, sleep};

use crate::node::leader::Leader;
use crate::node::{Node, NodeError};
use crate::node_id::HostPort;
use crate::raft_types::{ClusterId, Member, Role};
use crate::task;

/// How long a node that may form a cluster listens for one that is there already.
const LISTEN_DURATION: Duration = Duration::from_secs(1);

/// How long each listed node is given to answer a request to join; it answers when the joiner is a
/// voter, and asking again is safe.
const JOIN_ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long after a promise a joiner waits to see itself in the membership.
const MEMBERSHIP_ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The first pause between two rounds of asking; each is twice the last one.
const MIN_JOIN_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two rounds of asking.
const MAX_JOIN_PAUSE: Duration = Duration::from_secs(1);

/// The command line's part in finding a cluster.
#[derive(Debug, Clone)]
pub struct Start {
    /// The listed nodes that are not this one, in their order.
    pub others: Vec<HostPort>,
    /// This node may form a cluster: it is the first of the list, or there is no list.
    pub may_form: bool,
    /// The first address of the list, unless it is known to be this node's.
    pub first: Option<HostPort>,
    /// The id of the cluster, should this node form it.
    pub new_cluster: ClusterId,
}

impl Node {
    /// Finds a cluster for a node that has none, or not the role it asked for; otherwise returns at
    /// once. Never gives up.
    ///
    /// # Errors
    /// [`NodeError::Internal`] where this node's own disk or Raft fails.
    pub async fn find_cluster(&self, start: Start) -> Result<(), NodeError> {
        let mut start = start;
        if self.is_only_voter() {
            self.lead_alone(start.first.is_some() || !start.others.is_empty(), &start.others).await;
        }
        if !self.may_elect() {
            return Ok(());
        }
        let members = self.members();
        if !members.is_empty() && members.iter().all(|member| member.raft_id != self.inner.me.raft_id()) {
            // Its own log says that it was removed; `ask_whether_removed` hears it from the leader.
            return Ok(());
        }
        loop {
            if self.inner.log.is_empty() && (start.may_form || start.others.is_empty()) {
                match self.listen(&start).await {
                    Listened::Leader(caller) => start.others.insert(0, caller),
                    Listened::ListedCluster => {}
                    // It belongs to a cluster, whose leader calls its former self.
                    Listened::Nothing if !start.may_form => continue,
                    Listened::Nothing => return self.form(start.new_cluster).await,
                }
            }
            for member in self.members() {
                if member.raft_id != self.inner.me.raft_id() && !start.others.contains(&member.server.id.haddr) {
                    start.others.push(member.server.id.haddr);
                }
            }
            let (mut removed, mut lost) = (self.inner.me.removed(), self.inner.me.lost());
            tokio::select! {
                _ = removed.wait_for(Option::is_some) => return Ok(()),
                _ = lost.wait_for(Option::is_some) => return Ok(()),
                () = self.has_its_role() => return Ok(()),
                // The first address of the list is this node's, by a name it could not know.
                Myself = self.ask_to_join(&start) => (start.may_form, start.first) = (true, None),
            }
        }
    }

    /// Ends when this node sees itself in the membership, with its addresses and the role it asked for. For a new node
    /// that must be committed: the entry that made it a member may be lost with its leader, and nobody else knows of it then.
    async fn has_its_role(&self) {
        let me = self.inner.me.raft_id();
        let role = self.inner.me.role;
        let arrived = |m: &openraft::RaftMetrics<crate::raft_types::TypeConfig>| {
            let members = if self.inner.is_new { &m.committed_membership_config } else { &m.membership_config };
            let here = members.get_node(&me).is_some_and(|member| member.id == *self.id());
            here && (role == Role::Learner || members.voter_ids().any(|id| id == me))
        };
        if self.metrics().wait_until(arrived).await.is_err() {
            // Raft has ended, and the server with it.
            std::future::pending::<()>().await;
        }
    }

    async fn listen(&self, start: &Start) -> Listened {
        let mut caller = self.inner.strangers.leader();
        let asked = async {
            let probes = start.others.iter().map(|haddr| self.inner.peers.probe(haddr, LISTEN_DURATION));
            let found = join_all(probes).await;
            if found.into_iter().any(|probe| probe.is_ok_and(|probe| probe.has_cluster)) {
                return;
            }
            std::future::pending().await
        };
        tokio::select! {
            Ok(caller) = caller.wait_for(Option::is_some) => {
                caller.as_ref().map_or(Listened::Nothing, |caller| {
                    tracing::info!("the leader {caller} has this node as a member: rejoining");
                    Listened::Leader(caller.haddr.clone())
                })
            }
            () = asked => Listened::ListedCluster,
            () = sleep(LISTEN_DURATION) => Listened::Nothing,
        }
    }

    async fn form(&self, cluster: ClusterId) -> Result<(), NodeError> {
        let me = self.inner.me.clone();
        let internal = |error: String| NodeError::Internal(format!("cannot form a cluster: {error}"));
        task::spawn_blocking(move || me.adopt_cluster(cluster))
            .await
            .map_err(|e| internal(e.to_string()))?
            .map_err(|e| internal(e.to_string()))?;
        let member = Member { id: self.id().clone(), role: self.inner.me.role };
        let members = BTreeMap::from([(self.inner.me.raft_id(), member)]);
        self.inner.raft.initialize(members).await.map_err(|e| internal(e.to_string()))?;
        tracing::info!("formed cluster {cluster}");
        Ok(())
    }

    /// Asks the listed nodes in turn, round after round. Ends only where the first of them turns out
    /// to be this node.
    async fn ask_to_join(&self, start: &Start) -> Myself {
        let id = self.id();
        let raft_id = self.inner.me.raft_id();
        let mut heard_myself = self.inner.strangers.myself();
        let mut last_said = String::new();
        let mut pause = MIN_JOIN_PAUSE;
        loop {
            if self.leader() == Some(Leader::ThisNode) {
                // It moved while it was the only voter: it has itself to ask.
                let _ = self.join(id.clone(), None, Instant::now() + JOIN_ANSWER_TIMEOUT).await;
            }
            for haddr in &start.others {
                heard_myself.mark_unchanged();
                let answer = self.inner.peers.ask_to_join(haddr, id, raft_id, JOIN_ANSWER_TIMEOUT).await;
                if heard_myself.has_changed().unwrap_or(false) {
                    if start.first.as_ref() == Some(haddr) && self.inner.log.is_empty() {
                        return Myself;
                    }
                    continue;
                }
                let said = match answer {
                    Ok(Ok(())) => {
                        tracing::info!("joined through {haddr}");
                        // The caller sees the role arrive; where it does not, ask again.
                        sleep(MEMBERSHIP_ARRIVAL_TIMEOUT).await;
                        continue;
                    }
                    Ok(Err(refusal)) => format!("{haddr} did not let this node join: {}", refusal.msg),
                    Err(error) => format!("{haddr} did not let this node join: {error}"),
                };
                if said != last_said {
                    tracing::info!("{said}; asking again");
                    last_said = said;
                }
            }
            // Spread over the nodes, so that many that start at once do not ask in step.
            sleep(pause.mul_f64(0.75 + (raft_id % 64) as f64 / 128.0)).await;
            pause = (pause * 2).min(MAX_JOIN_PAUSE);
        }
    }
}

/// The address that was asked to let this node join is this node's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Myself;

enum Listened {
    Leader(HostPort),
    ListedCluster,
    Nothing,
}
