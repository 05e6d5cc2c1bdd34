//! Heartbeats, and openraft's clock only while an election may be due.
//!
//! openraft looks at its timers five times a heartbeat interval, on every node: in an idle cluster half of all that
//! happens. Its ticks are off while this node leads, and the heartbeats, which ticks are for there, are sent from here;
//! and for as long as no election can be due because a leader was heard just now. Where in doubt they are on.
//!
//! Caveat: that a leader is silent is noticed up to three quarters of the shortest election timeout after its last word,
//! and openraft's own, longer timeout counts from that word all the same.

use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::timeout;

use crate::node::Node;

impl Node {
    /// The task that calls the followers while this node leads, and has openraft look at its timers where it must.
    pub(in crate::node) async fn keep_time(self) {
        let raft = &self.inner.raft;
        let options = self.inner.options;
        let heartbeat = Duration::from_millis(options.heartbeat_ms);
        let quiet = Duration::from_millis(options.election_min_ms) * 3 / 4;
        let mut server = raft.server_metrics();
        loop {
            let leads = server.borrow_and_update().state == ServerState::Leader;
            // For so long openraft has nothing to look at.
            let idle = if leads {
                if raft.trigger().heartbeat().await.is_err() {
                    return;
                }
                Some(heartbeat)
            } else {
                self.inner.freshness.since_received().filter(|age| *age < quiet).map(|age| quiet - age)
            };
            raft.runtime_config().tick(idle.is_none());
            let woken = timeout(idle.unwrap_or(quiet), server.changed()).await;
            if matches!(woken, Ok(Err(_))) {
                return;
            }
        }
    }
}
