//! What a broken exchange means: only a request that cannot have been received may be sent again.
//!
//! A peer fails at each point of an exchange, for each kind of request. It counts what it was sent: nothing may come twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::HttpPeers;
use crate::formats::OLDEST;
use crate::node::NodeIdentity;
use crate::node::rpc::{PeerError, PeerReply, PeerRequest, Peers, Refusal, Target};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::Role;
use crate::storage::disk::MemDisk;
use crate::storage::{ClusterHandle, Identity, IdentityStore};

/// Where the peer fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    /// Nobody listens.
    BeforeTheConnection,
    BeforeItReads,
    InTheHead,
    InTheBody,
    AfterTheRequest,
    InTheHeadOfTheAnswer,
    InTheBodyOfTheAnswer,
    /// It has read all of it, and says nothing.
    Never,
    /// It speaks another protocol.
    WithNoHttp,
    WithStatus(u16),
    /// The status is good, and the body is not.
    WithAnUnreadableBody,
}

const POINTS: [Fails; 14] = [
    Fails::BeforeTheConnection,
    Fails::BeforeItReads,
    Fails::InTheHead,
    Fails::InTheBody,
    Fails::AfterTheRequest,
    Fails::InTheHeadOfTheAnswer,
    Fails::InTheBodyOfTheAnswer,
    Fails::Never,
    Fails::WithNoHttp,
    Fails::WithStatus(503),
    Fails::WithStatus(404),
    Fails::WithStatus(500),
    Fails::WithStatus(302),
    Fails::WithAnUnreadableBody,
];

/// What the sender may take it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    NotSent,
    MayBeDone,
    Refused,
}

fn means(error: &PeerError) -> Means {
    match error {
        PeerError::Unreachable(_) => Means::NotSent,
        PeerError::Lost(_) => Means::MayBeDone,
        PeerError::Refused(_) => Means::Refused,
    }
}

fn expected(point: Fails) -> Means {
    match point {
        Fails::BeforeTheConnection => Means::NotSent,
        // As a node that loads, or has too much to do, says before it reads the request.
        Fails::WithStatus(503) => Means::NotSent,
        // Not a Raft port of hraftd.
        Fails::WithStatus(_) => Means::Refused,
        // Of the first of these one could know that nothing was done; the sender cannot tell them apart.
        Fails::BeforeItReads
        | Fails::InTheHead
        | Fails::InTheBody
        | Fails::AfterTheRequest
        | Fails::InTheHeadOfTheAnswer
        | Fails::InTheBodyOfTheAnswer
        | Fails::Never
        | Fails::WithNoHttp
        | Fails::WithAnUnreadableBody => Means::MayBeDone,
    }
}

/// A peer that fails, and how many requests reached it.
struct Peer {
    addr: HostPort,
    requests: Arc<AtomicUsize>,
}

impl Peer {
    /// Answers `before` requests of a connection with 404 first.
    async fn start(point: Fails, before: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = requests.clone();
        if point != Fails::BeforeTheConnection {
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(fail(stream, point, before, seen.clone()));
                }
            });
        }
        Self { addr, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn target(&self) -> Target {
        let id = PublicId { haddr: self.addr.clone(), raddr: self.addr.clone() };
        Target { raft_id: Some(1), id }
    }
}

/// Reads a request: up to where it is to fail, else all of it. Whether there was one.
async fn read(stream: &mut TcpStream, point: Fails) -> bool {
    let mut seen = Vec::new();
    loop {
        let head = seen.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        match (point, head) {
            (Fails::InTheHead, _) if seen.len() > 10 => return true,
            (Fails::InTheBody, Some(head)) if seen.len() > head => return true,
            (_, Some(head)) => {
                let text = String::from_utf8_lossy(&seen[..head]).to_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                if seen.len() >= head + length.map_or(0, |length| length.trim().parse().unwrap()) {
                    return true;
                }
            }
            _ => {}
        }
        // One byte at a time: it fails where it is told to, however the request came.
        let mut byte = [0];
        if !matches!(stream.read(&mut byte).await, Ok(1)) {
            return false;
        }
        seen.push(byte[0]);
    }
}

async fn fail(mut stream: TcpStream, point: Fails, before: usize, requests: Arc<AtomicUsize>) {
    for _ in 0..before {
        if !read(&mut stream, Fails::Never).await {
            return;
        }
        requests.fetch_add(1, Ordering::SeqCst);
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
    }
    if point == Fails::BeforeItReads {
        requests.fetch_add(1, Ordering::SeqCst);
        return;
    }
    if !read(&mut stream, point).await {
        return;
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let answer = match point {
        Fails::InTheHeadOfTheAnswer => "HTTP/1.1 200 OK\r\nContent-Le".to_owned(),
        Fails::InTheBodyOfTheAnswer => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome of it".to_owned(),
        Fails::WithNoHttp => "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
        Fails::WithStatus(status) => format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n"),
        Fails::WithAnUnreadableBody => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\u{1}{}".to_owned(),
        Fails::Never => return std::future::pending().await,
        _ => return,
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn peers() -> HttpPeers {
    let disk: Arc<dyn crate::storage::disk::Disk> = Arc::new(MemDisk::new());
    let id: PublicId = "127.0.0.1:1,127.0.0.1:2".parse().unwrap();
    let identity = Identity::new(id, 7);
    let me = NodeIdentity::new(
        IdentityStore::new(disk),
        identity,
        ClusterHandle::new(None),
        Role::Voter,
        "a disk in memory".to_owned(),
        1,
    );
    HttpPeers::new(Arc::new(me), None)
}

/// Long for this machine; only a peer that never answers lets it pass.
fn patience(point: Fails) -> Duration {
    if point == Fails::Never { Duration::from_millis(200) } else { Duration::from_secs(10) }
}

/// One that changes something, one that only the node's own tasks send, and one that clients wait for.
fn requests() -> [PeerRequest; 3] {
    [
        PeerRequest::Forward { commands: Vec::new(), timeout_ms: 1_000 },
        PeerRequest::LeaderWatch,
        PeerRequest::Remove { wanted: ":1".to_owned(), force: false, timeout_ms: 1_000 },
    ]
}

#[tokio::test]
async fn only_what_was_not_received_counts_as_not_sent() {
    for point in POINTS {
        for request in requests() {
            let (peer, peers) = (Peer::start(point, 0).await, peers());
            let what = format!("{request:?}, a peer that fails {point:?}");
            let answer = peers.call(&peer.target(), request, patience(point)).await;
            let error = answer.expect_err(&what);
            assert_eq!(means(&error), expected(point), "{what}: {error}");
            assert_eq!(peer.requests(), usize::from(point != Fails::BeforeTheConnection), "{what}");
        }
    }
}

/// On a connection that was used before, which is where a client is tempted to send again.
#[tokio::test]
async fn nor_on_a_connection_that_was_kept() {
    for point in POINTS.into_iter().filter(|point| *point != Fails::BeforeTheConnection) {
        // It closes a kept connection without having read: that may be seen before the request is sent, and then
        // another connection is made. So `BeforeItReads` is another case.
        if point == Fails::BeforeItReads {
            continue;
        }
        for request in requests() {
            let (peer, peers) = (Peer::start(point, 1).await, peers());
            let what = format!("{request:?}, a peer that fails {point:?} at the second request");
            let first = peers.call(&peer.target(), request.clone(), patience(Fails::AfterTheRequest)).await;
            assert!(matches!(first, Err(PeerError::Refused(Refusal::Unreadable(_)))), "{what}: {first:?}");
            let error = peers.call(&peer.target(), request, patience(point)).await.expect_err(&what);
            assert_eq!(means(&error), expected(point), "{what}: {error}");
            assert_eq!(peer.requests(), 2, "{what}");
        }
    }
}

/// The same of what is asked at a client address.
#[tokio::test]
async fn joins_and_probes_are_not_sent_twice_either() {
    for point in POINTS {
        let (peer, peers) = (Peer::start(point, 0).await, peers());
        let id: PublicId = "127.0.0.1:1,127.0.0.1:2".parse().unwrap();
        let joined = peers.ask_to_join(&peer.addr, &id, 7, patience(point)).await;
        match (point, joined) {
            // A status that is no success is a refusal, with whatever it says.
            (Fails::WithStatus(_), joined) => assert!(matches!(joined, Ok(Err(_))), "{point:?}: {joined:?}"),
            (Fails::WithAnUnreadableBody, joined) => assert!(matches!(joined, Ok(Ok(()))), "{joined:?}"),
            // A join is safe to repeat, but whether it was sent is told all the same. Its success is in the head.
            (Fails::InTheBodyOfTheAnswer, joined) => assert!(matches!(joined, Ok(Ok(()))), "{joined:?}"),
            (_, joined) => assert_eq!(means(&joined.expect_err("it failed")), expected(point), "{point:?}"),
        }
        assert_eq!(peer.requests(), usize::from(point != Fails::BeforeTheConnection), "a join, {point:?}");

        let peer = Peer::start(point, 0).await;
        let probed = peers.probe(&peer.addr, patience(point)).await;
        assert!(probed.is_err(), "{point:?}: {probed:?}");
        assert_eq!(peer.requests(), usize::from(point != Fails::BeforeTheConnection), "a probe, {point:?}");
    }
}

/// A stream of appends is opened, or it is not.
#[tokio::test]
async fn a_stream_that_is_not_opened_is_an_error() {
    for point in POINTS {
        let (peer, peers) = (Peer::start(point, 0).await, peers());
        let opened = peers.open_appends(&peer.target(), patience(point)).await;
        assert!(!matches!(opened, Ok(Some(_))), "{point:?}");
        if point == Fails::BeforeTheConnection {
            assert!(matches!(opened, Err(PeerError::Unreachable(_))));
        }
        assert_eq!(peer.requests(), usize::from(point != Fails::BeforeTheConnection), "{point:?}");
    }
}

/// An answer that can be read is the answer: the peer here is a good one.
#[tokio::test]
async fn a_good_answer_is_told() {
    let answer = super::wire::encode(&super::wire::Answer::Ok(PeerReply::LeaderWatch), OLDEST);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
    let peer = Peer { addr, requests: Arc::default() };
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(read(&mut stream, Fails::Never).await);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    });
    let told = peers().call(&peer.target(), PeerRequest::LeaderWatch, Duration::from_secs(10)).await;
    assert!(matches!(told, Ok(PeerReply::LeaderWatch)), "{told:?}");
}
