//! Waiting for a lock: the place in the queue is replicated, the waiting is this node's.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::command::{Action, Key};
use crate::kv::Ticket;
use crate::node::{Node, NodeError};
use crate::task;
use crate::watch::Filter;

/// How long it is tried to give a place back.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// How often one who waits looks whether it still has a place.
const TICKET_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The same once the wait is over, and the place is about to end.
const ENDING_TICKET_CHECK_INTERVAL: Duration = Duration::from_millis(50);

impl Node {
    /// Waits until a ticket waits no longer, or for as long as it may; what became of it by then. Where others may wait
    /// for the same place, its end is waited for a little longer: for so long after `until`.
    ///
    /// # Errors
    /// [`NodeError::NotReady`] where this node is stopping, [`NodeError::Timeout`] where it does not get as far as the
    /// ticket's own entry.
    pub async fn await_ticket(
        &self,
        name: &Key,
        ticket: u64,
        until: Instant,
        patience: Duration,
    ) -> Result<Ticket, NodeError> {
        self.wait_applied(ticket, until + Duration::from_secs(1)).await?;
        // Only to be woken: what counts is the state.
        let mut watcher = self.watches().wait_for(Filter::Lock(name.clone()));
        loop {
            let found = self.still_held(name, self.inner.map.ticket(name, ticket));
            let now = Instant::now();
            if found != Ticket::Waits || now >= until + patience {
                return Ok(found);
            }
            if self.watches().is_closed() {
                self.refuse_out()?;
                return Err(NodeError::NotReady("this node is stopping; ask another".to_owned()));
            }
            // Either way the state is looked at again; a place that is given up is no event.
            let look =
                if now < until { until.min(now + TICKET_CHECK_INTERVAL) } else { now + ENDING_TICKET_CHECK_INTERVAL };
            let _ = timeout_at(look, watcher.changed()).await;
        }
    }

    /// A ticket that holds the lock, with the time that it still has: this node may apply late what was granted long ago.
    /// Log time here is never early, and a moment late at most.
    fn still_held(&self, name: &Key, found: Ticket) -> Ticket {
        let Ticket::Holds { token, .. } = found else { return found };
        let held = self.inner.map.lock(name).0.map(|(lock, _)| lock).filter(|lock| lock.token == token);
        let left_ms = held.map_or(0, |lock| lock.deadline_ms.saturating_sub(self.clock().now_ms()).min(lock.ttl_ms));
        if left_ms == 0 { Ticket::Gone } else { Ticket::Holds { token, ttl_ms: left_ms } }
    }

    /// Gives the place of a ticket back, or the lock that it was just granted; goes on where the caller does not.
    pub fn cancel_ticket(&self, name: Key, ticket: u64) {
        let node = self.clone();
        task::spawn(async move {
            let deadline = Instant::now() + CANCEL_TIMEOUT;
            if let Err(error) = node.write(Action::Cancel { name, ticket }.into(), deadline).await {
                tracing::debug!(%error, "a place in the queue of a lock was not given back; its deadline frees it");
            }
        });
    }
}
