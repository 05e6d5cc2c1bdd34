//! The sole wiring: opens the data directory ([`open`]), starts Raft, serves both ports, finds the cluster, and takes it
//! all down again in an order that loses nothing.
//!
//! [`run`] takes a configuration and a shutdown future, so that tests can run nodes in-process.

mod client_threads;
mod connection_limits;
mod low_space;
mod machine_limits;
mod open;
mod signals;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api::{Api, ApiSettings};
use crate::config::{self, Config};
use crate::exit::{EX_FAILURE, Exit};
use crate::http::{self, Handler, HttpLimits};
use crate::network::{self, CommandLimits};
use crate::node::{Node, NodeSlot, Parts, RaftOptions};
use crate::telemetry;
use client_threads::ClientThreads;
use open::Opened;

pub use machine_limits::check as check_machine_limits;
/// A stop takes no longer than this, even if something hangs.
const STOP_TIMEOUT: Duration = Duration::from_secs(7);

/// How much of that a leader may use to hand over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long requests in flight may take to end on a stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Requests that a node works on at a time. It is some ten times what keeps a disk and two cores busy, and a queue of 0.2 s
/// at 20,000 requests a second. (etcd refuses beyond 5,000 entries that are not applied yet.)
const MAX_REQUESTS_AT_WORK: usize = 4096;

/// Bytes of log after which a snapshot is made, even below the threshold of entries.
const LOG_BYTES_BETWEEN_SNAPSHOTS: u64 = 256 << 20;

/// Runs a node on `runtime` until the process is told to end or the node fails.
///
/// It is not async: code of an async function is generated in each crate that awaits it, and the
/// node's takes long.
///
/// # Errors
/// See [`run`].
pub fn run_until_terminated(runtime: &Runtime, config: Config) -> Result<(), Exit> {
    runtime.block_on(run(config, signals::terminated()))
}

/// Runs a node until `shutdown` is done or the node fails.
///
/// # Errors
/// The exit code and the line that tells the operator what happened.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Exit> {
    signals::outlive_file_size_limit();
    signals::outlive_hangups();
    let _drops = telemetry::report_dropped_lines();
    let data = Arc::new(open::data_dir(&config).await?);
    let http_listener = listen(&config.http_bind).await?;
    let raft_listener = listen(&config.raft_bind).await?;
    let identity = open::identity(&config, data.clone()).await?;
    announce(&config, &http_listener, &raft_listener);

    // Both ports answer while a large log is loaded: 503 where the answer is not known yet.
    let slot = NodeSlot::new(config.public_id.clone(), identity.cluster.is_some());
    let (stop_peers, peers_stopped) = watch::channel(());
    let (stop_clients, clients_stopped) = watch::channel(());
    let limits = HttpLimits { drain: DRAIN_TIMEOUT, ..HttpLimits::default() };
    // This raises the limit that the next one looks at.
    let limits = HttpLimits { connections: connection_limits::clients(), ..limits };
    let peer_limits = HttpLimits { upgrades: true, connections: connection_limits::peers(), ..limits.clone() };
    let router = network::router(slot.clone(), command_limits(&config));
    let peer_port = serve(raft_listener, router, &[], peer_limits, peers_stopped);
    let client_threads = ClientThreads::start().map_err(failure)?;
    let settings = ApiSettings {
        max_value_bytes: config.max_value_bytes,
        max_request_bytes: config.max_request_bytes,
        read_level: config.read_level,
        idempotency_window_ms: config.idempotency_window_ms,
        loopback_only: config.http_bind.is_loopback(),
        max_at_work: MAX_REQUESTS_AT_WORK,
        // The other connections are for requests that need not wait.
        max_waiting: limits.connections * 3 / 4,
    };
    let api = Api::new(slot.clone(), settings);
    let client_port = serve(http_listener, api, &client_threads.handles(), limits, clients_stopped);

    let mut shutdown = pin!(shutdown);
    let (opened, peers) = tokio::select! {
        opened = open::as_member(&config, data) => opened?,
        () = &mut shutdown => {
            tracing::info!("stopped while it was starting");
            return Ok(());
        }
    };
    let Opened { data, me, log, machine, snapshots, joins_anew, .. } = opened;
    let mut log_failed = log.failed();
    let disk = low_space::watch(data.disk.clone(), snapshots.clone());
    let parts = Parts { me, peers, log: log.clone(), machine, snapshots, clients: client_threads.first() };
    let (node, tasks) = Node::start(parts, raft_options(&config)).await.map_err(failure)?;
    slot.started(node.clone());

    let mut start = open::start(&config).await?;
    start.may_form &= !joins_anew;
    let finding = tokio::spawn({
        let node = node.clone();
        async move {
            match node.find_cluster(start).await {
                Ok(()) => std::future::pending().await,
                Err(error) => failure(error),
            }
        }
    });
    let ended = tokio::select! {
        () = &mut shutdown => Ok(()),
        failed = finding => Err(failed.unwrap_or_else(failure)),
        // The log names the file; Raft only knows that a write failed.
        Ok(reason) = async { log_failed.wait_for(Option::is_some).await.map(|r| r.clone().unwrap_or_default()) } => {
            Err(failure(reason))
        }
        reason = node.failed() => Err(failure(log.failed().borrow().clone().unwrap_or(reason))),
    };
    // After a failure the content of the disk is unknown, or Raft is gone: nothing can be handed over.
    ended?;
    tracing::info!("stopping");
    let stopped = timeout(STOP_TIMEOUT, async {
        node.hand_over(HAND_OVER_TIMEOUT).await;
        // Requests that wait for changes would wait for ever.
        node.watches().close();
        drop(stop_clients);
        join(client_port).await;
        drop((tasks, disk));
        node.shutdown().await;
        drop(stop_peers);
        join(peer_port).await;
        let closed = tokio::task::spawn_blocking(move || log.close()).await;
        closed.map_err(failure)?.map_err(|error| failure(format!("the log could not be closed: {error}")))
    });
    let result = stopped.await.unwrap_or_else(|_| {
        tracing::warn!("not everything ended in time; leaving it");
        Ok(())
    });
    drop(data);
    tracing::info!("stopped");
    result
}

async fn listen(bind: &config::Bind) -> Result<TcpListener, Exit> {
    config::listen(bind).await.map_err(failure)
}

fn serve(
    listener: TcpListener,
    handler: impl Handler,
    threads: &[Handle],
    limits: HttpLimits,
    mut stopped: watch::Receiver<()>,
) -> JoinHandle<()> {
    let thread = threads.first().cloned().unwrap_or_else(Handle::current);
    thread.spawn(http::serve(listener, handler, threads.to_vec(), limits, async move {
        // Ends when the sender is dropped.
        let _ = stopped.changed().await;
    }))
}

async fn join(port: JoinHandle<()>) {
    if let Err(error) = port.await {
        tracing::error!("a port did not end cleanly: {error}");
    }
}

fn failure(what: impl std::fmt::Display) -> Exit {
    Exit::error(EX_FAILURE, what.to_string())
}

fn command_limits(config: &Config) -> CommandLimits {
    CommandLimits { max_value_bytes: config.max_value_bytes, max_request_bytes: config.max_request_bytes }
}

fn raft_options(config: &Config) -> RaftOptions {
    RaftOptions {
        heartbeat_ms: config.heartbeat_ms,
        election_min_ms: config.election_min_ms,
        election_max_ms: config.election_max_ms,
        snapshot_threshold: config.snapshot_threshold,
        snapshot_bytes: LOG_BYTES_BETWEEN_SNAPSHOTS,
    }
}

/// Logs what an operator wants to see first: who this is, where it listens, and a command that works.
fn announce(config: &Config, http: &TcpListener, raft: &TcpListener) {
    let at = |listener: &TcpListener| listener.local_addr().map_or_else(|e| e.to_string(), |addr| addr.to_string());
    tracing::info!("hraftd {} starts as {}", env!("CARGO_PKG_VERSION"), config.public_id);
    tracing::info!("clients at {}, Raft at {}, data in {}", at(http), at(raft), config.data);
    tracing::info!("try: curl {}/hraftd/raft/stats", config.public_id.haddr);
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
}
