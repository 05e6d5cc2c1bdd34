//! Building a snapshot in the background.

use std::io;

use openraft::storage::RaftSnapshotBuilder;

use super::{Snapshot, blocking, openraft_snapshot};
use crate::kv::KvStore;
use crate::raft_types::TypeConfig;
use crate::raft_types::alias::SnapshotMeta;
use crate::storage::identity::ClusterHandle;
use crate::storage::snapshot::{SnapshotFile, SnapshotStore};

/// Writes the map as it was when this was made; clones nothing and stops no writes.
///
/// A snapshot that cannot be written (a full disk, say) must not stop the node, but openraft makes any `Err` of a
/// build fatal (`handle_state_machine_result`: `command_result.result?`), and only that of a *deferred* one nothing. So a background
/// build that fails warns and gives the previous snapshot again, or an empty stand-in (`SnapshotFile::nothing`): openraft compares log ids
/// (`on_building_snapshot_done`), finds nothing new, purges nothing, and asks again after another
/// `LogsSinceLast` entries. The log grows meanwhile.
///
/// A *forced* build (openraft asks for one at start only, where logs were purged and no snapshot is there) fails with the error.
///
/// Caveats: before anything was applied both give the stand-in, which openraft's suite asks for; a log that was purged and a
/// snapshot that is missing must be told before openraft starts. The map is held while this lives, so that changes meanwhile copy the nodes they touch.
#[derive(Debug)]
pub struct SnapshotBuilder {
    /// Taken by the first build.
    view: Option<KvStore>,
    meta: SnapshotMeta,
    snapshots: SnapshotStore,
    cluster: ClusterHandle,
    must: bool,
}

impl SnapshotBuilder {
    pub(super) fn new(
        view: KvStore,
        meta: SnapshotMeta,
        snapshots: SnapshotStore,
        cluster: ClusterHandle,
        must: bool,
    ) -> Self {
        Self { view: Some(view), meta, snapshots, cluster, must }
    }

    async fn build(&mut self) -> io::Result<SnapshotFile> {
        if self.meta.last_log_id.is_none() {
            return SnapshotFile::nothing();
        }
        let view = self.view.take().ok_or_else(|| io::Error::other("a snapshot builder builds once"))?;
        let Some(cluster) = self.cluster.get() else {
            return Err(io::Error::other("no snapshot before the cluster is known"));
        };
        let (meta, snapshots) = (self.meta.clone(), self.snapshots.clone());
        blocking(move || snapshots.write(&meta, cluster, &view)).await
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        match self.build().await {
            Ok(file) => Ok(openraft_snapshot(file)),
            Err(error) if self.must => Err(error),
            Err(error) => {
                if !self.snapshots.is_stopped() {
                    tracing::warn!(%error, "cannot write a snapshot; the log is kept and it is tried again later");
                }
                let previous = self.snapshots.current().map_or_else(SnapshotFile::nothing, Ok)?;
                Ok(openraft_snapshot(previous))
            }
        }
    }
}
