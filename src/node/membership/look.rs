//! Who answers at the listed addresses, and which of them have a cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::node::Node;
use crate::node::rpc::{PeerError, Probe};
use crate::node_id::{HostPort, PublicId};

/// How long a name may take to resolve, and then each node to answer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// What was seen at the listed addresses. This node itself does not count.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// The addresses at which a node with a cluster answered, in the order of the list.
    pub(super) with_cluster: Vec<HostPort>,
    /// The nodes that say that they have none.
    pub(super) without: BTreeSet<PublicId>,
    /// Where the first of these answered.
    pub(super) first_without: Option<HostPort>,
    /// The addresses of which nothing is known, each with the reason.
    pub(super) unknown: Vec<String>,
}

impl Sight {
    /// How many nodes there may be at least, with the one that looks.
    pub(super) fn listed(&self) -> usize {
        1 + self.with_cluster.len() + self.without.len() + self.unknown.len()
    }
}

impl Node {
    /// Asks the nodes at all addresses at once; a name is all addresses that it leads to.
    pub(super) async fn look(&self, list: &[HostPort]) -> Sight {
        let asked = join_all(list.iter().map(|addr| self.look_at(addr))).await;
        let mut sight = Sight::default();
        for (addr, answer) in asked.into_iter().flatten() {
            match answer {
                Ok(probe) if probe.id == *self.id() => {}
                Ok(Probe { has_cluster: true, .. }) => sight.with_cluster.push(addr),
                Ok(probe) => {
                    sight.without.insert(probe.id);
                    sight.first_without.get_or_insert(addr);
                }
                Err(error) => sight.unknown.push(format!("{addr} ({error})")),
            }
        }
        sight
    }

    async fn look_at(&self, addr: &HostPort) -> Vec<(HostPort, Result<Probe, PeerError>)> {
        let peers = &self.inner.peers;
        let found = timeout(LOOK_TIMEOUT, peers.resolve(addr)).await.unwrap_or_default();
        if found.is_empty() {
            return vec![(addr.clone(), Err(PeerError::Unreachable("the name does not resolve".to_owned())))];
        }
        let probes = found.into_iter().map(async |addr| {
            let probe = timeout(LOOK_TIMEOUT, peers.probe(&addr, LOOK_TIMEOUT)).await;
            let probe = probe.unwrap_or_else(|_| Err(PeerError::Lost("it did not answer in time".to_owned())));
            (addr, probe)
        });
        join_all(probes).await
    }
}
