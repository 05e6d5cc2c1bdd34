//! Whole nodes in one process, on simulated peers, disk and time.

mod access;
mod appends;
mod divergence;
mod events;
mod expiry;
mod formats;
mod forwarding;
mod locks;
mod lost;
mod membership;
mod moving;
mod net;
mod reads;
mod safety;
mod sim;
mod stall;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;

use super::{Node, NodeError, ReadLevel, ReadOptions, State};
use crate::command::{Action, Op, Reply, Test, TestOf, Txn};
use crate::node::read::read_index;
use crate::node::rpc::{PeerReply, PeerRequest, Target};
use crate::raft_types::alias::Vote;
use crate::raft_types::{Member, RaftId, Role};
use crate::storage::disk::MemDisk;
use net::{Net, TestNode, id, in_secs, until};

impl Node {
    /// For simulations, which must not wipe what is still needed: the members' Raft ids, and which are voters, where no
    /// change of them is under way as far as this node knows.
    pub(crate) fn settled_members(&self) -> Option<Vec<(RaftId, bool)>> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let stored = &metrics.membership_config;
        let is_settled = metrics.committed_membership_config == *stored
            && stored.membership().get_joint_config().len() == 1
            && stored.get_node(&metrics.id).is_some();
        let is_voter = |id: &RaftId| stored.voter_ids().any(|voter| voter == *id);
        is_settled.then(|| stored.nodes().map(|(id, _)| (*id, is_voter(id))).collect())
    }
}

async fn three(net: &Arc<Net>) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    for port in [1, 2, 3] {
        nodes.push(TestNode::start(net, port, &[1], MemDisk::new()).await);
    }
    for node in &nodes {
        until("three voters", || node.voters() == 3).await;
    }
    nodes
}

/// Cuts one of [`three`] off from the others, or heals that.
fn set_cut_off(net: &Net, port: u16, cut: bool) {
    for other in [1, 2, 3] {
        net.set_cut(port, other, cut);
    }
}

fn leader(nodes: &[TestNode]) -> usize {
    nodes.iter().position(|n| n.node.state() == State::Leader).expect("there is a leader")
}

#[tokio::test(start_paused = true)]
async fn one_node_alone_takes_writes() {
    let net = Arc::default();
    let node = TestNode::start(&net, 1, &[], MemDisk::new()).await;
    let written = node.set("k", "1").await.unwrap();
    assert_eq!(node.get("k", ReadLevel::Linearizable).await.unwrap(), Some("1".to_owned()));
    assert_eq!(written.served_by, None);
    assert_eq!(node.node.state(), State::Leader);
    assert_eq!(node.node.ready(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn any_node_takes_any_request() {
    let net = Arc::default();
    let nodes = three(&net).await;
    for (i, node) in nodes.iter().enumerate() {
        node.set(&format!("k{i}"), "true").await.unwrap();
        for reader in &nodes {
            let read = reader.get(&format!("k{i}"), ReadLevel::Linearizable).await;
            assert_eq!(read.unwrap(), Some("true".to_owned()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn four_started_at_once_are_one_cluster() {
    let net = Arc::default();
    let mut nodes = Vec::new();
    for port in [3, 1, 4, 2] {
        nodes.push(TestNode::start(&net, port, &[1, 2, 3, 4], MemDisk::new()).await);
    }
    for node in &nodes {
        until("four voters", || node.voters() == 4).await;
    }
}

/// Found by simulation (seed 1685): it took the entry's word for it and never asked again.
#[tokio::test(start_paused = true)]
async fn who_joined_by_an_entry_that_was_lost_joins_again() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let (old, other) = (leader(&nodes), (leader(&nodes) + 1) % 3);
    let cut_from = |ports: &[u16], cut| ports.iter().for_each(|port| net.set_cut(nodes[old].port, *port, cut));
    cut_from(&[1, 2, 3, 4], true);
    let new = TestNode::start(&net, 4, &[nodes[old].port], MemDisk::new()).await;
    let raft_id = new.node.inner.me.raft_id();
    let has_it = |node: &TestNode| node.node.members().iter().any(|member| member.raft_id == raft_id);
    let raft = nodes[old].node.inner.raft.clone();
    let member = Member { id: id(4), role: Role::Voter };
    let change = ChangeMembers::AddVoters(BTreeMap::from([(raft_id, member)]));
    let lost = tokio::spawn(async move { raft.change_membership(change, true).await });
    until("it is in the log", || has_it(&nodes[old])).await;
    cut_from(&[4], false);
    until("the new node has itself as a member", || has_it(&new)).await;
    cut_from(&[4], true);
    nodes[other].set("k", "1").await.unwrap();
    assert!(!has_it(&nodes[other]), "nobody else knows of it");
    cut_from(&[1, 2, 3, 4], false);
    for node in nodes.iter().chain([&new]) {
        until("four voters", || node.voters() == 4).await;
    }
    assert!(lost.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_cut_leader_serves_no_linearizable_read_and_heals() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set("k", "1").await.unwrap();
    let old = leader(&nodes);
    set_cut_off(&net, nodes[old].port, true);
    let other = (old + 1) % 3;
    nodes[other].set("k", "2").await.unwrap();
    let read = nodes[old].get("k", ReadLevel::Linearizable).await;
    assert!(matches!(read, Err(NodeError::NoLeader(_))), "{read:?}");
    assert_eq!(nodes[old].get("k", ReadLevel::None).await.unwrap(), Some("1".to_owned()));
    assert_eq!(nodes[old].node.state(), State::Follower, "its quorum is older than the election maximum");
    assert!(nodes[old].set("k", "3").await.is_err());
    set_cut_off(&net, nodes[old].port, false);
    until("the old leader follows", || nodes[old].node.ready() == Ok(())).await;
    assert_eq!(nodes[old].get("k", ReadLevel::Linearizable).await.unwrap(), Some("2".to_owned()));
}

/// Issue 18: a token that may only read made 364 MB of log in twelve seconds.
#[tokio::test(start_paused = true)]
async fn a_transaction_that_only_reads_is_no_entry_and_is_linearizable() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let old = leader(&nodes);
    let other = (old + 1) % 3;
    let is = |value: &'static str| Test { key: "k".into(), of: TestOf::Value(value.into()) };
    let read = async |at: usize, value| {
        let (then, otherwise) = (vec![Op::Get("k".into())], Vec::new());
        let txn = Action::Txn(Txn { tests: vec![is(value)], then, otherwise });
        let written = nodes[at].node.write(txn.into(), in_secs(3)).await?;
        let Reply::Txn { succeeded, .. } = written.reply else { panic!("{:?}", written.reply) };
        Ok::<_, NodeError>((succeeded, written.index))
    };
    nodes[old].set("k", "1").await.unwrap();
    let index = nodes[old].node.applied_index();
    for at in 0..3 {
        assert_eq!(read(at, "1").await.unwrap(), (true, index));
        assert_eq!(read(at, "2").await.unwrap(), (false, index));
    }
    assert_eq!(nodes[old].node.applied_index(), index, "none of them is an entry");
    // One that was overtaken does not answer from what it has.
    set_cut_off(&net, nodes[old].port, true);
    nodes[other].set("k", "2").await.unwrap();
    assert!(read(old, "1").await.is_err());
    assert!(read(other, "2").await.unwrap().0);
}

/// The leader cannot reach anybody here: a follower's question is all that there is to confirm it.
#[tokio::test(start_paused = true)]
async fn a_question_confirms_the_leader_whom_the_asker_follows_and_no_other() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set("k", "1").await.unwrap();
    let old = leader(&nodes);
    let (old, asker) = (&nodes[old], &nodes[(old + 1) % 3]);
    until("it has applied all", || asker.node.applied_index() == old.node.applied_index()).await;
    set_cut_off(&net, old.port, true);
    let (me, raft_id) = (old.node.inner.me.raft_id(), asker.node.inner.me.raft_id());
    let vote = asker.node.inner.log.vote().unwrap();
    let to = Target { raft_id: Some(me), id: old.node.inner.me.id() };
    let question = PeerRequest::ReadIndex { following: Some(vote), applied: asker.node.applied_index() };
    let answer = old.node.answer(&asker.node.inner.me.envelope(&to), question).await.unwrap();
    assert!(matches!(answer, PeerReply::ReadIndex(Some(index)) if index == old.node.applied_index()), "{answer:?}");
    let ask = async |asker: RaftId, following: Vote| {
        let ask = move |state: &_| read_index::read_index_of_two(state, me, asker, following);
        old.node.inner.raft.with_raft_state(ask).await.unwrap()
    };
    assert_eq!(ask(raft_id, vote).await, Some(old.node.applied_index()));
    assert_eq!(ask(4711, vote).await, None, "it is no voter");
    assert_eq!(ask(raft_id, Vote { committed: false, ..vote }).await, None, "it has only voted for it");
    let term = vote.leader_id.term;
    assert_eq!(ask(raft_id, Vote::new_committed(term, raft_id)).await, None, "it leads itself");
    assert_eq!(ask(raft_id, Vote::new_committed(term + 1, me)).await, None, "a term that the leader knows nothing of");
    asker.set("k", "2").await.unwrap();
    let newer = asker.node.inner.log.vote().unwrap();
    assert_eq!(ask(raft_id, newer).await, None, "it has another leader meanwhile");
    set_cut_off(&net, old.port, false);
    until("the old leader follows", || old.node.ready() == Ok(())).await;
    assert_eq!(ask(raft_id, newer).await, None, "and it does not lead");
    assert_eq!(ask(raft_id, vote).await, None, "nor did this come before");
}

#[tokio::test(start_paused = true)]
async fn all_crash_and_nothing_acknowledged_is_lost() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    for i in 0..200 {
        nodes[i % 3].set(&format!("k{i}"), "1").await.unwrap();
    }
    let mut disks = Vec::new();
    for node in nodes {
        disks.push((node.port, node.crash().await));
    }
    let mut nodes = Vec::new();
    for (port, disk) in disks {
        nodes.push(TestNode::start(&net, port, &[1], disk).await);
    }
    for i in 0..200 {
        let read = nodes[i % 3].get(&format!("k{i}"), ReadLevel::Linearizable).await.unwrap();
        assert_eq!(read, Some("1".to_owned()), "k{i}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wiped_node_replaces_itself_the_first_one_included() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    for i in 0..100 {
        nodes[0].set(&format!("k{i}"), "1").await.unwrap();
    }
    for wiped in 0..3 {
        let node = nodes.remove(wiped);
        let port = node.port;
        node.crash().await;
        let back = TestNode::start(&net, port, &[1], MemDisk::new()).await;
        until("it is ready", || back.node.ready() == Ok(())).await;
        nodes.insert(wiped, back);
        until("it is a voter", || nodes[wiped].voters() == 3).await;
        let ids: Vec<_> = nodes[wiped].node.stats().latest_configuration.into_iter().map(|s| s.id).collect();
        assert_eq!(ids, [id(1), id(2), id(3)]);
        assert_eq!(nodes[wiped].get("k99", ReadLevel::Linearizable).await.unwrap(), Some("1".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_node_learns_it_and_stays_down() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set("k", "1").await.unwrap();
    let gone = (leader(&nodes) + 1) % 3;
    let asked = (gone + 1) % 3;
    nodes[asked].node.remove(&format!(":{}", nodes[gone].port), false, in_secs(10)).await.unwrap();
    until("it knows", || nodes[gone].node.state() == State::Shutdown).await;
    assert!(matches!(nodes[gone].set("k", "2").await, Err(NodeError::Removed(_))));
    assert!(matches!(nodes[gone].get("k", ReadLevel::None).await, Err(NodeError::Removed(_))));
    until("two voters", || nodes[asked].voters() == 2).await;
    nodes[asked].set("k", "2").await.unwrap();
    let two = nodes[asked].node.remove(&format!(":{}", nodes[gone].port), false, in_secs(10)).await;
    assert!(matches!(two, Err(NodeError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_a_write_says_who_is_missing() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    let kept = nodes.remove(leader(&nodes));
    let gone: Vec<_> = nodes.iter().map(|n| id(n.port).to_string()).collect();
    for node in nodes {
        node.crash().await;
    }
    until("it noticed", || kept.node.state() != State::Leader).await;
    let Err(NodeError::NoLeader(msg)) = kept.set("k", "1").await else { panic!("it cannot have a leader") };
    assert!(gone.iter().all(|id| msg.contains(id)), "{msg}");
}

#[tokio::test(start_paused = true)]
async fn a_far_behind_node_gets_a_snapshot() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    let behind = (leader(&nodes) + 1) % 3;
    let node = nodes.remove(behind);
    let port = node.port;
    let disk = node.crash().await;
    for i in 0..400 {
        nodes[0].set(&format!("k{i}"), "1").await.unwrap();
    }
    // Snapshots are written beside the writes, on threads that know nothing of the test's time.
    until("the log is cut", || nodes.iter().all(|node| node.log_bytes() < 100 * 40)).await;
    let back = TestNode::start(&net, port, &[1], disk).await;
    until("it is ready", || back.node.ready() == Ok(())).await;
    assert_eq!(back.get("k399", ReadLevel::Linearizable).await.unwrap(), Some("1".to_owned()));
    assert!(net.installed() > 0, "it got all of the log");
    assert_eq!(back.node.inner.map.digest(), nodes[0].node.inner.map.digest(), "what only the snapshot has, too");
}

#[tokio::test(start_paused = true)]
async fn weak_reads_are_the_leaders_and_end_with_its_quorum() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set("k", "1").await.unwrap();
    let old = leader(&nodes);
    for node in &nodes {
        let found = node.read("k", ReadLevel::Weak.into()).await.unwrap();
        let asked_leader = node.port == nodes[old].port;
        assert_eq!((found.level, found.served_by.is_none()), (ReadLevel::Weak, asked_leader));
        let auto = node.read("k", ReadLevel::Auto.into()).await.unwrap();
        assert_eq!(auto.level, ReadLevel::Weak, "all are voters");
    }
    set_cut_off(&net, nodes[old].port, true);
    until("its quorum is too old", || nodes[old].node.state() == State::Follower).await;
    let weak = nodes[old].read("k", ReadLevel::Weak.into()).await;
    assert!(matches!(weak, Err(NodeError::NoLeader(_))), "{weak:?}");
}

#[tokio::test(start_paused = true)]
async fn none_tells_its_age_and_keeps_to_freshness() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let written = nodes[0].set("k", "1").await.unwrap();
    let cut = (leader(&nodes) + 1) % 3;
    let at_least = |min_index| ReadOptions { min_index, ..ReadLevel::None.into() };
    let fresh = |ms| ReadOptions { freshness: Some(Duration::from_millis(ms)), ..ReadLevel::None.into() };
    let found = nodes[cut].read("k", at_least(written.index)).await.unwrap();
    assert_eq!(found.record.as_ref().map(crate::record::Record::value), Some(&b"1"[..]));
    until("it is fresh", || nodes[cut].node.staleness().is_some_and(|age| age < Duration::from_millis(200))).await;
    // Nobody asks for its age meanwhile.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(nodes[cut].read("k", fresh(1000)).await.unwrap().level, ReadLevel::None);
    set_cut_off(&net, nodes[cut].port, true);
    let later = nodes[(cut + 1) % 3].set("k", "2").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let stale = nodes[cut].read("k", ReadLevel::None.into()).await.unwrap();
    assert_eq!(
        stale.record.as_ref().map(crate::record::Record::value),
        Some(&b"1"[..]),
        "none is this node's own state"
    );
    assert!(stale.staleness.unwrap() >= Duration::from_secs(5), "{stale:?}");
    assert!(matches!(nodes[cut].read("k", fresh(1000)).await, Err(NodeError::NoLeader(_))));
    assert!(matches!(nodes[cut].read("k", at_least(later.index)).await, Err(NodeError::Timeout(_))));
}

/// Far fewer entries than the snapshot threshold counts, with values that would fill a disk; one member is dead.
#[tokio::test(start_paused = true)]
async fn the_log_is_bounded_in_bytes() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    let dead = (leader(&nodes) + 1) % 3;
    nodes.remove(dead).crash().await;
    let value = format!("\"{}\"", "v".repeat(200_000));
    for _ in 0..40 {
        nodes[0].set("k", &value).await.unwrap();
        for node in &nodes {
            until("the log is cut", || node.log_bytes() <= 3 << 19).await;
        }
    }
}
