//! Who is it that is to join? The address comes from whoever asks, so it is not trusted.
//!
//! The name is resolved first, and what it leads to is checked and dialled: another spelling of loopback is loopback. All
//! failures to reach it have one answer, which does not tell an open port from a closed one; this node's log has the
//! reason.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::join::IDENTIFY_TIMEOUT;
use crate::node::rpc::{Identification, PeerReply, PeerRequest, Target};
use crate::node::{Node, NodeError};
use crate::node_id::{HostPort, PublicId};
use crate::quote::quoted;
use crate::seldom::Seldom;

/// Addresses of one name that are dialled: the families of one node, not a list.
const MAX_ADDRESSES: usize = 4;

/// How long the name of a joiner may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whoever asks for joins chooses how many cannot be reached.
static UNREACHED_LINES: Seldom = Seldom::new();

impl Node {
    /// Dials a joiner and checks that it is what it says and may be let in.
    ///
    /// # Errors
    /// [`NodeError::Conflict`].
    pub(super) async fn identify(&self, id: &PublicId) -> Result<Identification, NodeError> {
        let unreachable = |why: &str| {
            if let Some(unsaid) = UNREACHED_LINES.turn() {
                tracing::info!("{id} is to join and cannot be reached at its Raft address: {why}{unsaid}");
            }
            NodeError::Conflict(format!(
                "the leader {} cannot reach {id} at its Raft address; is it running, and are --hadv and --radv addresses \
                 that the others can reach?",
                self.id()
            ))
        };
        let found = self.resolved(&id.raddr).await;
        if found.is_empty() {
            return Err(unreachable("the name does not resolve"));
        }
        self.check_reach(id, &found).await?;
        let mut last = String::new();
        for raddr in found.into_iter().take(MAX_ADDRESSES) {
            // What was checked is dialled, and not what the name leads to by now.
            let target = Target { raft_id: None, id: PublicId { haddr: id.haddr.clone(), raddr } };
            match self.inner.peers.call(&target, PeerRequest::Identify, IDENTIFY_TIMEOUT).await {
                Ok(PeerReply::Identify(joiner)) => {
                    if joiner.id != *id {
                        let at = &id.raddr;
                        return Err(NodeError::Conflict(format!("the node at {at} is {}, not {id}", joiner.id)));
                    }
                    return self.check_stray(id, &joiner).map(|()| joiner);
                }
                Ok(other) => last = format!("it answered {}", quoted(&format!("{other:?}"))),
                Err(error) => last = error.to_string(),
            }
        }
        Err(unreachable(&last))
    }

    /// Refuses a joiner that could not take what it would be sent.
    pub(super) fn check_stray(&self, id: &PublicId, joiner: &Identification) -> Result<(), NodeError> {
        if joiner.removed {
            return Err(NodeError::Conflict(format!(
                "{id} was removed from its cluster and still runs; start it again with --rjoin naming one of the others, to \
                 join anew"
            )));
        }
        let cluster = self.inner.me.cluster();
        if joiner.cluster.is_some() && joiner.cluster != cluster {
            return Err(NodeError::Conflict(format!(
                "{id} belongs to another cluster; to move it here, stop it, delete its data directory and start it again"
            )));
        }
        self.refuse_old_joiner(id, &joiner.speaks)
    }

    async fn resolved(&self, addr: &HostPort) -> Vec<HostPort> {
        timeout(RESOLVE_TIMEOUT, self.inner.peers.resolve(addr)).await.unwrap_or_default()
    }

    /// Refuses an address that the members cannot use, or that is meant for this machine alone.
    async fn check_reach(&self, id: &PublicId, found: &[HostPort]) -> Result<(), NodeError> {
        let is_loopback = |addrs: &[HostPort]| addrs.iter().any(HostPort::is_loopback);
        let (joiner, own) = (is_loopback(found), self.id().raddr.is_loopback());
        // Names of machines lead to loopback on themselves. Where this node's own does, a neighbour's may.
        if joiner != own && !(joiner && is_loopback(&self.resolved(&self.id().raddr).await)) {
            return Err(NodeError::Conflict(format!(
                "{id} and this cluster (for example {}) cannot reach each other: one of them advertises loopback; \
                 start the node with --hadv and --radv set to addresses that the others can reach",
                self.id()
            )));
        }
        if found.iter().filter_map(|addr| addr.host.parse().ok()).any(|ip| !may_be_a_node(ip)) {
            return Err(NodeError::Conflict(format!(
                "{id}: no node can be at that Raft address; start the node with --radv set to one that the others can reach"
            )));
        }
        Ok(())
    }
}

/// False for addresses that are nobody's, everybody's, or of one link: cloud machines have their secrets at such.
fn may_be_a_node(ip: IpAddr) -> bool {
    let of_one_link = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_unspecified() || ip.is_multicast() || of_one_link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_node_is_at_an_address_of_one_link_or_of_nobody() {
        for (address, may_be) in [
            ("10.0.0.1", true),
            ("127.0.0.1", true),
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(may_be_a_node(address.parse().unwrap()), may_be, "{address}");
        }
    }
}
