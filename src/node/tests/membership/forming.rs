//! Who forms a cluster: only certainty does. Whoever does not answer may have one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use tokio::time::{Instant, sleep};

use super::net::{Net, TestNode, id, in_secs, until};
use super::{leader, three};
use crate::node::NodeError;
use crate::raft_types::Role;
use crate::storage::disk::MemDisk;

/// Longer than anything that leads to a cluster takes.
const LONG: Duration = Duration::from_secs(30);

fn members(node: &TestNode) -> usize {
    node.node.members().len()
}

async fn start_all(net: &Arc<Net>, list: &[u16]) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    for port in [1, 2, 3] {
        nodes.push(TestNode::start(net, port, list, MemDisk::new()).await);
    }
    nodes
}

async fn nobody_forms(nodes: &[TestNode]) {
    sleep(LONG).await;
    assert_eq!(nodes.iter().map(members).collect::<Vec<_>>(), vec![0; nodes.len()]);
}

#[tokio::test(start_paused = true)]
async fn the_first_of_a_list_waits_until_most_say_that_they_have_none() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = vec![TestNode::start(&net, 1, &[1, 2, 3], MemDisk::new()).await];
    nobody_forms(&nodes).await;
    // Not heard, it may have a cluster.
    net.set_cut(1, 2, true);
    nodes.push(TestNode::start(&net, 2, &[1, 2, 3], MemDisk::new()).await);
    nobody_forms(&nodes).await;
    nodes.push(TestNode::start(&net, 3, &[1, 2, 3], MemDisk::new()).await);
    until("two of three are a cluster", || nodes[2].voters() == 2).await;
    net.set_cut(1, 2, false);
    for node in &nodes {
        until("and then three", || node.voters() == 3).await;
    }
}

/// Came back empty while the others are down: they have the cluster, and say nothing.
#[tokio::test(start_paused = true)]
async fn the_first_of_a_list_does_not_form_a_second_cluster() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = start_all(&net, &[1, 2, 3]).await;
    for node in &nodes {
        until("three voters", || node.voters() == 3).await;
    }
    nodes[0].set("k", "1").await.unwrap();
    let mut disks = Vec::new();
    while let Some(node) = nodes.pop() {
        disks.push((node.port, node.crash().await));
    }
    let wiped = [TestNode::start(&net, 1, &[1, 2, 3], MemDisk::new()).await];
    nobody_forms(&wiped).await;
    for (port, disk) in disks.into_iter().filter(|(port, _)| *port != 1) {
        nodes.push(TestNode::start(&net, port, &[1, 2, 3], disk).await);
    }
    until("it is one of them again", || wiped[0].voters() == 3).await;
    assert_eq!(wiped[0].get("k", crate::node::ReadLevel::Linearizable).await.unwrap(), Some("1".to_owned()));
}

/// Issue 15, row 5: it was asked by itself through the name, and formed a second cluster.
#[tokio::test(start_paused = true)]
async fn who_joins_by_a_name_for_all_forms_none() {
    for balanced in [false, true] {
        let net: Arc<Net> = Arc::default();
        let name = |to: &[u16]| if balanced { net.set_balancer(9, to) } else { net.set_name(9, to) };
        // Itself first.
        name(&[3, 1, 2]);
        let first = TestNode::start(&net, 1, &[1], MemDisk::new()).await;
        let second = TestNode::start(&net, 2, &[1], MemDisk::new()).await;
        until("two voters", || second.voters() == 2).await;
        let third = TestNode::start(&net, 3, &[9], MemDisk::new()).await;
        for node in [&first, &second, &third] {
            until("three voters", || node.voters() == 3).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_first_boot_by_a_name_for_all_nobody_forms() {
    for balanced in [false, true] {
        let net: Arc<Net> = Arc::default();
        if balanced {
            net.set_balancer(9, &[1, 2, 3]);
        } else {
            net.set_name(9, &[1, 2, 3]);
        }
        nobody_forms(&start_all(&net, &[9]).await).await;
    }
}

/// All advertise one balancer, and each takes itself for the first of the list.
#[tokio::test(start_paused = true)]
async fn who_is_not_alone_at_its_address_forms_none() {
    let net: Arc<Net> = Arc::default();
    net.set_balancer(1, &[1, 2]);
    let nodes =
        [TestNode::start(&net, 1, &[1], MemDisk::new()).await, TestNode::start(&net, 2, &[1], MemDisk::new()).await];
    nobody_forms(&nodes).await;
}

/// Issue 15, row 8: both formed, and one ended with an error.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_joined_in_its_first_second_gives_way() {
    for late_ms in [0, 1, 300, 900, 990, 999] {
        let net: Arc<Net> = Arc::default();
        let first = TestNode::start(&net, 1, &[], MemDisk::new()).await;
        until("it is ready", || first.node.ready() == Ok(())).await;
        let fresh = TestNode::start(&net, 2, &[], MemDisk::new()).await;
        sleep(Duration::from_millis(late_ms)).await;
        first.node.join(id(2), None, in_secs(20)).await.unwrap();
        for node in [&first, &fresh] {
            until("two voters", || node.voters() == 2).await;
        }
        assert_eq!(first.node.inner.me.cluster(), fresh.node.inner.me.cluster());
        fresh.set("k", "1").await.unwrap();
    }
}

/// The leader's first entries are late: it asked who this is, so it has let it in.
#[tokio::test(start_paused = true)]
async fn a_node_that_a_cluster_asked_for_waits_to_be_let_in() {
    let net: Arc<Net> = Arc::default();
    let first = TestNode::start(&net, 1, &[], MemDisk::new()).await;
    until("it is ready", || first.node.ready() == Ok(())).await;
    net.set_starved(2, true);
    let fresh = TestNode::start(&net, 2, &[], MemDisk::new()).await;
    let node = first.node.clone();
    let joined = tokio::spawn(async move { node.join(id(2), None, in_secs(20)).await });
    sleep(Duration::from_secs(2)).await;
    assert_eq!(members(&fresh), 0);
    net.set_starved(2, false);
    joined.await.unwrap().unwrap();
    until("two voters", || fresh.voters() == 2).await;
}

/// It hears nothing of the leader that let it in, and forms after all: the leader takes it out again.
#[tokio::test(start_paused = true)]
async fn a_joiner_that_formed_a_cluster_of_its_own_leaves_nothing_behind() {
    let net: Arc<Net> = Arc::default();
    let first = TestNode::start(&net, 1, &[], MemDisk::new()).await;
    until("it is ready", || first.node.ready() == Ok(())).await;
    net.set_starved(2, true);
    let fresh = TestNode::start(&net, 2, &[], MemDisk::new()).await;
    let joined = first.node.join(id(2), None, in_secs(60)).await;
    assert!(matches!(&joined, Err(NodeError::Conflict(why)) if why.contains("another cluster")), "{joined:?}");
    assert_eq!((members(&first), members(&fresh)), (1, 1));
    first.set("k", "1").await.unwrap();
}

/// Issue 15, row 8: a minute, 504, and a dead learner.
#[tokio::test(start_paused = true)]
async fn a_removed_node_that_runs_is_refused_at_once() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    let gone = nodes.remove((leader(&nodes) + 1) % 3);
    nodes[0].node.remove(&format!(":{}", gone.port), false, in_secs(10)).await.unwrap();
    until("it knows", || gone.node.inner.me.removed().borrow().is_some()).await;
    let began = Instant::now();
    let joined = nodes[0].node.join(id(gone.port), None, in_secs(60)).await;
    assert!(matches!(&joined, Err(NodeError::Conflict(why)) if why.contains("was removed")), "{joined:?}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(nodes.iter().all(|node| members(node) == 2));
}

/// A change that was proposed counts, and one that cannot be committed stops all writes.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_committed_is_not_proposed() {
    let net: Arc<Net> = Arc::default();
    let first = TestNode::start(&net, 1, &[], MemDisk::new()).await;
    let learner = TestNode::start_as(&net, 2, &[1], MemDisk::new(), Role::Learner).await;
    until("it is ready", || learner.node.ready() == Ok(())).await;
    let raft_id = learner.node.inner.me.raft_id();
    let disk = learner.crash().await;
    sleep(Duration::from_secs(2)).await;
    // Whoever asks for it: promotion, replacement, removal.
    let promoted = first.node.change(ChangeMembers::AddVoterIds(BTreeSet::from([raft_id])), in_secs(10)).await;
    assert!(matches!(&promoted, Ok(Err(NodeError::Conflict(why))) if why.contains("1 of 2 voters")), "{promoted:?}");
    first.set("k", "1").await.unwrap();
    let voter = TestNode::start(&net, 2, &[1], disk).await;
    until("it is a voter", || first.voters() == 2).await;
    voter.crash().await;
    sleep(Duration::from_secs(2)).await;
    let lead = first.node.lead_here(Some(":2".to_owned()), in_secs(10)).await;
    assert!(matches!(&lead, Ok(Err(NodeError::Conflict(_)))), "{lead:?}");
}

/// As the replacement of a member did that was alive, with a third one down.
#[tokio::test(start_paused = true)]
async fn a_living_voter_is_not_dropped_where_another_is_down() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    let lead = leader(&nodes);
    let (down, alive) = (nodes[(lead + 1) % 3].port, nodes[(lead + 2) % 3].port);
    let at = nodes.iter().position(|node| node.port == down).unwrap();
    nodes.remove(at).crash().await;
    sleep(Duration::from_secs(2)).await;
    let leads = &nodes[leader(&nodes)];
    let member = leads.node.members().into_iter().find(|m| m.server.id == id(alive)).unwrap();
    let dropped = leads.node.drop_member(&member, false, in_secs(10)).await;
    assert!(matches!(&dropped, Ok(Err(NodeError::Conflict(why))) if why.contains("1 of 2")), "{dropped:?}");
    leads.set("k", "1").await.unwrap();
}
