//! Every read level, at every kind of node, by every way to ask: who is answered, who is refused, who waits.
//!
//! The table is generated. What is expected is said by exhaustive matches: a new level, way or place without an entry
//! does not compile.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::net::{Net, TestNode, until};
use super::{leader, set_cut_off, three};
use crate::node::leader::Leader;
use crate::node::{NodeError, ReadLevel, ReadOptions, State};
use crate::raft_types::Role;
use crate::storage::disk::MemDisk;

const LEVELS: [ReadLevel; 4] = [ReadLevel::Linearizable, ReadLevel::Weak, ReadLevel::None, ReadLevel::Auto];
const KEY: &str = "k";
/// Shorter than the shortest election timeout: a node that gets nothing of the log for so long stays what it is.
const SHORT: Duration = Duration::from_millis(100);
/// Longer than the time that a leader is believed in without a quorum.
const LONG: Duration = Duration::from_secs(5);

/// A way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Key,
    Listing,
    Lock,
    /// A watch, which waits until the node's own state may be read.
    Watch,
}

const WAYS: [Way; 4] = [Way::Key, Way::Listing, Way::Lock, Way::Watch];

impl Way {
    /// The level that it was answered at.
    async fn ask(self, node: &TestNode, options: ReadOptions, within: Duration) -> Result<ReadLevel, NodeError> {
        self.ask_with_index(node, options, within).await.map(|(level, _)| level)
    }

    /// The same, and the index that what was read is of.
    async fn ask_with_index(
        self,
        node: &TestNode,
        options: ReadOptions,
        within: Duration,
    ) -> Result<(ReadLevel, u64), NodeError> {
        let deadline = Instant::now() + within;
        Ok(match self {
            Way::Key => {
                let found = node.node.read(&KEY.into(), options, deadline).await?;
                (found.level, found.index)
            }
            Way::Listing => {
                let view = node.node.view(options, deadline).await?;
                (view.settled.level, view.index)
            }
            Way::Lock => {
                let (_, index, settled) = node.node.lock("l", options, deadline).await?;
                (settled.level, index)
            }
            Way::Watch => {
                let settled = node.node.settle(options, deadline).await?;
                (settled.level, node.node.applied_index())
            }
        })
    }
}

/// Where a read is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Leader,
    Follower,
    Learner,
    /// It has not applied what its leader has.
    LaggingFollower,
    LaggingLearner,
    /// It leads no more, and cannot know who does.
    CutOffLeader,
    /// It leads, and has applied nothing of its own term.
    NewLeader,
    /// It has data, and heard no leader since it was started.
    HeardNoLeader,
    /// It has never been in a cluster.
    Joining,
}

/// What a read comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answered(ReadLevel),
    /// It waits for what the node has not applied.
    Waits,
    /// There is no leader that may answer, or none that is believed.
    NoLeader,
    NotReady,
}

fn outcome(found: &Result<ReadLevel, NodeError>) -> Option<Outcome> {
    Some(match found {
        Ok(level) => Outcome::Answered(*level),
        Err(NodeError::Timeout(_)) => Outcome::Waits,
        Err(NodeError::NoLeader(_)) => Outcome::NoLeader,
        Err(NodeError::NotReady(_)) => Outcome::NotReady,
        Err(_) => return None,
    })
}

/// The level that `auto` stands for there.
fn meant(place: Place, level: ReadLevel) -> ReadLevel {
    match (level, place) {
        (ReadLevel::Auto, Place::Learner | Place::LaggingLearner | Place::Joining) => ReadLevel::None,
        (
            ReadLevel::Auto,
            Place::Leader
            | Place::Follower
            | Place::LaggingFollower
            | Place::CutOffLeader
            | Place::NewLeader
            | Place::HeardNoLeader,
        ) => ReadLevel::Weak,
        (level, _) => level,
    }
}

/// What a read without `min_index` and `freshness` comes to.
fn expected(place: Place, level: ReadLevel, way: Way) -> Outcome {
    let level = meant(place, level);
    let answered = Outcome::Answered(level);
    match (place, level) {
        (_, ReadLevel::Auto) => unreachable!("it stands for another"),
        (Place::Leader | Place::Follower | Place::Learner, _) => answered,
        (Place::LaggingFollower | Place::LaggingLearner, ReadLevel::Linearizable) => Outcome::Waits,
        // One key is read at the leader. All else is read here, once the node has what the leader had.
        (Place::LaggingFollower | Place::LaggingLearner, ReadLevel::Weak) => match way {
            Way::Key => answered,
            Way::Listing | Way::Lock | Way::Watch => Outcome::Waits,
        },
        (Place::Joining, ReadLevel::None) => Outcome::NotReady,
        // Its own copy, as it is.
        (_, ReadLevel::None) => answered,
        (Place::CutOffLeader | Place::NewLeader | Place::HeardNoLeader, _) => Outcome::NoLeader,
        (Place::Joining, _) => Outcome::NotReady,
    }
}

/// A cluster, and the node in it that is asked.
struct Made {
    net: Arc<Net>,
    nodes: Vec<TestNode>,
    asked: usize,
}

impl Made {
    async fn new(place: Place) -> Self {
        let net: Arc<Net> = Arc::default();
        let mut nodes = three(&net).await;
        nodes[0].set(KEY, "1").await.unwrap();
        let leads = leader(&nodes);
        let (one, other) = ((leads + 1) % 3, (leads + 2) % 3);
        let asked = match place {
            Place::Leader => leads,
            Place::Follower | Place::LaggingFollower => one,
            Place::Learner | Place::LaggingLearner => {
                nodes.push(TestNode::start_as(&net, 4, &[1], MemDisk::new(), Role::Learner).await);
                until("it is a learner", || nodes[3].node.ready() == Ok(())).await;
                3
            }
            Place::CutOffLeader => {
                set_cut_off(&net, nodes[leads].port, true);
                tokio::time::sleep(LONG).await;
                leads
            }
            Place::NewLeader => {
                // It is elected by the other one, which gets nothing of its log.
                for node in &nodes {
                    until("all have all", || node.node.applied_index() == nodes[leads].node.applied_index()).await;
                }
                net.set_starved(nodes[one].port, true);
                net.set_starved(nodes[other].port, true);
                let port = nodes[leads].port;
                nodes.remove(leads).crash().await;
                until("another leads", || nodes.iter().any(|node| node.node.leader() == Some(Leader::ThisNode))).await;
                nodes.iter().position(|node| node.node.leader() == Some(Leader::ThisNode) && node.port != port).unwrap()
            }
            Place::HeardNoLeader => {
                let port = nodes[one].port;
                let mut disk = MemDisk::new();
                for node in std::mem::take(&mut nodes) {
                    let is_it = node.port == port;
                    let left = node.crash().await;
                    if is_it {
                        disk = left;
                    }
                }
                nodes.push(TestNode::start(&net, port, &[1, 2, 3], disk).await);
                // It has applied what it knows to be committed.
                let read = nodes[0].read(KEY, ReadLevel::None.into()).await;
                assert!(read.is_ok(), "{read:?}");
                0
            }
            Place::Joining => {
                nodes.push(TestNode::start(&net, 5, &[9], MemDisk::new()).await);
                3
            }
        };
        Self { net, nodes, asked }
    }

    fn asked(&self) -> &TestNode {
        &self.nodes[self.asked]
    }

    /// Asks, as the place demands: one that lags must not for so long that it asks to be elected.
    async fn ask(&self, place: Place, way: Way, options: ReadOptions) -> Option<Outcome> {
        let lags = matches!(place, Place::LaggingFollower | Place::LaggingLearner);
        if lags {
            self.net.set_starved(self.asked().port, true);
            self.nodes[leader(&self.nodes)].set(KEY, "2").await.unwrap();
        }
        let found = way.ask(self.asked(), options, if lags { SHORT } else { Duration::from_millis(500) }).await;
        if place == Place::NewLeader {
            assert_eq!(self.asked().node.leader(), Some(Leader::ThisNode), "it does not lead any more: no test");
        }
        if lags {
            self.net.set_starved(self.asked().port, false);
            let newest = self.nodes[leader(&self.nodes)].node.applied_index();
            until("it has caught up", || self.asked().node.applied_index() >= newest).await;
        }
        let outcome = outcome(&found);
        assert!(outcome.is_some(), "{place:?} {way:?} {options:?}: {found:?}");
        outcome
    }
}

const PLACES: [Place; 9] = [
    Place::Leader,
    Place::Follower,
    Place::Learner,
    Place::LaggingFollower,
    Place::LaggingLearner,
    Place::CutOffLeader,
    Place::NewLeader,
    Place::HeardNoLeader,
    Place::Joining,
];

#[tokio::test(start_paused = true)]
async fn every_level_at_every_place_by_every_way() {
    for place in PLACES {
        let mut made = Made::new(place).await;
        for level in LEVELS {
            for way in WAYS {
                // It is new for as long as its election is young.
                if place == Place::NewLeader {
                    made = Made::new(place).await;
                }
                let found = made.ask(place, way, level.into()).await;
                assert_eq!(found, Some(expected(place, level, way)), "{level:?} {way:?} at {place:?}");
            }
        }
    }
}

/// Whatever is asked for, and wherever: what is to be seen at least is waited for, and what is read is not of before it.
#[tokio::test(start_paused = true)]
async fn min_index_is_waited_for() {
    for place in [Place::Leader, Place::Follower, Place::Learner] {
        let made = Made::new(place).await;
        for level in LEVELS {
            for way in WAYS {
                let applied = made.asked().node.applied_index();
                let at_least = |min_index| ReadOptions { min_index, ..level.into() };
                let reached = made.ask(place, way, at_least(applied)).await;
                assert_eq!(reached, Some(expected(place, level, way)), "{level:?} {way:?} at {place:?}");
                let future = made.ask(place, way, at_least(applied + 1_000)).await;
                assert_eq!(future, Some(Outcome::Waits), "{level:?} {way:?} at {place:?}");
                // And answered once it is there.
                let asked = way.ask_with_index(made.asked(), at_least(applied + 1), LONG);
                let (found, written) = tokio::join!(asked, made.nodes[0].set(KEY, "3"));
                assert!(
                    matches!(found, Ok((_, index)) if index > applied) && written.is_ok(),
                    "{level:?} {way:?} at {place:?}, after {applied}: {found:?}, {written:?}"
                );
            }
        }
    }
}

/// `freshness` bounds the age of a node's own copy; an age that nobody knows is no age that is young enough.
#[tokio::test(start_paused = true)]
async fn freshness_bounds_what_none_tells() {
    let longest = Duration::from_secs(3600);
    for place in PLACES {
        let mut made = Made::new(place).await;
        for way in WAYS {
            if place == Place::NewLeader {
                made = Made::new(place).await;
            }
            let fresh = |freshness| ReadOptions { freshness: Some(freshness), ..ReadLevel::None.into() };
            let answered = Some(Outcome::Answered(ReadLevel::None));
            let refused = Some(Outcome::NoLeader);
            let (within_an_hour, when_young) = match place {
                Place::Leader | Place::Follower | Place::Learner | Place::LaggingFollower | Place::LaggingLearner => {
                    (answered, answered)
                }
                // The new leader knows its age from when it followed: at least an election ago.
                Place::CutOffLeader | Place::NewLeader => (answered, refused),
                Place::HeardNoLeader => (refused, refused),
                Place::Joining => (Some(Outcome::NotReady), Some(Outcome::NotReady)),
            };
            assert_eq!(made.ask(place, way, fresh(longest)).await, within_an_hour, "{way:?} at {place:?}");
            // A process that died is replaced at once, so an election may be over within a second.
            let young = if place == Place::NewLeader { Duration::from_millis(1) } else { Duration::from_secs(1) };
            assert_eq!(made.ask(place, way, fresh(young)).await, when_young, "{way:?} at {place:?}");
        }
    }
}

/// Two places at once: a leader that is cut off is believed until its quorum is too old, and not a moment longer.
#[tokio::test(start_paused = true)]
async fn a_leader_answers_weakly_as_long_as_its_quorum_is_young() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set(KEY, "1").await.unwrap();
    let old = &nodes[leader(&nodes)];
    set_cut_off(&net, old.port, true);
    let began = Instant::now();
    let mut answered = Duration::ZERO;
    while began.elapsed() < LONG {
        let asked = began.elapsed();
        let is_leader = old.node.state() == State::Leader;
        for way in WAYS {
            let found = way.ask(old, ReadLevel::Weak.into(), Duration::from_millis(20)).await;
            assert!(is_leader || found.is_err(), "{way:?} after {asked:?}: {found:?}");
            if found.is_ok() {
                answered = asked;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The maximum of an election in these tests, and what passed since the last heartbeat.
    assert!(answered < Duration::from_millis(500), "it answered {answered:?} after it was cut off");
}

/// Issue 18, the second attack: a weak read got 504 at once where the connection to the leader broke.
#[tokio::test(start_paused = true)]
async fn a_weak_read_whose_connection_breaks_is_asked_again() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[leader(&nodes)].set(KEY, "1").await.unwrap();
    let follower = &nodes[(leader(&nodes) + 1) % 3];
    let weak = ReadOptions::from(ReadLevel::Weak);
    for way in [Way::Key, Way::Listing] {
        net.lose_answers_to_reads(2);
        assert_eq!(way.ask(follower, weak, LONG).await, Ok(ReadLevel::Weak), "{way:?}");
        net.lose_answers_to_reads(u64::MAX);
        let began = Instant::now();
        let error = way.ask(follower, weak, LONG).await.unwrap_err();
        assert!(matches!(&error, NodeError::NoLeader(why) if why.contains("3 times: lost")), "{way:?}: {error:?}");
        assert!(began.elapsed() < LONG);
        net.lose_answers_to_reads(0);
    }
}

/// Weak reads for an index that may never come take no places of those that can be answered.
#[tokio::test(start_paused = true)]
async fn reads_of_an_index_to_come_leave_room_for_others() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[leader(&nodes)].set(KEY, "1").await.unwrap();
    let follower = &nodes[(leader(&nodes) + 1) % 3];
    let to_come = ReadOptions { min_index: follower.node.applied_index() + 2, ..ReadLevel::Weak.into() };
    let many = (0..100).map(|_| Way::Key.ask(follower, to_come, LONG));
    let written = async {
        tokio::time::sleep(SHORT).await;
        assert_eq!(follower.node.inner.far_reads.available_permits(), 0);
        assert_eq!(Way::Key.ask(follower, ReadLevel::Weak.into(), LONG).await, Ok(ReadLevel::Weak));
        for value in ["2", "3"] {
            nodes[leader(&nodes)].set(KEY, value).await.unwrap();
        }
    };
    let (read, ()) = tokio::join!(futures_util::future::join_all(many), written);
    assert!(read.iter().all(|one| *one == Ok(ReadLevel::Weak)), "{read:?}");
}
