//! Nodes in one process: no socket, no disk, and time that can be paused.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::command::{Command, Reply};
use crate::formats::{OLDEST, Speaks};
use crate::node::rpc::*;
use crate::node::{
    Found, Node, NodeError, NodeIdentity, Parts, RaftOptions, ReadLevel, ReadOptions, Start, Tasks, Written,
};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::alias::{SnapshotMeta, Vote};
use crate::raft_types::{ClusterId, RaftId, Role};
use crate::state_machine::StateMachine;
use crate::storage::disk::MemDisk;
use crate::storage::log::{AtOnce, LogOptions, LogStore};
use crate::storage::{ClusterHandle, Identity, IdentityStore, SnapshotFile, SnapshotStore};

/// The network: who is up, and who cannot reach whom.
#[derive(Debug, Default)]
pub(super) struct Net {
    nodes: Mutex<BTreeMap<u16, Node>>,
    cut: Mutex<HashSet<(u16, u16)>>,
    /// Ports that lead to each of these nodes, as a name does.
    names: Mutex<BTreeMap<u16, Vec<u16>>>,
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
}

/// Ports are all that tells nodes apart here.
pub(super) fn id(port: u16) -> PublicId {
    format!("127.0.0.1:{port},127.0.0.1:{}", port + 1000).parse().unwrap()
}

pub(super) fn address(port: u16) -> HostPort {
    HostPort::new("127.0.0.1", port)
}

#[derive(Debug)]
struct LocalPeers {
    net: Arc<Net>,
    me: Arc<NodeIdentity>,
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
        self.names.lock().insert(name, ports.to_vec());
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
        self.nodes.lock().get(&port).cloned()
    }

    fn reach(&self, from: u16, to: u16) -> Result<Node, PeerError> {
        let to = self.balanced.lock().get_mut(&to).map_or(to, |nodes| {
            nodes.rotate_left(1);
            nodes[0]
        });
        if self.cut.lock().contains(&(from, to)) {
            return Err(PeerError::Unreachable("cut".to_owned()));
        }
        self.node(to).ok_or_else(|| PeerError::Unreachable("down".to_owned()))
    }
}

impl LocalPeers {
    fn reach(&self, haddr_port: u16) -> Result<Node, PeerError> {
        self.net.reach(self.me.id().haddr.port, haddr_port)
    }
}

async fn within<T>(time: Duration, done: impl Future<Output = Result<T, PeerError>>) -> Result<T, PeerError> {
    timeout(time, done).await.unwrap_or_else(|_| Err(PeerError::Lost("timeout".to_owned())))
}

/// A message of a newer format is refused, as on the wire; first words are of the oldest.
fn understands(node: &Node, envelope: &Envelope, request: &PeerRequest) -> Result<(), PeerError> {
    let is_first = matches!(request, PeerRequest::Identify | PeerRequest::Vouch | PeerRequest::Found(_));
    let needed = match request {
        _ if is_first => OLDEST,
        PeerRequest::Append(rpc) => envelope.format.max(crate::storage::log::format_of(&rpc.entries)),
        _ => envelope.format,
    };
    if needed <= node.speaks().newest {
        return Ok(());
    }
    Err(PeerError::Refused(Refusal::Unreadable(format!("a message of format {needed}"))))
}

impl Peers for LocalPeers {
    fn call(
        &self,
        target: &Target,
        request: PeerRequest,
        time: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        let node = self.reach(target.id.haddr.port);
        let envelope = self.me.envelope(target);
        let net = self.net.clone();
        let (from, port) = (self.me.id().haddr.port, target.id.haddr.port);
        let starves = match &request {
            PeerRequest::Append(rpc) => {
                net.starves(port) || (!rpc.entries.is_empty() && net.holes.lock().contains(&(from, port)))
            }
            _ => false,
        };
        Box::pin(within(time, async move {
            if starves {
                return Err(PeerError::Lost("starved".to_owned()));
            }
            let may_lose = matches!(request, PeerRequest::Forward { .. });
            if may_lose {
                let now = net.forwarding.fetch_add(1, Ordering::Relaxed) + 1;
                net.most_forwarding.fetch_max(now, Ordering::Relaxed);
            }
            if net.loses_read(&request) {
                return Err(PeerError::Lost("lost".to_owned()));
            }
            let node = node?;
            understands(&node, &envelope, &request)?;
            let answer = node.answer(&envelope, request).await.map_err(PeerError::Refused);
            if may_lose {
                net.forwarding.fetch_sub(1, Ordering::Relaxed);
            }
            if may_lose && net.loses() { Err(PeerError::Lost("lost".to_owned())) } else { answer }
        }))
    }

    fn send_snapshot(
        &self,
        target: &Target,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotFile,
        _idle_timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        let node = self.reach(target.id.haddr.port);
        let envelope = self.me.envelope(target);
        let starves = self.net.starves(target.id.haddr.port);
        let net = self.net.clone();
        Box::pin(async move {
            if starves {
                return Err(PeerError::Lost("starved".to_owned()));
            }
            let node = node?;
            assert!(node.speaks().understands(snapshot.format()), "a snapshot that it does not understand");
            let mut incoming = node.receive_snapshot(&envelope).await.map_err(PeerError::Refused)?;
            let mut offset = 0;
            let mut chunk = [0; 1000];
            loop {
                let n = snapshot.file().read_at(&mut chunk, offset).unwrap();
                if n == 0 {
                    break;
                }
                incoming.write(&chunk[..n]).unwrap();
                offset += n as u64;
            }
            let file = incoming.finish(Some(&meta)).unwrap();
            let answer = node.install_snapshot(&envelope, vote, meta, file).await.map_err(PeerError::Refused);
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
        let node = self.reach(haddr.port);
        let id = id.clone();
        Box::pin(within(time, async move {
            let joined = node?.join(id, Some(raft_id), Instant::now() + Duration::from_secs(10)).await;
            Ok(joined.map_err(JoinRefusal::from))
        }))
    }

    fn resolve(&self, addr: &HostPort) -> BoxFuture<'static, Vec<HostPort>> {
        let ports = self.net.names.lock().get(&addr.port).cloned().unwrap_or_else(|| vec![addr.port]);
        Box::pin(std::future::ready(ports.into_iter().map(address).collect()))
    }

    fn probe(&self, haddr: &HostPort, _time: Duration) -> BoxFuture<'static, Result<Probe, PeerError>> {
        let node = self.reach(haddr.port);
        Box::pin(async move { Ok(probe_of(&node?)) })
    }

    fn ids_at(&self, haddr: &HostPort, _time: Duration) -> BoxFuture<'static, Vec<PublicId>> {
        let node = self.reach(haddr.port);
        Box::pin(async move { node.into_iter().map(|node| node.id().clone()).collect() })
    }
}

fn probe_of(node: &Node) -> Probe {
    let members: Vec<PublicId> = node.stats().latest_configuration.into_iter().map(|server| server.id).collect();
    Probe { id: node.id().clone(), has_cluster: !members.is_empty(), members }
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
        let peers: Arc<dyn Peers> = Arc::new(LocalPeers { net: net.clone(), me: me.clone() });
        let parts = Parts { me, peers, log: log.clone(), machine, snapshots, clients: Handle::current() };
        let (node, tasks) = Node::start(parts, options).await.unwrap();
        net.nodes.lock().insert(port, node.clone());
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
        self.net.nodes.lock().remove(&self.port);
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
