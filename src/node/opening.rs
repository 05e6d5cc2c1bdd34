//! A node that may still be opening its storage, and the phases until it serves. Both ports hold a [`NodeSlot`], so that
//! they answer from the first moment.
//!
//! Contract: until [`NodeSlot::started`] was called nothing of the node's state is told, because none is known; a key
//! request waits for that as long as it would for a leader. From then on everything is the node's.
//!
//! Caveat: a directory that belongs to a cluster says so at once ([`NodeSlot::stats`] lists this node), so that a first
//! node that comes back empty does not form a second cluster while the others are loading.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::sync::SetOnce;
use tokio::time::{Instant, timeout_at};

use crate::formats::Speaks;
use crate::node::leader::{LEADER_CHANGE_WAIT, LEADER_WAIT, Leader, LeaderWait};
use crate::node::rpc::{Identification, MemberAnswer, PeerReply, PeerRequest};
use crate::node::state::Phase;
use crate::node::{
    About, Cluster, ClusterServer, Finding, Node, NodeError, NodeIdentity, Numbers, Patient, Server, Severity, State,
    Stats,
};
use crate::node_id::PublicId;
use crate::raft_types::{RaftId, Role, StartMark};

/// Holds one node once it has started. Clones share it.
#[derive(Debug, Clone)]
pub struct NodeSlot {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: PublicId,
    has_cluster: bool,
    since: SystemTime,
    node: SetOnce<Node>,
    before: Mutex<Before>,
    /// Nobody is served before it is known who may be.
    closed: AtomicBool,
    /// The same for a node that is new to its cluster, until it has caught up.
    closed_until_ready: AtomicBool,
}

/// What is told before the node is there.
#[derive(Debug, Default)]
struct Before {
    /// Who this is, for those that look for members.
    identification: Option<Identification>,
    /// Its Raft id, and which start of it this is.
    start: Option<(RaftId, StartMark)>,
    /// Why it waits; `None` where it only loads.
    waits: Option<String>,
}

impl NodeSlot {
    /// A slot without a node; `has_cluster` says that the data directory belongs to a cluster.
    pub fn new(id: PublicId, has_cluster: bool) -> Self {
        Self {
            inner: Arc::new(Inner {
                id,
                has_cluster,
                since: SystemTime::now(),
                node: SetOnce::new(),
                before: Mutex::default(),
                closed: AtomicBool::new(false),
                closed_until_ready: AtomicBool::new(false),
            }),
        }
    }

    /// From now on nobody is served but who has a root token, until the state says whom to serve.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
    }

    /// The same for a node of a cluster that may ask for tokens, which has nothing of that cluster yet: what it applies
    /// first may be of before authentication was on.
    pub fn close_until_ready(&self) {
        self.inner.closed_until_ready.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }

    /// Whether it may have applied less than what says whom to serve.
    pub(super) fn is_catching_up(&self) -> bool {
        let is_behind = |node: &Node| *node.inner.phase.borrow() < Phase::Ready;
        self.inner.closed_until_ready.load(Ordering::Acquire) && self.node().is_none_or(is_behind)
    }

    /// Waits until the node has once caught up with its cluster.
    pub async fn caught_up(&self) {
        let mut phase = self.inner.node.wait().await.inner.phase.subscribe();
        let _gone = phase.wait_for(|phase| *phase == Phase::Ready).await;
    }

    /// Puts the node in; a second one is ignored.
    pub fn started(&self, node: Node) {
        let _first = self.inner.node.set(node);
    }

    /// The node, once it is there.
    pub fn node(&self) -> Option<&Node> {
        self.inner.node.get()
    }

    /// From now on, and until the node is there, this is told to those that look for members.
    pub fn identify_as(&self, identification: Identification) {
        self.inner.before.lock().identification = Some(identification);
    }

    /// From now on the process is known under this identity: it is about to ask others, who ask back.
    pub fn speaks_as(&self, me: &NodeIdentity) {
        let mut before = self.inner.before.lock();
        before.start = Some((me.raft_id(), me.start()));
        before.identification = Some(me.identification(false));
    }

    /// Says why the node is not there yet, or with `None` that it only loads.
    pub fn waits(&self, why: Option<String>) {
        self.inner.before.lock().waits = why;
    }

    /// The answer of a node that is not there yet: it says who it is, and nothing else.
    pub fn answer_before(&self, request: &PeerRequest) -> Option<PeerReply> {
        match request {
            PeerRequest::Identify => self.inner.before.lock().identification.clone().map(PeerReply::Identify),
            // Asked for itself it tells its start, as the node does once it is there.
            PeerRequest::IsMember(raft_id) => {
                let start = self.inner.before.lock().start.filter(|(own, _)| own == raft_id)?.1;
                Some(PeerReply::IsMember(MemberAnswer::Unknown, Some(start)))
            }
            _ => None,
        }
    }

    fn not_ready(&self) -> NodeError {
        let why = self.inner.before.lock().waits.clone();
        let loads = || "this node is still loading its data; the log says when it is ready".to_owned();
        NodeError::NotReady(why.unwrap_or_else(loads))
    }

    /// Waits for the node as long as a request waits for a leader.
    ///
    /// # Errors
    /// [`NodeError::NotReady`].
    pub async fn wait(&self, deadline: Instant) -> Result<&Node, NodeError> {
        if let Some(node) = self.node() {
            return Ok(node);
        }
        let until = deadline.min(Instant::now() + LEADER_WAIT);
        timeout_at(until, self.inner.node.wait()).await.map_err(|_| self.not_ready())
    }

    /// The node, at once.
    ///
    /// # Errors
    /// [`NodeError::NotReady`].
    pub fn at_once(&self) -> Result<&Node, NodeError> {
        self.node().ok_or_else(|| self.not_ready())
    }

    /// The public id.
    pub fn id(&self) -> &PublicId {
        &self.inner.id
    }

    /// The role that the node has now; one that loads takes no part, like a learner.
    pub fn state(&self) -> State {
        self.node().map_or(State::Learner, Node::state)
    }

    /// The source of `GET /hraftd/raft/stats`.
    pub fn stats(&self) -> Stats {
        if let Some(node) = self.node() {
            return node.stats();
        }
        let own = Server { id: self.inner.id.clone(), voter: false };
        Stats {
            applied_index: 0,
            commit_index: 0,
            fsm_pending: 0,
            last_contact: None,
            last_log_index: 0,
            last_log_term: 0,
            last_snapshot_index: 0,
            last_snapshot_term: 0,
            latest_configuration: if self.inner.has_cluster { vec![own] } else { Vec::new() },
            latest_configuration_index: 0,
            num_peers: 0,
            state: self.state(),
            term: 0,
            format: None,
        }
    }

    /// What is wrong with the cluster.
    pub async fn examine(&self) -> Vec<Finding> {
        match self.at_once() {
            Ok(node) => node.examine().await,
            Err(why) => vec![Finding {
                severity: Severity::Warning,
                what: why.to_string(),
                evidence: Vec::new(),
                node: self.inner.id.to_string(),
                remedy: "wait until it has loaded its data; its log says when".to_owned(),
            }],
        }
    }

    /// How each member is; nobody while the node loads.
    pub async fn ask_vitals(&self) -> Vec<Patient> {
        match self.node() {
            Some(node) => node.ask_vitals().await,
            None => Vec::new(),
        }
    }

    /// The numbers for `GET /metrics`; blank while the node loads.
    pub fn numbers(&self) -> Numbers {
        self.node().map(Node::numbers).unwrap_or_default()
    }

    /// What must be right for key requests to be served, in order, and what is not.
    pub fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        match self.at_once() {
            Err(why) => vec![("loaded", Err(why.to_string()))],
            Ok(node) => node.checks(),
        }
    }

    /// The source of `GET /hraftd/raft/cluster`.
    pub async fn cluster(&self) -> Cluster {
        if let Some(node) = self.node() {
            return node.cluster().await;
        }
        let speaks = Some(Speaks::own());
        let current = ClusterServer { id: self.inner.id.clone(), state: self.state(), voter: false, speaks };
        Cluster { format: None, servers: vec![current.clone()], current, leader: None, warnings: Vec::new() }
    }

    /// The source of `GET /hraftd/raft/node`.
    pub fn about(&self) -> About {
        let digest = self.node().map(Node::digest);
        let format = self.node().map(Node::format);
        About { start_time: self.inner.since, id: self.inner.id.clone(), hostname: hostname(), digest, format }
    }
}

impl Node {
    /// Moves [`Phase`] on, from joining to ready.
    pub(super) async fn follow_phases(self) {
        let me = self.inner.me.raft_id();
        let mut metrics = self.metrics();
        // Only a *committed* membership makes a member.
        if metrics.wait_until(|m| m.committed_membership_config.get_node(&me).is_some()).await.is_err() {
            return;
        }
        self.inner.phase.send_replace(Phase::Replaying);
        let mut applied = self.inner.map.applied();
        if applied.wait_for(|applied| *applied >= self.inner.committed_at_open).await.is_err() {
            return;
        }
        self.inner.phase.send_replace(Phase::Recovering);
        loop {
            let deadline = Instant::now() + Duration::from_secs(10);
            if let Ok(index) = self.read_index(deadline).await
                && self.wait_applied(index, deadline).await.is_ok()
            {
                break;
            }
            if !self.may_elect() {
                return;
            }
            // A refusal that comes at once must not make this spin.
            tokio::time::sleep(LEADER_CHANGE_WAIT).await;
        }
        self.inner.phase.send_replace(Phase::Ready);
        if self.inner.me.role == Role::Learner && self.is_voter() {
            tracing::warn!(
                "this node is a voter and stays one: --non-voter makes no learner of it. Remove it from the cluster \
                 first, and start it again: it then joins as a learner"
            );
        }
        tracing::info!("ready: caught up with the cluster at index {}", self.applied_index());
    }

    /// Ok where key requests would be served; otherwise why not.
    ///
    /// # Errors
    /// [`NodeError::Removed`], [`NodeError::Diverged`], [`NodeError::NotReady`], [`NodeError::NoLeader`].
    pub fn ready(&self) -> Result<(), NodeError> {
        self.refuse_out()?;
        if let Some(why) = self.inner.strangers.foreign() {
            return Err(NodeError::NotReady(why));
        }
        let phase = *self.inner.phase.borrow();
        if phase != Phase::Ready {
            return Err(phase.not_ready());
        }
        if !self.leader_is_heard() {
            return Err(NodeError::NoLeader("no leader is known that a quorum follows".to_owned()));
        }
        self.refuse_hindered()
    }

    /// The same, check by check: all of them are right where [`ready`](Self::ready) is.
    pub fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        let text = |outcome: Result<(), NodeError>| outcome.map_err(|why| why.to_string());
        let phase = *self.inner.phase.borrow();
        let caught_up = || {
            let behind = self.last_committed().map_or(0, |id| id.index).saturating_sub(self.applied_index());
            match (phase, behind) {
                (Phase::Ready, _) => Ok(()),
                (_, 0) => Err(phase.not_ready().to_string()),
                (_, behind) => Err(format!("{behind} entries behind")),
            }
        };
        let heard = match self.leader() {
            Some(_) if self.leader_is_heard() => Ok(()),
            Some(Leader::ThisNode) => Err("this node leads, and no quorum follows it".to_owned()),
            Some(Leader::Other(leader)) => Err(format!("{} leads, and was not heard for too long", leader.id)),
            None => Err("none is known".to_owned()),
        };
        vec![
            ("loaded", Ok(())),
            ("takes_part", text(self.refuse_out())),
            ("one_cluster", self.inner.strangers.foreign().map_or(Ok(()), Err)),
            ("member", if phase == Phase::Joining { Err(phase.not_ready().to_string()) } else { Ok(()) }),
            ("applied", caught_up()),
            ("leader", heard),
            ("progress", text(self.refuse_hindered())),
        ]
    }

    /// It leads, and a quorum follows it; or it hears whoever does.
    fn leader_is_heard(&self) -> bool {
        match self.leader() {
            Some(Leader::ThisNode) => self.state() == State::Leader,
            Some(Leader::Other(_)) => {
                self.inner.freshness.last_contact().is_some_and(|age| age <= self.silence_allowed())
            }
            None => false,
        }
    }

    /// The same; where there is no leader, the error names the voters that do not answer, as that of a request does.
    ///
    /// # Errors
    /// Those of [`ready`](Self::ready).
    pub async fn ready_or_why(&self) -> Result<(), NodeError> {
        match self.ready() {
            Err(NodeError::NoLeader(_)) => Err(self.no_leader().await),
            other => other,
        }
    }

    /// Waits, as long as a request waits for a leader, until this node has come so far.
    pub(super) async fn wait_phase(&self, phase: Phase, deadline: Instant) -> Result<(), NodeError> {
        self.refuse_removed()?;
        if *self.inner.phase.borrow() >= phase {
            return Ok(());
        }
        self.wait_phase_until(phase, &LeaderWait::new(deadline)).await
    }

    pub(super) async fn wait_phase_until(&self, phase: Phase, wait: &LeaderWait) -> Result<(), NodeError> {
        let mut now = self.inner.phase.subscribe();
        let waited = timeout_at(wait.until, now.wait_for(|now| *now >= phase)).await;
        if let Ok(Ok(_)) = waited {
            return Ok(());
        }
        Err(self.inner.phase.borrow().not_ready())
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn before_the_node_is_there_nothing_is_told_of_it() {
        let id: PublicId = "127.0.0.1:1,127.0.0.1:2".parse().unwrap();
        let starting = NodeSlot::new(id.clone(), true);
        let began = Instant::now();
        let waited = starting.wait(began + Duration::from_secs(10)).await;
        assert!(matches!(waited, Err(NodeError::NotReady(_))));
        assert_eq!(began.elapsed(), LEADER_WAIT);
        assert!(starting.wait(Instant::now() + Duration::from_millis(5)).await.is_err());
        assert_eq!(began.elapsed(), LEADER_WAIT + Duration::from_millis(5));
        assert_eq!(starting.stats().latest_configuration, [Server { id: id.clone(), voter: false }]);
        assert_eq!(NodeSlot::new(id, false).stats().latest_configuration, []);
        assert_eq!(starting.cluster().await.leader, None);
    }
}
