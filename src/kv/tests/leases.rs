//! Leases, and what is attached to them.

use std::ops::Bound;

use super::*;
use crate::command::{Leased, OpIndex, OpResult, Order, Test, TestOf, Txn};

fn grant(ttl_ms: u64) -> Action {
    Action::Grant { ttl_ms, body: None }
}

fn under(lease: u64, key: &str) -> Action {
    let pairs = vec![(key.into(), "1".into())];
    Action::Leased { lease, write: Leased::Set { pairs, conditions: Vec::new() } }
}

fn hold(lease: u64, name: &str, wait_ms: u64) -> Action {
    Action::Leased { lease, write: Leased::Acquire { name: name.into(), body: None, wait_ms } }
}

fn keep_alive(lease: u64) -> Action {
    Action::KeepAlive { lease, ttl_ms: None }
}

fn expired(lease: u64, keys: &[&str]) -> Vec<Change> {
    keys.iter().map(|key| Change::Expired { key: (*key).into(), lease: Some(lease) }).collect()
}

fn lost(lease: u64) -> Failure {
    Failure::LeaseLost { place: None, lease }
}

fn txn(tests: Vec<Test>, then: Vec<Op>) -> Action {
    Action::Txn(Txn { tests, then, otherwise: Vec::new() })
}

fn holds(kv: &mut Kv, key: &str, of: TestOf) -> bool {
    match kv.at(0, txn(vec![Test { key: key.into(), of }], Vec::new())) {
        Reply::Txn { succeeded, .. } => succeeded,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_keys_go_in_one_entry_in_their_order_and_never_early() {
    let mut kv = Kv::default();
    assert_eq!(kv.at(1_000, grant(500)), Reply::Leased { lease: 1, ttl_ms: 500 });
    for key in ["c", "a", "b"] {
        assert_eq!(kv.at(1_100, under(1, key)), Reply::Done);
    }
    kv.at(1_100, set("other", "1", None));
    kv.changes();
    kv.tick(1_499);
    assert_eq!(kv.changes(), []);
    assert_eq!(kv.kv.next_deadline(), Some(1_500));
    kv.tick(1_500);
    assert_eq!(kv.changes(), expired(1, &["a", "b", "c"]));
    assert_eq!((kv.keys(), kv.kv.lease(1), kv.kv.next_deadline()), (vec!["other"], None, None));
}

/// The bound on an entry ends leases one after another, and none of them in part.
#[test]
fn a_tick_ends_whole_leases() {
    let mut kv = Kv::default();
    for lease in 1..=4 {
        kv.at(0, grant(10 * lease));
    }
    for lease in 1..=4_u64 {
        for key in 0..40 {
            kv.at(0, under(lease, &format!("{lease}/{key:02}")));
        }
    }
    // 100 is what a tick here drops.
    let gone = |kv: &Kv| (1..=4).filter(|lease| kv.kv.range(&format!("{lease}/"), None).count() == 0).count();
    assert!(kv.tick(1_000), "more is due");
    assert_eq!((gone(&kv), kv.keys().len()), (3, 40), "82 is less than 100, so a third goes, as a whole");
    assert!(!kv.tick(1_000));
    assert_eq!((gone(&kv), kv.keys().len()), (4, 0));
}

#[test]
fn kept_alive_means_alive_and_changes_nothing_else() {
    let mut kv = Kv::default();
    kv.at(0, grant(500));
    kv.at(0, under(1, "k"));
    kv.changes();
    let before = kv.kv.get("k").cloned();
    for at in [400, 800, 1_200] {
        assert_eq!(kv.at(at, keep_alive(1)), Reply::Leased { lease: 1, ttl_ms: 500 });
        kv.tick(at + 499);
    }
    assert_eq!((kv.changes(), kv.kv.get("k").cloned()), (vec![], before));
    // Its time is up, and no entry has ended it yet: it is alive, and told so truly.
    assert_eq!(kv.at(2_000, Action::KeepAlive { lease: 1, ttl_ms: Some(50) }), Reply::Leased { lease: 1, ttl_ms: 50 });
    kv.tick(2_049);
    assert_eq!(kv.keys(), ["k"]);
    kv.tick(2_050);
    assert_eq!(kv.keys(), [""; 0]);
    for (action, lease) in
        [(keep_alive(1), 1), (Action::Revoke { lease: 1 }, 1), (under(1, "k"), 1), (keep_alive(0), 0)]
    {
        assert_eq!(failure(kv.at(2_050, action)), lost(lease));
    }
    assert_eq!(failure(kv.at(2_050, under(u64::MAX, "k"))), lost(u64::MAX));
    assert_eq!(kv.keys(), [""; 0], "nothing was written under it");
}

#[test]
fn who_writes_a_key_says_what_it_is_attached_to() {
    let mut kv = Kv::default();
    let lease = |kv: &Kv| kv.kv.get("k").and_then(|record| record.lease());
    kv.at(0, grant(1_000));
    kv.at(0, grant(1_000));
    kv.at(0, under(1, "k"));
    assert_eq!((lease(&kv), kv.kv.counts_of_lease(1)), (Some(1), (1, 0)));
    kv.at(0, under(2, "k"));
    assert_eq!((lease(&kv), kv.kv.counts_of_lease(1), kv.kv.counts_of_lease(2)), (Some(2), (0, 0), (1, 0)));
    kv.at(0, incr("k", 1));
    assert_eq!(lease(&kv), Some(2), "an addition is no overwrite");
    kv.at(0, set("k", "1", None));
    assert_eq!((lease(&kv), kv.kv.counts_of_lease(2)), (None, (0, 0)));
    kv.at(0, under(2, "k"));
    kv.at(0, Action::Touch { key: "k".into(), ttl_ms: 70, conditions: Vec::new() });
    assert_eq!((lease(&kv), kv.kv.get("k").unwrap().deadline_ms()), (None, Some(70)), "a time of its own");
    let write = Leased::Incr { key: "k".into(), by: 1, conditions: Vec::new() };
    assert_eq!(kv.at(0, Action::Leased { lease: 1, write }), Reply::Number(2));
    assert_eq!((lease(&kv), kv.kv.get("k").unwrap().deadline_ms()), (Some(1), None));
    kv.at(0, Action::Delete { key: "k".into(), conditions: Vec::new() });
    assert_eq!(kv.kv.counts_of_lease(1), (0, 0));
    kv.changes();
    assert_eq!(kv.at(0, Action::Revoke { lease: 1 }), Reply::Deleted(0));
    assert_eq!(kv.changes(), []);
}

#[test]
fn locks_pass_on_when_their_lease_ends() {
    let mut kv = Kv::default();
    kv.at(0, grant(500));
    assert_eq!(kv.at(100, hold(1, "l", 0)), Reply::Granted { token: 2, ttl_ms: 400 });
    assert_eq!(kv.kv.lease_of_lock("l"), Some(1));
    let view = kv.kv.lock("l").unwrap();
    assert_eq!((view.ttl_ms, view.deadline_ms), (500, 500), "as the lease");
    // The second waits under the same lease: it must not get what the first gives up.
    assert_eq!(kv.at(100, hold(1, "l", 5_000)), Reply::Queued);
    assert_eq!(kv.at(100, acquire(1_000, 5_000)), Reply::Queued);
    assert_eq!(kv.kv.counts_of_lease(1), (0, 2));
    kv.at(300, keep_alive(1));
    assert_eq!(kv.kv.lock("l").unwrap().deadline_ms, 800);
    kv.changes();
    kv.tick(799);
    assert_eq!(kv.changes(), []);
    kv.tick(800);
    assert_eq!(
        kv.changes(),
        [
            Change::LockExpired { lock: "l".into(), token: 2, lease: Some(1) },
            Change::Acquired { lock: "l".into(), token: kv.index, body: None },
        ]
    );
    assert_eq!((kv.kv.ticket("l", 3), kv.kv.lease_of_lock("l")), (Ticket::Gone, None));
    assert!(kv.kv.leased_claims().next().is_none());
}

#[test]
fn a_waiter_is_granted_a_lock_for_as_long_as_its_lease() {
    let mut kv = Kv::default();
    kv.at(0, grant(500));
    kv.at(0, acquire(100, 0));
    assert_eq!(kv.at(0, hold(1, "l", 5_000)), Reply::Queued);
    kv.tick(100);
    assert_eq!(kv.kv.ticket("l", 3), Ticket::Holds { token: 4, ttl_ms: 500 });
    // A renewal without a time asks whether it is held; one with a time takes it out of the lease.
    let renew = |ttl_ms| Action::Renew { name: "l".into(), token: 4, ttl_ms };
    assert_eq!(kv.at(200, renew(None)), Reply::Granted { token: 4, ttl_ms: 300 });
    assert_eq!(kv.at(200, renew(Some(1_000))), Reply::Granted { token: 4, ttl_ms: 1_000 });
    kv.tick(500);
    assert_eq!((kv.kv.lock("l").map(|view| view.deadline_ms), kv.kv.lease(1)), (Some(1_200), None));
}

#[test]
fn a_repetition_is_told_of_a_lease_that_is_alive_only() {
    let mut kv = Kv::default();
    let again = |ttl_ms| Reply::Replayed { index: 1, reply: Box::new(Reply::Leased { lease: 1, ttl_ms }) };
    kv.keyed(0, "grant", 1, grant(500));
    assert_eq!(kv.keyed(100, "grant", 1, grant(500)), again(400));
    kv.keyed(200, "alive", 2, keep_alive(1));
    let Reply::Replayed { reply, .. } = kv.keyed(300, "alive", 2, keep_alive(1)) else { panic!() };
    assert_eq!(*reply, Reply::Leased { lease: 1, ttl_ms: 400 }, "kept alive once, at 200");
    kv.tick(700);
    for (key, digest, action) in [("grant", 1, grant(500)), ("alive", 2, keep_alive(1))] {
        assert_eq!(failure(kv.keyed(700, key, digest, action)), lost(1));
    }
}

#[test]
fn transactions_ask_for_leases_and_holders() {
    let mut kv = Kv::default();
    kv.at(0, grant(500));
    kv.at(0, acquire(500, 0));
    assert!(holds(&mut kv, "l", TestOf::Holder(2)) && holds(&mut kv, "", TestOf::Alive(1)));
    assert!(!holds(&mut kv, "l", TestOf::Holder(1)) && !holds(&mut kv, "m", TestOf::Holder(2)));
    assert!(!holds(&mut kv, "", TestOf::Alive(2)));
    kv.tick(500);
    assert!(!holds(&mut kv, "l", TestOf::Holder(2)) && !holds(&mut kv, "", TestOf::Alive(1)));
    kv.at(500, grant(500));
    let lease = kv.index;
    let set = |key: &str, lease| Op::SetLeased { pairs: vec![(key.into(), "1".into())], lease };
    // One that is attached and deleted leaves nothing behind.
    let done = kv.at(500, txn(Vec::new(), vec![set("k", lease), Op::Delete("k".into()), set("m", lease)]));
    let results = vec![OpResult::Set(1), OpResult::Deleted(1), OpResult::Set(1)];
    assert_eq!(done, Reply::Txn { succeeded: true, results });
    assert_eq!(kv.kv.keys_of_lease(lease, None).collect::<Vec<_>>(), ["m"]);
    kv.changes();
    let refused = kv.at(500, txn(Vec::new(), vec![set("n", lease), set("o", 77)]));
    let place = Some(OpIndex { then: true, at: 1 });
    assert_eq!(failure(refused), Failure::LeaseLost { place, lease: 77 });
    assert_eq!((kv.changes(), kv.keys()), (vec![], vec!["m"]), "all or nothing");
    let touch = Op::Touch { keys: vec!["m".into(), "nobody".into()], ttl_ms: 30 };
    let touched = kv.at(500, txn(Vec::new(), vec![touch]));
    assert_eq!(touched, Reply::Txn { succeeded: true, results: vec![OpResult::Touched(1)] });
    assert_eq!((kv.kv.get("m").unwrap().deadline_ms(), kv.changes()), (Some(530), vec![]));
}

#[test]
fn numbers_compare_as_numbers() {
    let mut kv = Kv::default();
    let long = format!("{}.5", "9".repeat(400));
    for (value, order, than, wanted) in [
        ("5", Order::Less, "6", true),
        ("5", Order::Less, "5", false),
        ("5", Order::LessOrEqual, "5.0", true),
        ("5", Order::Greater, "4.9", true),
        ("5", Order::GreaterOrEqual, "5.1", false),
        ("0.1", Order::GreaterOrEqual, "0.10", true),
        ("0.1", Order::Less, "0.10", false),
        ("-0", Order::GreaterOrEqual, "0", true),
        ("-0", Order::Less, "0", false),
        ("1e400", Order::Greater, "1e399", true),
        ("1", Order::Less, "1e400", true),
        (&long, Order::Less, "1e400", true),
        ("9007199254740993", Order::Greater, "9007199254740992", true),
        ("\"5\"", Order::Less, "6", false),
        ("null", Order::Less, "6", false),
        ("[1]", Order::Greater, "0", false),
    ] {
        kv.at(0, set("k", value, None));
        assert_eq!(
            holds(&mut kv, "k", TestOf::Number(order, than.to_owned().into())),
            wanted,
            "{value} {order:?} {than}"
        );
    }
    assert!(!holds(&mut kv, "nobody", TestOf::Number(Order::Less, "6".into())));
}

/// What is not known of leases costs those who have none nothing: their digests are those of hraftd 0.1.0.
#[test]
fn a_lease_that_has_ended_leaves_nothing_in_the_digest() {
    let (mut kv, mut plain) = (Kv::default(), Kv::default());
    for kv in [&mut kv, &mut plain] {
        kv.at(0, set("k", "1", None));
    }
    kv.at(0, grant(500));
    let id = kv.index;
    let before = kv.kv.digest();
    kv.at(0, hold(id, "l", 0));
    kv.at(0, under(id, "m"));
    assert_ne!(kv.kv.digest(), before);
    kv.at(100, Action::Revoke { lease: id });
    plain.at(100, Action::Mark);
    assert_eq!(kv.kv.digest(), plain.kv.digest());
    assert_eq!(kv.kv.leases(Bound::Unbounded).count(), 0);
}
