//! The part of a node that the API needs, so that its tests can do without a node.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::command::{Command, Denied, Key, Need, Principal, TokenId};
use crate::formats::Feature;
use crate::kv::{self, HeldLock, RetryRoom, Ticket};
use crate::node::rpc::RequestMark;
use crate::node::{
    About, AllEvents, Cluster, EntryView, EventRing, Finding, Found, Gate, Node, NodeError, NodeSlot, Numbers, Patient,
    Proposed, ReadOptions, Settled, Stages, State, StateCopy, StateView, Stats, Written,
};
use crate::node_id::PublicId;
use crate::raft_types::ClusterId;
use crate::secret::Token;
use crate::state_machine::AuthNow;
use crate::watch::Watches;

/// The part of [`Node`] that the API uses; the methods are the node's own.
#[allow(missing_docs)]
pub trait Service: Send + Sync + 'static {
    fn id(&self) -> &PublicId;
    /// The cluster that it belongs to; `None` where there is none yet, or it is not known yet.
    fn cluster_id(&self) -> Option<ClusterId>;
    fn applied_index(&self) -> u64;
    /// Log time as this node estimates it, in milliseconds.
    fn log_time_ms(&self) -> u64;
    /// The room for one more kept outcome, that of this `Idempotency-Key`.
    fn retry_room(&self, key: &str) -> RetryRoom;
    fn write(
        &self,
        command: Command,
        mark: Option<Box<RequestMark>>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Written, NodeError>> + Send;
    /// Where the time of a write that was proposed here went.
    fn stages(&self, index: u64, proposed: Proposed) -> Option<Stages>;
    /// Whether clients are asked who they are.
    fn gate(&self) -> Gate;
    /// Waits until that is known, or the time is up.
    fn gate_opens(&self, until: Instant) -> impl Future<Output = ()> + Send;
    fn who_shows(&self, token: &Token) -> Known;
    /// Who holds the secret of this generation of a token.
    fn who_holds(&self, id: TokenId, generation: u32) -> Known;
    /// Whom a certificate with this name stands for.
    fn has_certificate(&self, name: &str) -> Option<(Principal, Arc<kv::Token>)>;
    /// Ok where somebody may do this by this node's own state, and how long that holds.
    fn allowed(&self, by: Option<&Principal>, need: Need<'_>) -> Result<Option<Duration>, Denied>;
    fn auth_changes(&self) -> tokio::sync::watch::Receiver<AuthNow>;
    fn read(
        &self,
        by: Option<&Principal>,
        key: &Key,
        options: ReadOptions,
        deadline: Instant,
    ) -> impl Future<Output = Result<Found, NodeError>> + Send;
    /// Waits until this node's own state may be read.
    fn settle(
        &self,
        options: ReadOptions,
        deadline: Instant,
    ) -> impl Future<Output = Result<Settled, NodeError>> + Send;
    fn view(
        &self,
        by: Option<&Principal>,
        needs: &[Need<'_>],
        options: ReadOptions,
        deadline: Instant,
    ) -> impl Future<Output = Result<StateView, NodeError>> + Send;
    fn backup(
        &self,
        by: Option<&Principal>,
        options: ReadOptions,
        deadline: Instant,
    ) -> impl Future<Output = Result<StateCopy, NodeError>> + Send;
    fn lock(
        &self,
        by: Option<&Principal>,
        name: &str,
        options: ReadOptions,
        deadline: Instant,
    ) -> impl Future<Output = Result<(Option<HeldLock>, u64, Settled), NodeError>> + Send;
    /// `NotReady` before the node has opened its storage.
    fn watches(&self) -> Result<Watches, NodeError>;
    fn await_ticket(
        &self,
        name: &Key,
        ticket: u64,
        until: Instant,
        patience: Duration,
    ) -> impl Future<Output = Result<Ticket, NodeError>> + Send;
    fn cancel_ticket(&self, name: Key, ticket: u64);
    fn stats(&self) -> Stats;
    fn numbers(&self) -> Numbers;
    /// What must be right for key requests to be served, in order, and what is not.
    fn checks(&self) -> Vec<(&'static str, Result<(), String>)>;
    fn cluster(&self) -> impl Future<Output = Cluster> + Send;
    fn state(&self) -> State;
    fn about(&self) -> About;
    fn events(&self) -> Result<Arc<EventRing>, NodeError>;
    fn follow_all(&self) -> Result<AllEvents, NodeError>;
    fn entry(&self, index: u64) -> Option<EntryView>;
    fn examine(&self) -> impl Future<Output = Vec<Finding>> + Send;
    /// The terms of the newest committed entries, as `(first index, term)`.
    fn newest_terms(&self) -> Vec<(u64, u64)>;
    /// How each member is.
    fn ask_vitals(&self) -> impl Future<Output = Vec<Patient>> + Send;
    fn ready(&self) -> impl Future<Output = Result<(), NodeError>> + Send;
    fn require(&self, feature: Feature, deadline: Instant) -> impl Future<Output = Result<(), NodeError>> + Send;
    fn join(
        &self,
        by: Option<&Principal>,
        id: PublicId,
        asker_raft_id: Option<u64>,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), NodeError>> + Send;
    fn remove(
        &self,
        by: Option<&Principal>,
        wanted: &str,
        force: bool,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), NodeError>> + Send;
    fn lead(
        &self,
        by: Option<&Principal>,
        wanted: Option<&str>,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), NodeError>> + Send;
}

impl Service for NodeSlot {
    fn id(&self) -> &PublicId {
        self.id()
    }
    fn cluster_id(&self) -> Option<ClusterId> {
        self.node()?.cluster_id()
    }
    fn applied_index(&self) -> u64 {
        self.node().map_or(0, Node::applied_index)
    }
    fn log_time_ms(&self) -> u64 {
        self.node().map_or(0, |node| node.clock().now_ms())
    }
    fn retry_room(&self, key: &str) -> RetryRoom {
        self.node().map_or_else(RetryRoom::default, |node| node.retry_room(key))
    }
    async fn write(
        &self,
        command: Command,
        mark: Option<Box<RequestMark>>,
        deadline: Instant,
    ) -> Result<Written, NodeError> {
        self.wait(deadline).await?.write_marked(command, mark, deadline).await
    }
    fn stages(&self, index: u64, proposed: Proposed) -> Option<Stages> {
        self.node()?.stages(index, proposed)
    }
    fn gate(&self) -> Gate {
        self.gate()
    }
    async fn gate_opens(&self, until: Instant) {
        self.gate_opens(until).await;
    }
    fn who_shows(&self, token: &Token) -> Known {
        let (id, hash) = parts_of(token);
        self.node().ok_or(Denied::Unknown)?.who_shows(id, &hash)
    }
    fn who_holds(&self, id: TokenId, generation: u32) -> Known {
        self.node().ok_or(Denied::Unknown)?.who_holds(id, generation)
    }
    fn has_certificate(&self, name: &str) -> Option<(Principal, Arc<kv::Token>)> {
        self.node()?.of_certificate(name)
    }
    fn allowed(&self, by: Option<&Principal>, need: Need<'_>) -> Result<Option<Duration>, Denied> {
        self.node().map_or(Ok(None), |node| node.allowed(by, need))
    }
    fn auth_changes(&self) -> tokio::sync::watch::Receiver<AuthNow> {
        self.node().map_or_else(|| tokio::sync::watch::Sender::default().subscribe(), Node::auth_changes)
    }
    async fn read(
        &self,
        by: Option<&Principal>,
        key: &Key,
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<Found, NodeError> {
        self.wait(deadline).await?.read_by(by, key, options, deadline).await
    }
    async fn settle(&self, options: ReadOptions, deadline: Instant) -> Result<Settled, NodeError> {
        self.wait(deadline).await?.settle(options, deadline).await
    }
    async fn view(
        &self,
        by: Option<&Principal>,
        needs: &[Need<'_>],
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<StateView, NodeError> {
        self.wait(deadline).await?.view_by(by, needs, options, deadline).await
    }
    async fn backup(
        &self,
        by: Option<&Principal>,
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<StateCopy, NodeError> {
        self.wait(deadline).await?.copy_for(by, options, deadline).await
    }
    async fn lock(
        &self,
        by: Option<&Principal>,
        name: &str,
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<(Option<HeldLock>, u64, Settled), NodeError> {
        self.wait(deadline).await?.lock_by(by, name, options, deadline).await
    }
    fn watches(&self) -> Result<Watches, NodeError> {
        let node = self.at_once()?;
        node.serves_watches()?;
        Ok(node.watches().clone())
    }
    async fn await_ticket(
        &self,
        name: &Key,
        ticket: u64,
        until: Instant,
        patience: Duration,
    ) -> Result<Ticket, NodeError> {
        self.at_once()?.await_ticket(name, ticket, until, patience).await
    }
    fn cancel_ticket(&self, name: Key, ticket: u64) {
        if let Some(node) = self.node() {
            node.cancel_ticket(name, ticket);
        }
    }
    fn stats(&self) -> Stats {
        self.stats()
    }
    fn numbers(&self) -> Numbers {
        self.numbers()
    }
    fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        self.checks()
    }
    async fn cluster(&self) -> Cluster {
        self.cluster().await
    }
    fn state(&self) -> State {
        self.state()
    }
    fn about(&self) -> About {
        self.about()
    }
    fn events(&self) -> Result<Arc<EventRing>, NodeError> {
        Ok(self.at_once()?.events())
    }
    fn follow_all(&self) -> Result<AllEvents, NodeError> {
        Ok(self.at_once()?.follow_all())
    }
    fn entry(&self, index: u64) -> Option<EntryView> {
        self.node()?.entry(index)
    }
    async fn examine(&self) -> Vec<Finding> {
        self.examine().await
    }
    fn newest_terms(&self) -> Vec<(u64, u64)> {
        self.node().map(Node::newest_terms).unwrap_or_default()
    }
    async fn ask_vitals(&self) -> Vec<Patient> {
        self.ask_vitals().await
    }
    async fn ready(&self) -> Result<(), NodeError> {
        self.at_once()?.ready_or_why().await
    }
    async fn require(&self, feature: Feature, deadline: Instant) -> Result<(), NodeError> {
        self.wait(deadline).await?.require(feature, deadline).await
    }
    async fn join(
        &self,
        by: Option<&Principal>,
        id: PublicId,
        asker_raft_id: Option<u64>,
        deadline: Instant,
    ) -> Result<(), NodeError> {
        self.at_once()?.join_by(by, id, asker_raft_id, deadline).await
    }
    async fn remove(
        &self,
        by: Option<&Principal>,
        wanted: &str,
        force: bool,
        deadline: Instant,
    ) -> Result<(), NodeError> {
        self.wait(deadline).await?.remove_by(by, wanted, force, deadline).await
    }
    async fn lead(&self, by: Option<&Principal>, wanted: Option<&str>, deadline: Instant) -> Result<(), NodeError> {
        self.wait(deadline).await?.lead_by(by, wanted, deadline).await
    }
}

/// Has somebody the secret of a token that is good here?
pub type Known = Result<(Principal, Arc<kv::Token>), Denied>;

/// A token's id and hash, for a node to look up.
pub fn parts_of(token: &Token) -> (u64, [u8; 32]) {
    (token.id().0, token.digest())
}
