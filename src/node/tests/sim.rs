//! A cluster of three under faults, and what all its nodes tell of what changed.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::net::{Net, TestNode, until};
use crate::command::{Command, Reply, Retry, Stamped};
use crate::kv::Change;
use crate::node::{Node, NodeError, State};
use crate::storage::disk::MemDisk;
use crate::watch::{Filter, Position};

pub(super) const PORTS: [u16; 3] = [1, 2, 3];

/// All changes by their place in the log, and when each was first seen. Every node must tell the same.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<BTreeMap<Position, (Change, Instant)>>);

impl History {
    fn add(&self, position: Position, change: Change) {
        let mut all = self.0.lock();
        let (first, _) = all.entry(position).or_insert_with(|| (change.clone(), Instant::now()));
        assert_eq!(*first, change, "two nodes differ at {position:?}");
    }

    pub(super) fn all(&self) -> Vec<(Position, Change, Instant)> {
        let all = self.0.lock();
        all.iter().map(|(position, (change, at))| (*position, change.clone(), *at)).collect()
    }

    /// Notes what a node tells, for as long as it runs.
    async fn follow(self: Arc<Self>, node: Node, filter: Filter) {
        let mut after = Position::whole(0);
        loop {
            let mut watcher = match node.watches().watch(filter.clone(), after) {
                Ok(watcher) => watcher,
                Err(missed) => {
                    after = missed.known_after;
                    continue;
                }
            };
            while let Ok(events) = watcher.next().await {
                if events.is_empty() {
                    return;
                }
                for event in events {
                    after = Position::of_event(&event);
                    self.add(after, event.change);
                }
            }
        }
    }
}

pub(super) struct Sim {
    pub(super) net: Arc<Net>,
    nodes: BTreeMap<u16, (TestNode, Vec<JoinHandle<()>>)>,
    pub(super) history: Arc<History>,
    filters: Vec<Filter>,
    pub(super) rng: StdRng,
}

impl Sim {
    /// Three voters, with what to note of them.
    pub(super) async fn start(seed: u64, filters: Vec<Filter>) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let mut sim = Self { net: Arc::default(), nodes: BTreeMap::new(), history: Arc::default(), filters, rng };
        for port in PORTS {
            sim.up(port, MemDisk::new()).await;
        }
        sim.settled().await;
        sim
    }

    pub(super) async fn up(&mut self, port: u16, disk: MemDisk) {
        let node = TestNode::start(&self.net, port, &[1], disk).await;
        let follow = |filter: &Filter| tokio::spawn(self.history.clone().follow(node.node.clone(), filter.clone()));
        let tasks = self.filters.iter().map(follow).collect();
        self.nodes.insert(port, (node, tasks));
    }

    pub(super) async fn down(&mut self, port: u16) -> MemDisk {
        let (node, tasks) = self.nodes.remove(&port).unwrap();
        tasks.iter().for_each(JoinHandle::abort);
        node.crash().await
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &TestNode> {
        self.nodes.values().map(|(node, _)| node)
    }

    pub(super) async fn settled(&self) {
        for node in self.nodes() {
            until("three voters, and it is ready", || node.voters() == 3 && node.node.ready() == Ok(())).await;
        }
    }

    pub(super) async fn leader(&self) -> u16 {
        let leader = || self.nodes().find(|node| node.node.state() == State::Leader).map(|node| node.port);
        until("a leader", || leader().is_some()).await;
        leader().unwrap()
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }

    pub(super) async fn wait(&mut self, at_most_ms: u64) {
        let ms = self.below(at_most_ms);
        sleep(Duration::from_millis(ms)).await;
    }

    /// The leader loses its power, and comes back after a while.
    pub(super) async fn crash_leader(&mut self, down_ms: u64) {
        let port = self.leader().await;
        let disk = self.down(port).await;
        self.wait(down_ms).await;
        self.up(port, disk).await;
    }

    /// All lose their power at once.
    pub(super) async fn crash_all(&mut self, down_ms: u64) {
        let mut disks = Vec::new();
        for port in PORTS {
            disks.push((port, self.down(port).await));
        }
        self.wait(down_ms).await;
        for (port, disk) in disks {
            self.up(port, disk).await;
        }
    }

    /// All have applied the same, and hold the same.
    pub(super) async fn all_equal(&self) -> crate::kv::KvStore {
        self.settled().await;
        let mut seen = Vec::new();
        until("equal at one index", || {
            seen = self.nodes().map(|node| node.node.inner.map.view()).collect();
            seen.iter().all(|(_, index)| *index == seen[0].1)
        })
        .await;
        for (kv, _) in &seen {
            assert_eq!((kv.digest(), kv), (seen[0].0.digest(), &seen[0].0));
        }
        seen.swap_remove(0).0
    }
}

/// `HRAFTD_SEEDS=50 cargo test --lib node::tests` for more of the same.
pub(super) fn seeds(default: u64) -> std::ops::Range<u64> {
    0..std::env::var("HRAFTD_SEEDS").map_or(default, |text| text.parse().unwrap())
}

/// A command with an `Idempotency-Key` that is kept for longer than any test takes.
pub(super) fn keyed(key: String, action: crate::command::Action) -> Command {
    let retry = Retry { key: key.into(), digest: 1, window_ms: 3_600_000 };
    Command::Stamped(Stamped { stamp_ms: 0, retry: Some(retry), action })
}

/// A client that never gives up: it repeats a request at any node until it is answered. Gives the index of the entry
/// that did it, and its reply.
pub(super) async fn until_answered(net: &Net, rng: &mut StdRng, command: &Command) -> (u64, Reply) {
    loop {
        let Some(node) = net.node(PORTS[rng.random_range(0..PORTS.len())]) else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let patience = Duration::from_millis(rng.random_range(1..2_000));
        let written = tokio::time::timeout(patience, node.write(command.clone(), Instant::now() + patience * 2)).await;
        match written {
            Ok(Ok(written)) => match written.reply {
                Reply::Replayed { index, reply } => return (index, *reply),
                reply => return (written.index, reply),
            },
            Ok(Err(NodeError::BadRequest(_) | NodeError::NotFound(_))) => panic!("{written:?}"),
            // Nobody knows, or nothing was done.
            Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(rng.random_range(0..20))).await,
        }
    }
}
