//! Who has answered this leader since a read began.
//!
//! Reads count requests themselves instead of going by openraft's times of acknowledgement. Where several appends are under
//! way to a follower (`appends`), openraft takes the answer to one for an answer to those behind it that add no entries
//! (0.10.0-alpha.37, `InflightAppendQueue::drain_acked`): a leader that was cut off just now would confirm a read by an
//! answer to what it sent before the read began, while another leader was elected in between.
//!
//! No clock is needed. Reads have numbers, and each request carries away the number of the newest read that began before
//! it was sent.
//!
//! Caveat: how long ago a quorum answered (`contact`, `weak`, `X-Hraftd-Staleness-Ms`) still goes by openraft's times, and may be told too
//! short by as much as an answer was late.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::raft_types::RaftId;

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Acks {
    reads: AtomicU64,
    /// By member, the newest read that began before something was sent that it has answered, as one that follows this node.
    answered: Mutex<BTreeMap<RaftId, u64>>,
    changed: Notify,
}

impl Acks {
    /// A read begins; its number.
    pub(super) fn begin(&self) -> u64 {
        self.reads.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Something is about to be sent: what to give to [`answered`](Self::answered) once it is answered.
    pub(super) fn sending(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// A member that follows this node has answered what was sent then.
    pub(super) fn answered(&self, by: RaftId, sent: u64) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = answered.entry(by).or_default();
        if *newest < sent {
            *newest = sent;
            self.changed.notify_waiters();
        }
    }

    /// Waits until `is_quorum` holds of those who have answered something sent after this read began.
    pub(super) async fn since(&self, read: u64, is_quorum: impl Fn(&dyn Fn(RaftId) -> bool) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before the look: what is answered after it must be heard.
            changed.as_mut().enable();
            {
                let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
                if is_quorum(&|member| answered.get(&member).is_some_and(|sent| *sent >= read)) {
                    return;
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_was_sent_before_a_read_does_not_count_for_it() {
        let acks = Acks::default();
        let before = acks.sending();
        let read = acks.begin();
        let quorum = acks.since(read, |has| has(2));
        tokio::pin!(quorum);
        acks.answered(2, before);
        assert_eq!(quorum.as_mut().now_or_never(), None);
        let after = acks.sending();
        acks.answered(3, after);
        assert_eq!(quorum.as_mut().now_or_never(), None, "of another");
        acks.answered(2, after);
        assert_eq!(quorum.now_or_never(), Some(()));
        acks.answered(2, before);
        assert_eq!(acks.since(read, |has| has(2)).now_or_never(), Some(()), "an older answer takes nothing back");
        let next = acks.begin();
        assert_eq!(acks.since(next, |has| has(2)).now_or_never(), None);
    }
}
