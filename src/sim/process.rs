//! The life of a process: what `server` does, but for the sockets.

use std::sync::Arc;

use openraft::storage::{RaftLogStorage, StorageHelper};

use super::disk::SimDisk;
use super::host::Host;
use super::net::{Net, Server};
use super::peers::SimPeers;
use super::world;
use crate::api::{Api, ApiSettings};
use crate::node::rpc::Peers;
use crate::node::{Node, NodeIdentity, NodeSlot, Parts, RaftOptions, ReadLevel, Start, ask_whether_removed};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::{ClusterId, Role};
use crate::state_machine::StateMachine;
use crate::storage::disk::{Disk, MemDisk};
use crate::storage::log::{LogOptions, LogStore};
use crate::storage::{ClusterHandle, Identity, IdentityStore, SnapshotStore};
use crate::watch::HistoryLimits;

/// How nodes of one run are configured.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub raft: RaftOptions,
    pub segment_bytes: u64,
    pub cache_bytes: usize,
    pub history: HistoryLimits,
    /// True where appends travel in streams.
    pub streams: bool,
    /// How fast or slow a machine's clock may be.
    pub drift_ppm: u32,
}

/// A node's process, or what is left of it.
#[derive(Debug)]
pub struct Process {
    pub host: Host,
    pub disk: SimDisk,
}

/// Ports are all that tells nodes apart here.
pub fn id(port: u16) -> PublicId {
    format!("127.0.0.1:{port},127.0.0.1:{}", port + 1000).parse().unwrap()
}

fn identity(public_id: PublicId) -> Identity {
    Identity { public_id, raft_id: world::random(), cluster: None, removed: None }
}

fn cluster_id() -> ClusterId {
    ClusterId(u128::from(world::random()) << 64 | u128::from(world::random()))
}

impl Process {
    /// Starts `hraftd --haddr :port --rjoin list` on this disk.
    pub fn start(net: &Net, port: u16, list: &[u16], role: Role, disk: MemDisk, settings: Settings) -> Self {
        let host = Host::new(port, world::rate(settings.drift_ppm));
        let disk = SimDisk::new(disk, host.clone());
        world::note("start", &[port.into()]);
        world::check(|seen| {
            seen.committed.started(port);
            Ok(())
        });
        let run = run(net.clone(), host.clone(), list.to_vec(), role, Arc::new(disk.clone()), settings);
        let ended = host.spawn(run);
        tokio::spawn({
            let host = host.clone();
            async move {
                // A dead one's end is no news.
                if let Ok(Err(why)) = ended.await
                    && !host.is_dead()
                {
                    world::fail(format!("node {port} ended: {why}"));
                }
            }
        });
        Self { host, disk }
    }
}

async fn run(
    net: Net,
    host: Host,
    list: Vec<u16>,
    role: Role,
    disk: Arc<dyn Disk>,
    settings: Settings,
) -> Result<(), String> {
    let port = host.name();
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (me, peers, log, machine, snapshots, joins_anew) = loop {
        let store = IdentityStore::new(disk.clone());
        let mut known = store.load().map_err(|e| text(&e))?;
        if known.is_none() {
            let new = identity(id(port));
            store.save(&new).map_err(|e| text(&e))?;
            known = Some(new);
        }
        let mut known = known.expect("made above");
        let options = LogOptions {
            segment_bytes: settings.segment_bytes,
            cache_bytes: settings.cache_bytes,
            prezero: false,
            inline: true,
            owner: Some(known.raft_id),
        };
        let mut log = LogStore::open(disk.clone(), options).map_err(|e| text(&e))?;
        if log.is_empty() {
            known.cluster = None;
        }
        let cluster = ClusterHandle::new(known.cluster);
        let snapshots = SnapshotStore::open(disk.clone(), cluster.clone()).map_err(|e| text(&e))?;
        let mut machine =
            StateMachine::open(snapshots.clone(), cluster.clone(), settings.history).map_err(|e| text(&e))?;
        let state = log.get_log_state().await.map_err(|e| text(&e))?;
        snapshots.check_log(state.last_purged_log_id.as_ref()).map_err(|e| text(&e))?;
        log.check_end(snapshots.current().and_then(|file| file.meta().last_log_id)).map_err(|e| text(&e))?;
        let me = Arc::new(NodeIdentity::new(store, known, cluster, role, format!("disk {port}"), world::random()));
        let peers: Arc<dyn Peers> = Arc::new(SimPeers { net: net.clone(), me: me.clone(), streams: settings.streams });
        if !log.is_empty() && me.removed().borrow().is_none() {
            let mut helper = StorageHelper::new(&mut log, &mut machine).with_id(me.raft_id());
            let membership = helper.get_membership().await.map_err(|e| text(&e))?;
            let members: Vec<_> =
                membership.effective().nodes().map(|(raft_id, member)| (*raft_id, member.id.clone())).collect();
            if let Some(index) = ask_whether_removed(&peers, me.raft_id(), members).await {
                me.set_removed(index).map_err(|e| text(&e))?;
            }
        }
        if me.removed().borrow().is_none() || list.iter().all(|other| *other == port) {
            break (me, peers, log, machine, snapshots, false);
        }
        if log.is_empty() {
            me.join_anew();
            break (me, peers, log, machine, snapshots, true);
        }
        // It was removed, and joins anew as another node.
        let removed = *me.removed().borrow();
        drop((me, peers, machine, snapshots, log));
        let new = Identity { removed, ..identity(id(port)) };
        IdentityStore::new(disk.clone()).save(&new).map_err(|e| text(&e))?;
        for name in disk.list().map_err(|e| text(&e))? {
            if name != "identity" {
                disk.remove(&name).map_err(|e| text(&e))?;
            }
        }
        disk.sync_dir().map_err(|e| text(&e))?;
        world::check(|seen| {
            seen.committed.started(port);
            Ok(())
        });
    };
    let mut failed = log.failed();
    let starting = NodeSlot::new(id(port), !log.is_empty());
    let parts = Parts { me, peers, log, machine, snapshots, clients: tokio::runtime::Handle::current() };
    let (node, _tasks) = Node::start(parts, settings.raft).await.map_err(|e| text(&e))?;
    starting.started(node.clone());
    let api = ApiSettings {
        max_value_bytes: 1 << 20,
        max_request_bytes: 8 << 20,
        read_level: ReadLevel::Linearizable,
        idempotency_window_ms: 600_000,
        loopback_only: false,
        max_at_work: 1_000,
        max_waiting: 1_000,
    };
    net.up(Server { host, node: node.clone(), api: Api::new(starting, api) });
    let first = list.first().copied();
    let start = Start {
        others: list.iter().filter(|other| **other != port).map(|other| HostPort::new("127.0.0.1", *other)).collect(),
        may_form: !joins_anew && first.is_none_or(|first| first == port),
        first: first.map(|first| HostPort::new("127.0.0.1", first)),
        new_cluster: cluster_id(),
    };
    let finding = async {
        match node.find_cluster(start).await {
            Ok(()) => std::future::pending().await,
            Err(error) => error.to_string(),
        }
    };
    tokio::select! {
        biased;
        why = finding => Err(why),
        failed = failed.wait_for(Option::is_some) => Err(format!("{:?}", failed.map(|why| why.clone()))),
        why = node.failed() => Err(why),
    }
}
