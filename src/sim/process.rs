//! A process: [`crate::start`], as `server` runs it, on the simulated network and disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::disk::SimDisk;
use super::host::Host;
use super::net::{Net, Server};
use super::peers::SimPeers;
use super::world;
use crate::api::{Api, ApiSettings, Hosts};
use crate::exit::Exit;
use crate::node::rpc::Peers;
use crate::node::{NodeIdentity, NodeSlot, RaftOptions, ReadLevel, Start};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::{ClusterId, Role};
use crate::start::{self, Setup};
use crate::storage::disk::{Disk as _, MemDisk};
use crate::storage::log::LogOptions;
use crate::watch::HistoryLimits;

/// As in `server`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

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
    /// Asks it to stop, once.
    stop: Option<oneshot::Sender<()>>,
    /// Becomes true when it has ended by itself.
    ended: Arc<AtomicBool>,
}

/// Ports are all that tells nodes apart here.
pub fn id(port: u16) -> PublicId {
    format!("127.0.0.1:{port},127.0.0.1:{}", port + 1000).parse().unwrap()
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
        let setup = Arc::new(setup(net, port, list, role, disk.clone(), settings));
        let (stop, stopped) = oneshot::channel();
        let life = host.spawn(life(net.clone(), host.clone(), setup, stopped));
        let ended = Arc::new(AtomicBool::new(false));
        tokio::spawn({
            let (host, ended) = (host.clone(), ended.clone());
            async move {
                let how = life.await;
                // A dead one's end is no news.
                if host.is_dead() {
                    return;
                }
                ended.store(true, Ordering::Relaxed);
                if let Ok(Err(exit)) = how {
                    world::fail(format!("node {port} ended: {exit:?}"));
                }
            }
        });
        Self { host, disk, stop: Some(stop), ended }
    }

    /// Sends SIGTERM.
    pub fn stop(&mut self) {
        // One that has ended hears nothing.
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// True once it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

fn setup(net: &Net, port: u16, list: &[u16], role: Role, disk: SimDisk, settings: Settings) -> Setup {
    let peers = {
        let (net, disk) = (net.clone(), disk.clone());
        move |me: Arc<NodeIdentity>| {
            let has_snapshot = disk.list().is_ok_and(|names| names.iter().any(|name| name.starts_with("snapshot-")));
            if !has_snapshot {
                // The directory was read, perhaps anew, and nothing is in its state.
                world::check(|seen| {
                    seen.committed.started(port);
                    Ok(())
                });
            }
            let peers: Arc<dyn Peers> = Arc::new(SimPeers { net: net.clone(), me, streams: settings.streams });
            Ok(peers)
        }
    };
    let list = list.to_vec();
    let find = move || {
        let first = list.first().copied();
        Start {
            others: list.iter().filter(|other| **other != port).map(|other| address(*other)).collect(),
            may_form: first.is_none_or(|first| first == port),
            first: first.map(address),
            expect: None,
            new_cluster: cluster_id(),
        }
    };
    Setup {
        disk: Arc::new(disk),
        place: format!("disk {port}"),
        public_id: id(port),
        role,
        log: LogOptions {
            segment_bytes: settings.segment_bytes,
            cache_bytes: settings.cache_bytes,
            prezero: false,
            inline: true,
            owner: None,
            keeps_committed: true,
        },
        history: settings.history,
        moved: false,
        raft: settings.raft,
        peers: Box::new(peers),
        find: Box::new(find),
        random: world::random,
    }
}

fn address(port: u16) -> HostPort {
    HostPort::new("127.0.0.1", port)
}

async fn life(net: Net, host: Host, setup: Arc<Setup>, mut stopped: oneshot::Receiver<()>) -> Result<(), Exit> {
    // As `main` does.
    while part_of_life(&net, &host, &setup, &mut stopped).await? == Again::Yes {}
    Ok(())
}

/// Whether the process is to be started again.
#[derive(PartialEq, Eq)]
enum Again {
    Yes,
    No,
}

async fn part_of_life(
    net: &Net,
    host: &Host,
    setup: &Arc<Setup>,
    mut stopped: &mut oneshot::Receiver<()>,
) -> Result<Again, Exit> {
    let name = host.name();
    let identity = start::identity(setup).await?;
    let slot = NodeSlot::new(setup.public_id.clone(), identity.cluster.is_some());
    let settings = ApiSettings {
        max_value_bytes: 1 << 20,
        max_request_bytes: 8 << 20,
        read_level: ReadLevel::Linearizable,
        idempotency_window_ms: 600_000,
        hosts: Hosts::default(),
        max_at_work: 1_000,
        max_waiting: 1_000,
    };
    let server = Server::new(host.clone(), slot.clone(), Api::new(slot.clone(), settings));
    net.up(server.clone());
    let (opened, peers) = tokio::select! {
        biased;
        opened = start::as_member(setup, &slot) => opened?,
        Ok(()) = &mut stopped => {
            net.down(name, false);
            return Ok(Again::No);
        }
    };
    let mut running = opened.run(peers, setup, tokio::runtime::Handle::current()).await?;
    slot.started(running.node.clone());
    let again = tokio::select! {
        biased;
        ended = running.ended(setup) => if ended.is_again() { Again::Yes } else { return Err(ended) },
        Ok(()) = &mut stopped => Again::No,
    };
    world::note("stopping", &[name.into()]);
    running.stop(server.drain(DRAIN_TIMEOUT), async { net.down(name, false) }).await?;
    Ok(again)
}
