//! The quota: how many bytes the state may have of keys and values, and of what leases and locks show.
//!
//! * The limit is state, set by an entry ([`Action::Quota`]), so all replicas refuse the same writes.
//! * What grows the state beyond it is refused whole, and changes nothing. A transaction is judged by its net growth. What
//!   does not grow the state goes on: deletes, smaller values, expiry, the end of leases, locks that show nothing.
//! * A limit below what is there deletes nothing.
//!
//! Whether a write fits is found out by running it: only where it may not fit, and then beside a clone that takes the
//! state's place again. That costs little, and there is no second account of what a write does that could be wrong.

use super::KvStore;
use super::event::Events;
use crate::command::{Action, Failure, Leased, Op, Principal, Reply};

/// The most bytes of an integer as text: `-9223372036854775808`.
const MAX_INTEGER_BYTES: u64 = 20;

impl KvStore {
    /// The most bytes; 0: any number.
    pub fn quota(&self) -> u64 {
        self.quota
    }

    /// Sets the quota that a snapshot has.
    pub fn restore_quota(&mut self, bytes: u64) {
        self.quota = bytes;
    }

    /// Does what an action says, unless that grows the state beyond the quota.
    pub(super) fn act_within_quota(
        &mut self,
        index: u64,
        by: Option<&Principal>,
        action: &Action,
        events: &mut Events<'_>,
    ) -> Reply {
        let before = self.bytes();
        if self.quota == 0 || before.saturating_add(most_growth(action)) <= self.quota {
            return self.act(index, by, action, events);
        }
        let (gone, told) = (self.keys.gone.bytes(), events.mark());
        let as_it_was = self.clone();
        let reply = self.act(index, by, action, events);
        if self.bytes() <= self.quota.max(before) {
            return reply;
        }
        *self = as_it_was;
        self.keys.gone.put_back(gone);
        events.take_back(told);
        Reply::failed(Failure::Quota { bytes: before, quota: self.quota })
    }
}

/// By how much an action grows the state, at most; 0 where it cannot.
fn most_growth(action: &Action) -> u64 {
    let op = |op: &Op| match op {
        Op::Set { .. } | Op::SetLeased { .. } => 0,
        Op::Incr { pairs, .. } | Op::IncrLeased { pairs, .. } => pairs.len() as u64 * MAX_INTEGER_BYTES,
        Op::Touch { .. } | Op::Delete(_) | Op::DeletePrefix(_) | Op::Get(_) => 0,
    };
    let more = match action {
        Action::Set { .. } | Action::Put { .. } => 0,
        Action::Incr { .. } => MAX_INTEGER_BYTES,
        Action::Txn(txn) => txn.then.iter().chain(&txn.otherwise).map(op).sum(),
        Action::Leased { write, .. } => match write {
            Leased::Set { .. } | Leased::Put { .. } => 0,
            Leased::Incr { .. } => MAX_INTEGER_BYTES,
            Leased::Acquire { .. } => 0,
        },
        Action::Grant { .. } | Action::Acquire { .. } => 0,
        _ => return 0,
    };
    action.bytes() as u64 + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Retry, Stamped, Txn};
    use crate::kv::Event;

    struct Kv(KvStore, u64, Vec<Event>);

    impl Kv {
        fn with(quota: u64) -> Self {
            let mut kv = Self(KvStore::new(), 0, Vec::new());
            kv.apply(Action::Quota { bytes: quota });
            kv
        }

        fn apply(&mut self, action: Action) -> Reply {
            self.1 += 1;
            self.0.apply(self.1, &action.into(), &mut self.2)
        }

        fn set(&mut self, key: &str, value: &str) -> Reply {
            self.apply(set(key, value))
        }
    }

    fn set(key: &str, value: &str) -> Action {
        let pairs = vec![(key.into(), value.to_owned().into())];
        Action::Set { pairs, ttl_ms: None, conditions: Vec::new() }
    }

    fn refused(bytes: u64, quota: u64) -> Reply {
        Reply::failed(Failure::Quota { bytes, quota })
    }

    /// They count as values do, or who may lock has all memory.
    #[test]
    fn what_leases_and_locks_show_counts() {
        let mut kv = Kv::with(10);
        let body = |text: &'static str| Some(bytes::Bytes::from_static(text.as_bytes()));
        let lease = |text| Action::Grant { ttl_ms: 9, body: body(text) };
        let lock = |name: &str, wait_ms, text: Option<&'static str>| Action::Acquire {
            name: name.into(),
            ttl_ms: 9,
            wait_ms,
            body: text.and_then(body),
        };
        assert!(matches!(kv.apply(lease("1234")), Reply::Leased { .. }));
        assert!(matches!(kv.apply(lock("l", 0, Some("123"))), Reply::Granted { .. }));
        assert_eq!(kv.apply(lock("l", 9, Some("123"))), Reply::Queued);
        assert_eq!(kv.0.sizes().bytes, 10);
        assert_eq!(kv.apply(lease("1")), refused(10, 10));
        assert_eq!(kv.apply(lock("m", 0, Some("1"))), refused(10, 10));
        assert_eq!(kv.apply(lock("l", 9, Some("1"))), refused(10, 10));
        assert_eq!(kv.set("k", ""), refused(10, 10));
        assert!(matches!(kv.apply(lock("m", 0, None)), Reply::Granted { .. }), "it shows nothing");
        // All of it ends, and there is room again.
        kv.1 += 1;
        let tick = Stamped { stamp_ms: 20, retry: None, action: Action::Tick { most: 9 } };
        kv.0.apply(kv.1, &Command::Stamped(tick), &mut kv.2);
        assert_eq!(kv.0.sizes().bytes, 0);
        assert!(matches!(kv.apply(lease("1234567890")), Reply::Leased { .. }));
    }

    #[test]
    fn what_grows_is_refused_and_what_does_not_goes_on() {
        let mut kv = Kv::with(10);
        assert_eq!(kv.set("a", "1234567"), Reply::Done);
        assert_eq!(kv.set("b", "1"), Reply::Done, "to the byte");
        let (before, events) = (kv.0.clone(), kv.2.len());
        assert_eq!(kv.set("c", "1"), refused(10, 10));
        assert_eq!(kv.set("b", "12"), refused(10, 10));
        let incr = |by| Action::Incr { key: "b".into(), by, ttl_ms: None, conditions: Vec::new() };
        assert_eq!(kv.apply(incr(9)), refused(10, 10), "one digit more");
        assert_eq!((&kv.0, kv.0.digest(), kv.2.len()), (&before, before.digest(), events), "nothing changed");
        assert_eq!(kv.apply(incr(8)), Reply::Number(9));
        assert_eq!(kv.set("a", "7654321"), Reply::Done, "of the same size");
        // Below what is there: nothing is deleted, and it clears itself.
        kv.apply(Action::Quota { bytes: 4 });
        assert_eq!(kv.0.sizes().bytes, 10);
        assert_eq!(kv.set("a", "76543210"), refused(10, 4));
        assert_eq!(kv.set("a", "765432"), Reply::Done, "smaller, though still too much");
        let lock = |body| Action::Acquire { name: "l".into(), ttl_ms: 9, body, wait_ms: 0 };
        assert_eq!(kv.apply(lock(Some("1".into()))), refused(9, 4), "what it shows is new");
        assert!(matches!(kv.apply(lock(None)), Reply::Granted { .. }));
        assert_eq!(kv.apply(Action::Delete { key: "a".into(), conditions: Vec::new() }), Reply::Deleted(1));
        assert_eq!(kv.set("c", "1"), Reply::Done);
        kv.apply(Action::Quota { bytes: 0 });
        assert_eq!(kv.set("a", &"1".repeat(1_000)), Reply::Done);
    }

    #[test]
    fn a_transaction_is_judged_whole() {
        let mut kv = Kv::with(20);
        kv.set("p/a", "1234567");
        kv.set("p/b", "1234567");
        let put = |key: &str, value: &str| Op::Set { pairs: vec![(key.into(), value.to_owned().into())], ttl_ms: None };
        let txn = |then: Vec<Op>| Action::Txn(Txn { tests: Vec::new(), then, otherwise: Vec::new() });
        let grows = vec![put("q", "12345678"), Op::Delete("p/a".into()), put("r", "12")];
        let before = kv.0.clone();
        assert_eq!(kv.apply(txn(grows)), refused(20, 20));
        assert_eq!((&kv.0, kv.0.len()), (&before, 2), "none of it is done");
        // It has more in between than it ends with.
        let fits = vec![put("q", "12345678"), Op::DeletePrefix("p/".into()), put("r", "1")];
        assert!(matches!(kv.apply(txn(fits)), Reply::Txn { succeeded: true, .. }));
        assert_eq!(kv.0.sizes().bytes, 11);
    }

    #[test]
    fn what_was_refused_is_not_kept_for_a_repetition() {
        let mut kv = Kv::with(5);
        kv.set("a", "1234");
        let retry = Some(Retry { key: "k".into(), digest: 1, window_ms: 1_000 });
        let again = Command::Stamped(Stamped { stamp_ms: 0, retry, action: set("b", "1") });
        assert_eq!(kv.0.apply(7, &again, &mut kv.2), refused(5, 5));
        kv.apply(Action::DeletePrefix { prefix: "".into() });
        assert_eq!(kv.0.apply(9, &again, &mut kv.2), Reply::Done, "once there is room it is done");
    }

    #[test]
    fn what_is_refused_counts_for_nothing() {
        let mut kv = Kv::with(5);
        kv.set("a", "1234");
        let gone = kv.0.gone().bytes();
        for _ in 0..100 {
            kv.set("a", &"1".repeat(10_000));
        }
        assert_eq!(kv.0.gone().bytes(), gone, "readers of old states would be told that these are costly");
    }
}
