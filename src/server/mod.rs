//! The sole wiring: opens the data directory, serves both ports, runs the life of a process ([`crate::start`]) behind
//! them, and takes it all down again in an order that loses nothing.
//!
//! [`run`] takes a configuration and a shutdown future, so that tests can run nodes in-process.

mod backups;
mod check;
mod client_threads;
mod connection_limits;
mod low_space;
mod machine_limits;
mod notify;
mod reload;
mod security;
mod settings;
mod setup;
mod signals;
mod tokens;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::api::{Api, ApiSettings};
use crate::config::{self, Config};
use crate::exit::{EX_FAILURE, Exit};
use crate::http::{self, Handler, HttpLimits};
use crate::network::{self, CommandLimits};
use crate::node::NodeSlot;
use crate::observe::{PulseTasks, Pulses, RequestLogNow, SecurityNumbers};
use crate::start;
use crate::telemetry;
use client_threads::ClientThreads;
use notify::Notifier;
use reload::Reloads;
use security::Security;

pub use check::check_config;
pub use machine_limits::check as check_machine_limits;

/// How long requests in flight may take to end on a stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Requests that a node works on at a time. It is some ten times what keeps a disk and two cores busy, and a queue of 0.2 s
/// at 20,000 requests a second. (etcd refuses beyond 5,000 entries that are not applied yet.)
const MAX_REQUESTS_AT_WORK: usize = 4096;

/// A thread that has had no turn for so many times the longest election timeout stands still.
const MAX_TURN_ELECTIONS: u32 = 5;

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
    // Signals are the runtime's.
    let terminated = {
        let _runtime = runtime.enter();
        signals::terminated()
    };
    runtime.block_on(run(config, terminated))
}

/// Runs a node until `shutdown` is done or the node fails.
///
/// # Errors
/// The exit code and the line that tells the operator what happened.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Exit> {
    signals::outlive_file_size_limit();
    let notifier = Notifier::start();
    let reloads = Reloads::start(notifier.clone());
    let _drops = telemetry::report_dropped_lines();
    let numbers = Arc::new(SecurityNumbers::default());
    let security = Security::open(&config, &reloads, &numbers)?;
    let root = tokens::root_tokens(config.root_tokens.as_ref(), &reloads, &numbers)?;
    let setup = Arc::new(setup::setup(&config, security.peers.clone()).await?);
    let http_listener = listen(&config.http_bind).await?;
    let raft_listener = listen(&config.raft_bind).await?;
    let identity = start::identity(&setup).await?;
    if let Some(peers) = &security.peers {
        peers.speak_for(identity.raft_id).map_err(failure)?;
    }
    announce(&config, &http_listener, &raft_listener, security.scheme());

    // Both ports answer while a large log is loaded: 503 where the answer is not known yet.
    let slot = NodeSlot::new(config.public_id.clone(), identity.cluster.is_some());
    tokens::close_if_needed(&slot, &setup, config.root_tokens.as_ref()).await?;
    let is_joining =
        security.peers.is_some() && tokens::close_until_caught_up(&slot, &setup, identity.cluster.is_none()).await?;
    let (stop_peers, peers_stopped) = watch::channel(());
    let (stop_clients, clients_stopped) = watch::channel(());
    let limits = HttpLimits { drain: DRAIN_TIMEOUT, ..HttpLimits::default() };
    // This raises the limit that the next one looks at.
    let (connections, excess) = connection_limits::clients();
    let limits = HttpLimits { connections, excess, ..limits };
    let places = Some(connection_limits::peers());
    let client_threads = ClientThreads::start().map_err(failure)?;
    let (pulses, _turns) = pulses(&config, &client_threads);
    let door = security.raft_door(client_threads.handles());
    let numbers = Arc::default();
    let peer_limits = HttpLimits { upgrades: true, connections: usize::MAX, places, door, numbers, ..limits.clone() };
    let limits = HttpLimits { door: security.client_door(limits.idle_timeout), ..limits };
    let router = network::router(slot.clone(), command_limits(&config), connection_limits::append_streams());
    let peer_port = serve(raft_listener, router, &[], peer_limits, peers_stopped);
    let request_log = RequestLogNow::default();
    request_log.set(config.request_log);
    let alive = (pulses, Duration::from_millis(config.election_max_ms) * MAX_TURN_ELECTIONS);
    let settings = ApiSettings {
        max_value_bytes: config.max_value_bytes,
        max_request_bytes: config.max_request_bytes,
        read_level: config.read_level,
        idempotency_window_ms: config.idempotency_window_ms,
        hosts: setup::hosts(&config),
        root,
        sessions: security.sessions.clone(),
        max_at_work: MAX_REQUESTS_AT_WORK,
        // The other connections are for requests that need not wait.
        max_waiting: limits.connections * 3 / 4,
        port: limits.numbers.clone(),
        security: security.numbers.clone(),
        https: security.scheme() == "https",
        log: request_log.clone(),
        alive: alive.clone(),
    };
    let api = Api::new(slot.clone(), settings);
    let client_port = serve(http_listener, api, &client_threads.handles(), limits, clients_stopped);

    notifier.loading();
    let mut shutdown = pin!(shutdown);
    let (opened, peers) = tokio::select! {
        opened = start::as_member(&setup, &slot) => opened?,
        () = &mut shutdown => {
            tracing::info!("stopped while it was starting");
            return Ok(());
        }
    };
    let space = low_space::watch(setup.disk.clone(), opened.snapshots.clone());
    let mut running = opened.run(peers, &setup, client_threads.first()).await?;
    running.node.log_requests(request_log.clone());
    running.node.has_flags(setup::common_flags(&config));
    running.node.tell_security(security.numbers.clone());
    running.node.set_quota(config.quota_bytes);
    let node = running.node.clone();
    settings::Live { request_log, set_quota: Box::new(move |bytes| node.set_quota(bytes)) }
        .follow(config.clone(), &reloads);
    slot.started(running.node.clone());
    let _backups = config.backups.clone().map(|plan| backups::start(running.node.clone(), plan));
    notifier.ready();
    let _telling = AbortOnDropHandle::new(tokio::spawn(notifier.clone().follow(running.node.clone(), alive)));
    let _catching_up = is_joining.then(|| tokens::forget_once_caught_up(&slot, &setup));
    let _turning_on = tokens::turn_on(&running.node, config.root_tokens.as_ref());
    tokio::select! {
        () = &mut shutdown => {}
        // After a failure the content of the disk is unknown, or Raft is gone: nothing can be handed over.
        // One that begins anew takes no part any more.
        failed = running.ended(&setup) => return Err(failed),
    }
    notifier.stopping();
    tracing::info!("stopping");
    let close_clients = async {
        drop(stop_clients);
        join(client_port).await;
        drop(space);
    };
    let close_peers = async {
        drop(stop_peers);
        join(peer_port).await;
    };
    let result = running.stop(close_clients, close_peers).await;
    tracing::info!("stopped");
    result
}

async fn listen(bind: &config::Bind) -> Result<Vec<TcpListener>, Exit> {
    config::listen(bind).await.map_err(failure)
}

fn serve(
    listeners: Vec<TcpListener>,
    handler: impl Handler,
    threads: &[Handle],
    limits: HttpLimits,
    mut stopped: watch::Receiver<()>,
) -> JoinHandle<()> {
    let thread = threads.first().cloned().unwrap_or_else(Handle::current);
    thread.spawn(http::serve(listeners, handler, threads.to_vec(), limits, async move {
        // Ends when the sender is dropped.
        let _ = stopped.changed().await;
    }))
}

/// Has Raft's threads and each of the clients' take turns, for `GET /livez`.
fn pulses(config: &Config, clients: &ClientThreads) -> (Pulses, PulseTasks) {
    let clients = clients.handles().into_iter().map(|handle| ("clients".to_owned(), handle));
    let runtimes = std::iter::once(("Raft".to_owned(), Handle::current())).chain(clients);
    Pulses::begin(Duration::from_millis(config.election_max_ms), runtimes.collect())
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

/// Logs what an operator wants to see first: who this is, where it listens, and a command that works.
fn announce(config: &Config, http: &[TcpListener], raft: &[TcpListener], scheme: &str) {
    let at = |listener: &TcpListener| listener.local_addr().map_or_else(|e| e.to_string(), |addr| addr.to_string());
    let at = |listeners: &[TcpListener]| listeners.iter().map(at).collect::<Vec<_>>().join(" and ");
    tracing::info!("hraftd {} starts as {}", env!("CARGO_PKG_VERSION"), config.public_id);
    tracing::info!("clients at {}, Raft at {}, data in {}", at(http), at(raft), config.data);
    match scheme {
        "https" => tracing::info!("try: curl --cacert CA https://{}/hraftd/raft/stats", config.public_id.haddr),
        _ => tracing::info!("try: curl {}/hraftd/raft/stats", config.public_id.haddr),
    }
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
}
