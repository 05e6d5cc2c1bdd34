//! What a member tells a doctor of itself.

use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;

use crate::node::Node;
use crate::node::rpc::{PeerReply, PeerRequest, Target, Vitals};
use crate::platform;

/// How long a member waits for an answer of another.
const REACH_TIMEOUT: Duration = Duration::from_millis(600);

/// What is recent.
const WINDOW: Duration = Duration::from_secs(600);

impl Node {
    /// What this node tells of itself.
    pub(in crate::node) async fn vitals(&self) -> Vitals {
        let me = self.inner.me.raft_id();
        let others = self.members().into_iter().filter(|member| member.raft_id != me);
        let asked = others.map(async |member| {
            let target = Target { raft_id: Some(member.raft_id), id: member.server.id };
            let answer = self.inner.peers.call(&target, PeerRequest::Identify, REACH_TIMEOUT);
            let answer = tokio::time::timeout(REACH_TIMEOUT, answer).await;
            let reached = matches!(answer, Ok(Ok(PeerReply::Identify(who))) if who.raft_id == member.raft_id);
            (member.raft_id, reached)
        });
        let reaches = join_all(asked).await;
        let recent = self.inner.log.numbers().recent.quantile(0.99);
        let (term, leader) = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.current_term, metrics.current_leader)
        };
        let stats = self.stats();
        let (secrets, certificate_ends) = self.secrets_and_ends();
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Vitals {
            version: self.speaks().version,
            state: self.state(),
            term,
            last_log_index: self.inner.log.last_log_index().unwrap_or(0),
            applied_index: self.applied_index(),
            leader,
            reaches,
            flush_p99: recent.map(|(time, count)| (us(time), count as u64)),
            free_bytes: self.inner.snapshots.numbers().free_bytes(),
            snapshot_bytes: self.inner.snapshots.current().map_or(0, |snapshot| snapshot.len()),
            max_files: platform::open_file_limit(),
            wall_ms: platform::wall_ms(),
            clock_rates: self.inner.clocks.rates(),
            timers_ms: (self.inner.options.heartbeat_ms, self.inner.options.election_min_ms),
            flags: self.inner.flags.get().cloned().unwrap_or_default(),
            mark: self.inner.me.mark(),
            leader_changes: self.inner.numbers.leader_changes_lately.within(WINDOW) as u64,
            compacted: self.watches().compacted_within(WINDOW) as u64,
            hindrances: self.hindrances(),
            voted_for: self.inner.log.vote().map(|vote| vote.leader_id.voted_for),
            commit_index: stats.commit_index,
            contact_ms: stats.last_contact.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
            secrets,
            security: self.security_faults(),
            certificate_ends,
        }
    }
}
