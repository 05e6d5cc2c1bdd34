//! Forwarding writes to the leader, in batches.
//!
//! A few requests are under way at a time; what arrives meanwhile makes up the next one. So a write
//! alone leaves at once, and a thousand cost a handful of round trips. Outcomes are told one by one,
//! with the meaning they have in [`crate::node::write`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::command::{Command, Reply};
use crate::duration::as_ms;
use crate::node::leader::Leader;
use crate::node::rpc::{ForwardError, PeerError, PeerReply, PeerRequest, RequestMark, Target};
use crate::node::write::marked::MarkedWrite;
use crate::node::{Node, NodeError, Written};
use crate::task;

/// Requests under way at a time.
const MAX_REQUESTS_IN_FLIGHT: usize = 4;

/// The most commands in one request.
const MAX_REQUEST_COMMANDS: usize = 512;

/// Bytes of keys and values after which a request is full.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// The result of a command that was passed on.
type ForwardResult = Result<Written, ForwardError>;

/// A command that waits to be passed on.
pub(in crate::node) struct QueuedCommand {
    command: Arc<Command>,
    mark: Option<Box<RequestMark>>,
    deadline: Instant,
    told: oneshot::Sender<ForwardResult>,
}

/// The queue of commands to pass on.
#[derive(Debug)]
pub(in crate::node) struct Forwarder(mpsc::UnboundedSender<QueuedCommand>);

impl Forwarder {
    pub(in crate::node) fn new() -> (Self, mpsc::UnboundedReceiver<QueuedCommand>) {
        let (queue, waiting) = mpsc::unbounded_channel();
        (Self(queue), waiting)
    }
}

fn unknown(why: String) -> ForwardError {
    ForwardError::Failed(NodeError::Timeout(why))
}

impl Node {
    /// Passes a command on to the leader, with others that wait.
    pub(in crate::node) async fn forward(
        &self,
        command: Arc<Command>,
        mark: Option<Box<RequestMark>>,
        deadline: Instant,
    ) -> ForwardResult {
        let (told, outcome) = oneshot::channel();
        if self.inner.forwarder.0.send(QueuedCommand { command, mark, deadline, told }).is_err() {
            return Err(ForwardError::Failed(NodeError::Internal("this node is stopping".to_owned())));
        }
        match timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(unknown("this node is stopping".to_owned())),
            Err(_) => Err(unknown("the leader did not answer in time".to_owned())),
        }
    }

    /// The task that passes commands on.
    pub(in crate::node) async fn forward_queued(self, mut queue: mpsc::UnboundedReceiver<QueuedCommand>) {
        let permits = Arc::new(Semaphore::new(MAX_REQUESTS_IN_FLIGHT));
        let mut queued = Vec::new();
        loop {
            let Ok(mut permit) = permits.clone().acquire_owned().await else { return };
            if queue.recv_many(&mut queued, MAX_REQUEST_COMMANDS).await == 0 {
                return;
            }
            let mut batch = Vec::with_capacity(queued.len());
            let mut bytes = 0;
            for waiting in queued.drain(..) {
                bytes += waiting.command.bytes();
                batch.push(waiting);
                if bytes >= MAX_REQUEST_BYTES {
                    // Each request stays within what one RPC may carry, whatever came at once.
                    let full = std::mem::take(&mut batch);
                    bytes = 0;
                    self.spawn_batch(full, permit);
                    permit = match permits.clone().acquire_owned().await {
                        Ok(next) => next,
                        Err(_) => return,
                    };
                }
            }
            self.spawn_batch(batch, permit);
        }
    }

    fn spawn_batch(&self, batch: Vec<QueuedCommand>, permit: OwnedSemaphorePermit) {
        let node = self.clone();
        task::spawn(async move {
            node.forward_batch(batch).await;
            drop(permit);
        });
    }

    async fn forward_batch(self, batch: Vec<QueuedCommand>) {
        // Who gave up while it waited is not passed on: its outcome is certain.
        let (commands, told): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .filter(|waiting| !waiting.told.is_closed())
            .map(|waiting| (waiting.command, (waiting.told, waiting.mark, waiting.deadline)))
            .unzip();
        let Some(deadline) = told.iter().map(|(_, _, deadline)| *deadline).max() else { return };
        let (target, outcomes) = match self.leader() {
            Some(Leader::Other(target)) => {
                let count = commands.len();
                let outcomes = self.send_to_leader(&target, commands, deadline).await;
                (Some(target), outcomes.unwrap_or_else(|error| vec![Err(error); count]))
            }
            _ => (None, vec![Err(ForwardError::NotLeader); told.len()]),
        };
        let mut marked = Vec::new();
        for ((told, mark, deadline), outcome) in told.into_iter().zip(outcomes) {
            let outcome = match (outcome, &target) {
                (Ok((index, reply)), Some(target)) => {
                    let served_by = Some(target.id.clone());
                    let written =
                        Written { index, proposed: None, stages: None, measuring: Duration::ZERO, reply, served_by };
                    if let Some(mark) = mark {
                        marked.push(MarkedWrite { written, mark: *mark, deadline, told });
                        continue;
                    }
                    Ok(written)
                }
                (Ok(_), None) => Err(ForwardError::NotLeader),
                (Err(error), _) => Err(error),
            };
            // Who gave up meanwhile was told that the outcome is unknown.
            let _ = told.send(outcome);
        }
        if let (Some(target), false) = (target, marked.is_empty()) {
            self.tell_marked(&target, marked, Ok);
        }
    }

    async fn send_to_leader(
        &self,
        target: &Target,
        commands: Vec<Arc<Command>>,
        deadline: Instant,
    ) -> Result<Vec<Result<(u64, Reply), ForwardError>>, ForwardError> {
        let count = commands.len();
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout_ms = as_ms(left);
        let lost = |why: String| unknown(format!("the leader {} did not answer: {why}", target.id));
        let call = self.inner.peers.call(target, PeerRequest::Forward { commands, timeout_ms }, left);
        let answer = tokio::select! {
            answer = call => answer,
            () = self.superseded(target) => return Err(lost("another node leads by now".to_owned())),
        };
        match answer {
            Ok(PeerReply::Forward(outcomes)) if outcomes.len() == count => Ok(outcomes),
            Ok(other) => Err(lost(format!("{other:?}"))),
            Err(PeerError::Lost(why)) => Err(lost(why)),
            Err(PeerError::Unreachable(_) | PeerError::Busy(_) | PeerError::Refused(_)) => Err(ForwardError::NotLeader),
        }
    }
}
