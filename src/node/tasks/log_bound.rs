//! Keeps the log bounded in bytes.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, interval};

use crate::node::Node;

/// How often the size of the log is looked at.
const LOG_SIZE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A snapshot that was asked for and did not come is asked for again.
const SNAPSHOT_RETRY_INTERVAL: Duration = Duration::from_secs(30);

impl Node {
    /// Keeps the log bounded in bytes, not only in entries: big values fill a disk long before the
    /// snapshot threshold counts enough of them.
    pub(in crate::node) async fn bound_the_log(self) {
        let mut tick = interval(LOG_SIZE_CHECK_INTERVAL);
        let mut asked = None;
        loop {
            tick.tick().await;
            if self.inner.log.bytes() <= self.inner.options.snapshot_bytes {
                continue;
            }
            let (snapshot, applied, purged) = {
                let metrics = self.inner.raft.metrics();
                let metrics = metrics.borrow_watched();
                (metrics.snapshot, metrics.last_applied, metrics.purged)
            };
            // One that could not be written (a full disk) left the snapshot where it was: it is asked for again, later.
            let due =
                asked.is_none_or(|(at, when): (_, Instant)| snapshot > at || when.elapsed() >= SNAPSHOT_RETRY_INTERVAL);
            if due && applied > snapshot {
                asked = Some((snapshot, Instant::now()));
                if self.inner.raft.trigger().snapshot().await.is_err() {
                    return;
                }
            } else if let Some(snapshot) = snapshot
                && purged < Some(snapshot)
                && self.inner.raft.trigger().purge_log(snapshot.index).await.is_err()
            {
                return;
            }
        }
    }
}
