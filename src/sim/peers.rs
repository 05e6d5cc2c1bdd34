//! The way to other nodes, over the simulated network.

use std::sync::Arc;
use std::time::Duration;

use openraft::raft::AppendEntriesRequest;
use tokio::io::{DuplexStream, duplex};
use tokio::time::{Instant, timeout};

use super::connection::{self, BUFFER};
use super::host;
use super::net::{Net, NoAnswer, Server};
use super::process::RAFT_PORTS;
use super::world::{self, Word};
use crate::command::Principal;
use crate::formats::{NEWEST, OLDEST};
use crate::network::{self, wire};
use crate::node::rpc::*;
use crate::node::{Gate, NodeIdentity};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::alias::{SnapshotMeta, Vote};
use crate::raft_types::{RaftId, TypeConfig};
use crate::storage::SnapshotFile;

/// As of the transport over HTTP.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How many bytes of a snapshot travel at a time.
const CHUNK: usize = 1_000;

#[derive(Debug)]
pub struct SimPeers {
    pub net: Net,
    pub me: Arc<NodeIdentity>,
    /// The host whose way it is, and the number of its process.
    pub host: (u16, u64),
    /// True where others take streams of appends; otherwise they are of a version that does not.
    pub streams: bool,
}

/// A stream of appends, seen by the invariants.
struct Seen {
    stream: Box<dyn AppendStream>,
    me: Arc<NodeIdentity>,
    process: u64,
}

impl AppendStream for Seen {
    fn send(&mut self, request: AppendEntriesRequest<TypeConfig>) -> BoxFuture<'_, Result<(), PeerError>> {
        leads(&self.me, self.process, &request);
        self.stream.send(request)
    }

    fn next(&mut self) -> BoxFuture<'_, Result<StampedOutcome, PeerError>> {
        self.stream.next()
    }
}

/// Notes that the sender of an append leads.
fn leads(me: &NodeIdentity, process: u64, request: &AppendEntriesRequest<TypeConfig>) {
    let (term, leader) = (request.vote.leader_id.term, request.vote.leader_id.voted_for);
    world::check(|seen| seen.leaders.leads(me.cluster(), term, (process, leader)));
}

/// The host that has this Raft address.
fn host_at(id: &PublicId) -> u16 {
    id.raddr.port - RAFT_PORTS
}

/// The promise in an answer that must be on the disk of the node that gives it.
fn word(answer: &wire::Answer) -> Option<Word> {
    match answer {
        Ok(PeerReply::Vote(vote)) if vote.vote_granted => Some(Word::Vote),
        Ok(PeerReply::Append(..)) => Some(Word::Append),
        _ => None,
    }
}

/// True for requests that may arrive twice and do no harm: all but forwarded writes.
fn may_repeat(request: &PeerRequest) -> bool {
    !matches!(request, PeerRequest::Forward { .. })
}

/// As the Raft port answers what it cannot read.
fn unreadable(why: String) -> Vec<u8> {
    wire::encode(&wire::Answer::Err(Refusal::Unreadable(why)), OLDEST)
}

/// As the Raft port answers while the node is not there yet: status 503.
fn not_there() -> PeerError {
    PeerError::Unreachable("HTTP status 503".to_owned())
}

fn no_answer(why: NoAnswer) -> PeerError {
    match why {
        NoAnswer::Refused => PeerError::Unreachable("connection refused".to_owned()),
        NoAnswer::Broken => PeerError::Lost("the connection broke".to_owned()),
    }
}

/// Waits for an answer; a connection to a silent host is given up sooner.
async fn within<T>(
    time: Duration,
    is_silent: bool,
    done: impl Future<Output = Result<T, NoAnswer>>,
) -> Result<T, PeerError> {
    if is_silent && time > CONNECT_TIMEOUT {
        tokio::time::sleep(CONNECT_TIMEOUT).await;
        return Err(PeerError::Unreachable("no connection in time".to_owned()));
    }
    match timeout(time, done).await {
        Ok(done) => done.map_err(no_answer),
        Err(_) => Err(PeerError::Lost("it did not answer in time".to_owned())),
    }
}

impl SimPeers {
    fn name(&self) -> u16 {
        self.host.0
    }
}

impl Peers for SimPeers {
    fn call(
        &self,
        target: &Target,
        request: PeerRequest,
        time: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        let (from, to) = (self.name(), host_at(&target.id));
        if let PeerRequest::Append(rpc) = &request {
            leads(&self.me, self.host.1, rpc);
        }
        let repeats = may_repeat(&request);
        let bytes = wire::encode_request(self.me.envelope(target), request);
        world::note("call", &[from.into(), to.into(), bytes.len() as u64]);
        let net = self.net.clone();
        let is_silent = net.is_silent(from, to);
        Box::pin(async move {
            let serve = move |server: Server| {
                let bytes = bytes.clone();
                async move {
                    let Some(node) = server.node() else {
                        let (envelope, request): wire::Request = wire::decode(&bytes, NEWEST).unwrap();
                        let reply: wire::Answer = Ok(server.slot.answer_before(&request)?);
                        return Some(wire::encode(&reply, envelope.format));
                    };
                    let newest = node.speaks().newest;
                    let (envelope, request): wire::Request = match wire::decode(&bytes, newest) {
                        Ok(message) => message,
                        Err(why) if newest < NEWEST => return Some(unreadable(why)),
                        Err(why) => panic!("node {to} cannot read a message of {from}: {why}"),
                    };
                    let format = envelope.format;
                    match network::check_request(&node, &envelope, &request) {
                        Ok(()) => {}
                        Err(why) if newest < NEWEST => return Some(unreadable(why)),
                        Err(why) => world::fail(format!("validation: node {to} refuses a message of {from}: {why}")),
                    }
                    let binds = !matches!(request, PeerRequest::PreVote(_));
                    let answer: wire::Answer = node.answer(&envelope, request).await;
                    if let Some(word) = word(&answer).filter(|_| binds) {
                        world::said(&server.host, word);
                    }
                    Some(wire::encode(&answer, format))
                }
            };
            let bytes = within(time, is_silent, net.exchange(from, to, repeats, serve)).await?;
            let bytes = bytes.ok_or_else(not_there)?;
            world::note("answer", &[to.into(), from.into(), bytes.len() as u64]);
            let answer: wire::Answer = wire::decode(&bytes, NEWEST).unwrap();
            answer.map_err(PeerError::Refused)
        })
    }

    fn open_appends(
        &self,
        target: &Target,
        time: Duration,
    ) -> BoxFuture<'static, Result<Option<Box<dyn AppendStream>>, PeerError>> {
        if !self.streams {
            return Box::pin(std::future::ready(Ok(None)));
        }
        let (from, to, target) = (self.name(), host_at(&target.id), target.clone());
        let (net, me, process) = (self.net.clone(), self.me.clone(), self.host.1);
        let is_silent = net.is_silent(from, to);
        world::note("stream", &[from.into(), to.into()]);
        Box::pin(async move {
            let serve = |server: Server| async move {
                let node = server.node()?;
                let (socket, other_end): (DuplexStream, _) = duplex(BUFFER);
                host::spawn(async move { network::serve_appends(node, socket, &Arc::default(), None).await });
                Some((server.host, other_end))
            };
            let server = within(time, is_silent, net.exchange(from, to, false, serve)).await?;
            let server = server.ok_or_else(not_there)?;
            let (socket, other_end) = duplex(BUFFER);
            // Of the network: it outlives who speaks.
            tokio::spawn(connection::join(net, (from, other_end), server));
            let stream = network::leader_side(me.clone(), target, socket);
            Ok(Some(Box::new(Seen { stream, me, process }) as Box<dyn AppendStream>))
        })
    }

    fn send_snapshot(
        &self,
        target: &Target,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotFile,
        idle_timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        let (from, to) = (self.name(), host_at(&target.id));
        let envelope = self.me.envelope(target);
        let net = self.net.clone();
        world::note("snapshot", &[from.into(), to.into()]);
        let is_silent = net.is_silent(from, to);
        Box::pin(async move {
            let serve = move |server: Server| {
                let (envelope, meta, snapshot) = (envelope.clone(), meta.clone(), snapshot.clone());
                async move {
                    let node = server.node().ok_or_else(not_there)?;
                    if let Err(why) = network::check_snapshot(&node, &envelope, &vote, &meta) {
                        world::fail(format!("validation: node {to} refuses a snapshot of {from}: {why}"));
                    }
                    let newest = node.speaks().newest;
                    if envelope.format > newest {
                        return Err(PeerError::Refused(Refusal::Unreadable(
                            "a version that it does not know".to_owned(),
                        )));
                    }
                    if snapshot.format() > newest {
                        world::fail(format!("a snapshot of format {} is sent to node {to}", snapshot.format()));
                    }
                    let mut incoming = node.receive_snapshot(&envelope).await.map_err(PeerError::Refused)?;
                    let mut offset = 0;
                    let mut chunk = [0; CHUNK];
                    let unreadable =
                        |error: &dyn std::fmt::Display| PeerError::Refused(Refusal::Unreadable(error.to_string()));
                    loop {
                        let n = snapshot.file().read_at(&mut chunk, offset).map_err(|e| unreadable(&e))?;
                        if n == 0 {
                            break;
                        }
                        incoming.write(&chunk[..n]).map_err(|e| unreadable(&e))?;
                        offset += n as u64;
                        tokio::time::sleep(world::ms_between((0, 2))).await;
                    }
                    let file = incoming.finish(Some(&meta)).map_err(|e| unreadable(&e))?;
                    node.install_snapshot(&envelope, vote, meta, file).await.map_err(PeerError::Refused)
                }
            };
            within(idle_timeout, is_silent, net.exchange(from, to, true, serve)).await?
        })
    }

    fn ask_to_join(
        &self,
        haddr: &HostPort,
        id: &PublicId,
        raft_id: RaftId,
        time: Duration,
    ) -> BoxFuture<'static, Result<Result<(), JoinRefusal>, PeerError>> {
        let (from, id, net) = (self.name(), id.clone(), self.net.clone());
        let to = net.resolve(from, haddr.port);
        let is_silent = net.is_silent(from, to);
        Box::pin(async move {
            let serve = move |server: Server| {
                let id = id.clone();
                async move {
                    let deadline = Instant::now() + Duration::from_secs(10);
                    // As the client port has it: who has the secret is a node.
                    let by = (!matches!(server.slot.gate(), Gate::Open)).then_some(Principal::Node);
                    let joined = async {
                        server.slot.wait(deadline).await?.join_by(by.as_ref(), id, Some(raft_id), deadline).await
                    };
                    joined.await.map_err(JoinRefusal::from)
                }
            };
            within(time, is_silent, net.exchange(from, to, true, serve)).await
        })
    }

    fn probe(&self, haddr: &HostPort, time: Duration) -> BoxFuture<'static, Result<Probe, PeerError>> {
        let (from, net) = (self.name(), self.net.clone());
        let to = net.resolve(from, haddr.port);
        let is_silent = net.is_silent(from, to);
        Box::pin(async move {
            let serve = |server: Server| async move {
                let members: Vec<_> = server.slot.stats().latest_configuration.into_iter().map(|s| s.id).collect();
                Probe { id: server.slot.id().clone(), has_cluster: !members.is_empty(), members }
            };
            within(time, is_silent, net.exchange(from, to, true, serve)).await
        })
    }
    fn resolve(&self, addr: &HostPort) -> BoxFuture<'static, Vec<HostPort>> {
        let places =
            self.net.places(addr.port).into_iter().map(|port| HostPort::new(addr.host.clone(), port)).collect();
        Box::pin(std::future::ready(places))
    }

    fn ids_at(&self, haddr: &HostPort, time: Duration) -> BoxFuture<'static, Vec<PublicId>> {
        let (from, net) = (self.name(), self.net.clone());
        let asked = net.places(haddr.port).into_iter().map(move |to| {
            let (net, is_silent) = (net.clone(), net.is_silent(from, to));
            async move {
                let serve = |server: Server| async move { server.slot.id().clone() };
                within(time, is_silent, net.exchange(from, to, true, serve)).await.ok()
            }
        });
        Box::pin(async move { futures_util::future::join_all(asked).await.into_iter().flatten().collect() })
    }
}
