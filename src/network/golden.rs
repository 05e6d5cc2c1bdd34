//! The bytes of messages, as every hraftd from now on has to read and write them: `tests/golden/wire/FORMAT`, a line for each
//! kind. If a test here fails, a message changed: that needs a new format, and a file for it.
//!
//! To write the file of the newest format anew: `HRAFTD_WRITE_GOLDEN=1 cargo test --lib network::golden`.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderResponse, VoteRequest, VoteResponse};
use openraft::vote::RaftLeaderId as _;
use openraft::{Entry, EntryPayload};

use super::decode::decode_request;
use super::wire::{Answer, AppendAnswer, AppendMessage, Message, Request, decode, encode, encode_request};
use crate::command::{Action, Command, Holder, Principal, Reply};
use crate::formats::{FORMATS, Format, NEWEST, OLDEST, Speaks};
use crate::node::rpc::*;
use crate::node::{NodeError, State};
use crate::observe::SecurityFault;
use crate::raft_types::alias::{LogId, Vote};
use crate::raft_types::{ClusterId, Founding, Role, StartMark};

fn id(port: u16) -> crate::node_id::PublicId {
    format!("127.0.0.1:{port},127.0.0.1:{}", port + 1000).parse().unwrap()
}

fn log_id(index: u64) -> LogId {
    LogId::new(Vote::new(3, 8).leader_id.to_committed(), index)
}

/// What a node of the release that brought a format says of itself.
fn speaks(format: Format) -> Speaks {
    let version = format.spec().unwrap().since.into();
    Speaks { oldest: OLDEST, newest: format, version }
}

fn envelope(format: Format) -> Envelope {
    Envelope {
        cluster: Some(ClusterId(5)),
        from: id(1),
        from_raft: 8,
        start: StartMark { starts: 2, boot: 300 },
        to: id(2),
        to_raft: Some(9),
        to_start: Some(StartMark { starts: 1, boot: 4 }),
        echo: Some(Stamp { boot: 1, micros: 2 }),
        confirmed: Some(Confirmed { stamp: Stamp { boot: 3, micros: 4 }, committed: 5 }),
        log_time: Some((6, 7)),
        mark: Some(Mark { index: 8, digest: 9 }),
        format,
        speaks: speaks(format),
    }
}

fn identification(format: Format) -> Identification {
    Identification {
        id: id(2),
        raft_id: 9,
        cluster: Some(ClusterId(5)),
        empty: true,
        role: Role::Voter,
        boot: 10,
        removed: false,
        standing: Box::default(),
        speaks: speaks(format),
    }
}

fn append() -> AppendEntriesRequest<crate::raft_types::TypeConfig> {
    let command: Command = Action::Tick { most: 7 }.into();
    let entry = Entry { log_id: log_id(5), payload: EntryPayload::Normal(Arc::new(command)) };
    AppendEntriesRequest {
        vote: Vote::new_committed(3, 8),
        prev_log_id: Some(log_id(4)),
        entries: vec![entry],
        leader_commit: Some(log_id(3)),
    }
}

fn requests(format: Format) -> Vec<PeerRequest> {
    let (vote, timeout_ms) = (VoteRequest::new(Vote::new(3, 8), Some(log_id(4))), 9);
    let founding = Founding { cluster: ClusterId(5), members: BTreeMap::from([(8, id(1))]) };
    let mut requests = vec![
        PeerRequest::Append(append()),
        PeerRequest::Vote(vote.clone()),
        PeerRequest::PreVote(vote),
        PeerRequest::TransferLeader(TransferRequest {
            from: Vote::new_committed(3, 8),
            to: 9,
            last_log_id: Some(log_id(4)),
        }),
        PeerRequest::Forward { commands: vec![Arc::new(Action::Mark.into())], timeout_ms },
        PeerRequest::Read { key: "k".into(), min_index: 7, timeout_ms },
        PeerRequest::ReadIndex { following: Some(Vote::new(3, 8)), applied: 4 },
        PeerRequest::WeakIndex,
        PeerRequest::Status,
        PeerRequest::Identify,
        PeerRequest::LeaderWatch,
        PeerRequest::IsLeaderGone(LeaderSeen { leader: 8, term: 3, boot: Some(300) }),
        PeerRequest::IsMember(9),
        PeerRequest::Join { id: id(2), timeout_ms },
        PeerRequest::Lead { wanted: Some(":2".to_owned()), timeout_ms },
        PeerRequest::Remove { wanted: ":2".to_owned(), force: true, timeout_ms },
        PeerRequest::Found(Some(founding)),
        PeerRequest::Vouch,
        PeerRequest::Witness { index: 4 },
        PeerRequest::Forgotten { vote: Vote::new_committed(3, 8), acknowledged: log_id(4) },
    ];
    if format > OLDEST {
        let by = Principal::Token(Holder { id: 7, generation: 2, revision: 300, name: "web".into() });
        let mark = RequestMark { request_id: Some("r".into()), traceparent: None, timed: true };
        requests.extend([
            PeerRequest::Marks(vec![(7, mark)]),
            PeerRequest::Events { after: Some(Cursor { boot: 1, id: 300 }), wait_ms: 9 },
            PeerRequest::Examine,
            PeerRequest::ReadBy { by: by.clone(), key: "k".into(), min_index: 7, timeout_ms: 9 },
            PeerRequest::AdminBy { by, change: MemberChange::Lead(Some(":2".to_owned())), timeout_ms: 9 },
            PeerRequest::Clock,
            PeerRequest::Acknowledged { vote: Vote::new_committed(3, 8), entry: log_id(4) },
        ]);
    }
    requests
}

fn answers(format: Format) -> Vec<Answer> {
    let who = || identification(format);
    let stamp = Stamp { boot: 1, micros: 2 };
    let founder = Founder { who: who(), expect: Some(3), seen: BTreeMap::from([(9, id(2))]), adopted: None };
    let witness = Witness { log_id: Some(log_id(4)), mark: Some(Mark { index: 8, digest: 9 }) };
    let mut answers = vec![
        Ok(PeerReply::Append(AppendEntriesResponse::Success, stamp)),
        Ok(PeerReply::Vote(VoteResponse::new(Vote::new(3, 8), Some(log_id(4)), true))),
        Ok(PeerReply::TransferLeader(TransferLeaderResponse::Ok(()))),
        Ok(PeerReply::Forward(vec![
            Ok((7, Reply::Put { created: true })),
            Err(ForwardError::NotLeader),
            Err(ForwardError::Failed(NodeError::Diverged("why".to_owned()))),
        ])),
        Ok(PeerReply::Read(Ok(Ok((None, 7))))),
        Ok(PeerReply::ReadIndex(Some(7))),
        Ok(PeerReply::WeakIndex(Ok(7))),
        Ok(PeerReply::Status(State::Follower, vec!["slow".to_owned()])),
        Ok(PeerReply::Identify(who())),
        Ok(PeerReply::LeaderWatch),
        Ok(PeerReply::IsLeaderGone(Some(Some(log_id(4))))),
        Ok(PeerReply::IsMember(MemberAnswer::Member { voter: true, heard: false }, None)),
        Ok(PeerReply::Admin(Ok(Err(NodeError::Conflict("why".to_owned()))))),
        Ok(PeerReply::Snapshot(Vote::new_committed(3, 8))),
        Ok(PeerReply::Found(founder)),
        Ok(PeerReply::Vouch { who: who(), asker: Some(8) }),
        Ok(PeerReply::Witness(Some(witness))),
        Ok(PeerReply::Forgotten(true)),
        Err(Refusal::WrongTarget(Box::new(who()))),
        Err(Refusal::WrongCluster(Box::new(who()))),
        Err(Refusal::Stopped),
        Err(Refusal::Unreadable("why".to_owned())),
        Err(Refusal::Diverged("why".to_owned())),
        Err(Refusal::Superseded(StartMark { starts: 2, boot: 3 })),
        Err(Refusal::LostMemory("why".to_owned())),
    ];
    if format > OLDEST {
        let stages = Stages { wait_us: 1, propose_us: 2, flush_us: 300, quorum_us: 4, apply_us: 5 };
        answers.extend([
            Ok(PeerReply::Marks(vec![Some(stages), None])),
            Ok(PeerReply::Events(Page { next: Cursor { boot: 1, id: 301 }, events: vec![event()], missed: true })),
            Ok(PeerReply::Examine(Box::new(vitals()))),
            Ok(PeerReply::Clock(ClockReading { stamp: Stamp { boot: 7, micros: 300 }, wall_ms: 1_700_000_000_000 })),
            Ok(PeerReply::Acknowledged(true)),
        ]);
    }
    answers
}

fn event() -> Event {
    Event {
        id: 301,
        kind: EventKind::Vote,
        term: 3,
        index: 4,
        time_ms: 5,
        text: "text".to_owned(),
        peer: Some("peer".to_owned()),
        action: Some(VoteAction::Refused),
        reason: Some("why".to_owned()),
        count: Some(6),
        matched: None,
        in_flight: Some(7),
    }
}

fn vitals() -> Vitals {
    Vitals {
        version: "0.2.0".into(),
        state: State::Follower,
        term: 3,
        last_log_index: 4,
        applied_index: 5,
        leader: Some(6),
        reaches: vec![(7, false)],
        flush_p99: Some((800, 9)),
        free_bytes: Some(10),
        snapshot_bytes: 11,
        max_files: None,
        wall_ms: 12,
        clock_rates: vec![ClockRate { member: 7, ppm: -20, unsure_ppm: 300 }],
        timers_ms: (100, 400),
        flags: vec![("--max-value".to_owned(), "9".to_owned())],
        mark: Some(Mark { index: 8, digest: 9 }),
        leader_changes: 13,
        compacted: 14,
        hindrances: vec!["slow".to_owned()],
        voted_for: Some(6),
        commit_index: 15,
        contact_ms: Some(16),
        secrets: vec!["0011223344556677".to_owned()],
        security: vec![(SecurityFault::ClientCa, "soon".to_owned())],
        certificate_ends: [17, 0],
    }
}

/// The name of a kind, by what it is shown as.
fn name(what: &str, shown: &dyn Debug) -> String {
    let shown = format!("{shown:?}");
    let inner = shown.strip_prefix("Ok(").or(shown.strip_prefix("Err(")).unwrap_or(&shown);
    let end = inner.find(|c: char| !c.is_alphanumeric()).unwrap_or(inner.len());
    format!("{what} {}", &inner[..end])
}

fn lines(format: Format) -> Vec<(String, Vec<u8>)> {
    let of = |format| envelope(format);
    let mut lines: Vec<_> = requests(format)
        .into_iter()
        .map(|request| (name("request", &request), encode_request(of(format), request)))
        .collect();
    lines.extend(answers(format).into_iter().map(|answer| (name("answer", &answer), encode(&answer, format))));
    let message: AppendMessage = (of(format), append());
    lines.push(("append of a stream".to_owned(), encode(&message, format)));
    let outcome: AppendAnswer = Ok((Ok(Some(log_id(5))), Stamp { boot: 1, micros: 2 }));
    lines.push(("answer to one".to_owned(), encode(&outcome, format)));
    lines
}

fn file(format: Format) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wire").join(format.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn the_bytes_of_messages_are_these() {
    for spec in &FORMATS {
        let text: String = lines(spec.format).iter().map(|(name, bytes)| format!("{name}: {}\n", hex(bytes))).collect();
        let write = std::env::var_os("HRAFTD_WRITE_GOLDEN").is_some_and(|value| value == "1");
        // One of a released format is never written anew.
        if write && (spec.format == NEWEST || !file(spec.format).exists()) {
            std::fs::write(file(spec.format), &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(file(spec.format)).unwrap(), "format {}", spec.format);
    }
}

/// Nothing of a message itself has changed so far: a format adds its number, and what its sender understands.
#[test]
fn what_was_said_in_the_first_format_is_said_in_all() {
    let first = lines(OLDEST);
    for spec in &FORMATS {
        let is_old = |(name, _): &(String, Vec<u8>)| first.iter().any(|(old, _)| old == name);
        for ((name, bytes), (_, first)) in lines(spec.format).into_iter().filter(is_old).zip(&first) {
            assert!(bytes[1..].starts_with(&first[1..]), "{name} of format {}", spec.format);
        }
    }
}

fn again<M: Message + serde::de::DeserializeOwned>(bytes: &[u8], format: Format) {
    let message: M = decode(bytes, NEWEST).unwrap();
    assert_eq!(encode(&message, format), bytes);
}

#[test]
fn all_of_them_are_read() {
    for spec in &FORMATS {
        for request in requests(spec.format) {
            let bytes = encode_request(envelope(spec.format), request.clone());
            let (read, _): Request = decode_request(&bytes, 1 << 20).unwrap();
            let first = matches!(request, PeerRequest::Identify | PeerRequest::Vouch | PeerRequest::Found(_));
            let format = if first { OLDEST } else { spec.format };
            assert_eq!(read, Envelope { format, ..envelope(spec.format) });
        }
        for answer in answers(spec.format) {
            again::<Answer>(&encode(&answer, spec.format), spec.format);
        }
    }
    let told = decode::<Answer>(&encode(&Answer::Ok(PeerReply::Identify(identification(NEWEST))), OLDEST), OLDEST);
    assert!(matches!(told, Ok(Ok(PeerReply::Identify(who))) if who == identification(NEWEST)));
}

/// What an older node does not know it does not look at, or refuses in words.
#[test]
fn what_comes_from_a_newer_node_is_skipped_or_refused() {
    let plain = envelope(OLDEST);
    let good = encode_request(plain.clone(), PeerRequest::Status);
    let later = [good.as_slice(), &postcard::to_stdvec(&speaks(NEWEST)).unwrap(), b"more of a later time"].concat();
    let (read, request) = decode_request(&later, 1 << 20).unwrap();
    assert_eq!((read.speaks, read.format), (speaks(NEWEST), OLDEST));
    assert!(matches!(request, PeerRequest::Status));

    let unknown = postcard::to_stdvec(&plain).unwrap();
    for tag in requests(NEWEST).len()..=300 {
        let tag = postcard::to_stdvec(&u32::try_from(tag).unwrap()).unwrap();
        let bytes = [&[OLDEST.wire()], unknown.as_slice(), &tag, &[0; 40]].concat();
        assert!(decode_request(&bytes, 1 << 20).unwrap_err().contains("not a message"));
        for outer in [0, 1] {
            let bytes = [&[OLDEST.wire(), outer], tag.as_slice(), &[0; 40]].concat();
            assert!(decode::<Answer>(&bytes, NEWEST).is_err());
        }
    }
    // A command of a later time, in an append.
    let entry = encode(&(plain.clone(), append()), OLDEST);
    let tick = postcard::to_stdvec(&Command::from(Action::Tick { most: 7 })).unwrap();
    let at = entry.windows(tick.len()).position(|bytes| bytes == tick).unwrap();
    for tag in NEWEST.spec().unwrap().actions..=127 {
        let mut bytes = entry.clone();
        bytes[at + tick.len() - 2] = u8::try_from(tag).unwrap();
        assert!(decode::<AppendMessage>(&bytes, NEWEST).unwrap_err().contains("not a message"));
    }
    let versions: Vec<u8> = FORMATS.iter().map(|spec| spec.wire).collect();
    for version in (0..=255).filter(|version| !versions.contains(version)) {
        let bytes = [&[version], &good[1..]].concat();
        let why = decode_request(&bytes, 1 << 20).unwrap_err();
        assert_eq!(why, format!("version {version} of the protocol; this node speaks 4 and 5"));
    }
    let why = decode::<Request>(&encode_request(envelope(NEWEST), PeerRequest::Status), OLDEST).unwrap_err();
    assert_eq!(why, "version 5 of the protocol; this node speaks 4", "as 0.1.0 says it");
    let control = Speaks { version: "1\n".into(), ..speaks(NEWEST) };
    assert!(decode_request(&encode_request(Envelope { speaks: control, ..plain }, PeerRequest::Status), 9).is_err());
}
