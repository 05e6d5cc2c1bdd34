//! The client side of the transport: reqwest, with two pools of connections.
//!
//! A connection is driven by the threads that opened it. Messages that keep a cluster together must not wait for threads
//! that serve clients. They have a pool of their own, used by the node's own tasks alone.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;

use super::reply::{peer_error, read_reply};
use super::wire::{self, CALL_PATH};
use super::{appends, snapshot};
use crate::node::NodeIdentity;
use crate::node::rpc::{AppendStream, BoxFuture, JoinRefusal, PeerError, PeerReply, PeerRequest, Peers, Probe, Target};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::RaftId;
use crate::raft_types::alias::{SnapshotMeta, Vote};
use crate::storage::SnapshotFile;

/// A host that takes no connection within this time is unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to other nodes over HTTP.
#[derive(Debug)]
pub struct HttpPeers {
    /// For Raft's messages and all else that the node's own tasks ask.
    own: Client,
    /// For requests made on behalf of a client, by the task that serves it.
    for_clients: Client,
    me: Arc<NodeIdentity>,
}

impl HttpPeers {
    /// Makes a client that speaks for `me`.
    ///
    /// # Errors
    /// reqwest's, where no HTTP client can be made.
    pub fn new(me: Arc<NodeIdentity>) -> Result<Self, reqwest::Error> {
        Ok(Self { own: client()?, for_clients: client()?, me })
    }

    fn client_for(&self, request: &PeerRequest) -> &Client {
        match request {
            PeerRequest::Append(_)
            | PeerRequest::Vote(_)
            | PeerRequest::PreVote(_)
            | PeerRequest::TransferLeader(_)
            | PeerRequest::Forward { .. }
            | PeerRequest::ReadIndex { .. }
            | PeerRequest::LeaderWatch
            | PeerRequest::IsLeaderGone(_) => &self.own,
            PeerRequest::Read { .. }
            | PeerRequest::WeakIndex
            | PeerRequest::Status
            | PeerRequest::Identify
            | PeerRequest::IsMember(_)
            | PeerRequest::Join { .. }
            | PeerRequest::Lead { .. }
            | PeerRequest::Remove { .. } => &self.for_clients,
        }
    }
}

fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        // A proxy of the environment is for browsing, not for members of a cluster.
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

impl Peers for HttpPeers {
    fn call(
        &self,
        target: &Target,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        let client = self.client_for(&request);
        let body = wire::encode(&(self.me.envelope(target), request));
        let url = format!("http://{}{CALL_PATH}", target.id.raddr);
        let sent = client.post(url).timeout(timeout).body(body).send();
        Box::pin(async move { read_reply(sent.await.map_err(|error| peer_error(&error))?).await })
    }

    fn open_appends(
        &self,
        target: &Target,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Option<Box<dyn AppendStream>>, PeerError>> {
        Box::pin(appends::open(self.own.clone(), self.me.clone(), target.clone(), timeout))
    }

    fn send_snapshot(
        &self,
        target: &Target,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotFile,
        idle_timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        let head = wire::encode(&(self.me.envelope(target), vote, meta));
        Box::pin(snapshot::send(self.own.clone(), target.id.raddr.clone(), head, snapshot, idle_timeout))
    }

    fn ask_to_join(
        &self,
        haddr: &HostPort,
        id: &PublicId,
        raft_id: RaftId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Result<(), JoinRefusal>, PeerError>> {
        let sent = self
            .for_clients
            .post(format!("http://{haddr}/hraftd/raft/join"))
            .timeout(timeout)
            .header("X-Hraftd-Raft-Id", raft_id)
            .body(serde_json::json!({ "id": id, "addr": id.raddr.to_string() }).to_string())
            .send();
        Box::pin(async move {
            let response = sent.await.map_err(|error| peer_error(&error))?;
            let status = response.status();
            if status.is_success() {
                return Ok(Ok(()));
            }
            let body = response.text().await.map_err(|error| peer_error(&error))?;
            let reason = || -> Option<String> {
                let answer: serde_json::Value = serde_json::from_str(&body).ok()?;
                Some(answer.get("msg")?.as_str()?.to_owned())
            };
            Ok(Err(JoinRefusal {
                msg: reason().unwrap_or_else(|| format!("HTTP status {status}: is it a client port of hraftd?")),
            }))
        })
    }

    fn probe(&self, haddr: &HostPort, timeout: Duration) -> BoxFuture<'static, Result<Probe, PeerError>> {
        let sent = self.for_clients.get(format!("http://{haddr}/hraftd/raft/stats")).timeout(timeout).send();
        Box::pin(async move {
            let response = sent.await.map_err(|error| peer_error(&error))?;
            let body = response.text().await.map_err(|error| peer_error(&error))?;
            let stats: serde_json::Value =
                serde_json::from_str(&body).map_err(|error| PeerError::Lost(error.to_string()))?;
            let members = stats.get("latest_configuration").and_then(serde_json::Value::as_array);
            Ok(Probe { has_cluster: members.is_some_and(|members| !members.is_empty()) })
        })
    }
}
