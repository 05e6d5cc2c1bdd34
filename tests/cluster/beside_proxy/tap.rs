//! A proxy on the way to each node's Raft port that reads what passes: it notes a message before it passes it on, so what
//! it saw lies between what its sender and its receiver do. It reads HTTP and postcard by itself, and shares no more with
//! the product than the types of messages.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use hraftd::node::rpc::{Envelope, PeerReply, PeerRequest, Refusal, StampedOutcome};
use hraftd::raft_types::TypeConfig;
use hraftd::raft_types::alias::{LogId, Vote};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use serde::de::DeserializeOwned;

/// What is between two nodes.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// For a vote, or with `pre` the question whether there would be one.
    Asks { pre: bool, term: u64, last: Option<LogId> },
    /// The answer to that, and the question.
    Answers { pre: bool, term: u64, last: Option<LogId>, granted: bool, voter: Vote, voters_last: Option<LogId> },
    /// Entries from a leader: how many, and the last index; none in a heartbeat.
    Appends { term: u64, count: u64, last: u64 },
    /// The member has all up to this index.
    Has { index: u64 },
    /// A snapshot is on its way.
    Snapshot,
}

/// A message that passed.
#[derive(Debug, Clone)]
pub struct Seen {
    pub at: SystemTime,
    pub from: String,
    pub to: String,
    pub what: What,
}

/// What passes to one node, and back from it.
#[derive(Debug, Default)]
struct Way {
    /// Nothing goes to the node.
    held: AtomicBool,
    /// What it answers comes so much later.
    late_ms: AtomicU64,
}

#[derive(Debug, Default)]
pub struct Tap {
    seen: Arc<Mutex<Vec<Seen>>>,
    ways: Vec<Arc<Way>>,
}

impl Tap {
    /// Listens on a port of loopback for the node that comes next, whose Raft port is at `to`.
    pub fn add(&mut self, port: u16, to: String) {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (seen, way) = (self.seen.clone(), Arc::new(Way::default()));
        self.ways.push(way.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                // Where nobody listens, ours is closed, too.
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&to)) else { continue };
                connection(client, server, &seen, &way);
            }
        });
    }

    /// From now on nothing goes to a node, or all that was held and what follows.
    pub fn hold(&self, number: usize, held: bool) {
        self.ways[number].held.store(held, Ordering::SeqCst);
    }

    /// From now on answers of a node are late.
    pub fn delay(&self, number: usize, by: Duration) {
        self.ways[number].late_ms.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// All that passed so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// What was asked on a connection and is not answered yet.
enum Asked {
    Vote(Envelope, What),
    Append(Envelope, Option<LogId>),
    Other,
}

/// What both directions of a connection know.
#[derive(Default)]
struct Shared {
    asked: Mutex<VecDeque<Asked>>,
    /// It is a stream of appends.
    upgraded: AtomicBool,
}

fn connection(client: TcpStream, server: TcpStream, seen: &Arc<Mutex<Vec<Seen>>>, way: &Arc<Way>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let shared = Arc::<Shared>::default();
    let pairs = [(client.try_clone().unwrap(), server.try_clone().unwrap(), true), (server, client, false)];
    for (mut from, mut to, is_forth) in pairs {
        let (seen, way, shared) = (seen.clone(), way.clone(), shared.clone());
        let (pass, passes) = mpsc::channel::<(SystemTime, Vec<u8>)>();
        // Reading goes on while what was read is held.
        std::thread::spawn(move || {
            let (mut pieces, mut buffer) = (Pieces::default(), vec![0; 64 << 10]);
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                let at = SystemTime::now();
                pieces.0.extend_from_slice(&buffer[..n]);
                while let Some(piece) = pieces.next(shared.upgraded.load(Ordering::SeqCst)) {
                    let noted = if is_forth { forth(&piece, &shared) } else { back(&piece, &shared) };
                    if let Some((from, to, what)) = noted {
                        seen.lock().unwrap().push(Seen { at, from, to, what });
                    }
                }
                if pass.send((at, buffer[..n].to_vec())).is_err() {
                    break;
                }
            }
        });
        std::thread::spawn(move || {
            for (came, bytes) in passes {
                if is_forth {
                    while way.held.load(Ordering::SeqCst) {
                        std::thread::park_timeout(Duration::from_millis(5));
                    }
                } else {
                    let due = came + Duration::from_millis(way.late_ms.load(Ordering::SeqCst));
                    while let Ok(left) = due.duration_since(SystemTime::now()) {
                        std::thread::park_timeout(left);
                    }
                }
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

/// The bytes of one direction.
#[derive(Default)]
struct Pieces(Vec<u8>);

enum Piece {
    Http(String, Vec<u8>),
    Frame(Vec<u8>),
}

impl Pieces {
    /// The next whole message.
    fn next(&mut self, upgraded: bool) -> Option<Piece> {
        if upgraded {
            let length = u32::from_le_bytes(self.0.get(..4)?.try_into().unwrap()) as usize;
            let frame = self.0.get(4..4 + length)?.to_vec();
            self.0.drain(..4 + length);
            return Some(Piece::Frame(frame));
        }
        let body_at = self.0.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.0[..body_at]).to_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let (body, end) = if header("transfer-encoding") == Some("chunked") {
            self.chunks(body_at)?
        } else {
            let end = body_at + header("content-length").map_or(0, |length| length.trim().parse().unwrap());
            (self.0.get(body_at..end)?.to_vec(), end)
        };
        self.0.drain(..end);
        Some(Piece::Http(head, body))
    }

    /// The body in chunks that begins there, and where it ends.
    fn chunks(&self, mut at: usize) -> Option<(Vec<u8>, usize)> {
        let mut body = Vec::new();
        loop {
            let line = self.0[at..].windows(2).position(|window| window == b"\r\n")? + at;
            let size = usize::from_str_radix(std::str::from_utf8(&self.0[at..line]).unwrap().trim(), 16).unwrap();
            body.extend_from_slice(self.0.get(line + 2..line + 2 + size)?);
            at = line + 2 + size + 2;
            if self.0.len() < at {
                return None;
            }
            if size == 0 {
                return Some((body, at));
            }
        }
    }
}

/// A message, which stands behind a byte with its version. What stands behind it in turn is not looked at.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> T {
    let (_version, body) = bytes.split_first().unwrap();
    postcard::take_from_bytes(body).unwrap_or_else(|error| panic!("{error}: {body:02x?}")).0
}

type Noted = Option<(String, String, What)>;

fn appends(envelope: Envelope, rpc: &AppendEntriesRequest<TypeConfig>) -> (Asked, Noted) {
    let last = rpc.entries.last().map_or(rpc.prev_log_id, |entry| Some(entry.log_id));
    let what = What::Appends {
        term: rpc.vote.leader_id.term,
        count: rpc.entries.len() as u64,
        last: last.map_or(0, |last| last.index),
    };
    let noted = (envelope.from.to_string(), envelope.to.to_string(), what);
    (Asked::Append(envelope, last), Some(noted))
}

/// What goes to the node.
fn forth(piece: &Piece, shared: &Shared) -> Noted {
    let (asked, noted) = match piece {
        Piece::Frame(frame) => {
            let (envelope, rpc): (Envelope, AppendEntriesRequest<TypeConfig>) = read(frame);
            appends(envelope, &rpc)
        }
        Piece::Http(head, body) if head.starts_with("post /raft/v1/call ") => {
            let (envelope, request): (Envelope, PeerRequest) = read(body);
            let pre = matches!(request, PeerRequest::PreVote(_));
            match request {
                PeerRequest::Append(rpc) => appends(envelope, &rpc),
                PeerRequest::Vote(rpc) | PeerRequest::PreVote(rpc) => {
                    let what = What::Asks { pre, term: rpc.vote.leader_id.term, last: rpc.last_log_id };
                    let noted = (envelope.from.to_string(), envelope.to.to_string(), what.clone());
                    (Asked::Vote(envelope, what), Some(noted))
                }
                _ => (Asked::Other, None),
            }
        }
        Piece::Http(head, _) if head.starts_with("post /raft/v1/snapshot ") => {
            (Asked::Other, Some((String::new(), String::new(), What::Snapshot)))
        }
        Piece::Http(..) => (Asked::Other, None),
    };
    shared.asked.lock().unwrap().push_back(asked);
    noted
}

/// What comes back from it.
fn back(piece: &Piece, shared: &Shared) -> Noted {
    let asked = shared.asked.lock().unwrap().pop_front().unwrap();
    let has = |envelope: Envelope, last: Option<LogId>| {
        let what = What::Has { index: last?.index };
        Some((envelope.to.to_string(), envelope.from.to_string(), what))
    };
    match (piece, asked) {
        (Piece::Frame(frame), Asked::Append(envelope, _)) => {
            let outcome: Result<StampedOutcome, Refusal> = read(frame);
            has(envelope, outcome.ok()?.0.ok()?)
        }
        (Piece::Http(head, _), _) if head.starts_with("http/1.1 101 ") => {
            shared.upgraded.store(true, Ordering::SeqCst);
            None
        }
        (Piece::Http(head, body), asked) if head.starts_with("http/1.1 200 ") => {
            let answer: Result<PeerReply, Refusal> = match asked {
                Asked::Other => return None,
                _ => read(body),
            };
            match (asked, answer.ok()?) {
                (Asked::Vote(envelope, What::Asks { pre, term, last }), PeerReply::Vote(answer)) => {
                    let what = What::Answers {
                        pre,
                        term,
                        last,
                        granted: answer.vote_granted,
                        voter: answer.vote,
                        voters_last: answer.last_log_id,
                    };
                    Some((envelope.to.to_string(), envelope.from.to_string(), what))
                }
                (Asked::Append(envelope, last), PeerReply::Append(AppendEntriesResponse::Success, _)) => {
                    has(envelope, last)
                }
                (Asked::Append(envelope, _), PeerReply::Append(AppendEntriesResponse::PartialSuccess(upto), _)) => {
                    has(envelope, upto)
                }
                _ => None,
            }
        }
        _ => None,
    }
}
