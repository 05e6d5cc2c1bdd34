//! Nodes in one process, on the network of the simulation ([`crate::sim`]): no socket, no disk, and time that can be
//! paused. There is no run of it here, so nothing is late or lost but what a test says.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::command::{Command, Reply};
use crate::formats::Speaks;
use crate::node::rpc::*;
use crate::node::{
    Found, Node, NodeError, NodeIdentity, NodeSlot, Parts, RaftOptions, ReadLevel, ReadOptions, Start, Tasks, Written,
};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::alias::{SnapshotMeta, Vote};
use crate::raft_types::{ClusterId, RaftId, Role};
use crate::sim::clock::TRUE_RATE;
use crate::sim::host::Host;
use crate::sim::net::{Net as Wire, Server};
use crate::sim::peers::SimPeers;
use crate::sim::process::address;
use crate::state_machine::StateMachine;
use crate::storage::disk::MemDisk;
use crate::storage::log::{AtOnce, LogOptions, LogStore};
use crate::storage::{ClusterHandle, Identity, IdentityStore, SnapshotFile, SnapshotStore};

pub(super) use crate::sim::process::id;

/// The network, and what a test wants to be lost on it, or counts.
#[derive(Debug, Default)]
pub(super) struct Net {
    wire: Wire,
    /// From where to where each connection is refused: a sender knows that nothing was received.
    cut: Mutex<HashSet<(u16, u16)>>,
    /// Ports that lead to one of these nodes after the other, as a balancer does.
    balanced: Mutex<BTreeMap<u16, VecDeque<u16>>>,
    /// Nodes that get nothing of the log.
    starved: Mutex<HashSet<u16>>,
    /// From where to where no entries get through, but heartbeats.
    holes: Mutex<HashSet<(u16, u16)>>,
    /// Every so many answers to a forwarded write one is lost; 0: none.
    lose_nth: AtomicU64,
    /// Answers to reads that are still to be lost.
    lose_reads: AtomicU64,
    answers: AtomicU64,
    /// How many snapshots were sent and installed.
    installed: AtomicU64,
    /// Requests with forwarded writes that are under way, and the most that were at a time.
    forwarding: AtomicU64,
    most_forwarding: AtomicU64,
    /// What nodes tell that are asked for their events, and how often they were asked.
    told: Mutex<BTreeMap<u16, (Told, u64)>>,
}

/// What a node tells in place of its events.
#[derive(Debug, Clone)]
pub(super) enum Told {
    /// This, again and again, and at once.
    This(Page),
    /// Nothing: it never answers.
    Nothing,
}

/// The way to other nodes, but for what the test wants to be lost.
#[derive(Debug)]
struct TestPeers {
    net: Arc<Net>,
    port: u16,
    peers: SimPeers,
}

impl Net {
    /// Cuts or heals both directions between two nodes.
    pub(super) fn set_cut(&self, a: u16, b: u16, cut: bool) {
        let mut cuts = self.cut.lock();
        for pair in [(a, b), (b, a)] {
            if cut {
                cuts.insert(pair);
            } else {
                cuts.remove(&pair);
            }
        }
    }

    /// Entries, heartbeats and snapshots that are sent to a node get lost, or do so no more; all else arrives.
    pub(super) fn set_starved(&self, port: u16, starved: bool) {
        let mut all = self.starved.lock();
        if starved {
            all.insert(port)
        } else {
            all.remove(&port)
        };
    }

    /// From now on a name leads to these nodes.
    pub(super) fn set_name(&self, name: u16, ports: &[u16]) {
        self.wire.set_name(name, ports.to_vec());
    }

    /// From now on a balancer leads to these nodes.
    pub(super) fn set_balancer(&self, port: u16, to: &[u16]) {
        self.balanced.lock().insert(port, to.iter().copied().collect());
    }

    /// Entries that one node sends to another get lost, or do so no more; heartbeats arrive.
    pub(super) fn set_hole(&self, from: u16, to: u16, hole: bool) {
        let mut all = self.holes.lock();
        if hole {
            all.insert((from, to))
        } else {
            all.remove(&(from, to))
        };
    }

    fn starves(&self, port: u16) -> bool {
        self.starved.lock().contains(&port)
    }

    /// From now on so many answers to writes that were passed on get lost.
    pub(super) fn lose_every_nth_answer(&self, nth: u64) {
        self.lose_nth.store(nth, Ordering::Relaxed);
    }

    /// So many of the next answers to reads that were passed on get lost.
    pub(super) fn lose_answers_to_reads(&self, count: u64) {
        self.lose_reads.store(count, Ordering::Relaxed);
    }

    fn loses_read(&self, request: &PeerRequest) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        matches!(request, PeerRequest::Read { .. } | PeerRequest::WeakIndex)
            && self.lose_reads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    fn loses(&self) -> bool {
        let nth = self.lose_nth.load(Ordering::Relaxed);
        nth > 0 && self.answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(nth)
    }

    /// From now on a node tells this in place of its events.
    pub(super) fn tells(&self, port: u16, told: Told) {
        self.told.lock().insert(port, (told, 0));
    }

    /// How often a node was asked for its events that tells something else.
    pub(super) fn asked_for_events(&self, port: u16) -> u64 {
        self.told.lock().get(&port).map_or(0, |(_, count)| *count)
    }

    /// What it tells in place of its events.
    fn told(&self, port: u16) -> Option<Told> {
        let mut all = self.told.lock();
        let (told, count) = all.get_mut(&port)?;
        *count += 1;
        Some(told.clone())
    }

    /// How many snapshots were sent and installed.
    pub(super) fn installed(&self) -> u64 {
        self.installed.load(Ordering::Relaxed)
    }

    /// The most requests with forwarded writes that were under way at a time.
    pub(super) fn most_forwarding(&self) -> u64 {
        self.most_forwarding.load(Ordering::Relaxed)
    }

    /// A node that is up.
    pub(super) fn node(&self, port: u16) -> Option<Node> {
        self.wire.server(port)?.node()
    }

    /// Where this leads, this time.
    fn balance(&self, addr: &HostPort) -> HostPort {
        let port = self.balanced.lock().get_mut(&addr.port).map_or(addr.port, |nodes| {
            nodes.rotate_left(1);
            nodes[0]
        });
        address(port)
    }

    /// True where this request gets lost on its way.
    fn loses_request(&self, from: u16, to: u16, request: &PeerRequest) -> bool {
        match request {
            PeerRequest::Append(rpc) => {
                self.starves(to) || (!rpc.entries.is_empty() && self.holes.lock().contains(&(from, to)))
            }
            _ => false,
        }
    }
}

impl TestPeers {
    fn is_cut(&self, port: u16) -> bool {
        self.net.cut.lock().contains(&(self.port, port))
    }
}

impl Peers for TestPeers {
    fn call(
        &self,
        target: &Target,
        request: PeerRequest,
        time: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        let net = self.net.clone();
        if self.is_cut(target.id.haddr.port) {
            return refused();
        }
        if net.loses_request(self.port, target.id.haddr.port, &request) || net.loses_read(&request) {
            return lost();
        }
        if matches!(request, PeerRequest::Events { .. })
            && let Some(told) = net.told(target.id.haddr.port)
        {
            return Box::pin(async move {
                match told {
                    Told::This(page) => Ok(PeerReply::Events(page)),
                    Told::Nothing => {
                        sleep(time).await;
                        Err(PeerError::Lost("no answer".to_owned()))
                    }
                }
            });
        }
        let is_write = matches!(request, PeerRequest::Forward { .. });
        let answer = self.peers.call(target, request, time);
        if !is_write {
            return answer;
        }
        Box::pin(async move {
            let now = net.forwarding.fetch_add(1, Ordering::Relaxed) + 1;
            net.most_forwarding.fetch_max(now, Ordering::Relaxed);
            let answer = answer.await;
            net.forwarding.fetch_sub(1, Ordering::Relaxed);
            if net.loses() { lost().await } else { answer }
        })
    }

    fn send_snapshot(
        &self,
        target: &Target,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotFile,
        idle_timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        let net = self.net.clone();
        if self.is_cut(target.id.haddr.port) {
            return refused();
        }
        if net.starves(target.id.haddr.port) {
            return lost();
        }
        let sent = self.peers.send_snapshot(target, vote, meta, snapshot, idle_timeout);
        Box::pin(async move {
            let answer = sent.await;
            net.installed.fetch_add(u64::from(answer.is_ok()), Ordering::Relaxed);
            answer
        })
    }

    fn ask_to_join(
        &self,
        haddr: &HostPort,
        id: &PublicId,
        raft_id: RaftId,
        time: Duration,
    ) -> BoxFuture<'static, Result<Result<(), JoinRefusal>, PeerError>> {
        let haddr = self.net.balance(haddr);
        if self.is_cut(haddr.port) { refused() } else { self.peers.ask_to_join(&haddr, id, raft_id, time) }
    }

    fn resolve(&self, addr: &HostPort) -> BoxFuture<'static, Vec<HostPort>> {
        self.peers.resolve(addr)
    }

    fn probe(&self, haddr: &HostPort, time: Duration) -> BoxFuture<'static, Result<Probe, PeerError>> {
        let haddr = self.net.balance(haddr);
        if self.is_cut(haddr.port) { refused() } else { self.peers.probe(&haddr, time) }
    }

    fn ids_at(&self, haddr: &HostPort, time: Duration) -> BoxFuture<'static, Vec<PublicId>> {
        let haddr = self.net.balance(haddr);
        if self.is_cut(haddr.port) { Box::pin(std::future::ready(Vec::new())) } else { self.peers.ids_at(&haddr, time) }
    }
}

fn refused<T: Send + 'static>() -> BoxFuture<'static, Result<T, PeerError>> {
    Box::pin(std::future::ready(Err(PeerError::Unreachable("cut".to_owned()))))
}

fn lost() -> BoxFuture<'static, Result<PeerReply, PeerError>> {
    Box::pin(std::future::ready(Err(PeerError::Lost("lost".to_owned()))))
}

/// A node of the test, and what is left of it when it is down.
pub(super) struct TestNode {
    pub(super) node: Node,
    pub(super) port: u16,
    disk: MemDisk,
    net: Arc<Net>,
    log: LogStore,
    _tasks: Tasks,
}

impl TestNode {
    /// Starts a node on a disk, looking for the cluster of `list`.
    pub(super) async fn start(net: &Arc<Net>, port: u16, list: &[u16], disk: MemDisk) -> Self {
        Self::start_as(net, port, list, disk, Role::Voter).await
    }

    /// As [`start`](Self::start), for a node that asks to be this.
    pub(super) async fn start_as(net: &Arc<Net>, port: u16, list: &[u16], disk: MemDisk, role: Role) -> Self {
        Self::start_with(net, port, list, disk, role, None, Speaks::own()).await
    }

    /// As [`start`](Self::start), for one of so many that found a cluster together.
    pub(super) async fn start_founder(net: &Arc<Net>, port: u16, list: &[u16], disk: MemDisk, expect: usize) -> Self {
        Self::start_with(net, port, list, disk, Role::Voter, Some(expect), Speaks::own()).await
    }

    /// As [`start_as`](Self::start_as), for a node of the first version.
    pub(super) async fn start_old(net: &Arc<Net>, port: u16, list: &[u16], disk: MemDisk, role: Role) -> Self {
        Self::start_with(net, port, list, disk, role, None, Speaks::silent()).await
    }

    async fn start_with(
        net: &Arc<Net>,
        port: u16,
        list: &[u16],
        disk: MemDisk,
        role: Role,
        expect: Option<usize>,
        speaks: Speaks,
    ) -> Self {
        // RUST_LOG=openraft=debug and --nocapture show what goes on; a second call does nothing.
        if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_default_env() {
            let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
        }
        let options = RaftOptions {
            heartbeat_ms: 50,
            election_min_ms: 200,
            election_max_ms: 400,
            snapshot_threshold: 50,
            snapshot_bytes: 1 << 20,
        };
        let shared: Arc<dyn crate::storage::disk::Disk> = Arc::new(disk.clone());
        let store = IdentityStore::new(shared.clone());
        let mut identity = store.load().unwrap().unwrap_or_else(|| Identity::new(id(port), rand::random()));
        store.count_start(&mut identity).unwrap();
        let options_of_log = LogOptions { prezero: false, scheduler: Some(Arc::new(AtOnce)), ..LogOptions::default() };
        let log = LogStore::open(shared.clone(), options_of_log).unwrap();
        let cluster = ClusterHandle::new(identity.cluster);
        let snapshots = SnapshotStore::open(shared, cluster.clone()).unwrap();
        let machine =
            StateMachine::open(snapshots.clone(), cluster.clone(), crate::watch::HistoryLimits::default()).unwrap();
        let me = Arc::new(NodeIdentity::new(store, identity, cluster, role, format!("disk {port}"), rand::random()));
        me.set_speaks(speaks);
        let host = Host::new(port, TRUE_RATE, false);
        let peers = SimPeers { net: net.wire.clone(), me: me.clone(), host: (port, host.number()), streams: false };
        let peers: Arc<dyn Peers> = Arc::new(TestPeers { net: net.clone(), port, peers });
        let parts = Parts { me, peers, log: log.clone(), machine, snapshots, clients: Handle::current() };
        let (node, tasks) = Node::start(parts, options).await.unwrap();
        let slot = NodeSlot::new(node.id().clone(), false);
        slot.started(node.clone());
        net.wire.up(Server::new(host, slot, None));
        let first = list.first().copied();
        let start = Start {
            others: list.iter().filter(|other| **other != port).map(|other| address(*other)).collect(),
            may_form: expect.is_none() && first.is_none_or(|first| first == port),
            first: first.map(address),
            expect,
            new_cluster: ClusterId(rand::random()),
        };
        tokio::spawn({
            let node = node.clone();
            async move { node.find_cluster(start).await }
        });
        Self { node, port, disk, net: net.clone(), log, _tasks: tasks }
    }

    /// A copy of the disk as it is now, while the node goes on.
    pub(super) fn copy(&self) -> MemDisk {
        self.disk.crash(|_, _, _| 0)
    }

    /// Stops the node as a power loss would, and gives the disk that is left.
    pub(super) async fn crash(self) -> MemDisk {
        self.net.wire.down(self.port, false);
        let left = self.disk.crash(|_, _, _| 0);
        self.node.shutdown().await;
        drop(self.log);
        left
    }

    /// A copy of its disk, with all that was written.
    pub(super) fn copy_of_disk(&self) -> MemDisk {
        self.disk.crash(|_, _, len| len)
    }

    pub(super) async fn set(&self, key: &str, value: &str) -> Result<Written, NodeError> {
        let command = Command::Set(vec![(key.into(), bytes::Bytes::copy_from_slice(value.as_bytes()))]);
        let written = self.node.write(command, in_secs(10)).await;
        if let Ok(written) = &written {
            assert_eq!(written.reply, Reply::Done);
        }
        written
    }

    pub(super) async fn read(&self, key: &str, options: ReadOptions) -> Result<Found, NodeError> {
        self.node.read(&key.into(), options, in_secs(10)).await
    }

    pub(super) async fn get(&self, key: &str, level: ReadLevel) -> Result<Option<String>, NodeError> {
        let found = self.read(key, level.into()).await?;
        Ok(found.record.map(|record| String::from_utf8(record.value().to_vec()).unwrap()))
    }

    pub(super) fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    pub(super) fn voters(&self) -> usize {
        self.node.stats().latest_configuration.iter().filter(|server| server.voter).count()
    }
}

pub(super) fn in_secs(secs: u64) -> Instant {
    Instant::now() + Duration::from_secs(secs)
}

/// Waits for a condition on a node, at most a minute of the test's time.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = in_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
