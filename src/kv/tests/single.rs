//! Single commands on keys.

use super::*;
use crate::command::{NotANumber, Op, OpIndex, OpResult, Test, TestOf, Txn};

fn put(key: &str, data: &'static [u8], is_bytes: bool, content_type: Option<&str>, ttl_ms: Option<u64>) -> Action {
    let value = Value { data: data.into(), is_bytes, content_type: content_type.map(Into::into) };
    Action::Put { key: key.into(), value, ttl_ms, conditions: Vec::new() }
}

fn marks(kv: &Kv, key: &str) -> (u64, u64, u64) {
    let Marks { create_index, modify_index, version } = kv.kv.get(key).unwrap().marks();
    (create_index, modify_index, version)
}

#[test]
fn writes_count_and_a_key_that_was_gone_is_new() {
    let mut kv = Kv::default();
    assert_eq!(kv.at(1, put("k", b"1", false, None, None)), Reply::Put { created: true });
    assert_eq!(kv.at(1, put("k", b"2", false, None, None)), Reply::Put { created: false });
    assert_eq!(kv.at(1, incr("k", 3)), Reply::Number(5));
    assert_eq!(marks(&kv, "k"), (1, 3, 3));
    kv.at(1, Action::Delete { key: "k".into(), conditions: Vec::new() });
    kv.at(1, set("k", "1", None));
    assert_eq!(marks(&kv, "k"), (5, 5, 1));
}

#[test]
fn a_deadline_is_kept_to_the_millisecond_of_log_time() {
    let mut kv = Kv::default();
    kv.at(1_000, set("k", "1", Some(500)));
    assert!(!kv.tick(1_499));
    assert_eq!(kv.keys(), ["k"], "never early");
    // Deadlines are not looked at between ticks, so that all that happens is in the log.
    kv.at(1_600, set("other", "1", None));
    assert_eq!(kv.keys(), ["k", "other"]);
    assert!(!kv.tick(1_500));
    assert_eq!(kv.keys(), ["other"], "log time was 1600 already");
    assert_eq!(kv.kv.log_time_ms(), 1_600);
    assert_eq!(kv.changes().last(), Some(&Change::Expired { key: "k".into(), lease: None }));
}

#[test]
fn what_clears_a_deadline_and_what_keeps_it() {
    let mut kv = Kv::default();
    let deadline = |kv: &Kv| kv.kv.get("k").unwrap().deadline_ms();
    kv.at(100, put("k", b"1", false, Some("a/b"), Some(50)));
    kv.at(110, incr("k", 1));
    assert_eq!((deadline(&kv), kv.kv.get("k").unwrap().content_type()), (Some(150), Some("a/b")));
    kv.changes();
    let before = marks(&kv, "k");
    assert_eq!(
        kv.at(120, Action::Touch { key: "k".into(), ttl_ms: 60, conditions: Vec::new() }),
        Reply::Touched { modify_index: before.1 }
    );
    assert_eq!((deadline(&kv), marks(&kv, "k")), (Some(180), before));
    assert_eq!(kv.changes(), [], "nothing that a watcher would see");
    kv.at(130, set("k", "1", None));
    assert_eq!((deadline(&kv), kv.kv.get("k").unwrap().content_type()), (None, None));
    assert_eq!(kv.kv.next_deadline(), None);
    let touched = kv.at(140, Action::Touch { key: "none".into(), ttl_ms: 60, conditions: Vec::new() });
    assert_eq!(failure(touched), Failure::Missing);
}

#[test]
fn ticks_are_bounded_and_in_the_order_of_keys() {
    let mut kv = Kv::default();
    for (key, ttl_ms) in [("c", 30), ("a", 20), ("b", 10), ("d", 99)] {
        kv.at(1, set(key, "1", Some(ttl_ms)));
    }
    kv.changes();
    assert_eq!(kv.at(50, Action::Tick { most: 2 }), Reply::Ticked { more: true });
    let expired =
        |keys: &[&str]| keys.iter().map(|key| Change::Expired { key: (*key).into(), lease: None }).collect::<Vec<_>>();
    assert_eq!(kv.changes(), expired(&["a", "b"]), "the earliest");
    assert_eq!(kv.at(50, Action::Tick { most: 2 }), Reply::Ticked { more: false });
    assert_eq!((kv.changes(), kv.keys()), (expired(&["c"]), vec!["d"]));
}

#[test]
fn integers_and_what_is_none() {
    let mut kv = Kv::default();
    assert_eq!(kv.at(1, incr("new", -1)), Reply::Number(-1));
    for (value, wanted) in [
        ("5", Ok(6)),
        (" 5\n", Ok(6)),
        ("-1", Ok(0)),
        ("9223372036854775807", Err(NotANumber::Overflow)),
        ("9223372036854775808", Err(NotANumber::Other)),
        ("1.0", Err(NotANumber::Other)),
        ("1e2", Err(NotANumber::Other)),
        ("null", Err(NotANumber::Other)),
        ("\"\"", Err(NotANumber::Other)),
        ("\"5\"", Err(NotANumber::TextOfNumber)),
        ("\"five\"", Err(NotANumber::Other)),
        ("\"", Err(NotANumber::Other)),
    ] {
        kv.at(1, set("n", value, None));
        match (kv.at(1, incr("n", 1)), wanted) {
            (Reply::Number(number), Ok(wanted)) => {
                assert_eq!((number, kv.value("n").unwrap()), (wanted, &*wanted.to_string()))
            }
            (reply, Err(why)) => {
                assert_eq!(failure(reply), Failure::NotANumber { place: None, key: "n".into(), why }, "{value}");
                assert_eq!(kv.value("n"), Some(value));
            }
            (reply, wanted) => panic!("{value}: {reply:?}, not {wanted:?}"),
        }
    }
    kv.at(1, put("n", b"5", true, None, None));
    assert!(matches!(failure(kv.at(1, incr("n", 1))), Failure::NotANumber { why: NotANumber::Other, .. }));
}

#[test]
fn a_failed_transaction_leaves_no_trace_but_log_time() {
    let mut kv = Kv::default();
    kv.at(10, set("text", "\"a\"", Some(1_000)));
    kv.at(10, set("a/1", "1", None));
    kv.changes();
    let before = kv.kv.clone();
    let then = vec![
        Op::Set { pairs: vec![("new".into(), "1".into())], ttl_ms: Some(5) },
        Op::DeletePrefix("a/".into()),
        Op::Incr { pairs: vec![("n".into(), 1), ("text".into(), 1)], ttl_ms: None },
    ];
    let txn = Txn { tests: Vec::new(), then, otherwise: Vec::new() };
    let place = Some(OpIndex { then: true, at: 2 });
    let wanted = Failure::NotANumber { place, key: "text".into(), why: NotANumber::Other };
    assert_eq!(failure(kv.keyed(10, "k", 1, Action::Txn(txn.clone()))), wanted);
    assert_eq!(kv.changes(), []);
    assert_eq!(kv.kv.kept().count(), 1, "its outcome is kept");
    let (keys, before_keys): (Vec<_>, Vec<_>) = (kv.kv.iter().collect(), before.iter().collect());
    assert_eq!(keys, before_keys);
    assert_eq!(kv.kv.next_deadline(), before.next_deadline());

    let test = Test { key: "text".into(), of: TestOf::Exists(false) };
    let txn = Txn { tests: vec![test], then: txn.then, otherwise: vec![Op::Get("a/1".into())] };
    let Reply::Txn { succeeded: false, results } = kv.at(10, Action::Txn(txn)) else { panic!("it has an else") };
    assert_eq!(results, [OpResult::Got("a/1".into(), kv.kv.get("a/1").cloned())]);
}

/// A slice would keep the whole request that it came with.
#[test]
fn values_and_bodies_are_copied() {
    let request = Bytes::from(vec![b'1'; 1 << 20]);
    let mut kv = Kv::default();
    kv.at(1, Action::Set { pairs: vec![("k".into(), request.slice(..1))], ttl_ms: None, conditions: Vec::new() });
    kv.at(1, Action::Acquire { name: "l".into(), ttl_ms: 9, body: Some(request.slice(..1)), wait_ms: 0 });
    assert!(request.is_unique());
}

#[test]
fn a_clone_is_a_snapshot() {
    let mut kv = Kv::default();
    kv.at(1, set("k", "1", Some(5)));
    let then = kv.kv.clone();
    let digest = then.digest();
    kv.tick(100);
    kv.at(1, acquire(5, 0));
    assert_eq!((then.get("k").unwrap().value(), then.digest()), (&b"1"[..], digest));
    assert!(then != kv.kv);
}

#[test]
fn a_transaction_that_reads_too_much_does_nothing() {
    let mut kv = Kv::default();
    let value = vec![b'1'; 1 << 20].into();
    kv.at(1, Action::Set { pairs: vec![("big".into(), value)], ttl_ms: None, conditions: Vec::new() });
    let before = kv.kv.clone();
    let mut then = vec![crate::command::Op::Set { pairs: vec![("k".into(), "1".into())], ttl_ms: None }];
    then.extend((0..17).map(|_| crate::command::Op::Get("big".into())));
    let txn = |then| Action::Txn(crate::command::Txn { tests: Vec::new(), then, otherwise: Vec::new() });
    kv.changes();
    let failed = failure(kv.at(1, txn(then.clone())));
    assert_eq!(failed, Failure::ReadsTooMuch { place: crate::command::OpIndex { then: true, at: 17 } });
    assert!(kv.kv == before && kv.changes().is_empty());
    then.pop();
    assert!(matches!(kv.at(1, txn(then)), Reply::Txn { .. }));
}

#[test]
fn only_a_transaction_without_writes_is_a_read() {
    let kv = KvStore::new();
    let is_read = |action: Action| kv.clone().answer_read(1, 0, &action.into()).is_some();
    let get = || Op::Get("k".into());
    let of = |then: Vec<Op>, otherwise: Vec<Op>| Action::Txn(Txn { tests: Vec::new(), then, otherwise });
    assert!(is_read(of(vec![get()], vec![get(), get()])) && is_read(of(Vec::new(), Vec::new())));
    for op in [
        Op::Delete("k".into()),
        Op::DeletePrefix("k".into()),
        Op::Touch { keys: vec!["k".into()], ttl_ms: 1 },
        Op::Set { pairs: Vec::new(), ttl_ms: None },
    ] {
        assert!(!is_read(of(vec![get(), op.clone()], Vec::new())) && !is_read(of(Vec::new(), vec![op])));
    }
    assert!(!is_read(set("k", "1", None)));
}

fn txn(tests: Vec<Test>, then: Vec<Op>) -> Action {
    Action::Txn(Txn { tests, then, otherwise: Vec::new() })
}

/// A small request could keep every replica busy with changes, and then with undoing them.
#[test]
fn a_refused_transaction_costs_no_more_than_it_says() {
    let mut kv = Kv::default();
    let pairs = (0..20_000).map(|n| (Key::from(format!("p/{n}")), "1".into())).collect();
    kv.at(1, Action::Set { pairs, ttl_ms: None, conditions: Vec::new() });
    kv.at(2, set("text", "\"a\"", None));
    let refused = txn(
        Vec::new(),
        vec![Op::DeletePrefix("p/".into()), Op::Incr { pairs: vec![("text".into(), 1)], ttl_ms: None }],
    );
    let before = kv.kv.clone();
    let cost = allocation_counter::measure(|| assert!(matches!(kv.at(3, refused), Reply::Failed(_))));
    assert!(cost.bytes_total < 10_000, "{cost:?}");
    assert!(kv.kv.iter().eq(before.iter()));
}

/// Operations see what those before them left, also where only the check sees it.
#[test]
fn a_check_sees_what_operations_leave() {
    let incr = |key: &str| Op::Incr { pairs: vec![(key.into(), 1)], ttl_ms: None };
    let put = |key: &str, value: &str| Op::Set { pairs: vec![(key.into(), value.to_owned().into())], ttl_ms: None };
    let cases: [(Vec<Op>, Result<&str, ()>); 9] = [
        (vec![incr("a/b/1")], Err(())),
        (vec![Op::Delete("a/b/1".into()), incr("a/b/1")], Ok("1")),
        (vec![Op::DeletePrefix("a/".into()), incr("a/b/1")], Ok("1")),
        (vec![Op::DeletePrefix("a/b".into()), Op::DeletePrefix("a".into()), incr("a/b/1")], Ok("1")),
        (vec![Op::DeletePrefix("a".into()), Op::DeletePrefix("a/b".into()), incr("a/b/1")], Ok("1")),
        (vec![Op::DeletePrefix("a/a".into()), Op::DeletePrefix("a/b/2".into()), incr("a/b/1")], Err(())),
        (vec![put("a/b/1", " 7 "), incr("a/b/1"), incr("a/b/1")], Ok("9")),
        (vec![put("a/b/1", "7"), Op::DeletePrefix("a".into()), incr("a/b/1")], Ok("1")),
        (vec![put("a/b/1", "9223372036854775807"), incr("a/b/1")], Err(())),
    ];
    for (then, wanted) in cases {
        let mut kv = Kv::default();
        kv.at(1, set("a/b/1", "\"text\"", None));
        let reply = kv.at(2, txn(Vec::new(), then.clone()));
        match wanted {
            Ok(value) => assert_eq!(kv.value("a/b/1"), Some(value), "{then:?}: {reply:?}"),
            Err(()) => {
                assert!(matches!(reply, Reply::Failed(_)), "{then:?}: {reply:?}");
                assert_eq!(kv.value("a/b/1"), Some("\"text\""));
            }
        }
    }
}

/// A small request could have a large value taken apart a thousand times.
#[test]
fn a_large_value_is_taken_apart_once() {
    let mut kv = Kv::default();
    let large = |inner: &str| format!("[{}{inner}]", " ".repeat(1 << 20));
    let is = |value: &str| txn(vec![Test { key: "k".into(), of: TestOf::Value(value.to_owned().into()) }], Vec::new());
    let succeeds = |kv: &mut Kv, index, value: &str| match kv.at(index, is(value)) {
        Reply::Txn { succeeded, .. } => succeeded,
        other => panic!("{other:?}"),
    };
    // Index 1, which all values of hraftd 0.1 have, is none to tell versions by.
    kv.at(1, set("other", "1", None));
    kv.at(2, set("k", &large("1"), None));
    for (value, same) in [("[1]", true), ("[ 1 ]", true), ("[2]", false), ("[1", false), (&*large("1"), true)] {
        assert_eq!(succeeds(&mut kv, 3, value), same, "{}", value.len());
    }
    let cost = allocation_counter::measure(|| assert!(succeeds(&mut kv, 3, "[1]")));
    assert!(cost.bytes_total < 10_000, "{cost:?}");
    assert_eq!(kv.kv.digests.len(), 1);
    kv.at(4, set("k", &large("2"), None));
    assert!(!succeeds(&mut kv, 5, "[1]") && succeeds(&mut kv, 5, "[2]"));
    kv.at(6, put("k", &[7; 5_000], true, None, None));
    let bytes = format!("{{ \"base64\": \"{}\"}}", crate::record::base64(&[7; 5_000]));
    assert!(succeeds(&mut kv, 7, &bytes) && !succeeds(&mut kv, 7, "[2]"));
}
