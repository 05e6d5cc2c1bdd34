//! A node from the start of Raft to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::directory::Opened;
use super::{Setup, failure, find};
use crate::exit::Exit;
use crate::node::rpc::Peers;
use crate::node::{Node, NodeError, NodeIdentity, Parts, Tasks};
use crate::storage::log::LogStore;
use crate::task;

/// A stop takes no longer than this, even if something hangs.
const STOP_TIMEOUT: Duration = Duration::from_secs(7);

/// How much of that a leader may use to hand over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);

/// A node whose Raft runs.
#[derive(Debug)]
pub struct Running {
    /// The node, for the ports.
    pub node: Node,
    tasks: Tasks,
    me: Arc<NodeIdentity>,
    log: LogStore,
    log_failed: watch::Receiver<Option<String>>,
    joins_anew: bool,
}

impl Opened {
    /// Starts Raft. `clients` runs what serves many client requests at once.
    ///
    /// # Errors
    /// The end of the process with code 1.
    pub async fn run(self, peers: Arc<dyn Peers>, setup: &Setup, clients: Handle) -> Result<Running, Exit> {
        let Self { me, log, machine, snapshots, joins_anew, .. } = self;
        let log_failed = log.failed();
        let parts = Parts { me: me.clone(), peers, log: log.clone(), machine, snapshots, clients };
        let (node, tasks) = Node::start(parts, setup.raft).await.map_err(failure)?;
        Ok(Running { node, tasks, me, log, log_failed, joins_anew })
    }
}

impl Running {
    /// Finds the cluster. Ends when the node fails, with the reason (78 where its directory is a copy of one
    /// in use); with [`Exit::again`] where another start of it is needed
    /// that begins anew.
    pub async fn ended(&mut self, setup: &Arc<Setup>) -> Exit {
        let mut start = match find(setup).await {
            Ok(start) => start,
            Err(exit) => return exit,
        };
        if self.joins_anew {
            (start.may_form, start.expect) = (false, None);
        }
        let (node, others) = (&self.node, start.others.clone());
        let finding = task::spawn({
            let node = node.clone();
            async move {
                match node.find_cluster(start).await {
                    Ok(()) => std::future::pending().await,
                    Err(NodeError::Conflict(why)) => Exit::config(why),
                    Err(error) => failure(error),
                }
            }
        });
        let log_failed = &mut self.log_failed;
        tokio::select! {
            failed = finding => failed.unwrap_or_else(failure),
            // The log names the file; Raft only knows that a write failed.
            Ok(reason) = async { log_failed.wait_for(Option::is_some).await.map(|r| r.clone().unwrap_or_default()) } => {
                failure(reason)
            }
            () = node.must_begin_anew(&others) => Exit::again("the other voters are a quorum without this node"),
            reason = node.failed() => failure(self.log.failed().borrow().clone().unwrap_or(reason)),
        }
    }

    /// Hands over if this node leads, ends what waits, and closes the log with the mark of a clean stop. Takes a bounded
    /// time even where something hangs.
    ///
    /// `close_clients` and `close_peers` are awaited in their turn: each ends when its port has answered its requests.
    ///
    /// # Errors
    /// The end of the process with code 1: the log could not be closed.
    pub async fn stop(
        self,
        close_clients: impl Future<Output = ()>,
        close_peers: impl Future<Output = ()>,
    ) -> Result<(), Exit> {
        let Self { node, tasks, me, log, .. } = self;
        let stopped = timeout(STOP_TIMEOUT, async {
            node.hand_over(HAND_OVER_TIMEOUT).await;
            // Requests that wait for changes would wait for ever.
            node.watches().close();
            close_clients.await;
            drop(tasks);
            node.shutdown().await;
            close_peers.await;
            let closed = task::spawn_blocking(move || {
                log.close().map_err(|error| failure(format!("the log could not be closed: {error}")))?;
                // One that was put back from the past says otherwise when it is opened.
                if me.lost_why().is_none() { me.note_log(log.mark()).map_err(failure) } else { Ok(()) }
            });
            closed.await.map_err(failure)?
        });
        stopped.await.unwrap_or_else(|_| {
            tracing::warn!("not everything ended in time; leaving it");
            Ok(())
        })
    }
}
