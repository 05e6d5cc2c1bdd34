//! Transactions that change nothing: they are read, and make no entry.

use std::time::Duration;

use tokio::time::Instant;

use crate::command::{Command, Principal};
use crate::node::{Node, NodeError, ReadLevel, ReadOptions, Written};

/// One that takes so long is not run where others wait for the thread.
const LONG_US: u64 = 1_000;

impl Node {
    /// Answers a command that [only reads](Command::only_reads) from one state, which has all that was acknowledged before:
    /// it checks there who asks, compares and reads. What it costs is bounded as what entries cost to apply.
    ///
    /// # Errors
    /// As [`settle`](Self::settle) at the level linearizable, and [`NodeError::Overloaded`].
    pub(in crate::node) async fn run_read_only(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<Written, NodeError> {
        let cost_us = self.inner.map.cost_us(&command);
        let room = self.inner.apply_room.admit_read(cost_us, deadline).await?;
        let min_index = command.by().map_or(0, Principal::revision);
        let options = ReadOptions { min_index, ..ReadLevel::Linearizable.into() };
        let mut view = self.view(options, deadline).await?;
        let (index, now_ms) = (view.index, self.log_time_of(&view));
        let run = move || {
            let _room = room;
            view.kv.answer_read(index, now_ms, &command)
        };
        let reply = if cost_us < LONG_US {
            run()
        } else {
            let ran = tokio::task::spawn_blocking(run).await;
            ran.map_err(|error| NodeError::Internal(error.to_string()))?
        };
        let reply = reply.ok_or_else(|| NodeError::Internal("a command that writes was to be read".to_owned()))?;
        Ok(Written { index, proposed: None, stages: None, measuring: Duration::ZERO, reply, served_by: None })
    }
}
