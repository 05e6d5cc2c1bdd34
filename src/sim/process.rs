//! A process: [`crate::start`], as `server` runs it, on the simulated network and disk.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::disk::{SimDisk, SlowDisk};
use super::host::Host;
use super::net::{Net, Server};
use super::observer::StateObserver;
use super::peers::SimPeers;
use super::world;
use crate::api::{Api, ApiSettings, Hosts, RootTokens};
use crate::command::Grants;
use crate::exit::Exit;
use crate::formats::Speaks;
use crate::node::rpc::Peers;
use crate::node::{NodeIdentity, NodeSlot, RaftOptions, ReadLevel, Start};
use crate::node_id::{HostPort, PublicId};
use crate::observe::{Pulses, RequestLogNow};
use crate::raft_types::{ClusterId, Role};
use crate::secret::{Generated, Token};
use crate::start::{self, Setup};
use crate::state_machine::Observer;
use crate::storage::disk::MemDisk;
use crate::storage::log::LogOptions;
use crate::storage::{ClusterHandle, IdentityStore};
use crate::watch::HistoryLimits;

/// As in `server`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// A host's Raft port is its client port and this.
pub const RAFT_PORTS: u16 = 1_000;

/// The root token of all nodes that have one.
pub const ROOT: &str = "hrt_rwgy5jmmon67w6qxjxyfvxg55sozibaywortj5a2e5ct7tfu43zdy2pvdip7o4uzecuk3ya";

fn root_tokens(closed: bool) -> RootTokens {
    let root = closed.then(|| Token::parse(ROOT).expect("a token that hraftd made"));
    RootTokens::new(root.into_iter().collect())
}

/// How nodes of one run are configured.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub raft: RaftOptions,
    pub segment_bytes: u64,
    pub cache_bytes: usize,
    pub history: HistoryLimits,
    /// True where appends travel in streams.
    pub streams: bool,
    /// True where nodes of the first version are among them.
    pub mixed: bool,
    /// How fast or slow a machine's clock may be.
    pub drift_ppm: u32,
    /// The smallest `--quota` in bytes; 0: some have one that nothing reaches.
    pub quota: u64,
    /// True where nodes have a root token, and turn authentication on.
    pub closed: bool,
}

/// The command line of a process.
#[derive(Debug, Clone)]
pub struct Args {
    /// `--haddr`, the name of its host.
    pub port: u16,
    /// `--hadv`: the client address that it tells others, which may be another's.
    pub hadv: u16,
    /// `--rjoin`.
    pub list: Vec<u16>,
    /// `--bootstrap-expect`.
    pub expect: Option<usize>,
    pub role: Role,
    /// What its version understands.
    pub speaks: Speaks,
    pub settings: Settings,
}

/// A node's process, or what is left of it.
#[derive(Debug)]
pub struct Process {
    pub host: Host,
    pub disk: SimDisk,
    /// Asks it to stop, once.
    stop: Option<oneshot::Sender<()>>,
    end: Arc<Mutex<End>>,
}

/// The end of a process.
#[derive(Debug, Default)]
struct End {
    /// It may end by itself: its directory was meddled with, or its disk fails.
    may_come: bool,
    /// It has ended by itself.
    came: Option<Result<(), Exit>>,
}

/// Ports are all that tells nodes apart here.
pub fn id(port: u16) -> PublicId {
    id_at(port, port)
}

fn id_at(hadv: u16, port: u16) -> PublicId {
    format!("127.0.0.1:{hadv},127.0.0.1:{}", port + RAFT_PORTS).parse().unwrap()
}

fn cluster_id() -> ClusterId {
    ClusterId(u128::from(world::random()) << 64 | u128::from(world::random()))
}

impl Process {
    /// Starts `hraftd` on this disk.
    pub fn start(net: &Net, args: &Args, disk: MemDisk) -> Self {
        let port = args.port;
        let host = Host::new(port, world::rate(args.settings.drift_ppm), args.list.iter().all(|other| *other == port));
        let disk = SimDisk::new(disk, host.clone());
        world::note("start", &[port.into()]);
        let setup = Arc::new(setup(net, args, &host, disk.clone()));
        let (stop, stopped) = oneshot::channel();
        let own = (args.settings.closed, args.settings.quota);
        let life = host.spawn(life(net.clone(), host.clone(), (setup, own), stopped));
        let end = Arc::new(Mutex::new(End::default()));
        tokio::spawn({
            let (net, host, end) = (net.clone(), host.clone(), end.clone());
            async move {
                let Ok(how) = life.await else { return };
                // A dead one's end is no news.
                if host.is_dead() {
                    return;
                }
                let mut end = end.lock();
                if let Err(exit) = &how {
                    world::note("ended", &[port.into(), u64::from(exit.code.unsigned_abs())]);
                    world::check(|seen| seen.starts.stopped(port, exit));
                    if !end.may_come {
                        world::fail(format!("node {port} ended: {exit:?}"));
                    }
                }
                end.came = Some(how);
                drop(end);
                // With the process all it had begun ends, and its sockets are closed.
                host.kill();
                net.down(port, false);
            }
        });
        Self { host, disk, stop: Some(stop), end }
    }

    /// Sends SIGTERM.
    pub fn stop(&mut self) {
        // One that has ended hears nothing.
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// It may end by itself from now on: then that is no fault.
    pub fn may_end(&self) {
        self.end.lock().may_come = true;
    }

    /// How it ended by itself, if it did.
    pub fn end(&self) -> Option<Result<(), Exit>> {
        self.end.lock().came.clone()
    }
}

fn setup(net: &Net, args: &Args, host: &Host, disk: SimDisk) -> Setup {
    let &Args { port, hadv, expect, role, settings, .. } = args;
    let peers = {
        let (net, host, speaks) = (net.clone(), (port, host.number()), args.speaks.clone());
        move |me: Arc<NodeIdentity>| {
            me.set_speaks(speaks.clone());
            let peers: Arc<dyn Peers> = Arc::new(SimPeers { net: net.clone(), me, host, streams: settings.streams });
            Ok(peers)
        }
    };
    let observe = {
        let host = host.clone();
        move |cluster: &ClusterHandle| {
            let observer: Arc<dyn Observer> = Arc::new(StateObserver::new(host.clone(), cluster.clone()));
            Some(observer)
        }
    };
    let list = args.list.clone();
    let find = move || {
        let first = list.first().copied();
        Start {
            others: list.iter().filter(|other| **other != port).map(|other| address(*other)).collect(),
            // A name that leads to others too is not this node's.
            may_form: expect.is_none() && first.is_none_or(|first| first == port),
            first: first.map(address),
            expect,
            new_cluster: cluster_id(),
        }
    };
    Setup {
        disk: disk.disk(),
        place: format!("disk {port}"),
        public_id: id_at(hadv, port),
        role,
        log: LogOptions {
            segment_bytes: settings.segment_bytes,
            cache_bytes: settings.cache_bytes,
            prezero: false,
            scheduler: Some(Arc::new(SlowDisk)),
            owner: None,
            keeps_committed: true,
        },
        history: settings.history,
        moved: false,
        raft: settings.raft,
        peers: Box::new(peers),
        observe: Box::new(observe),
        find: Box::new(find),
        random: world::random,
    }
}

pub fn address(port: u16) -> HostPort {
    HostPort::new("127.0.0.1", port)
}

async fn life(
    net: Net,
    host: Host,
    (setup, own): (Arc<Setup>, (bool, u64)),
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), Exit> {
    // As `main` does.
    while part_of_life(&net, &host, (&setup, own), &mut stopped).await? == Again::Yes {}
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
    (setup, (closed, quota)): (&Arc<Setup>, (bool, u64)),
    mut stopped: &mut oneshot::Receiver<()>,
) -> Result<Again, Exit> {
    let name = host.name();
    let identity = start::identity(setup).await?;
    let slot = NodeSlot::new(setup.public_id.clone(), identity.cluster.is_some());
    if closed || IdentityStore::new(setup.disk.clone()).is_closed().is_ok_and(|closed| closed) {
        slot.close();
        slot.close_until_ready();
    }
    let settings = ApiSettings {
        sessions: Default::default(),
        root: root_tokens(closed),
        max_value_bytes: 1 << 20,
        max_request_bytes: 8 << 20,
        read_level: ReadLevel::Linearizable,
        idempotency_window_ms: 600_000,
        hosts: Hosts::default(),
        max_at_work: 1_000,
        max_waiting: 1_000,
        port: Arc::default(),
        security: Arc::default(),
        https: false,
        log: RequestLogNow::default(),
        alive: (Pulses::none(), Duration::from_secs(1)),
    };
    let server = Server::new(host.clone(), slot.clone(), Some(Api::new(slot.clone(), settings)));
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
    if closed {
        let _turns_it_on = crate::task::spawn(running.node.clone().turn_on_authentication(Grants::default()));
    }
    // Another on each node: each leader changes it, up and down.
    if quota > 0 {
        running.node.set_quota(quota + world::below(quota));
    } else if world::random().is_multiple_of(2) {
        running.node.set_quota((1 << 40) + u64::from(setup.public_id.haddr.port));
    }
    let again = tokio::select! {
        biased;
        ended = running.ended(setup) => if ended.is_again() { Again::Yes } else { return Err(ended) },
        Ok(()) = &mut stopped => Again::No,
    };
    world::note("stopping", &[name.into()]);
    running.stop(server.drain(DRAIN_TIMEOUT), async { net.down(name, false) }).await?;
    Ok(again)
}
