//! Locks: one holder at a time, and who came first is served first.

use super::*;

fn release(token: u64) -> Action {
    Action::Release { name: "l".into(), token }
}

fn renew(token: u64, ttl_ms: Option<u64>) -> Action {
    Action::Renew { name: "l".into(), token, ttl_ms }
}

fn cancel(ticket: u64) -> Action {
    Action::Cancel { name: "l".into(), ticket }
}

fn granted(token: u64, body: Option<Bytes>) -> Change {
    Change::Acquired { lock: "l".into(), token, body }
}

fn held(kv: &Kv) -> Option<(u64, u64, u64)> {
    kv.kv.lock("l").map(|view| (view.token, view.deadline_ms, view.waiting))
}

#[test]
fn waiters_are_served_in_order_with_growing_tokens() {
    let mut kv = Kv::default();
    assert_eq!(kv.at(10, acquire(100, 0)), Reply::Granted { token: 1, ttl_ms: 100 });
    assert_eq!(kv.at(20, acquire(200, 1_000)), Reply::Queued);
    assert_eq!(kv.at(20, acquire(300, 1_000)), Reply::Queued);
    let Failure::Locked(view) = failure(kv.at(20, acquire(1, 0))) else { panic!("it is held") };
    assert_eq!((view.token, view.deadline_ms, view.waiting), (1, 110, 2));
    assert_eq!(failure(kv.at(20, release(2))), Failure::LockLost, "a ticket is no token");
    kv.changes();
    assert_eq!(kv.at(30, release(1)), Reply::Done);
    assert_eq!(kv.changes(), [Change::Released { lock: "l".into(), token: 1 }, granted(6, None)]);
    assert_eq!(kv.kv.ticket("l", 2), Ticket::Holds { token: 6, ttl_ms: 200 });
    assert_eq!((kv.kv.ticket("l", 3), kv.kv.ticket("l", 1)), (Ticket::Waits, Ticket::Gone));
    assert_eq!(held(&kv), Some((6, 230, 1)));
    assert_eq!(failure(kv.at(40, renew(1, None))), Failure::LockLost);
    assert_eq!(kv.at(40, renew(6, None)), Reply::Granted { token: 6, ttl_ms: 200 });
    assert_eq!(kv.at(50, renew(6, Some(10))), Reply::Granted { token: 6, ttl_ms: 10 });
    assert_eq!(held(&kv), Some((6, 60, 1)));
    kv.changes();
    kv.tick(59);
    assert_eq!(kv.changes(), []);
    kv.tick(60);
    assert_eq!(kv.changes(), [Change::LockExpired { lock: "l".into(), token: 6, lease: None }, granted(11, None)]);
    assert_eq!(held(&kv), Some((11, 360, 0)));
    kv.at(70, release(11));
    assert_eq!((held(&kv), kv.kv.next_deadline()), (None, None));
}

#[test]
fn who_waited_too_long_is_passed_over() {
    let mut kv = Kv::default();
    kv.at(0, acquire(1_000, 0));
    kv.at(0, acquire(1_000, 50));
    kv.at(0, acquire(1_000, 500));
    // No tick came in between.
    kv.at(50, release(1));
    assert_eq!((kv.kv.ticket("l", 2), held(&kv)), (Ticket::Gone, Some((4, 1_050, 0))));
    kv.at(60, acquire(1_000, 10));
    kv.tick(70);
    assert_eq!((kv.kv.ticket("l", 5), held(&kv)), (Ticket::Gone, Some((4, 1_050, 0))));
}

#[test]
fn a_cancelled_place_is_free_and_so_is_the_lock_just_granted() {
    let mut kv = Kv::default();
    kv.at(0, acquire(1_000, 0));
    for _ in 0..3 {
        kv.at(0, acquire(1_000, 1_000));
    }
    kv.at(0, cancel(3));
    kv.at(0, cancel(99));
    assert_eq!((held(&kv), kv.kv.ticket("l", 3)), (Some((1, 1_000, 2)), Ticket::Gone));
    kv.at(0, release(1));
    assert_eq!(kv.kv.ticket("l", 2), Ticket::Holds { token: 7, ttl_ms: 1_000 });
    kv.at(0, cancel(2));
    assert_eq!(kv.kv.ticket("l", 4), Ticket::Holds { token: 8, ttl_ms: 1_000 });
    kv.at(0, cancel(4));
    assert_eq!((held(&kv), kv.kv.next_deadline()), (None, None));
}

#[test]
fn a_tick_is_bounded_over_keys_and_locks() {
    let mut kv = Kv::default();
    kv.at(0, set("k", "1", Some(5)));
    kv.at(0, acquire(5, 0));
    kv.at(0, acquire(5, 100));
    let tick = |kv: &mut Kv| kv.at(10, Action::Tick { most: 1 });
    assert_eq!(tick(&mut kv), Reply::Ticked { more: true });
    assert_eq!((kv.keys().len(), held(&kv).map(|held| held.0)), (0, Some(2)));
    assert_eq!(tick(&mut kv), Reply::Ticked { more: false });
    assert_eq!(held(&kv), Some((5, 15, 0)));
}

/// Issue 18, A6: the digest of 100,000 locks took as long as all of them together, and anybody may ask for it.
#[test]
fn the_digest_of_locks_is_kept_and_is_that_of_a_state_put_back() {
    let mut kv = Kv::default();
    let empty = kv.kv.digest();
    for n in 0..200 {
        kv.at(n, acquire(50 + n % 7, n % 3 * 40));
        kv.at(n, Action::Cancel { name: "l".into(), ticket: n / 2 });
        kv.at(n, Action::Renew { name: "l".into(), token: n / 3, ttl_ms: Some(60) });
        let mut back = KvStore::new();
        back.restore_log_time(kv.kv.log_time_ms());
        for (name, lock) in kv.kv.locks() {
            back.restore_lock(name.clone(), lock);
        }
        assert_eq!(back.digest(), kv.kv.digest());
    }
    kv.tick(1_000);
    kv.tick(2_000);
    kv.kv.restore_log_time(0);
    assert_eq!(kv.kv.digest(), empty, "nothing of them is left");
}
