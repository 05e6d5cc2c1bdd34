//! Tells the invariants what a node's state machine does.

use tokio::time::Instant;

use super::host::Host;
use super::invariants::Applied;
use super::world;
use crate::command::Reply;
use crate::kv::{Event, KvStore};
use crate::raft_types::alias::{LogEntry, LogId};
use crate::state_machine::Observer;
use crate::storage::ClusterHandle;

/// The observer of one state: what a process reads from its directory, and what becomes of that.
#[derive(Debug)]
pub struct StateObserver {
    host: Host,
    /// No other state has this number.
    state: u64,
    cluster: ClusterHandle,
}

impl StateObserver {
    pub fn new(host: Host, cluster: ClusterHandle) -> Self {
        Self { host, state: world::next_number(), cluster }
    }

    /// True for a state of the cluster that is looked at.
    fn counts(&self) -> bool {
        let (cluster, host) = (self.cluster.get(), &self.host);
        !host.is_dead() && world::check(|all| all.clusters.seen(cluster, host.name(), host.may_be_alone()))
    }
}

impl Observer for StateObserver {
    fn loaded(&self, last: LogId, kv: &KvStore) {
        if !self.counts() {
            return;
        }
        let (digest, by) = (kv.digest(), self.host.name());
        world::note("loaded", &[by.into(), last.index, digest]);
        world::check(|all| all.loaded(by, self.state, last, digest));
    }

    fn applied(&self, entry: &LogEntry, kv: &KvStore, reply: &Reply, events: &[Event]) {
        if !self.counts() {
            return;
        }
        let (digest, by) = (kv.digest(), self.host.name());
        world::note("applied", &[by.into(), entry.log_id.index, digest]);
        let applied = Applied { by, state: self.state, entry, reply, events, digest, at: Instant::now() };
        world::check(|all| all.applied(&applied));
    }
}
