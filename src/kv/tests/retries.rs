//! Repeated requests: done once, answered the same, and refused rather than forgotten early.

use super::*;
use crate::command::{OpResult, Txn};
use crate::kv::idempotency::Limits;

fn replayed(index: u64, reply: Reply) -> Reply {
    Reply::Replayed { index, reply: Box::new(reply) }
}

#[test]
fn a_repetition_changes_nothing_and_hears_the_same() {
    let mut kv = Kv::default();
    assert_eq!(kv.keyed(100, "u", 1, incr("n", 1)), Reply::Number(1));
    kv.at(100, incr("n", 1));
    kv.changes();
    assert_eq!(kv.keyed(1_099, "u", 1, incr("n", 1)), replayed(1, Reply::Number(1)));
    assert_eq!(failure(kv.keyed(1_099, "u", 2, incr("n", 1))), Failure::RetryMismatch);
    assert_eq!(kv.changes(), []);
    assert_eq!(kv.value("n"), Some("2"));
    assert_eq!(kv.kv.next_deadline(), Some(1_100), "it is kept no longer for being asked for");
    // The window is over, with or without a tick.
    assert_eq!(kv.keyed(1_100, "u", 2, incr("n", 1)), Reply::Number(3));
    kv.tick(2_100);
    assert_eq!(kv.kv.kept().count(), 0);
}

#[test]
fn a_refusal_is_an_outcome_and_what_was_read_is_not_kept() {
    let mut kv = Kv::default();
    let delete = || Action::Delete { key: "k".into(), conditions: vec![Condition::Exists] };
    let refused = kv.keyed(0, "u", 1, delete());
    kv.at(0, set("k", "1", None));
    // What is current is told as it is now, and not kept.
    assert_eq!(failure(refused), Failure::Precondition { current: None });
    let now = Failure::Precondition { current: kv.kv.get("k").cloned() };
    assert_eq!(kv.keyed(0, "u", 1, delete()), replayed(1, Reply::failed(now)));
    let then = vec![Op::Get("k".into()), Op::Delete("k".into())];
    let txn = Action::Txn(Txn { tests: Vec::new(), then, otherwise: Vec::new() });
    let results = |got| Reply::Txn { succeeded: true, results: vec![got, OpResult::Deleted(1)] };
    let got = OpResult::Got("k".into(), kv.kv.get("k").cloned());
    assert_eq!(kv.keyed(0, "t", 1, txn.clone()), results(got));
    assert_eq!(kv.keyed(0, "t", 1, txn), replayed(4, results(OpResult::NotKept)));
}

/// A grant is told again for as long as it holds, and with what is left of it.
#[test]
fn a_repeated_grant_is_one_that_holds() {
    let again = |index, token, ttl_ms| replayed(index, Reply::Granted { token, ttl_ms });
    let renew = |token| Action::Renew { name: "l".into(), token, ttl_ms: None };
    let mut kv = Kv::default();
    kv.keyed(0, "a", 1, acquire(500, 0));
    assert_eq!(kv.keyed(100, "a", 1, acquire(500, 0)), again(1, 1, 400));
    kv.keyed(200, "r", 1, renew(1));
    assert_eq!(kv.keyed(300, "r", 1, renew(1)), again(3, 1, 400));
    assert_eq!(kv.keyed(300, "a", 1, acquire(500, 0)), again(1, 1, 400), "it was renewed meanwhile");
    assert_eq!(kv.keyed(300, "w", 1, acquire(100, 900)), Reply::Queued);
    assert_eq!(kv.keyed(400, "w", 1, acquire(100, 900)), replayed(6, Reply::Queued));
    // Its time is up, and no tick has said so yet.
    assert_eq!(failure(kv.keyed(700, "a", 1, acquire(500, 0))), Failure::LockLost);
    assert_eq!(failure(kv.keyed(700, "r", 1, renew(1))), Failure::LockLost);
    kv.tick(700);
    let Failure::Locked(view) = failure(kv.keyed(710, "a", 1, acquire(500, 0))) else { panic!("another has it") };
    assert_eq!((view.token, view.ticket), (10, 6));
    assert_eq!(failure(kv.keyed(710, "r", 1, renew(1))), Failure::LockLost);
    assert_eq!(kv.keyed(710, "w", 1, acquire(100, 900)), again(6, 10, 90));
    kv.at(720, Action::Release { name: "l".into(), token: 10 });
    for (key, action) in [("a", acquire(500, 0)), ("r", renew(1)), ("w", acquire(100, 900))] {
        assert_eq!(failure(kv.keyed(730, key, 1, action)), Failure::LockLost, "{key}: nobody has it");
    }
    assert_eq!(kv.kv.lock("l"), None, "a repetition takes nothing");
}

#[test]
fn where_there_is_no_room_nothing_is_done_and_nothing_dropped() {
    let limits = Limits { kept: 3, kept_bytes: 1 << 20 };
    let few_bytes = Limits { kept: 100, kept_bytes: 3 * (2 + 16) };
    for limits in [limits, few_bytes] {
        let (mut kv, mut index) = (KvStore::new(), 0);
        let mut add = |stamp_ms: u64, key: &str| {
            index += 1;
            let retry = Some(Retry { key: key.into(), digest: 1, window_ms: 1_000 });
            let command = Command::Stamped(Stamped { stamp_ms, retry, action: incr("n", 1) });
            kv.apply_within(limits, index, &command, &mut Vec::new())
        };
        for (at, number) in [(0, 1), (10, 2), (20, 3)] {
            assert_eq!(add(at, &format!("u{number}")), Reply::Number(number));
        }
        assert_eq!(failure(add(999, "u4")), Failure::RetriesFull);
        assert_eq!(add(999, "u1"), replayed(1, Reply::Number(1)), "none is dropped early");
        assert_eq!(failure(add(999, "u4")), Failure::RetriesFull, "a refusal for lack of room is not kept");
        assert_eq!(add(1_000, "u4"), Reply::Number(4), "the first is over, and nobody ticked");
        assert_eq!(failure(add(1_009, "u5")), Failure::RetriesFull);
    }
}

/// Issue 18, A4: 68 failing `?cas=1` PUTs at a value of 1 MB filled the 64 MiB.
#[test]
fn an_outcome_is_small_whatever_it_is_about() {
    let mut kv = Kv::default();
    let large = format!("\"{}\"", "x".repeat(1_000_000));
    kv.at(0, set("k", &large, None));
    let refused = || Action::Put {
        key: "k".into(),
        value: Value { data: "1".into(), is_bytes: false, content_type: None },
        ttl_ms: None,
        conditions: vec![Condition::ModifiedBy(vec![7])],
    };
    let body = bytes::Bytes::from(large);
    let locked = |who: Option<&bytes::Bytes>| Action::Acquire {
        name: "l".into(),
        ttl_ms: 1_000_000,
        body: who.cloned(),
        wait_ms: 0,
    };
    let pairs: Vec<_> = (0..10_000).map(|n| (Key::from(format!("n/{n}").as_str()), 1)).collect();
    let then = vec![Op::Incr { pairs, ttl_ms: None }];
    let numbers = Action::Txn(Txn { tests: Vec::new(), then, otherwise: Vec::new() });
    kv.at(0, locked(Some(&body)));
    for n in 0..100 {
        let current = kv.kv.get("k").cloned();
        for again in [false, true] {
            let reply = kv.keyed(0, &format!("u{n}"), 1, refused());
            let reply = if let Reply::Replayed { reply, .. } = reply {
                assert!(again);
                *reply
            } else {
                reply
            };
            assert_eq!(failure(reply), Failure::Precondition { current: current.clone() });
            let reply = kv.keyed(0, &format!("l{n}"), 1, locked(None));
            let reply = if let Reply::Replayed { reply, .. } = reply { *reply } else { reply };
            let Failure::Locked(view) = failure(reply) else { panic!("it is held") };
            assert_eq!(view.body.as_ref(), Some(&body));
        }
        if n % 10 == 0 {
            kv.keyed(0, &format!("t{n}"), 1, numbers.clone());
        }
    }
    let kept = postcard::to_stdvec(&kv.kv.kept().collect::<Vec<_>>()).unwrap();
    assert!(kept.len() < 300 * 100, "{} bytes", kept.len());
    kv.at(0, Action::Release { name: "l".into(), token: 2 });
    let reply = kv.keyed(0, "l1", 1, locked(None));
    assert!(
        matches!(reply, Reply::Replayed { reply, .. } if matches!(failure(*reply.clone()), Failure::Locked(LockView { body: None, .. })))
    );
}

/// A snapshot of before may have them with all that they showed.
#[test]
fn what_a_snapshot_has_is_cut_as_what_is_applied() {
    let mut kv = Kv::default();
    kv.at(0, set("k", "1", None));
    let delete = Action::Delete { key: "k".into(), conditions: vec![Condition::Missing] };
    kv.keyed(0, "u", 1, delete);
    let (key, kept) = kv.kv.kept().next().map(|(key, kept)| (key.clone(), kept.clone())).unwrap();
    let (mut before, mut now) = (KvStore::new(), KvStore::new());
    let current = kv.kv.get("k").cloned();
    before.restore_kept(key.clone(), kept.clone().with_reply(Reply::failed(Failure::Precondition { current })));
    now.restore_kept(key, kept);
    assert_eq!((before.digest(), before.kept().collect::<Vec<_>>()), (now.digest(), now.kept().collect::<Vec<_>>()));
}
