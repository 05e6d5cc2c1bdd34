//! Writes: proposed here or, one hop away, by the leader.
//!
//! A command is tried again only where it provably reached no log: no leader known, no connection
//! made, or a receiver that says it does not lead. Everything else that is not an answer becomes
//! [`NodeError::Timeout`]: the outcome is unknown.

pub(in crate::node) mod apply_room;
pub(in crate::node) mod forward;
pub(in crate::node) mod lock_wait;
pub(in crate::node) mod marked;
pub(in crate::node) mod propose;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::command::Command;
use crate::node::leader::{Leader, LeaderWait};
use crate::node::rpc::{ForwardError, RequestMark};
use crate::node::{Node, NodeError, Written};

/// How long a command that costs much to apply waits for its turn; a write has a deadline of its own.
const MAX_TURN_WAIT: Duration = Duration::from_secs(60);

impl Written {
    /// What was proposed here.
    fn here((index, reply, proposed): propose::Applied) -> Self {
        Self { index, proposed: Some(proposed), stages: None, measuring: Duration::ZERO, reply, served_by: None }
    }
}

impl Node {
    /// Proposes a command here or at the leader; returns once it is applied there. One that [only
    /// reads](Command::only_reads) is answered from this node's state instead, once that has all that was acknowledged.
    ///
    /// # Errors
    /// [`NodeError::Timeout`] where the outcome is unknown; with any other nothing was done.
    pub async fn write(&self, command: Command, deadline: Instant) -> Result<Written, NodeError> {
        self.write_marked(command, None, deadline).await
    }

    /// The same for a request that has marks of its own.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn write_marked(
        &self,
        command: Command,
        mark: Option<Box<RequestMark>>,
        deadline: Instant,
    ) -> Result<Written, NodeError> {
        self.refuse_stray()?;
        // Nobody is asked who he is before all nodes understand the answer.
        let knows_client = self.knows_clients() || self.knows_client(command.by(), deadline).await?;
        if command.only_reads() {
            let command = if knows_client { command } else { command.without_client() };
            return Box::pin(self.run_read_only(command, deadline)).await;
        }
        let mut command = Arc::new(if knows_client { command } else { command.without_client() });
        let wait = LeaderWait::new(deadline);
        loop {
            let attempt = match self.leader_by(&wait).await? {
                Leader::ThisNode => self.propose(&mut command, MAX_TURN_WAIT, deadline).await.map(Written::here),
                // In a box, as is all that is rare below: the future of each write has room for its largest branch.
                Leader::Other(_) => Box::pin(self.forward(command.clone(), mark.clone(), deadline)).await,
            };
            match attempt {
                Ok(written) => return Ok(written),
                Err(ForwardError::Failed(error)) => return Err(error),
                Err(ForwardError::NotLeader) => Box::pin(self.wait_for_a_change(&wait)).await?,
            }
        }
    }
}
