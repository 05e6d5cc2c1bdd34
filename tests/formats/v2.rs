//! Every kind of command, condition, operation and outcome there is in format 2.

use bytes::Bytes;
use hraftd::command::{Action, Command, Condition, Key, Op, Retry, Stamped, Test, TestOf, Txn, Value};
use hraftd::raft_types::alias::LogEntry;
use openraft::EntryPayload;

use super::content::{Content, entry, fill, id, membership};

/// The last entry that is in the snapshot.
const SNAPSHOT: u64 = 29;
const TRUNCATED_AFTER: u64 = 45;

fn json(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(Key, Bytes)> {
    pairs.iter().map(|(key, value)| (Key::from(*key), json(value))).collect()
}

fn set(key: &str, value: &str, ttl_ms: Option<u64>) -> Action {
    Action::Set { pairs: pairs(&[(key, value)]), ttl_ms, conditions: Vec::new() }
}

fn put(key: &str, data: &'static [u8], is_bytes: bool, content_type: Option<&str>, ttl_ms: Option<u64>) -> Action {
    let value = Value { data: Bytes::from_static(data), is_bytes, content_type: content_type.map(Into::into) };
    Action::Put { key: key.into(), value, ttl_ms, conditions: Vec::new() }
}

fn incr(key: &str, by: i64, ttl_ms: Option<u64>, conditions: Vec<Condition>) -> Action {
    Action::Incr { key: key.into(), by, ttl_ms, conditions }
}

fn acquire(name: &str, ttl_ms: u64, wait_ms: u64, body: Option<&str>) -> Action {
    Action::Acquire { name: name.into(), ttl_ms, body: body.map(json), wait_ms }
}

fn test(key: &str, of: TestOf) -> Test {
    Test { key: key.into(), of }
}

fn ops() -> Vec<Op> {
    vec![
        Op::Set { pairs: pairs(&[("t/1", "[]"), ("t/2", "{}")]), ttl_ms: Some(90_000) },
        Op::Incr { pairs: vec![("n".into(), -3), ("t/3".into(), 1)], ttl_ms: Some(50_000) },
        Op::Get("n".into()),
        Op::Delete("t/2".into()),
        Op::DeletePrefix("t/3".into()),
    ]
}

/// In the snapshot: what is kept of each ends up there.
fn covered() -> Vec<Action> {
    let missing = || vec![Condition::Missing];
    vec![
        set("plain", "1.50", None),                                                   // 3
        set("short", "\"lived\"", Some(30_000)),                                      // 4
        put("image", b"\x89PNG\r\n\0\xff", true, Some("image/png"), Some(7_000_000)), // 5
        put("text", b"\"-12\"", false, None, None),                                   // 6
        incr("n", i64::MAX, None, missing()),                                         // 7
        incr("n", 1, None, Vec::new()),                                               // 8: too much
        incr("text", 1, None, Vec::new()),                                            // 9: text of a number
        Action::Txn(Txn {
            // 10
            tests: vec![
                test("plain", TestOf::Exists(true)),
                test("plain", TestOf::ModifyIndex(3)),
                test("plain", TestOf::CreateIndex(3)),
                test("plain", TestOf::Version(1)),
                test("plain", TestOf::Value(json("1.50"))),
            ],
            then: ops(),
            otherwise: Vec::new(),
        }),
        Action::Txn(Txn {
            // 11: fails in its second operation, no number
            tests: vec![test("plain", TestOf::Exists(false))],
            then: Vec::new(),
            otherwise: vec![Op::Delete("plain".into()), Op::Incr { pairs: vec![("image".into(), 1)], ttl_ms: None }],
        }),
        put("plain", b"2", false, None, None),                         // 12
        Action::Delete { key: "image".into(), conditions: missing() }, // 13: refused, with bytes
        Action::Delete { key: "none".into(), conditions: Vec::new() }, // 14
        Action::DeletePrefix { prefix: "t/".into() },                  // 15
        Action::Touch { key: "plain".into(), ttl_ms: 600_000, conditions: Vec::new() }, // 16
        Action::Touch { key: "none".into(), ttl_ms: 1_000, conditions: Vec::new() }, // 17: missing
        acquire("lock", 20_000, 0, Some(r#"{"who":"a"}"#)),            // 18
        acquire("lock", 15_000, 60_000, Some("\"b\"")),                // 19: queued
        acquire("lock", 10_000, 70_000, None),                         // 20: queued
        acquire("lock", 5_000, 0, None),                               // 21: locked
        acquire("other", 3_600_000, 0, None),                          // 22
        acquire("gone", 1_000, 0, None),                               // 23
        Action::Renew { name: "lock".into(), token: 18, ttl_ms: Some(25_000) }, // 24
        Action::Renew { name: "lock".into(), token: 17, ttl_ms: None }, // 25: lost
        Action::Release { name: "gone".into(), token: 23 },            // 26
        Action::Cancel { name: "lock".into(), ticket: 20 },            // 27
        Action::Tick { most: 1_000 },                                  // 28
        set("plain", "3", None),                                       // 29: a repetition of 3
    ]
}

/// In the log only, with every condition.
fn later() -> Vec<Action> {
    let conditions =
        vec![Condition::Exists, Condition::ModifiedBy(vec![12, 29]), Condition::NotModifiedBy(vec![1, u64::MAX])];
    vec![
        Action::Set { pairs: pairs(&[("plain", "4")]), ttl_ms: Some(1_000), conditions: conditions.clone() },
        Action::Put {
            key: "plain".into(),
            value: Value { data: json("5"), is_bytes: false, content_type: Some("application/ld+json".into()) },
            ttl_ms: None,
            conditions: conditions.clone(),
        },
        Action::Delete { key: "plain".into(), conditions: conditions.clone() },
        incr("n", -1, Some(1_000), conditions.clone()),
        Action::Touch { key: "plain".into(), ttl_ms: 1_000, conditions },
        Action::Release { name: "lock".into(), token: 18 },
    ]
}

fn stamped(index: u64, action: Action) -> LogEntry {
    // As of a leader whose clock has seen more than its follower's.
    let stamp_ms = 1_000 + index * 10 - index % 3 * 4;
    // A tick comes from no client.
    let is_keyed = index < 30 && !matches!(action, Action::Tick { .. }) && index != 24;
    let of = if index == 29 { 3 } else { index };
    let retry = is_keyed.then(|| Retry {
        key: format!("key-{of}").into(),
        digest: u128::from(of) << 100 | u128::from(of),
        window_ms: 600_000 + of,
    });
    entry(1, index, EntryPayload::Normal(Command::Stamped(Stamped { stamp_ms, retry, action }).into()))
}

pub fn content() -> Content {
    let mut first = vec![
        entry(1, 0, membership(false)),
        entry(1, 1, EntryPayload::Blank),
        // From before an upgrade.
        entry(1, 2, EntryPayload::Normal(Command::Set(pairs(&[("old", "true")])).into())),
    ];
    let mut push = |action| {
        let index = first.len() as u64;
        first.push(stamped(index, action));
    };
    covered().into_iter().chain(later()).for_each(&mut push);
    // Long enough to fill segments; the last are truncated.
    (0..12).for_each(|_| push(set("fill", &fill(300), Some(3_600_000))));
    assert_eq!(first[28].log_id, id(1, 28));
    Content {
        first,
        truncated_after: TRUNCATED_AFTER,
        second: vec![
            entry(3, TRUNCATED_AFTER + 1, EntryPayload::Blank),
            entry(3, TRUNCATED_AFTER + 2, EntryPayload::Normal(Command::from(Action::Tick { most: 1 }).into())),
        ],
        snapshot: SNAPSHOT,
        purged: id(1, 6),
        committed: id(3, TRUNCATED_AFTER + 1),
        saved_before: id(1, SNAPSHOT),
    }
}
