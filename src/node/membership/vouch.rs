//! A leader that this node does not know is believed once it answers at the address that its message names.
//!
//! Anybody can send a message in anybody's name, so none changes what this node serves, which cluster it takes for its own
//! or whether it forms one. The node that the message names is dialled and must say the same: its Raft id, its cluster,
//! and that it has a member with this node's address, so that it is a caller indeed.

use std::time::Duration;

use crate::node::Node;
use crate::node::rpc::{Envelope, PeerReply, PeerRequest, Target};
use crate::node_id::PublicId;
use crate::raft_types::{ClusterId, RaftId};
use crate::seldom::Seldom;
use crate::task;

/// How long a caller may take to answer: less than a node listens before it forms a cluster.
const VOUCH_TIMEOUT: Duration = Duration::from_millis(750);

/// A caller is not dialled again sooner.
const VOUCH_PAUSE: Duration = Duration::from_millis(100);

/// Others choose how many there are.
static FOREIGN_LINES: Seldom = Seldom::new();

impl Node {
    /// The Raft id of the member that has this public id.
    pub(in crate::node) fn member_at(&self, id: &PublicId) -> Option<RaftId> {
        self.members().into_iter().find(|member| member.server.id == *id).map(|member| member.raft_id)
    }

    /// Whether the sender, asked at its address, says that it is of this cluster and has this very node as a member.
    pub(in crate::node) async fn vouches(&self, envelope: &Envelope) -> bool {
        let Some(_dialled) = self.inner.strangers.dial(&envelope.from) else { return false };
        self.known_to(envelope).await == Some(self.inner.me.raft_id())
    }

    /// Somebody called this address, but meant another Raft node or is of another cluster. Where it stands by that, another
    /// cluster is told of once. If it leads, an empty node rejoins it, and a node of another cluster stops serving for as
    /// long as it calls.
    pub(in crate::node) fn stranger_called(&self, envelope: &Envelope, leads: bool) {
        let (node, envelope) = (self.clone(), envelope.clone());
        let strangers = self.inner.strangers.clone();
        task::spawn(async move {
            let Some(dialled) = strangers.dial(&envelope.from) else { return };
            let known = tokio::select! {
                known = node.known_to(&envelope) => known,
                () = dialled.gone.cancelled() => None,
            };
            if known.is_some() {
                node.stranger_stands_by_it(&envelope, leads);
            } else {
                tracing::debug!("{} does not stand by a call in its name", envelope.from);
            }
            tokio::time::sleep(VOUCH_PAUSE).await;
        });
    }

    /// Asks the sender, at its address, under which Raft id it has this node as a member.
    async fn known_to(&self, envelope: &Envelope) -> Option<RaftId> {
        // As for those who join: what answers at a loopback address is another machine's.
        if envelope.from.raddr.is_loopback() != self.id().raddr.is_loopback() {
            return None;
        }
        let target = Target { raft_id: None, id: envelope.from.clone() };
        match self.inner.peers.call(&target, PeerRequest::Vouch, VOUCH_TIMEOUT).await {
            Ok(PeerReply::Vouch { who, asker })
                if who.raft_id == envelope.from_raft && who.cluster == envelope.cluster && who.id == envelope.from =>
            {
                asker
            }
            _ => None,
        }
    }

    fn stranger_stands_by_it(&self, envelope: &Envelope, leads: bool) {
        let me = &self.inner.me;
        if leads && envelope.to_raft != Some(me.raft_id()) {
            self.inner.strangers.leader_called(envelope.from.clone());
        }
        if let (Some(mine), Some(theirs)) = (me.cluster(), envelope.cluster)
            && mine != theirs
        {
            self.foreign_member_called(&envelope.from, leads, (mine, theirs));
        }
    }

    /// A node of another cluster has this node's address for one of its own: said once. Where it leads, this node stops
    /// serving, because one of the two clusters should not be there.
    fn foreign_member_called(&self, from: &PublicId, leads: bool, (mine, theirs): (ClusterId, ClusterId)) {
        let (me, strangers) = (&self.inner.me, self.inner.strangers.clone());
        let what = format!(
            "{from} of cluster {theirs} calls {} which is of cluster {mine}: two clusters use one address. If this node \
             is the stray one, stop it, delete {} and start it again; if the other is, delete its directory",
            me.id(),
            me.data_place,
        );
        if strangers.first_time(format!("{theirs} {from}"))
            && let Some(unsaid) = FOREIGN_LINES.turn()
        {
            tracing::error!("{what}{unsaid}");
        }
        let is_new = leads
            && strangers
                .set_foreign(&format!("this node serves its own copy only (?level=none), and no writes: {what}"));
        if is_new {
            task::spawn(async move {
                strangers.foreign_lapses().await;
                tracing::warn!("no leader of another cluster calls this node any more: it serves again");
            });
        }
    }
}
