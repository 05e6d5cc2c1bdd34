//! The whole state with all that a backup says of it.

use tokio::time::Instant;

use crate::command::{Need, Principal};
use crate::kv::KvStore;
use crate::node::{Node, NodeError, ReadOptions, Settled};
use crate::observe::BackupNumbers;
use crate::platform::wall_ms;
use crate::raft_types::{ClusterId, RaftId};
use crate::storage::backup::Head;

/// The state at one index, to be backed up.
#[derive(Debug, Clone)]
pub struct StateCopy {
    /// The state. Writes cost more while it lives.
    pub kv: KvStore,
    /// What the backup will say of itself.
    pub head: Head,
    /// Its level and age.
    pub settled: Settled,
}

impl Node {
    /// The cluster that it belongs to.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.inner.me.cluster()
    }

    /// Its Raft id.
    pub fn raft_id(&self) -> RaftId {
        self.inner.me.raft_id()
    }

    /// What is known of the backups that it makes by itself.
    pub fn backups(&self) -> &BackupNumbers {
        &self.inner.backups
    }

    /// The whole state, for a client who may have all of it.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn copy_for(
        &self,
        by: Option<&Principal>,
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<StateCopy, NodeError> {
        let settled = self.settle(options, deadline).await?;
        let (kv, at) = self.inner.map.view_at();
        let now_ms = kv.log_time_ms().max(self.clock().now_ms());
        kv.auth().check(by, Need::Backup, now_ms).map_err(NodeError::Denied)?;
        let cluster = self.inner.me.cluster();
        let cluster = cluster.ok_or_else(|| NodeError::NotReady("this node is of no cluster yet".to_owned()))?;
        let head = Head {
            cluster,
            index: at.map_or(0, |at| at.index),
            term: at.map_or(0, |at| at.leader_id.term),
            made_ms: wall_ms(),
            now_ms,
            log_time_ms: kv.log_time_ms(),
            format: kv.format(),
            by: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(StateCopy { kv, head, settled })
    }
}
