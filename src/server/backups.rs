//! `--backup-to`: the leader backs the cluster up by itself, see [`crate::storage::backup::folder`].
//!
//! * Whoever leads looks how old the newest backup of this cluster in its directory is. Where that is older than
//!   `--backup-every`, it makes one. Nodes may share one directory, or have one each.
//! * Where nothing was written since the newest one, that stands for another.
//! * A failure is tried again, counted, logged, and a warning of `GET /hraftd/raft/cluster` until one succeeds.

use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep};

use crate::command::Principal;
use crate::config::BackupPlan;
use crate::node::{Node, ReadLevel, State, StateCopy};
use crate::platform;
use crate::storage::backup::folder::{Folder, Kept};

/// How long the state may take to be read.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long until a failure is tried again, at most.
const AGAIN: Duration = Duration::from_secs(60);

/// How often it is looked, at least and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The task; it ends when this is dropped. A backup that is being made goes on to its end.
pub(super) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Backs up from now on.
pub(super) fn start(node: Node, plan: BackupPlan) -> Task {
    Task(tokio::spawn(async move {
        let look = (plan.every / 20).clamp(LOOK.0, LOOK.1);
        let mut not_before = Instant::now();
        // Kept open: opening it flushes what is above it.
        let mut folder = None;
        loop {
            sleep(look).await;
            if node.state() != State::Leader || Instant::now() < not_before {
                continue;
            }
            match back_up(&node, &plan, &mut folder).await {
                Ok(false) => {}
                // Whatever the times of files say.
                Ok(true) => not_before = Instant::now() + plan.every / 2,
                Err(why) => {
                    node.backups().failed(format!("the backup into {} failed: {why}", plan.to.display()));
                    not_before = Instant::now() + AGAIN.min(plan.every / 4);
                    folder = None;
                }
            }
        }
    }))
}

/// Makes a backup, if one is due; true where it was.
async fn back_up(node: &Node, plan: &BackupPlan, open: &mut Option<Folder>) -> Result<bool, String> {
    let Some(cluster) = node.cluster_id() else { return Ok(false) };
    let folder = match open {
        Some(folder) => folder.clone(),
        None => {
            let (to, owner) = (plan.to.clone(), node.raft_id());
            let opened = blocking(move || Folder::open(&to, owner).map_err(|error| error.to_string())).await??;
            open.insert(opened).clone()
        }
    };
    let listed = folder.clone();
    let newest = blocking(move || listed.list(cluster).map_err(|error| error.to_string())).await??.pop();
    if !is_due(newest.as_ref(), plan.every) {
        return Ok(false);
    }
    let (began, deadline) = (Instant::now(), Instant::now() + READ_TIMEOUT);
    let copy = node.copy_for(Some(&Principal::Node), ReadLevel::Linearizable.into(), deadline).await;
    let StateCopy { kv, head, .. } = copy.map_err(|error| error.to_string())?;
    if newest.is_some_and(|newest| newest.index == head.index) {
        node.backups().succeeded(head.made_ms, None);
        return Ok(true);
    }
    let (index, made_ms, keep) = (head.index, head.made_ms, plan.keep);
    let bytes = blocking(move || {
        let bytes = folder.save(&head, &kv).map_err(|error| error.to_string())?;
        drop(kv);
        // The backup is there all the same.
        if let Err(error) = folder.prune(head.cluster, keep) {
            tracing::warn!("an old backup cannot be deleted: {error}");
        }
        Ok::<_, String>(bytes)
    });
    let bytes = bytes.await??;
    node.backups().succeeded(made_ms, Some((bytes, began.elapsed())));
    tracing::info!("backed up at index {index}: {bytes} bytes into {}", plan.to.display());
    Ok(true)
}

/// True where the newest backup is too old.
fn is_due(newest: Option<&Kept>, every: Duration) -> bool {
    let now = Duration::from_millis(platform::wall_ms());
    // One of the future was made by another clock, and says nothing.
    let age = newest.and_then(|newest| now.checked_sub(Duration::from_millis(newest.made_ms)));
    age.is_none_or(|age| age >= every)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    spawn_blocking(work).await.map_err(|error| format!("it ended badly: {error}"))
}
