//! Queues of locks that nobody holds any more.

use super::Locks;

impl Locks {
    /// Locks whose holder's time was up at `at_ms` and that others wait for, and how many these are.
    pub(in crate::kv) fn waiting_for_nobody(&self, at_ms: u64) -> (usize, usize) {
        // As a rule nothing is due, and then not all locks are looked at.
        if self.next_deadline().is_none_or(|deadline| deadline > at_ms) {
            return (0, 0);
        }
        let over = self.held.values().filter(|held| held.holder.deadline_ms <= at_ms && !held.waiters.is_empty());
        over.fold((0, 0), |(locks, waiters), held| (locks + 1, waiters + held.waiters.len()))
    }
}
