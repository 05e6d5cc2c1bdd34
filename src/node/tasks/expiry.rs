//! Expiry: the leader says when time has passed.
//!
//! While there are deadlines, an entry goes out when one is due, when a node begins to lead, and at least every five
//! seconds: so much of log time is lost at most where all nodes are stopped, beside the time they are down.
//!
//! Caveat: as much is lost where one is elected that was started just now, before it heard what time it is.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::command::{Action, Reply};
use crate::node::{Node, State};

/// How often it is looked whether something is due.
const DEADLINE_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// While there are deadlines, log time is noted at least this often, in milliseconds; a look earlier, to be in time.
const MAX_TICK_SILENCE_MS: u64 = 4_500;

/// The most that one entry drops.
const MAX_EXPIRED_PER_TICK: u32 = 1_000;

/// A tick that is not committed by then is proposed anew: it may be lost, and two do no harm.
const TICK_TIMEOUT: Duration = Duration::from_secs(2);

impl Node {
    /// The task that proposes ticks while this node leads.
    pub(in crate::node) async fn tick(self) {
        let mut server = self.inner.raft.server_metrics();
        let mut look = interval(DEADLINE_CHECK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if server.wait_until(|m| m.state == ServerState::Leader).await.is_err() {
                return;
            }
            look.tick().await;
            // One that is cut off would fill its log with ticks that nobody wants.
            while self.state() == State::Leader && self.is_tick_due() {
                let deadline = Instant::now() + TICK_TIMEOUT;
                match self
                    .propose(&mut Arc::new(Action::Tick { most: MAX_EXPIRED_PER_TICK }.into()), TICK_TIMEOUT, deadline)
                    .await
                {
                    Ok((_, Reply::Ticked { more: true }, _)) => {}
                    // Done for now, or not the leader any more; the next look tells.
                    _ => break,
                }
            }
        }
    }

    fn is_tick_due(&self) -> bool {
        let (deadline, applied_ms) = self.inner.map.next_deadline();
        let Some(deadline) = deadline else { return false };
        let now = self.clock().now_ms();
        // A new leader tells at once what time it is, for those who were down and may lead next.
        let is_silent = self.clock().led().is_none();
        is_silent || now >= deadline || now.saturating_sub(applied_ms) >= MAX_TICK_SILENCE_MS
    }
}
