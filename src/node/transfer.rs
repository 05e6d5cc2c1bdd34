//! Handing leadership over, when the leader is told to stop.

use openraft::async_runtime::watch::WatchReceiver as _;
use std::time::Duration;

use openraft::LogIdOptionExt;
use tokio::time::timeout;

use super::status::silence;
use super::{Leader, Node};
use crate::raft_types::RaftId;

impl Node {
    /// If this node leads, hands leadership to the voter that has most of the log and answered within
    /// two heartbeats; returns when another leads, or when `patience` is over.
    ///
    /// Caveat: openraft's transfer has no answer; it is only seen to have worked.
    pub async fn hand_over(&self, patience: Duration) {
        if self.leader() != Some(Leader::Me) {
            return;
        }
        let Some(successor) = self.successor() else { return };
        let mut metrics = self.metrics();
        if self.inner.raft.trigger().transfer_leader(successor).await.is_err() {
            return;
        }
        let me = self.inner.me.raft_id();
        let handed = metrics.wait_until(|m| m.current_leader.is_some_and(|leader| leader != me));
        match timeout(patience, handed).await {
            Ok(Ok(_)) => tracing::info!("leadership handed over"),
            _ => tracing::warn!("leadership could not be handed over in time; the others will elect a leader"),
        }
    }

    fn successor(&self) -> Option<RaftId> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let recent = Duration::from_millis(self.inner.options.heartbeat_ms * 2);
        let answered = |id: &RaftId| silence(&metrics, *id).is_some_and(|silence| silence <= recent);
        let matched = |id: &RaftId| metrics.replication.as_ref().and_then(|r| r.get(id)).map_or(0, |m| m.next_index());
        metrics.membership_config.voter_ids().filter(|id| *id != metrics.id && answered(id)).max_by_key(matched)
    }
}
