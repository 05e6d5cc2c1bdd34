//! Says when nothing goes on, and why: heartbeats may arrive, and every node call itself ready, while no entry does.
//!
//! Where another voter may do better, the leader hands over to it: [`give_way`](super::give_way).

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{RaftMetrics, ServerState};
use tokio::time::{Instant, interval};

use crate::node::status::silence;
use crate::node::{Node, NodeError};
use crate::raft_types::{RaftId, TypeConfig};

/// How often it is looked.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Longer than a slow disk takes, or an election.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// The progress of the leader's log.
#[derive(Debug)]
struct Progress {
    committed: Option<u64>,
    since: Instant,
    /// The last entry of the log, when it was looked last.
    last: Option<u64>,
}

impl Node {
    /// The task that looks whether entries are committed and the disk answers.
    pub(in crate::node) async fn watch_progress(self) {
        let mut tick = interval(CHECK_INTERVAL);
        let mut progress = Progress { committed: None, since: Instant::now(), last: None };
        loop {
            tick.tick().await;
            let disk = self.hanging_disk();
            let last_before = progress.last;
            let stall = self.stall(&mut progress, disk.is_some());
            if stall.is_some() {
                self.give_way(last_before, disk.is_some());
            }
            let now: Vec<String> = [disk, stall].into_iter().flatten().collect();
            let before = self.inner.hindrances.send_replace(now.clone());
            now.iter().filter(|what| !before.contains(what)).for_each(|what| tracing::warn!("{what}"));
            before.iter().filter(|what| !now.contains(what)).for_each(|what| tracing::info!("no longer: {what}"));
        }
    }

    /// What keeps this node, or the cluster that it leads, from going on.
    pub(in crate::node) fn hindrances(&self) -> Vec<String> {
        self.inner.hindrances.borrow().clone()
    }

    /// The same, and what is wrong with its secrets and certificates: whoever asks a member hears of it.
    pub(in crate::node) fn told(&self) -> Vec<String> {
        self.hindrances().into_iter().chain(self.security_warnings()).collect()
    }

    pub(in crate::node) fn refuse_hindered(&self) -> Result<(), NodeError> {
        let hindrances = self.inner.hindrances.borrow();
        if hindrances.is_empty() { Ok(()) } else { Err(NodeError::NotReady(hindrances.join("; "))) }
    }

    fn hanging_disk(&self) -> Option<String> {
        let (file, age) = self.inner.log.flushing()?;
        (age > STALLED_AFTER).then(|| {
            format!(
                "the disk has not finished a flush (fdatasync of {file}) for more than {} s",
                STALLED_AFTER.as_secs()
            )
        })
    }

    /// As the leader: why nothing was committed for so long, while entries wait.
    fn stall(&self, progress: &mut Progress, disk_hangs: bool) -> Option<String> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let committed = metrics.local_committed.map(|id| id.index);
        progress.last = metrics.last_log_index;
        let waits = metrics.state == ServerState::Leader && metrics.last_log_index > committed;
        if !waits || progress.committed != committed {
            *progress = Progress { committed, since: Instant::now(), ..*progress };
            return None;
        }
        if progress.since.elapsed() <= STALLED_AFTER {
            return None;
        }
        let mut causes: Vec<String> =
            metrics.membership_config.voter_ids().filter_map(|voter| self.lags(&metrics, voter)).collect();
        if disk_hangs {
            causes.push("the disk of this node, which leads, hangs".to_owned());
        }
        let causes = if causes.is_empty() { "no voter is behind".to_owned() } else { causes.join("; ") };
        let secs = STALLED_AFTER.as_secs();
        Some(format!("nothing was committed for more than {secs} s, while entries wait: {causes}"))
    }

    /// The likely cause, where a voter has not all entries.
    fn lags(&self, metrics: &RaftMetrics<TypeConfig>, voter: RaftId) -> Option<String> {
        let matched = metrics.replication.as_ref()?.get(&voter)?.map(|id| id.index);
        if voter == metrics.id || matched >= metrics.last_log_index {
            return None;
        }
        let id = &metrics.membership_config.get_node(&voter)?.id;
        let answers = silence(metrics, voter).is_some_and(|silence| silence <= self.inner.options.election_max());
        Some(if answers {
            format!(
                "{id} answers heartbeats, and acknowledges no entry: large packets may get lost on the way (an MTU hole: \
                 try ping -M do -s 1472), or its disk hangs"
            )
        } else {
            format!("{id} does not answer")
        })
    }
}
