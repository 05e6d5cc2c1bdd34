//! The client side of the transport, with two pools of connections.
//!
//! A connection is driven by the threads that opened it. Messages that keep a cluster together must not wait for threads
//! that serve clients. They have a pool of their own, used by the node's own tasks alone.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use futures_util::future::join_all;
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::link::{GONE_AFTER, Link, LinkError};
use super::origin::RAFT_CONTENT_TYPE;
use super::reply::{self, MAX_SMALL_REPLY_BYTES, read_body, read_reply};
use super::resolver::Resolver;
use super::wire::{self, CALL_PATH, SNAPSHOT_PATH};
use super::{appends, snapshot, validate};
use crate::node::NodeIdentity;
use crate::node::rpc::{
    AppendStream, BoxFuture, JoinRefusal, MAX_WIDTH, PeerError, PeerReply, PeerRequest, Peers, Probe, Target,
};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::RaftId;
use crate::raft_types::alias::{SnapshotMeta, Vote};
use crate::storage::SnapshotFile;
use crate::task;
use crate::tls::PeerTls;

/// Connections to one address that are kept for the next request, in each pool. It is as many as clients may have under way
/// in one lane: a bound below that would open and close them under load.
const MAX_IDLE: usize = MAX_WIDTH;

/// A receiver of a snapshot, or of appends, that takes nothing for so long is gone. Appends without an answer are given up
/// much earlier.
const STREAM_GONE_AFTER: Duration = Duration::from_secs(10);

/// Names that are looked up at a time.
const MAX_LOOKUPS: usize = 16;

/// What a node asks at a client address.
const NODE_PATH: &str = "/hraftd/raft/node";
const STATS_PATH: &str = "/hraftd/raft/stats";
const JOIN_PATH: &str = "/hraftd/raft/join";

/// The header of a join that has the Raft id.
const RAFT_ID: HeaderName = HeaderName::from_static("x-hraftd-raft-id");

/// The header of an answer that names who gave it.
const SERVED_BY: &str = "X-Hraftd-Served-By";

/// The most bytes of `GET /hraftd/raft/stats`, which lists all members: thousands of them.
const MAX_STATS_BYTES: usize = 1 << 20;

/// So many addresses of one name are asked.
const MAX_ADDRESSES_OF_A_NAME: usize = 64;

/// The way to other nodes over HTTP.
#[derive(Debug)]
pub struct HttpPeers {
    links: ArcSwap<Links>,
    me: Arc<NodeIdentity>,
    tls: Option<Arc<PeerTls>>,
    /// Names that are looked up at a time: each takes a thread for as long as the resolver does.
    lookups: Arc<Semaphore>,
    resolver: Arc<Resolver>,
}

/// Pools of connections, all opened with one certificate.
#[derive(Debug)]
struct Links {
    /// For Raft's messages and all else that the node's own tasks ask.
    own: Link,
    /// For requests made on behalf of a client, by the task that serves it.
    for_clients: Link,
    /// For appends and snapshots: a receiver whose disk is slow may read nothing for a while.
    for_streams: Link,
    /// For client addresses that were listed. It keeps no connection: a balancer would lead to the same node for ever.
    for_strangers: Link,
    /// Of the certificate.
    generation: u64,
}

impl Links {
    fn new(resolver: &Arc<Resolver>, tls: Option<&Arc<PeerTls>>) -> Self {
        // Before the first connection: one that is opened amid a change is opened anew.
        let generation = tls.map_or(0, |tls| tls.generation());
        let link = |idle, gone_after| Link::new(resolver.clone(), tls.cloned(), idle, gone_after);
        Self {
            own: link(MAX_IDLE, GONE_AFTER),
            for_clients: link(MAX_IDLE, GONE_AFTER),
            for_streams: link(1, STREAM_GONE_AFTER),
            for_strangers: link(0, GONE_AFTER),
            generation,
        }
    }
}

impl HttpPeers {
    /// The way for `me`; over TLS, and TLS alone, where there are keys.
    pub fn new(me: Arc<NodeIdentity>, tls: Option<Arc<PeerTls>>) -> Self {
        let resolver = Arc::new(Resolver::default());
        Self {
            links: ArcSwap::from_pointee(Links::new(&resolver, tls.as_ref())),
            me,
            tls,
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            resolver,
        }
    }

    /// The pools. Where this node shows another certificate by now they are new ones: what is under way on the others
    /// goes on, and they close with its end.
    fn links(&self) -> Arc<Links> {
        let links = self.links.load_full();
        let Some(tls) = &self.tls else { return links };
        if let Err(error) = tls.speak_for(self.me.raft_id()) {
            tracing::error!("other nodes are shown a certificate of the Raft id that was: {error}");
        }
        if tls.generation() == links.generation {
            return links;
        }
        let new = Arc::new(Links::new(&self.resolver, self.tls.as_ref()));
        self.links.store(new.clone());
        new
    }

    fn link_for(&self, request: &PeerRequest) -> Link {
        let links = self.links();
        match request {
            PeerRequest::Append(_)
            | PeerRequest::Vote(_)
            | PeerRequest::PreVote(_)
            | PeerRequest::TransferLeader(_)
            | PeerRequest::Forward { .. }
            | PeerRequest::ReadIndex { .. }
            | PeerRequest::LeaderWatch
            | PeerRequest::IsLeaderGone(_)
            | PeerRequest::Forgotten { .. } => links.own.clone(),
            PeerRequest::Read { .. }
            | PeerRequest::ReadBy { .. }
            | PeerRequest::AdminBy { .. }
            | PeerRequest::WeakIndex
            | PeerRequest::Status
            | PeerRequest::Identify
            | PeerRequest::IsMember(_)
            | PeerRequest::Join { .. }
            | PeerRequest::Lead { .. }
            | PeerRequest::Remove { .. }
            | PeerRequest::Found(_)
            | PeerRequest::Vouch
            | PeerRequest::Marks(_)
            | PeerRequest::Events { .. }
            | PeerRequest::Examine
            | PeerRequest::Clock
            | PeerRequest::Acknowledged { .. }
            | PeerRequest::Witness { .. } => links.for_clients.clone(),
        }
    }
}

fn request(method: Method, uri: Uri, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::new(body.into());
    (*request.method_mut(), *request.uri_mut()) = (method, uri);
    request
}

/// A message to a Raft port.
fn message(uri: Uri, body: impl Into<Body>) -> Request<Body> {
    let mut request = request(Method::POST, uri, body);
    request.headers_mut().insert(CONTENT_TYPE, RAFT_CONTENT_TYPE);
    request
}

/// Asks what a path at a client address has.
async fn get(link: &Link, haddr: &HostPort, path: &'static str) -> Result<Response<Incoming>, PeerError> {
    let uri = link.uri(haddr, None, path).map_err(LinkError::into_somebody)?;
    link.send(request(Method::GET, uri, Body::empty())).await.map_err(LinkError::into_somebody)
}

/// An exchange that lasts longer than this is given up.
async fn within<T>(time: Duration, exchange: impl Future<Output = Result<T, PeerError>>) -> Result<T, PeerError> {
    let done = timeout(time, exchange).await;
    done.unwrap_or_else(|_| Err(PeerError::Lost("it did not answer in time".to_owned())))
}

/// Asks each node at these client addresses who it is.
async fn ids_at(link: &Link, places: Vec<HostPort>) -> Vec<PublicId> {
    let asked = places.into_iter().take(MAX_ADDRESSES_OF_A_NAME).map(async |place| {
        let body = read_body(get(link, &place, NODE_PATH).await.ok()?, MAX_SMALL_REPLY_BYTES).await.ok()?;
        let about: serde_json::Value = serde_json::from_slice(&body).ok()?;
        about.get("nodeID")?.as_str()?.parse().ok()
    });
    join_all(asked).await.into_iter().flatten().collect()
}

impl Peers for HttpPeers {
    fn call(
        &self,
        target: &Target,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        let link = self.link_for(&request);
        let max_bytes = reply::max_reply_bytes(&request);
        let term = validate::term_of(&request);
        // Who is there is the question: whoever it is may answer.
        let asks_who = matches!(request, PeerRequest::Identify);
        let uri = link.uri(&target.id.raddr, target.raft_id.filter(|_| !asks_who), CALL_PATH);
        // A node that came back without its disk must hear that a leader knows its address, or it forms a cluster of its
        // own. It has another Raft id, and no connection shows it but one on which none is expected.
        let is_heartbeat = matches!(&request, PeerRequest::Append(rpc) if rpc.entries.is_empty());
        let to_anybody = is_heartbeat.then(|| link.uri(&target.id.raddr, None, CALL_PATH));
        let body = wire::encode_request(self.me.envelope(target), request);
        Box::pin(within(timeout, async move {
            let as_peer_error = if asks_who { LinkError::into_somebody } else { LinkError::into_unreachable };
            let again = to_anybody.map(|uri| (uri, body.clone()));
            let mut sent = link.send(message(uri.map_err(as_peer_error)?, body)).await;
            if let (Err(LinkError::AnotherNode(_)), Some((uri, body))) = (&sent, again) {
                sent = link.send(message(uri.map_err(as_peer_error)?, body)).await;
            }
            let reply = read_reply(sent.map_err(as_peer_error)?, max_bytes).await?;
            let checked = term.map_or(Ok(()), |term| validate::reply(term, &reply));
            checked.map(|()| reply).map_err(PeerError::Lost)
        }))
    }

    fn open_appends(
        &self,
        target: &Target,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Option<Box<dyn AppendStream>>, PeerError>> {
        Box::pin(appends::open(self.links().for_streams.clone(), self.me.clone(), target.clone(), timeout))
    }

    fn send_snapshot(
        &self,
        target: &Target,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotFile,
        idle_timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        let envelope = self.me.envelope(target);
        let format = envelope.format;
        let head = wire::encode(&(envelope, vote, meta), format);
        let link = self.links().for_streams.clone();
        let to = link.uri(&target.id.raddr, target.raft_id, SNAPSHOT_PATH);
        let sent = snapshot::send(link, to, head, snapshot, idle_timeout);
        Box::pin(async move {
            let reply = sent.await?;
            validate::reply(vote.leader_id.term, &reply).map(|()| reply).map_err(PeerError::Lost)
        })
    }

    fn ask_to_join(
        &self,
        haddr: &HostPort,
        id: &PublicId,
        raft_id: RaftId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Result<(), JoinRefusal>, PeerError>> {
        let link = self.links().for_strangers.clone();
        let uri = link.uri(haddr, None, JOIN_PATH);
        let body = serde_json::json!({ "id": id, "addr": id.raddr.to_string() }).to_string();
        Box::pin(within(timeout, async move {
            let mut request = request(Method::POST, uri.map_err(LinkError::into_unreachable)?, body);
            request.headers_mut().insert(RAFT_ID, HeaderValue::from(raft_id));
            let response = link.send(request).await.map_err(LinkError::into_unreachable)?;
            let status = response.status();
            if status.is_success() {
                return Ok(Ok(()));
            }
            let body = read_body(response, MAX_SMALL_REPLY_BYTES).await?;
            let reason = || -> Option<String> {
                let answer: serde_json::Value = serde_json::from_slice(&body).ok()?;
                Some(answer.get("msg")?.as_str()?.to_owned())
            };
            Ok(Err(JoinRefusal {
                msg: reason().unwrap_or_else(|| format!("HTTP status {status}: is it a client port of hraftd?")),
                for_now: status == StatusCode::SERVICE_UNAVAILABLE,
            }))
        }))
    }

    fn resolve(&self, addr: &HostPort) -> BoxFuture<'static, Vec<HostPort>> {
        let (port, places, resolver) = (addr.port, self.lookups.clone(), self.resolver.clone());
        let host = addr.host.clone();
        Box::pin(async move {
            let Ok(place) = places.acquire_owned().await else { return Vec::new() };
            // A lookup cannot be given up: it keeps its place until it ends, whoever waits for it.
            let found = task::spawn(async move {
                let found = resolver.look_up(&host).await;
                drop(place);
                found
            });
            let mut all = Vec::new();
            for one in found.await.into_iter().flatten().flatten() {
                let one = HostPort::new(one.ip().to_canonical().to_string(), port);
                if !all.contains(&one) {
                    all.push(one);
                }
            }
            all
        })
    }

    fn probe(&self, haddr: &HostPort, timeout: Duration) -> BoxFuture<'static, Result<Probe, PeerError>> {
        let (link, haddr) = (self.links().for_strangers.clone(), haddr.clone());
        Box::pin(within(timeout, async move {
            let response = get(&link, &haddr, STATS_PATH).await?;
            let id = response.headers().get(SERVED_BY).and_then(|id| id.to_str().ok()?.parse().ok());
            let body = read_body(response, MAX_STATS_BYTES).await?;
            let id = id.ok_or_else(|| PeerError::Lost("it does not say who it is: is it hraftd?".to_owned()))?;
            let stats: serde_json::Value =
                serde_json::from_slice(&body).map_err(|error| PeerError::Lost(error.to_string()))?;
            let members = stats.get("latest_configuration").and_then(serde_json::Value::as_array);
            let members = members.map_or(&[][..], Vec::as_slice);
            let of_member = |member: &serde_json::Value| member.get("id")?.as_str()?.parse().ok();
            Ok(Probe { id, has_cluster: !members.is_empty(), members: members.iter().filter_map(of_member).collect() })
        }))
    }

    fn ids_at(&self, haddr: &HostPort, timeout: Duration) -> BoxFuture<'static, Vec<PublicId>> {
        let (link, places) = (self.links().for_clients.clone(), self.resolve(haddr));
        Box::pin(async move {
            let asked = async { ids_at(&link, places.await).await };
            self::timeout(timeout, asked).await.unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft_types::Role;
    use crate::storage::disk::MemDisk;
    use crate::storage::{ClusterHandle, Identity, IdentityStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn peers() -> HttpPeers {
        let identity = Identity::new("127.0.0.1:1,127.0.0.1:2".parse().unwrap(), 1);
        let store = IdentityStore::new(Arc::new(MemDisk::default()));
        let me = NodeIdentity::new(store, identity, ClusterHandle::new(None), Role::Voter, "memory".to_owned(), 1);
        HttpPeers::new(Arc::new(me), None)
    }

    /// A server that begins to answer with `head`, and sends `piece` after `piece` without end.
    async fn endless(head: &'static str, piece: Vec<u8>) -> HostPort {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let piece = piece.clone();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = socket.read(&mut request).await;
                    let _ = socket.write_all(head.as_bytes()).await;
                    while socket.write_all(&piece).await.is_ok() {}
                });
            }
        });
        HostPort::new("127.0.0.1", port)
    }

    /// Issue 18, A3: one join that named a server which answers without end took 2 GiB in 2 s.
    #[tokio::test]
    async fn an_answer_without_end_is_given_up_by_its_bytes() {
        let chunk = [b"100000\r\n".to_vec(), vec![2; 1 << 20], b"\r\n".to_vec()].concat();
        let patience = Duration::from_secs(60);
        for status in ["200 OK", "409 Conflict"] {
            let head: &'static str = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n").leak();
            let addr = endless(head, chunk.clone()).await;
            let id = PublicId { haddr: addr.clone(), raddr: addr.clone() };
            let target = Target { raft_id: None, id: id.clone() };
            let peers = peers();
            let mut errors = Vec::new();
            if status == "200 OK" {
                errors.push(peers.call(&target, PeerRequest::Identify, patience).await.map(drop));
                errors.push(peers.open_appends(&target, patience).await.map(drop));
            } else {
                errors.push(peers.ask_to_join(&addr, &id, 1, patience).await.map(drop));
            }
            errors.push(peers.probe(&addr, patience).await.map(drop));
            for error in errors {
                assert!(
                    matches!(&error, Err(PeerError::Lost(why)) if why.contains("more than")),
                    "{status}: {error:?}"
                );
            }
        }
    }

    /// Issue 18, B5: join dialled loopback, which it was not to, under other spellings.
    #[tokio::test]
    async fn another_spelling_of_loopback_is_loopback() {
        for host in ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "::ffff:127.0.0.1", "::1", "localhost"] {
            let found = peers().resolve(&HostPort::new(host, 80)).await;
            assert!(!found.is_empty() && found.iter().all(HostPort::is_loopback), "{host}: {found:?}");
        }
        let found = peers().resolve(&HostPort::new("::ffff:169.254.169.254", 80)).await;
        assert_eq!(found, [HostPort::new("169.254.169.254", 80)], "what is checked is what is dialled");
    }

    #[tokio::test]
    async fn an_announced_length_is_not_believed() {
        let addr = endless("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", vec![2; 1024]).await;
        let target = Target { raft_id: None, id: PublicId { haddr: addr.clone(), raddr: addr } };
        let error = peers().call(&target, PeerRequest::Status, Duration::from_secs(60)).await.unwrap_err();
        assert!(matches!(&error, PeerError::Lost(why) if why.contains("more than 65536 bytes")), "{error:?}");
    }
}
