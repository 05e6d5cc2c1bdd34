//! Issue 18, B4: what `cases/raft1.py` and `raft2.py` sent ended elections for ever, stopped nodes, or was stored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::Entry;
use openraft::raft::{VoteRequest, VoteResponse};
use openraft::vote::RaftLeaderId as _;

use super::commands::MAX_JSON_DEPTH;
use super::*;
use crate::command::{Action, Command, Reply, Retry, Stamped, Test, TestOf, Txn, Value};
use crate::formats::{Format, NEWEST, OLDEST, Speaks};
use crate::node::NodeError;
use crate::node::rpc::ForwardError;
use crate::node::rpc::Stamp;
use crate::raft_types::alias::StoredMembership;
use crate::raft_types::{Role, StartMark};
use std::sync::Arc;

const LEADER: RaftId = 7;

fn envelope() -> Envelope {
    Envelope {
        cluster: None,
        from: "127.0.0.1:1,127.0.0.1:2".parse().unwrap(),
        from_raft: LEADER,
        start: StartMark { starts: 3, boot: u64::MAX },
        to: "127.0.0.1:3,127.0.0.1:4".parse().unwrap(),
        to_raft: Some(1),
        to_start: Some(StartMark { starts: u64::MAX, boot: 9 }),
        echo: None,
        confirmed: None,
        log_time: None,
        mark: None,
        format: OLDEST,
        speaks: Speaks::own(),
    }
}

/// A node that has voted in term 5.
fn local() -> Local {
    Local { term: Some(5), newest: NEWEST }
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Vote::new(term, LEADER).leader_id.to_committed(), index)
}

fn blank(term: u64, index: u64) -> LogEntry {
    Entry { log_id: id(term, index), payload: EntryPayload::Blank }
}

fn put(key: &str, data: &[u8]) -> Command {
    let value = Value { data: Bytes::copy_from_slice(data), is_bytes: false, content_type: None };
    Action::Put { key: key.into(), value, ttl_ms: None, conditions: Vec::new() }.into()
}

fn members(configs: &[&[RaftId]], nodes: &[RaftId]) -> Membership<RaftId, Member> {
    let parts = (
        configs.iter().map(|config| config.iter().copied().collect()).collect::<Vec<BTreeSet<RaftId>>>(),
        nodes.iter().map(|node| (*node, Member { id: envelope().to, role: Role::Voter })).collect::<BTreeMap<_, _>>(),
    );
    // What openraft itself would not make.
    postcard::from_bytes(&postcard::to_stdvec(&parts).unwrap()).unwrap()
}

fn rpc(term: u64, prev: Option<LogId>, entries: Vec<LogEntry>) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest { vote: Vote::new_committed(term, LEADER), prev_log_id: prev, entries, leader_commit: None }
}

fn checked(rpc: &AppendEntriesRequest<TypeConfig>) -> Checked {
    append(&envelope(), rpc, &local())
}

#[test]
fn a_term_far_above_is_refused_in_requests_and_in_replies() {
    let far = 5 + MAX_TERM_STEP + 1;
    for (term, fits) in [(5, true), (far - 1, true), (far, false), (u64::MAX - 1, false), (u64::MAX, false)] {
        let candidate = VoteRequest::new(Vote::new(term, LEADER), None);
        for request_of_term in [PeerRequest::Vote(candidate.clone()), PeerRequest::PreVote(candidate)] {
            assert_eq!(request(&envelope(), &request_of_term, &local()).is_ok(), fits, "{term}");
        }
        assert_eq!(checked(&rpc(term, None, Vec::new())).is_ok(), fits, "{term}");
        let vote = Vote::new(term, LEADER);
        let replies = [
            PeerReply::Vote(VoteResponse::new(vote, None, false)),
            PeerReply::Append(AppendEntriesResponse::HigherVote(vote), Stamp { boot: 1, micros: 1 }),
            PeerReply::Snapshot(vote),
        ];
        assert!(replies.iter().all(|one| reply(5, one).is_ok() == fits), "{term}");
        assert_eq!(append_reply(5, &Err(StreamAppendError::HigherVote(vote))).is_ok(), fits, "{term}");
        // A new node may join an old cluster.
        let new = Local { term: None, newest: NEWEST };
        assert_eq!(append(&envelope(), &rpc(term, None, Vec::new()), &new).is_ok(), term <= MAX_FIRST_TERM, "{term}");
    }
}

#[test]
fn only_a_leader_appends_in_its_own_name() {
    let mut request = rpc(6, Some(id(5, 20)), vec![blank(6, 21)]);
    assert_eq!(checked(&request), Ok(()));
    request.vote.committed = false;
    assert!(checked(&request).is_err());
    request.vote = Vote::new_committed(6, LEADER + 1);
    assert!(checked(&request).is_err());
}

#[test]
fn entries_follow_one_another() {
    let max = u64::MAX;
    for (prev, entries) in [
        (Some(id(5, 20)), vec![blank(5, 21), blank(6, 22)]),
        (None, vec![blank(1, 0), blank(1, 1)]),
        (Some(id(4, 9)), vec![blank(4, 10), blank(6, 11)]),
        (Some(id(4, 12)), Vec::new()),
    ] {
        assert_eq!(checked(&rpc(6, prev, entries)), Ok(()));
    }
    for (prev, entries) in [
        (Some(id(5, 20)), vec![blank(5, 1_000)]),
        (Some(id(5, 20)), vec![blank(5, 21), blank(5, 21)]),
        (Some(id(5, 20)), vec![blank(4, 21)]),
        (Some(id(5, 20)), vec![blank(7, 21)]),
        (Some(id(5, 20)), vec![blank(5, max)]),
        (Some(id(5, max)), Vec::new()),
        (Some(id(9, 20)), Vec::new()),
        (None, vec![blank(5, 5)]),
    ] {
        let request = rpc(6, prev, entries);
        assert!(checked(&request).is_err(), "{request}");
    }
    let commit = AppendEntriesRequest { leader_commit: Some(id(max, max)), ..rpc(6, None, Vec::new()) };
    assert!(checked(&commit).is_err());
    // A leader of the past is told so by openraft.
    assert_eq!(checked(&rpc(3, Some(id(3, 9)), vec![blank(3, 10)])), Ok(()));
}

#[test]
fn a_membership_has_voters_with_addresses() {
    for (configs, nodes, fits) in [
        (&[&[1, 2][..]][..], &[1, 2, 3][..], true),
        (&[&[1], &[1, 2]], &[1, 2], true),
        (&[], &[], false),
        (&[&[]], &[1], false),
        (&[&[1], &[]], &[1], false),
        (&[&[1, 99]], &[1], false),
        (&[&[1], &[1], &[1]], &[1], false),
    ] {
        let entry = Entry { log_id: id(6, 21), payload: EntryPayload::Membership(members(configs, nodes)) };
        assert_eq!(checked(&rpc(6, Some(id(5, 20)), vec![entry])).is_ok(), fits, "{configs:?} {nodes:?}");
    }
}

#[test]
fn a_snapshot_is_of_entries_of_its_sender() {
    let meta = |last: Option<LogId>, at: Option<LogId>| SnapshotMeta {
        last_log_id: last,
        last_membership: StoredMembership::new(at, members(&[&[1]], &[1])),
    };
    let vote = Vote::new_committed(6, LEADER);
    let check = |meta: &SnapshotMeta| snapshot(&envelope(), &vote, meta, &local());
    assert_eq!(check(&meta(Some(id(6, 100)), Some(id(4, 3)))), Ok(()));
    for (last, at) in [
        (Some(id(9, 100)), Some(id(4, 3))),
        (Some(id(6, 100)), Some(id(6, 101))),
        (Some(id(6, 100)), None),
        (None, None),
    ] {
        assert!(check(&meta(last, at)).is_err(), "{last:?} {at:?}");
    }
}

fn limits() -> CommandLimits {
    CommandLimits { max_value_bytes: 1 << 20, max_request_bytes: 8 << 20 }
}

fn txn(tests: Vec<Test>, then: Vec<crate::command::Op>) -> Command {
    Action::Txn(Txn { tests, then, otherwise: Vec::new() }).into()
}

#[test]
fn commands_that_no_client_could_make_are_not_proposed() {
    let deep = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
    let typed = |content_type: &str| {
        let value = Value { data: Bytes::from_static(b"x"), is_bytes: true, content_type: Some(content_type.into()) };
        Command::from(Action::Put { key: "k".into(), value, ttl_ms: None, conditions: Vec::new() })
    };
    let set = |value: &[u8]| crate::command::Op::Set { pairs: vec![("k".into(), value.to_vec().into())], ttl_ms: None };
    let compared = |value: &[u8]| Test { key: "k".into(), of: TestOf::Value(value.to_vec().into()) };
    let stamped = |key: &str| {
        let retry = Some(Retry { key: key.into(), digest: 1, window_ms: 600_000 });
        Command::Stamped(Stamped { stamp_ms: 0, retry, action: Action::Delete { key: "k".into(), conditions: vec![] } })
    };
    let good = [
        put("k", b"{\"a\": [\"[[[\\\"[\"]}"),
        put("k", &deep(MAX_JSON_DEPTH)),
        typed("text/plain; charset=utf-8"),
        txn(vec![compared(b"1")], vec![set(b"2")]),
        stamped("0b8e"),
    ];
    let bad = [
        put("", b"1"),
        put(&"k".repeat(4097), b"1"),
        put("k", b"{{{"),
        put("k", b"\"\xff\""),
        put("k", &deep(MAX_JSON_DEPTH + 1)),
        put("k", &deep(500_000)),
        put("k", &[b"\"", &vec![b'x'; 20 << 20][..], b"\""].concat()),
        typed("text/html\r\nX-Evil: 1"),
        typed(&"a".repeat(100_000)),
        Action::Touch { key: "k".into(), ttl_ms: u64::MAX, conditions: Vec::new() }.into(),
        Action::Tick { most: u32::MAX }.into(),
        Action::Mark.into(),
        Action::Raise { to: NEWEST }.into(),
        Action::Quota { bytes: 1 }.into(),
        Command::Delete("k".into()),
        txn(vec![compared(b"[")], Vec::new()),
        txn(Vec::new(), vec![set(b"x")]),
        txn(Vec::new(), vec![crate::command::Op::Get("k".into()); 1025]),
        stamped(""),
        stamped(&"k".repeat(129)),
    ];
    let all: Vec<Arc<Command>> = good.iter().chain(&bad).cloned().map(Arc::new).collect();
    let (proposed, reasons) = commands(all, limits());
    assert_eq!(proposed.len(), good.len(), "{reasons:?}");
    assert!(reasons[..good.len()].iter().all(Option::is_none), "{reasons:?}");
    assert!(reasons[good.len()..].iter().all(Option::is_some), "{reasons:?}");
}

#[test]
fn outcomes_come_back_in_order() {
    let outcomes = vec![Ok((1, Reply::Done)), Ok((2, Reply::Done))];
    let merged = merge(PeerReply::Forward(outcomes), vec![Some("no".to_owned()), None, Some("nor".to_owned()), None]);
    let refused = |why: &str| Err(ForwardError::Failed(NodeError::BadRequest(why.to_owned())));
    let PeerReply::Forward(merged) = merged else { panic!("{merged:?}") };
    assert_eq!(merged, [refused("no"), Ok((1, Reply::Done)), refused("nor"), Ok((2, Reply::Done))]);
}

/// Names in entries are checked, and nothing that an older version may have written.
#[test]
fn commands_in_entries_need_names_that_can_be_stored() {
    for (command, fits) in [
        (put("k", b"not JSON"), true),
        (Command::Set(vec![("k".into(), Bytes::from_static(b"1"))]), true),
        (Action::Tick { most: 1 }.into(), true),
        (Action::Raise { to: NEWEST }.into(), true),
        (Action::Raise { to: Format(NEWEST.0 + 1) }.into(), false),
        (put("", b"1"), false),
        (put(&"k".repeat(4097), b"1"), false),
        (Command::Set(vec![("".into(), Bytes::from_static(b"1"))]), false),
    ] {
        let entry = Entry { log_id: id(6, 21), payload: EntryPayload::Normal(Arc::new(command.clone())) };
        assert_eq!(checked(&rpc(6, Some(id(5, 20)), vec![entry])).is_ok(), fits, "{command}");
    }
}
