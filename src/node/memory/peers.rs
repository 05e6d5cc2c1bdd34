//! The way to other nodes of a node that may have lost its memory: it learns that from their answers, and says nothing of
//! Raft from then on.

use std::sync::Arc;
use std::time::Duration;

use openraft::raft::AppendEntriesRequest;

use super::{lose, superseded};
use crate::node::NodeIdentity;
use crate::node::rpc::{
    AppendStream, BoxFuture, JoinRefusal, PeerError, PeerReply, PeerRequest, Peers, Probe, Refusal, StampedOutcome,
    Target,
};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::alias::{SnapshotMeta, Vote};
use crate::raft_types::{RaftId, TypeConfig};
use crate::storage::SnapshotFile;

/// Another way, seen through the memory of this node.
#[derive(Debug)]
pub(in crate::node) struct MemoryPeers {
    way: Arc<dyn Peers>,
    me: Arc<NodeIdentity>,
}

impl MemoryPeers {
    /// The same way for this node.
    pub(in crate::node) fn new(way: Arc<dyn Peers>, me: Arc<NodeIdentity>) -> Self {
        Self { way, me }
    }

    fn abstains<T: Send + 'static>(&self) -> Option<BoxFuture<'static, Result<T, PeerError>>> {
        let why = self.me.lost_why()?;
        Some(Box::pin(std::future::ready(Err(abstention(&why)))))
    }
}

fn abstention(why: &str) -> PeerError {
    PeerError::Unreachable(format!("this node lost its memory and asks nothing: {why}"))
}

/// Passes an answer on. Where it says that a later start of this node is known, this node has lost its memory.
fn heard<T>(me: &Arc<NodeIdentity>, answer: Result<T, PeerError>) -> Result<T, PeerError> {
    if let Err(PeerError::Refused(Refusal::Superseded(seen))) = &answer
        && me.start().is_stale_beside(*seen)
    {
        lose(me, superseded(me.start(), *seen));
    }
    answer
}

impl Peers for MemoryPeers {
    fn call(
        &self,
        target: &Target,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        let binds_nobody = matches!(request, PeerRequest::Identify | PeerRequest::IsMember(_) | PeerRequest::Status);
        if let Some(abstains) = self.abstains().filter(|_| !binds_nobody) {
            return abstains;
        }
        let (me, answer) = (self.me.clone(), self.way.call(target, request, timeout));
        Box::pin(async move { heard(&me, answer.await) })
    }

    fn open_appends(
        &self,
        target: &Target,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Option<Box<dyn AppendStream>>, PeerError>> {
        if let Some(abstains) = self.abstains() {
            return abstains;
        }
        let (me, opened) = (self.me.clone(), self.way.open_appends(target, timeout));
        Box::pin(async move {
            let stream = heard(&me, opened.await)?;
            Ok(stream.map(|stream| Box::new(MemoryStream { stream, me }) as Box<dyn AppendStream>))
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
        if let Some(abstains) = self.abstains() {
            return abstains;
        }
        let (me, answer) = (self.me.clone(), self.way.send_snapshot(target, vote, meta, snapshot, idle_timeout));
        Box::pin(async move { heard(&me, answer.await) })
    }

    fn ask_to_join(
        &self,
        haddr: &HostPort,
        id: &PublicId,
        raft_id: RaftId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Result<(), JoinRefusal>, PeerError>> {
        self.abstains().unwrap_or_else(|| self.way.ask_to_join(haddr, id, raft_id, timeout))
    }

    fn probe(&self, haddr: &HostPort, timeout: Duration) -> BoxFuture<'static, Result<Probe, PeerError>> {
        self.way.probe(haddr, timeout)
    }

    fn resolve(&self, addr: &HostPort) -> BoxFuture<'static, Vec<HostPort>> {
        self.way.resolve(addr)
    }

    fn ids_at(&self, haddr: &HostPort, timeout: Duration) -> BoxFuture<'static, Vec<PublicId>> {
        self.way.ids_at(haddr, timeout)
    }
}

struct MemoryStream {
    stream: Box<dyn AppendStream>,
    me: Arc<NodeIdentity>,
}

impl AppendStream for MemoryStream {
    fn send(&mut self, request: AppendEntriesRequest<TypeConfig>) -> BoxFuture<'_, Result<(), PeerError>> {
        match self.me.lost_why() {
            Some(why) => Box::pin(std::future::ready(Err(abstention(&why)))),
            None => self.stream.send(request),
        }
    }

    fn next(&mut self) -> BoxFuture<'_, Result<StampedOutcome, PeerError>> {
        let (me, next) = (&self.me, self.stream.next());
        Box::pin(async move { heard(me, next.await) })
    }
}
