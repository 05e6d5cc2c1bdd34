//! How much the entries on their way may cost to apply.
//!
//! A small request can name a million keys. What it costs to apply is estimated before it is proposed
//! ([`KvStore::cost_us`](crate::kv::KvStore::cost_us)), and at most [`MAX_ADMITTED_US`] of it is on its way at a time: from
//! the proposal until it is applied here. What finds no room waits its turn, and is refused where its turn does not come.
//! A command that costs more than all of the room has it alone. Transactions that only read make no entries; they have as
//! much room of their own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::node::NodeError;

/// The cost of all that is on its way together, in microseconds of apply.
const MAX_ADMITTED_US: u32 = 250_000;

/// A command of no more needs no room: as many as a node has in hand cost less than the room has.
const LIGHT_US: u64 = 60;

/// Who waits gives up so much before its deadline: the reason has a way to go.
const ANSWER_SHARE: f64 = 0.9;

/// The room for entries that cost much to apply.
#[derive(Debug)]
pub(in crate::node) struct ApplyRoom {
    entries: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

/// The room of one entry, until it is dropped.
pub(in crate::node) type ApplyPermit = OwnedSemaphorePermit;

impl ApplyRoom {
    pub(in crate::node) fn new() -> Self {
        let room = || Arc::new(Semaphore::new(MAX_ADMITTED_US as usize));
        Self { entries: room(), reads: room() }
    }

    /// Room for a command that costs `cost_us` to apply, which may wait for it for `most_wait`.
    ///
    /// # Errors
    /// [`NodeError::Overloaded`]: its turn did not come.
    pub(in crate::node) async fn admit(
        &self,
        cost_us: u64,
        most_wait: Duration,
        deadline: Instant,
    ) -> Result<Option<ApplyPermit>, NodeError> {
        admit(&self.entries, cost_us, most_wait, deadline).await
    }

    /// Room for a transaction that only reads; it waits until its deadline.
    ///
    /// # Errors
    /// [`NodeError::Overloaded`]: its turn did not come.
    pub(in crate::node) async fn admit_read(
        &self,
        cost_us: u64,
        deadline: Instant,
    ) -> Result<Option<ApplyPermit>, NodeError> {
        admit(&self.reads, cost_us, Duration::MAX, deadline).await
    }
}

async fn admit(
    room: &Arc<Semaphore>,
    cost_us: u64,
    most_wait: Duration,
    deadline: Instant,
) -> Result<Option<ApplyPermit>, NodeError> {
    if cost_us <= LIGHT_US {
        return Ok(None);
    }
    let now = Instant::now();
    let until = now + deadline.saturating_duration_since(now).mul_f64(ANSWER_SHARE).min(most_wait);
    let wanted = u32::try_from(cost_us).unwrap_or(u32::MAX).min(MAX_ADMITTED_US);
    match timeout_at(until, room.clone().acquire_many_owned(wanted)).await {
        Ok(permit) => Ok(permit.ok()),
        Err(_) => Err(NodeError::Overloaded(format!(
            "this command takes some {} ms to apply, and others that take long are before it; nothing was done, try \
             again later, or name fewer keys at a time",
            cost_us.div_ceil(1000)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 18, A2: 60 transactions of 27 KiB together were 21 s of outage.
    #[tokio::test(start_paused = true)]
    async fn so_much_is_admitted_at_a_time_and_one_above_that_alone() {
        let room = ApplyRoom::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        let admit = async |cost_us| room.admit(cost_us, Duration::from_secs(1), deadline).await;
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push(admit(50_000).await.unwrap().unwrap());
        }
        assert!(admit(LIGHT_US).await.unwrap().is_none(), "what is light is never kept waiting");
        for cost_us in [LIGHT_US + 1, 50_000, 10_000_000] {
            let refused = admit(cost_us).await;
            assert!(matches!(refused, Err(NodeError::Overloaded(_))), "{refused:?}");
        }
        let (alone, ()) = tokio::join!(admit(u64::MAX), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            held.clear();
        });
        let alone = alone.unwrap().unwrap();
        assert!(admit(LIGHT_US + 1).await.is_err(), "it has all of the room");
        drop(alone);
        assert!(admit(LIGHT_US + 1).await.is_ok());
        let soon = Instant::now() + Duration::from_millis(100);
        let _alone = admit(u64::MAX).await.unwrap();
        assert!(room.admit(1_000, Duration::from_secs(60), soon).await.is_err());
        assert!(Instant::now() < soon, "in time to say so");
    }
}
