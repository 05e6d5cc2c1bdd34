//! Members at other addresses than the membership has, and members that replace their former selves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::net::{Net, TestNode, id, until};
use super::{leader, three};
use crate::node::rpc::{PeerRequest, Target};
use crate::node::{NodeError, ReadLevel};
use crate::node_id::PublicId;
use crate::raft_types::RaftId;
use crate::storage::disk::MemDisk;
use crate::storage::{Identity, IdentityStore};

/// Changes the identity on a disk that nobody uses.
fn change(disk: &MemDisk, change: impl FnOnce(&mut Identity)) {
    let store = IdentityStore::new(Arc::new(disk.clone()));
    let mut identity = store.load().unwrap().unwrap();
    change(&mut identity);
    store.save(&identity).unwrap();
}

fn becomes_new(identity: &mut Identity) -> RaftId {
    identity.log_owner = Some(identity.log_owner());
    let former = std::mem::replace(&mut identity.raft_id, rand::random());
    identity.replaces.insert(former);
    former
}

fn ids(node: &TestNode) -> Vec<PublicId> {
    node.node.stats().latest_configuration.into_iter().map(|server| server.id).collect()
}

#[tokio::test(start_paused = true)]
async fn all_come_back_at_other_addresses() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set("k", "1").await.unwrap();
    let mut disks = Vec::new();
    for node in nodes {
        disks.push(node.crash().await);
    }
    let mut moved = Vec::new();
    for (disk, port) in disks.into_iter().zip([11, 12, 13]) {
        change(&disk, |identity| identity.public_id = id(port));
        moved.push(TestNode::start(&net, port, &[11, 12, 13], disk).await);
    }
    for node in &moved {
        until("the membership has their addresses", || ids(node) == [id(11), id(12), id(13)]).await;
        until("it is ready", || node.node.ready() == Ok(())).await;
        assert_eq!(node.get("k", ReadLevel::Linearizable).await.unwrap(), Some("1".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn all_swap_their_addresses() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set("k", "1").await.unwrap();
    let mut disks = Vec::new();
    for node in nodes {
        disks.push((node.node.inner.me.raft_id(), node.crash().await));
    }
    let mut moved = Vec::new();
    for ((raft_id, disk), port) in disks.into_iter().zip([2, 3, 1]) {
        change(&disk, |identity| identity.public_id = id(port));
        moved.push((raft_id, port, TestNode::start(&net, port, &[1], disk).await));
    }
    for (_, _, node) in &moved {
        let has_all = || {
            let members = node.node.members();
            moved.iter().all(|(raft_id, port, _)| {
                members.iter().any(|member| member.raft_id == *raft_id && member.server.id == id(*port))
            })
        };
        until("the membership has each where it is", has_all).await;
        until("it is ready", || node.node.ready() == Ok(())).await;
    }
}

/// The log of its former self is a head start, and its former self goes in the one change that makes it a voter.
#[tokio::test(start_paused = true)]
async fn a_member_replaces_its_former_self() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    nodes[0].set("k", "1").await.unwrap();
    let moving = (leader(&nodes) + 1) % 3;
    let disk = nodes.remove(moving).crash().await;
    nodes[0].set("k", "2").await.unwrap();
    let mut former = 0;
    change(&disk, |identity| {
        former = becomes_new(identity);
        identity.public_id = id(13);
    });
    let moved = TestNode::start(&net, 13, &[nodes[0].port], disk.clone()).await;
    let is_replaced = || {
        let settled = moved.node.settled_members().unwrap_or_default();
        let voters = settled.iter().filter(|(_, voter)| *voter).count();
        assert!(voters <= 3, "its former self stays beside it");
        voters == 3 && ids(&moved).contains(&id(13)) && !moved.node.has_member(former)
    };
    until("it has replaced its former self", is_replaced).await;
    until("it is ready", || moved.node.ready() == Ok(())).await;
    assert_eq!(moved.get("k", ReadLevel::Linearizable).await.unwrap(), Some("2".to_owned()));
    assert_eq!(net.installed(), 0, "it had nearly all");
    until("it has noted that", || moved.node.inner.me.replaces().is_empty()).await;
    let noted = IdentityStore::new(Arc::new(disk)).load().unwrap().unwrap();
    assert_eq!((noted.replaces, noted.log_owner), (BTreeSet::new(), Some(former)));
}

#[tokio::test(start_paused = true)]
async fn a_living_member_is_not_replaced() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set("k", "1").await.unwrap();
    let original = (leader(&nodes) + 1) % 3;
    let disk = nodes[original].copy_of_disk();
    change(&disk, |identity| {
        becomes_new(identity);
        identity.public_id = id(13);
    });
    let copy = TestNode::start(&net, 13, &[nodes[0].port, nodes[1].port], disk).await;
    let refused = nodes[0].node.join(id(13), None, super::in_secs(10)).await.unwrap_err();
    assert!(matches!(&refused, NodeError::Conflict(why) if why.contains("still runs")), "{refused}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((nodes[0].voters(), copy.node.state()), (3, crate::node::State::Learner));
    assert!(!ids(&nodes[0]).contains(&id(13)));
    assert_eq!(nodes[original].node.ready(), Ok(()));
    let ended = tokio::time::timeout(Duration::from_secs(10), copy.node.former_self_lives()).await.unwrap();
    assert!(ended.contains("disk 13 is a copy") && ended.contains(&id(nodes[original].port).to_string()), "{ended}");
}

/// Its original stood still when it was let in, and goes on: it would be a learner for ever.
#[tokio::test(start_paused = true)]
async fn a_copy_that_was_let_in_is_taken_out_again() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set("k", "1").await.unwrap();
    let leads = leader(&nodes);
    let original = (leads + 1) % 3;
    let disk = nodes[original].copy_of_disk();
    super::set_cut_off(&net, nodes[original].port, true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    change(&disk, |identity| {
        becomes_new(identity);
        identity.public_id = id(13);
    });
    // It is let in, and has yet to catch up.
    net.set_starved(13, true);
    let copy = TestNode::start(&net, 13, &[nodes[leads].port], disk).await;
    until("it is let in", || ids(&nodes[leads]).contains(&id(13))).await;
    super::set_cut_off(&net, nodes[original].port, false);
    until("it is taken out again", || !ids(&nodes[leads]).contains(&id(13))).await;
    net.set_starved(13, false);
    let ended = tokio::time::timeout(Duration::from_secs(10), copy.node.former_self_lives()).await.unwrap();
    assert!(ended.contains("still runs"), "{ended}");
    until("its original is ready", || nodes[original].node.ready() == Ok(())).await;
    assert_eq!(nodes[leads].voters(), 3);
}

/// The one that stayed leads, as openraft has it, but nobody; where the other is it hears only from that one's asking.
#[tokio::test(start_paused = true)]
async fn a_leader_without_a_quorum_finds_the_voter_that_moved_and_asks() {
    let net: Arc<Net> = Arc::default();
    let stays = TestNode::start(&net, 1, &[1], MemDisk::new()).await;
    let moves = TestNode::start(&net, 2, &[1], MemDisk::new()).await;
    until("both are voters", || stays.voters() == 2 && moves.node.ready() == Ok(())).await;
    let disk = moves.crash().await;
    until("its quorum is missed", || stays.node.state() != crate::node::State::Leader).await;
    change(&disk, |identity| identity.public_id = id(12));
    let moved = TestNode::start(&net, 12, &[1], disk).await;
    for node in [&stays, &moved] {
        until("the membership has the new address", || ids(node).contains(&id(12))).await;
        until("it is ready", || node.node.ready() == Ok(())).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_nobody_ever_acknowledged_is_none_once_its_time_is_up() {
    let net: Arc<Net> = Arc::default();
    let node = TestNode::start(&net, 1, &[1], MemDisk::new()).await;
    until("it leads, and has told so", || node.node.ready() == Ok(())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.node.leading_for(7), Duration::ZERO, "it was elected just now");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(node.node.leading_for(7), Duration::from_secs(3));
    assert_eq!(node.node.leading_for(8), Duration::ZERO, "it was elected again");
}

/// A leader says of whom it is asked whether it heard him just now.
#[tokio::test(start_paused = true)]
async fn a_leader_tells_whether_it_hears_a_member() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    let (leads, asked) = (leader(&nodes), (leader(&nodes) + 1) % 3);
    let (raft_id, gone) = (nodes[asked].node.inner.me.raft_id(), nodes[asked].port);
    let me = nodes[leads].node.inner.me.clone();
    let ask = async |node: &TestNode| {
        let target = Target { raft_id: Some(me.raft_id()), id: me.id() };
        let answer = node.node.answer(&me.envelope(&target), PeerRequest::IsMember(raft_id)).await.unwrap();
        format!("{answer:?}")
    };
    nodes[leads].set("k", "1").await.unwrap();
    assert!(ask(&nodes[leads]).await.contains("voter: true, heard: true"));
    let place = nodes.iter().position(|node| node.port == gone).unwrap();
    nodes.remove(place).crash().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let leads = nodes.iter().position(|node| node.node.inner.me.raft_id() == me.raft_id()).unwrap();
    assert!(ask(&nodes[leads]).await.contains("voter: true, heard: false"));
}
