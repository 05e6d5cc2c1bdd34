//! Proposals travel to Raft together, where many come.
//!
//! What a batch costs (a flush on each node, a message to each follower and back) hardly depends on how much is in it. So
//! a command that finds none under way is proposed at once, and what comes meanwhile makes up the next batch, which goes
//! out when the one before is applied. Where that takes long, as between distant nodes, it does not wait for longer than
//! [`PACE`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use openraft::alias::CommittedLeaderIdOf;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::ClientWriteError;
use openraft::{Raft, RaftMetrics, ServerState};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::command::{Command, Reply};
use crate::node::leader::{Leader, LeaderWait};
use crate::node::replication::coarse_timer::CoarseTimer;
use crate::node::rpc::ForwardError;
use crate::node::{Node, NodeError};
use crate::raft_types::{Responder, TypeConfig};
use crate::state_machine::StateMachine;

/// The longest that a batch waits for the one before, about.
const PACE: Duration = Duration::from_millis(5);

/// The most commands in a batch.
const MAX_COMMANDS: usize = 1024;

/// Bytes of keys and values after which a batch is full.
const MAX_BYTES: usize = 4 << 20;

/// What became of a proposal.
pub(in crate::node) type Outcome = openraft::raft::ClientWriteResult<TypeConfig>;

/// A command, the leader it is for, and who waits for its outcome.
struct Proposal {
    command: Arc<Command>,
    leader: CommittedLeaderIdOf<TypeConfig>,
    responder: Responder<Outcome>,
}

/// Where proposals queue.
#[derive(Debug)]
pub(in crate::node) struct Proposals(mpsc::UnboundedSender<Proposal>);

impl Proposals {
    pub(in crate::node) fn new() -> (Self, Queue) {
        let (queue, waiting) = mpsc::unbounded_channel();
        (Self(queue), Queue { waiting, flights: Arc::default(), alarm: CoarseTimer::new() })
    }

    /// Has a command proposed; in another term than that of `leader` it is not appended. Nothing is told where Raft has
    /// stopped.
    pub(in crate::node) fn propose(
        &self,
        command: Arc<Command>,
        leader: CommittedLeaderIdOf<TypeConfig>,
    ) -> oneshot::Receiver<Outcome> {
        let (responder, outcome) = Responder::new();
        // Where nobody takes it, it is dropped, and that tells.
        let _ = self.0.send(Proposal { command, leader, responder });
        outcome
    }
}

/// How many batches are under way.
#[derive(Debug, Default)]
struct Flights {
    count: AtomicUsize,
    landed: Notify,
}

/// A batch that is under way, until this is dropped.
struct BatchInFlight(Arc<Flights>);

impl Flights {
    fn begin(self: &Arc<Self>) -> BatchInFlight {
        self.count.fetch_add(1, Ordering::AcqRel);
        BatchInFlight(self.clone())
    }

    async fn all_landed(&self) {
        while self.count.load(Ordering::Acquire) > 0 {
            // One that lands between the look and this leaves a permit.
            self.landed.notified().await;
        }
    }
}

impl Drop for BatchInFlight {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.landed.notify_one();
        }
    }
}

/// What waits for a batch to land.
pub(in crate::node) struct Queue {
    waiting: mpsc::UnboundedReceiver<Proposal>,
    flights: Arc<Flights>,
    alarm: CoarseTimer,
}

impl Queue {
    /// The task that sends batch after batch, for as long as there is who proposes.
    pub(in crate::node) async fn run(mut self, raft: Raft<TypeConfig, StateMachine>) {
        while let Some(first) = self.waiting.recv().await {
            let now = Instant::now();
            tokio::select! {
                biased;
                () = self.flights.all_landed() => {}
                () = self.alarm.ring(now + PACE, now) => {}
            }
            let mut bytes = first.command.bytes();
            let mut batch = vec![first];
            while batch.len() < MAX_COMMANDS
                && bytes < MAX_BYTES
                && let Ok(next) = self.waiting.try_recv()
            {
                bytes += next.command.bytes();
                batch.push(next);
            }
            // Raft applies in order: with the last, all are.
            if let Some(last) = batch.last_mut() {
                last.responder.hold(Box::new(self.flights.begin()));
            }
            for Proposal { command, leader, responder } in batch {
                if raft.write(command).with_leader(leader).responder(responder).await.is_err() {
                    // Raft has stopped. Responders that are dropped tell it.
                    return;
                }
            }
        }
    }
}

impl Node {
    /// Proposes a command if this node leads; what a forwarding peer is answered.
    pub(in crate::node) async fn propose(
        &self,
        command: &mut Arc<Command>,
        deadline: Instant,
    ) -> Result<(u64, Reply), ForwardError> {
        self.refuse_stray().map_err(ForwardError::Failed)?;
        let term = self.term_led(deadline).await.ok_or(ForwardError::NotLeader)?;
        // One that was tried before was appended to no log, and is not shared any more.
        Arc::make_mut(command).stamp(self.clock().stamp_ms(term));
        let unknown = |why: &str| ForwardError::Failed(NodeError::Timeout(why.to_owned()));
        // The stamp is of this term's leader; in another term it is not appended.
        let leader = CommittedLeaderIdOf::<TypeConfig>::new(term);
        match timeout_at(deadline, self.inner.proposals.propose(command.clone(), leader)).await {
            Ok(Ok(Ok(response))) => Ok((response.log_id.index, response.data)),
            // openraft's contract: rejected before its entry was appended.
            Ok(Ok(Err(ClientWriteError::ForwardToLeader(_)))) => Err(ForwardError::NotLeader),
            Ok(Ok(Err(ClientWriteError::LogEntryDiscarded(_)))) => {
                Err(unknown("the leader changed before the entry was committed"))
            }
            Ok(Ok(Err(other))) => Err(ForwardError::Failed(NodeError::Internal(other.to_string()))),
            Ok(Err(_)) => Err(unknown("this node is stopping")),
            Err(_) => Err(unknown("a quorum did not acknowledge it in time")),
        }
    }

    /// As the leader: proposes what a follower passed on, all at once.
    pub(in crate::node) async fn propose_all(
        &self,
        commands: Vec<Arc<Command>>,
        timeout: Duration,
    ) -> Vec<Result<(u64, Reply), ForwardError>> {
        if self.leader() != Some(Leader::ThisNode) {
            return vec![Err(ForwardError::NotLeader); commands.len()];
        }
        // A little earlier than the follower gives up, so that the reason travels back.
        let deadline = Instant::now() + timeout.mul_f64(0.95);
        let propose = async |mut command| self.propose(&mut command, deadline).await;
        join_all(commands.into_iter().map(propose)).await
    }

    /// The term in which this node leads, once it has applied what was before: only then it may tell log time.
    async fn term_led(&self, deadline: Instant) -> Option<u64> {
        let leads = |m: &RaftMetrics<TypeConfig>| m.state == ServerState::Leader;
        let settled = |m: &RaftMetrics<TypeConfig>| {
            !leads(m) || m.last_applied.is_some_and(|id| id.leader_id.term == m.current_term)
        };
        let mut metrics = self.metrics();
        if let now = metrics.borrow_watched()
            && settled(&now)
        {
            return leads(&now).then_some(now.current_term);
        }
        let waited = Box::pin(timeout_at(LeaderWait::new(deadline).until, metrics.wait_until(settled))).await;
        waited.ok()?.ok().filter(|m| leads(m)).map(|m| m.current_term)
    }
}
