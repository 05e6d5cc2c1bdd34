//! Proposing commands to Raft, in batches.
//!
//! A batch costs a flush on each node and a message to each follower and back, however much is in it. A command is
//! therefore proposed at once if no batch is under way. Otherwise it joins the next batch, which goes out when the one
//! before is applied, or after [`MAX_BATCH_WAIT`] where that takes longer, as between distant nodes.

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
use crate::node::journal::{Journal, Micros, Proposed};
use crate::node::leader::{Leader, LeaderWait};
use crate::node::replication::coarse_timer::CoarseTimer;
use crate::node::rpc::{ForwardError, Stages};
use crate::node::write::apply_room::ApplyPermit;
use crate::node::{Node, NodeError};
use crate::raft_types::{RaftId, Responder, TypeConfig};
use crate::state_machine::StateMachine;

/// The longest that a batch waits for the one before, about.
const MAX_BATCH_WAIT: Duration = Duration::from_millis(5);

/// The most commands in a batch.
const MAX_BATCH_COMMANDS: usize = 1024;

/// Bytes of keys and values after which a batch is full.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// How long a forwarded command that costs much to apply waits for its turn: those that came with it wait, too.
const MAX_FORWARDED_TURN_WAIT: Duration = Duration::from_millis(250);

/// The result of a proposal.
pub(in crate::node) type ProposalResult = openraft::raft::ClientWriteResult<TypeConfig>;

/// A command, the leader it is for, and who waits for its outcome.
struct Proposal {
    command: Arc<Command>,
    leader: CommittedLeaderIdOf<TypeConfig>,
    responder: Responder<ProposalResult>,
}

/// The queue of proposals.
#[derive(Debug)]
pub(in crate::node) struct Proposals(mpsc::UnboundedSender<Proposal>);

/// A command that was applied: its index, its reply, and when it was where.
pub(in crate::node) type Applied = (u64, Reply, Proposed);

impl Proposals {
    pub(in crate::node) fn new(journal: Arc<Journal>) -> (Self, Queue) {
        let (queue, waiting) = mpsc::unbounded_channel();
        (Self(queue), Queue { waiting, in_flight: Arc::default(), timer: CoarseTimer::new(), journal })
    }

    /// Has a command proposed; in another term than that of `leader` it is not appended. Its room is kept until it is
    /// applied, whoever waits for that. Nothing is told where Raft has
    /// stopped.
    pub(in crate::node) fn propose(
        &self,
        command: Arc<Command>,
        leader: CommittedLeaderIdOf<TypeConfig>,
        room: Option<ApplyPermit>,
    ) -> oneshot::Receiver<(ProposalResult, Micros)> {
        let (mut responder, outcome) = Responder::new();
        if let Some(room) = room {
            responder.hold(Box::new(room));
        }
        // Where nobody takes it, it is dropped, and that tells.
        let _ = self.0.send(Proposal { command, leader, responder });
        outcome
    }
}

/// How many batches are under way.
#[derive(Debug, Default)]
struct BatchesInFlight {
    count: AtomicUsize,
    ended: Notify,
}

/// A batch that is under way, until this is dropped.
struct BatchInFlight(Arc<BatchesInFlight>);

impl BatchesInFlight {
    fn begin(self: &Arc<Self>) -> BatchInFlight {
        self.count.fetch_add(1, Ordering::AcqRel);
        BatchInFlight(self.clone())
    }

    async fn none_left(&self) {
        while self.count.load(Ordering::Acquire) > 0 {
            // One that lands between the look and this leaves a permit.
            self.ended.notified().await;
        }
    }
}

impl Drop for BatchInFlight {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.ended.notify_one();
        }
    }
}

/// The receiving end of [`Proposals`]: commands that wait for the batch before them.
pub(in crate::node) struct Queue {
    waiting: mpsc::UnboundedReceiver<Proposal>,
    in_flight: Arc<BatchesInFlight>,
    timer: CoarseTimer,
    journal: Arc<Journal>,
}

impl Queue {
    /// The task that sends batch after batch, for as long as there is who proposes.
    pub(in crate::node) async fn run(mut self, raft: Raft<TypeConfig, StateMachine>) {
        while let Some(first) = self.waiting.recv().await {
            let now = Instant::now();
            tokio::select! {
                biased;
                () = self.in_flight.none_left() => {}
                () = self.timer.wait_until(now + MAX_BATCH_WAIT, now) => {}
            }
            let mut bytes = first.command.bytes();
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH_COMMANDS
                && bytes < MAX_BATCH_BYTES
                && let Ok(next) = self.waiting.try_recv()
            {
                bytes += next.command.bytes();
                batch.push(next);
            }
            // Raft applies in order: with the last, all are.
            if let Some(last) = batch.last_mut() {
                last.responder.hold(Box::new(self.in_flight.begin()));
            }
            let handed = self.journal.timeline.now();
            for Proposal { command, leader, mut responder } in batch {
                responder.handed_at(handed);
                if raft.write(command).with_leader(leader).responder(responder).await.is_err() {
                    // Raft has stopped. Responders that are dropped tell it.
                    return;
                }
            }
        }
    }
}

impl Node {
    /// Proposes a command if this node leads; what a forwarding peer is answered. Where it costs much to apply, it may wait
    /// for its turn for `most_wait`.
    pub(in crate::node) async fn propose(
        &self,
        command: &mut Arc<Command>,
        most_wait: Duration,
        deadline: Instant,
    ) -> Result<Applied, ForwardError> {
        let outcome = self.propose_here(command, most_wait, deadline).await;
        // By `PROPOSAL_OUTCOMES`.
        let nth = match &outcome {
            Ok(_) => 0,
            Err(ForwardError::NotLeader) => 1,
            Err(ForwardError::Failed(NodeError::Timeout(_))) => 2,
            Err(ForwardError::Failed(_)) => 3,
        };
        self.inner.numbers.proposals[nth].one();
        outcome
    }

    async fn propose_here(
        &self,
        command: &mut Arc<Command>,
        most_wait: Duration,
        deadline: Instant,
    ) -> Result<Applied, ForwardError> {
        let asked = self.inner.journal.timeline.now();
        self.refuse_stray().map_err(ForwardError::Failed)?;
        if self.leader() != Some(Leader::ThisNode) {
            return Err(ForwardError::NotLeader);
        }
        let cost_us = self.inner.map.cost_us(command);
        let room = self.inner.apply_room.admit(cost_us, most_wait, deadline).await.map_err(ForwardError::Failed)?;
        let term = self.term_led(deadline).await.ok_or(ForwardError::NotLeader)?;
        // One that was tried before was appended to no log, and is not shared any more.
        Arc::make_mut(command).stamp(self.clock().stamp_ms(term));
        let unknown = |why: &str| ForwardError::Failed(NodeError::Timeout(why.to_owned()));
        // The stamp is of this term's leader; in another term it is not appended.
        let leader = CommittedLeaderIdOf::<TypeConfig>::new(term);
        match timeout_at(deadline, self.inner.proposals.propose(command.clone(), leader, room)).await {
            Ok(Ok((Ok(response), handed))) => {
                let told = self.inner.journal.timeline.now();
                Ok((response.log_id.index, response.data, Proposed { asked, handed, told }))
            }
            // openraft's contract: rejected before its entry was appended.
            Ok(Ok((Err(ClientWriteError::ForwardToLeader(_)), _))) => Err(ForwardError::NotLeader),
            Ok(Ok((Err(ClientWriteError::LogEntryDiscarded(_)), _))) => {
                Err(unknown("the leader changed before the entry was committed"))
            }
            Ok(Ok((Err(other), _))) => Err(ForwardError::Failed(NodeError::Internal(other.to_string()))),
            Ok(Err(_)) => Err(unknown("this node is stopping")),
            Err(_) => Err(unknown("a quorum did not acknowledge it in time")),
        }
    }

    /// As the leader: proposes what a follower passed on, all at once.
    pub(in crate::node) async fn propose_all(
        &self,
        from: RaftId,
        commands: Vec<Arc<Command>>,
        timeout: Duration,
    ) -> Vec<Result<(u64, Reply), ForwardError>> {
        if self.leader() != Some(Leader::ThisNode) {
            return vec![Err(ForwardError::NotLeader); commands.len()];
        }
        // A little earlier than the follower gives up, so that the reason travels back.
        let deadline = Instant::now() + timeout.mul_f64(0.95);
        let propose = async |mut command| self.propose(&mut command, MAX_FORWARDED_TURN_WAIT, deadline).await;
        let applied = join_all(commands.into_iter().map(propose)).await;
        let passed_on = applied.iter().filter_map(|one| one.as_ref().ok()).map(|(index, _, times)| (*index, *times));
        self.inner.journal.timeline.passed_on(from, passed_on);
        applied.into_iter().map(|one| one.map(|(index, reply, _)| (index, reply))).collect()
    }

    /// Where the time of a write that was proposed here went; `None` where that is too long ago.
    pub fn stages(&self, index: u64, proposed: Proposed) -> Option<Stages> {
        self.inner.journal.timeline.stages(index, proposed)
    }

    /// The term in which this node leads, once it has applied what was before: only then it may tell log time.
    pub(in crate::node) async fn term_led(&self, deadline: Instant) -> Option<u64> {
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
