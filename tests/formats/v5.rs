//! The second format: as the first, in a cluster whose format was raised. A segment of the log, and a snapshot, say so.

use hraftd::command::{Action, Command, Grant, Grants, Leased, Op, Order, Test, TestOf, Txn, Value};
use hraftd::formats::Format;
use openraft::EntryPayload;

use crate::content::{Content, entry};
use crate::v2;

fn raise(term: u64, index: u64) -> hraftd::raft_types::alias::LogEntry {
    entry(term, index, EntryPayload::Normal(Command::from(Action::Raise { to: Format(2) }).into()))
}

pub fn content() -> Content {
    let mut content = v2::content();
    // As soon as there is a leader; and once more, which changes nothing.
    content.first[1] = raise(1, 1);
    // A lease with a key and a lock, which the snapshot has.
    let json = |text: &'static str| bytes::Bytes::from_static(text.as_bytes());
    let set = Leased::Set { pairs: vec![("svc/old".into(), json("1"))], conditions: Vec::new() };
    let acquire = Leased::Acquire { name: "leased".into(), body: Some(json("\"me\"")), wait_ms: 0 };
    for (at, action) in [
        (14, Action::Grant { ttl_ms: 15_000, body: Some(json("[7]")) }),
        (20, Action::Leased { lease: 14, write: set }),
        (22, Action::Leased { lease: 14, write: acquire }),
    ] {
        content.first[at as usize] = entry(1, at, EntryPayload::Normal(Command::from(action).into()));
    }
    let last = content.second.last().map_or(0, |entry| entry.log_id.index);
    content.second.push(raise(3, last + 1));
    for (at, action) in (last + 2..).zip(leases(last + 2)) {
        content.second.push(entry(3, at, EntryPayload::Normal(Command::from(action).into())));
    }
    content
}

/// Every kind of command, condition and operation that came with this format; the first entry is `lease`.
fn leases(lease: u64) -> Vec<Action> {
    let json = |text: &'static str| bytes::Bytes::from_static(text.as_bytes());
    let leased = |write| Action::Leased { lease, write };
    let value = Value { data: json("[2]"), is_bytes: false, content_type: None };
    let test = |key: &str, of| Test { key: key.into(), of };
    let orders = [Order::Less, Order::LessOrEqual, Order::Greater, Order::GreaterOrEqual];
    let tests = [test("l", TestOf::Holder(lease + 4)), test("", TestOf::Alive(lease))];
    let numbers = orders.map(|order| test("svc/n", TestOf::Number(order, json("1e400"))));
    let then = vec![
        Op::SetLeased { pairs: vec![("svc/c".into(), json("3"))], lease },
        Op::IncrLeased { pairs: vec![("svc/n".into(), 2)], lease },
        Op::Touch { keys: vec!["svc/a".into(), "svc/b".into()], ttl_ms: 30_000 },
    ];
    vec![
        Action::Grant { ttl_ms: 15_000, body: Some(json("{}")) },
        leased(Leased::Set { pairs: vec![("svc/a".into(), json("1"))], conditions: Vec::new() }),
        leased(Leased::Put { key: "svc/b".into(), value, conditions: Vec::new() }),
        leased(Leased::Incr { key: "svc/n".into(), by: -1, conditions: Vec::new() }),
        leased(Leased::Acquire { name: "l".into(), body: None, wait_ms: 300 }),
        Action::KeepAlive { lease, ttl_ms: Some(20_000) },
        Action::Txn(Txn { tests: [&tests[..], &numbers].concat(), then, otherwise: Vec::new() }),
        Action::Revoke { lease },
        Action::Quota { bytes: 1 << 30 },
        Action::Authentication { on: true, anonymous: Some(grants("status")), first: true },
        Action::PutToken {
            name: "web".into(),
            id: 7,
            hash: [8; 32],
            grants: grants("read:app/"),
            ttl_ms: Some(90_000),
            certificate: Some("DNS:web".into()),
        },
        Action::RotateToken { name: "web".into(), id: 7, hash: [9; 32], grace_ms: 600_000 },
        Action::DeleteToken { name: "web".into() },
        Action::Authentication { on: false, anonymous: None, first: false },
    ]
}

fn grants(text: &str) -> Grants {
    Grants(vec![Grant::parse(text).unwrap()])
}
