//! What the start of a process ([`crate::start`]) depends on, from the configuration.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::{LOG_BYTES_BETWEEN_SNAPSHOTS, connection_limits, failure};
use crate::api::Hosts;
use crate::config::{Config, DataPlace, TlsCertificate, TlsSettings};
use crate::exit::Exit;
use crate::network::HttpPeers;
use crate::node::rpc::{LanedPeers, Peers};
use crate::node::{RaftOptions, Start};
use crate::raft_types::ClusterId;
use crate::start::Setup;
use crate::storage::DataDir;
use crate::storage::log::LogOptions;
use crate::tls::PeerTls;
use crate::watch::HistoryLimits;

/// Opens and locks the data directory.
pub(super) async fn setup(config: &Config, tls: Option<Arc<PeerTls>>) -> Result<Setup, Exit> {
    let data = match config.data.clone() {
        DataPlace::Memory => DataDir::in_memory(),
        // The system's refusal here is about the directory that was named, not about the disk.
        DataPlace::Dir(path) => spawn_blocking(move || DataDir::open(&path))
            .await
            .map_err(|error| failure(format!("opening the data directory: {error}")))?
            .map_err(|error| Exit::config(format!("{}: {error}", config.data_label)))?,
    };
    Ok(Setup {
        disk: data.disk,
        place: config.data.to_string(),
        public_id: config.public_id.clone(),
        role: config.role,
        log: LogOptions { prezero: matches!(config.data, DataPlace::Dir(_)), ..LogOptions::default() },
        history: HistoryLimits { events: config.watch_history, ..HistoryLimits::default() },
        moved: config.moved,
        raft: raft_options(config),
        peers: Box::new(move |me| {
            let way = Arc::new(HttpPeers::new(me, tls.clone()));
            Ok(Arc::new(LanedPeers::new(way, connection_limits::requests_to_a_peer())) as Arc<dyn Peers>)
        }),
        observe: Box::new(|_| None),
        find: Box::new({
            let config = config.clone();
            move || find(&config)
        }),
        random: rand::random,
    })
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

/// The hosts that requests may name. Other machines know this one by names that it cannot guess: `--allow-host` has those.
pub(super) fn hosts(config: &Config) -> Hosts {
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let id = &config.public_id;
    let told = [&id.haddr, &id.raddr].into_iter().chain(&config.rjoin).map(|addr| addr.host.clone());
    let bound = config.http_bind.host.clone();
    let mut allowed = config.allow_hosts.clone();
    // Clients call this node by the names in its certificate.
    if let Some(TlsSettings { certificate: TlsCertificate::Auto(names), .. }) = &config.security.tls {
        allowed.extend(names.iter().cloned());
    }
    Hosts::new(config.http_bind.is_loopback(), &allowed, told.chain([own]).chain(bound))
}

/// The part of the command line that is about finding a cluster. Names are looked up.
fn find(config: &Config) -> Start {
    let first = config.rjoin.first();
    Start {
        others: config.rjoin.iter().filter(|addr| !config.is_this_node(addr)).cloned().collect(),
        may_form: config.bootstrap_expect.is_none() && first.is_none_or(|first| config.is_certainly_this_node(first)),
        first: first.cloned(),
        expect: config.bootstrap_expect,
        new_cluster: ClusterId(rand::random()),
    }
}

/// The flags that are to be the same at all nodes, and what they say here.
pub(super) fn common_flags(config: &Config) -> Vec<(String, String)> {
    let ms = |ms: u64| format!("{ms}ms");
    [
        ("--idempotency-window", ms(config.idempotency_window_ms)),
        ("--max-request", config.max_request_bytes.to_string()),
        ("--max-value", config.max_value_bytes.to_string()),
        ("--watch-history", config.watch_history.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
