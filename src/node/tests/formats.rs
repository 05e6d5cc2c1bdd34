//! Nodes of two versions in one cluster.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;

use super::net::{Net, TestNode, in_secs, until};
use super::{leader, three};
use crate::formats::{Feature, Format, NEWEST, OLDEST};
use crate::node::rpc::{PeerReply, PeerRequest, Refusal, Target};
use crate::node::{Node, NodeError, ReadLevel, State};
use crate::raft_types::Role;
use crate::storage::disk::MemDisk;

/// Three nodes, of which these are of the first version.
async fn mixed(net: &Arc<Net>, old: &[u16]) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    for port in [1, 2, 3] {
        nodes.push(start(net, port, old.contains(&port), MemDisk::new()).await);
    }
    for node in &nodes {
        until("three voters", || node.voters() == 3).await;
    }
    nodes
}

async fn start(net: &Arc<Net>, port: u16, old: bool, disk: MemDisk) -> TestNode {
    match old {
        true => TestNode::start_old(net, port, &[1], disk, Role::Voter).await,
        false => TestNode::start(net, port, &[1], disk).await,
    }
}

/// Stops a node and starts it again on its disk, as this version.
async fn restart(net: &Arc<Net>, nodes: &mut Vec<TestNode>, port: u16, old: bool) {
    let at = nodes.iter().position(|node| node.port == port).unwrap();
    let disk = nodes.remove(at).crash().await;
    let node = start(net, port, old, disk).await;
    until("it serves", || node.node.ready() == Ok(())).await;
    nodes.insert(at, node);
}

async fn all_have(nodes: &[TestNode], format: Format) {
    for node in nodes {
        until(&format!("format {format} at {}", node.port), || node.node.format() == format).await;
    }
}

/// As long as it would take to raise it, and more.
async fn is_not_raised(nodes: &[TestNode]) {
    tokio::time::sleep(Duration::from_secs(20)).await;
    all_have(nodes, OLDEST).await;
}

async fn refused(node: &Node) -> String {
    let error = node.require(Feature::Leases, in_secs(10)).await.unwrap_err();
    let NodeError::NotYet(why) = error else { panic!("{error:?}") };
    why
}

#[tokio::test(start_paused = true)]
async fn a_cluster_of_new_nodes_has_the_newest_format() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    for node in &nodes {
        let began = Instant::now();
        node.node.require(Feature::Leases, in_secs(10)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(3));
    }
    all_have(&nodes, NEWEST).await;
    let cluster = nodes[0].node.cluster().await;
    assert_eq!((cluster.format, cluster.warnings.len()), (Some(NEWEST), 0), "{cluster:?}");
    assert!(cluster.servers.iter().all(|server| server.speaks == Some(crate::formats::Speaks::own())));
}

/// In every order, with a way back before the last one.
#[tokio::test(start_paused = true)]
async fn nodes_are_replaced_one_after_the_other_and_back() {
    for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
        let net: Arc<Net> = Arc::default();
        let mut nodes = mixed(&net, &[1, 2, 3]).await;
        let mut written = 0;
        let write = async |nodes: &[TestNode], written: &mut usize| {
            for node in nodes {
                node.set(&format!("k{written}"), "1").await.unwrap();
                *written += 1;
            }
        };
        write(&nodes, &mut written).await;
        for (port, old) in [(order[0], false), (order[1], false), (order[1], true), (order[0], true), (order[0], false)]
        {
            restart(&net, &mut nodes, port, old).await;
            write(&nodes, &mut written).await;
            assert!(nodes.iter().all(|node| node.node.format() == OLDEST));
        }
        let why = refused(&nodes[0].node).await;
        for port in &order[1..] {
            assert!(why.contains(&format!("127.0.0.1:{port},")) && why.contains("hraftd 0.2.0"), "{why}");
        }
        assert!(!why.contains(&format!("127.0.0.1:{},", order[0])), "{why}");
        restart(&net, &mut nodes, order[1], false).await;
        is_not_raised(&nodes).await;
        restart(&net, &mut nodes, order[2], false).await;
        all_have(&nodes, NEWEST).await;
        write(&nodes, &mut written).await;
        let applied = nodes.iter().map(|node| node.node.applied_index()).max().unwrap();
        for node in &nodes {
            until("all is applied", || node.node.applied_index() >= applied).await;
            for n in 0..written {
                assert!(node.get(&format!("k{n}"), ReadLevel::None).await.unwrap().is_some(), "{order:?}: k{n}");
            }
            assert_eq!(node.node.digest(), nodes[0].node.digest(), "{order:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_learner_counts() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = mixed(&net, &[1, 2, 3]).await;
    let learner = TestNode::start_old(&net, 4, &[1], MemDisk::new(), Role::Learner).await;
    until("it is a learner", || nodes.iter().all(|node| node.node.stats().latest_configuration.len() == 4)).await;
    for port in [1, 2, 3] {
        restart(&net, &mut nodes, port, false).await;
    }
    is_not_raised(&nodes).await;
    assert!(refused(&nodes[1].node).await.contains("127.0.0.1:4,"));
    let disk = learner.crash().await;
    is_not_raised(&nodes).await;
    assert!(refused(&nodes[1].node).await.contains("does not answer"));
    let learner = TestNode::start_as(&net, 4, &[1], disk, Role::Learner).await;
    all_have(&nodes, NEWEST).await;
    until("the learner too", || learner.node.format() == NEWEST).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_node_does_not_join_a_raised_cluster_and_a_new_one_does() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    all_have(&nodes, NEWEST).await;
    let old = TestNode::start_old(&net, 4, &[1], MemDisk::new(), Role::Voter).await;
    for _ in 0..3 {
        let error = nodes[0].node.join(super::id(4), Some(7), in_secs(10)).await.unwrap_err();
        let NodeError::Conflict(why) = error else { panic!("{error:?}") };
        assert!(why.contains("hraftd 0.1.0") && why.contains("hraftd 0.2.0 or newer"), "{why}");
    }
    assert!(nodes.iter().all(|node| node.node.stats().latest_configuration.len() == 3));
    let disk = old.crash().await;
    let new = TestNode::start(&net, 4, &[1], disk).await;
    until("it joined", || new.voters() == 4).await;
    until("it knows the format", || new.node.format() == NEWEST).await;
}

/// Between its word and the entry it was started as the old one again, with nothing of the entry.
#[tokio::test(start_paused = true)]
async fn an_old_node_that_returns_is_refused_and_told_why() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    all_have(&nodes, NEWEST).await;
    let to = &nodes[0];
    let from = &nodes[1];
    let target = Target { raft_id: Some(to.node.inner.me.raft_id()), id: to.node.id().clone() };
    let mut envelope = from.node.inner.me.envelope(&target);
    (envelope.format, envelope.speaks) = (OLDEST, crate::formats::Speaks::silent());
    let vote = crate::raft_types::alias::Vote::new(99, from.node.inner.me.raft_id());
    let asked = openraft::raft::VoteRequest::new(vote, to.node.inner.log.last_log_id());
    for request in [PeerRequest::Vote(asked.clone()), PeerRequest::PreVote(asked)] {
        let Err(Refusal::Diverged(why)) = to.node.answer(&envelope, request).await else { panic!("taken") };
        assert!(why.contains("hraftd 0.1.0") && why.contains("hraftd 0.2.0 or newer"), "{why}");
    }
    for request in [PeerRequest::WeakIndex, PeerRequest::LeaderWatch] {
        let Err(Refusal::Unreadable(why)) = to.node.answer(&envelope, request).await else { panic!("taken") };
        assert!(why.contains("too old"), "{why}");
    }
    // Who it is, and whether it is still a member, anybody is told.
    for request in [PeerRequest::Identify, PeerRequest::IsMember(7), PeerRequest::Status] {
        to.node.answer(&envelope, request).await.unwrap();
    }
}

/// The entry is in the leader's log and nowhere else, or with one follower, when the leader dies.
#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_in_the_middle_of_it() {
    for reaches_one in [false, true] {
        let net: Arc<Net> = Arc::default();
        let mut nodes = mixed(&net, &[1]).await;
        let disk = {
            let at = nodes.iter().position(|node| node.port == 1).unwrap();
            nodes.remove(at).crash().await
        };
        until("a new one leads", || nodes.iter().any(|node| node.node.state() == State::Leader)).await;
        let leads = leader(&nodes);
        let (old, other) = (nodes[leads].port, nodes[1 - leads].port);
        net.set_hole(old, 1, true);
        net.set_hole(old, other, !reaches_one);
        nodes.push(start(&net, 1, false, disk).await);
        let proposed = || nodes[leads].node.inner.proposed_format.is(NEWEST);
        until("it is proposed", proposed).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Who asks now is not let in: the entry may be committed.
        let joiner = TestNode::start_old(&net, 4, &[old], MemDisk::new(), Role::Voter).await;
        let joined = nodes[leads].node.join(super::id(4), Some(7), in_secs(2)).await;
        assert!(joined.is_err(), "{joined:?}");
        drop(joiner.crash().await);
        let disk = nodes.remove(leads).crash().await;
        net.set_hole(old, 1, false);
        net.set_hole(old, other, false);
        nodes.push(start(&net, old, false, disk).await);
        all_have(&nodes, NEWEST).await;
        nodes[0].set("k", "1").await.unwrap();
        for node in &nodes {
            assert_eq!(node.get("k", ReadLevel::Linearizable).await.unwrap(), Some("1".to_owned()));
            assert!(node.node.cluster().await.warnings.is_empty());
        }
    }
}

/// One that joins gets a snapshot of the newest format, and a member that answers as an old one gets none.
#[tokio::test(start_paused = true)]
async fn a_snapshot_goes_only_to_who_understands_it() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    all_have(&nodes, NEWEST).await;
    let leads = leader(&nodes);
    let away = (leads + 1) % 3;
    let port = nodes[away].port;
    let disk = nodes.remove(away).crash().await;
    for n in 0..300 {
        nodes[0].set(&format!("k{n}"), "1").await.unwrap();
    }
    until("the log is purged", || {
        nodes.iter().all(|node| node.node.metrics().borrow_watched().purged.is_some_and(|id| id.index > 100))
    })
    .await;
    // A real one would not start on this disk; its network is what is looked at.
    let old = TestNode::start_old(&net, port, &[1], disk, Role::Voter).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(net.installed(), 0);
    let seen = nodes[0].node.cluster().await;
    assert!(seen.warnings.concat().contains("hraftd 0.2.0 or newer"), "{seen:?}");
    let disk = old.crash().await;
    let new = TestNode::start(&net, port, &[1], disk).await;
    until("it has all", || new.node.applied_index() >= 300).await;
    assert_eq!((new.node.format(), net.installed()), (NEWEST, 1));
    let target = Target { raft_id: None, id: nodes[0].node.id().clone() };
    let who = nodes[0].node.answer(&new.node.inner.me.envelope(&target), PeerRequest::Identify).await;
    assert!(matches!(who, Ok(PeerReply::Identify(who)) if who.speaks.understands(NEWEST)));
}

/// Issue 22: as amid an upgrade, when older members cannot tell how they are.
#[tokio::test(start_paused = true)]
async fn the_doctor_finds_a_member_of_another_version() {
    let net: Arc<Net> = Arc::default();
    let nodes = mixed(&net, &[1]).await;
    for asked in [1, 2] {
        let found = nodes[asked].node.examine().await;
        let versions: Vec<_> = found.iter().filter(|one| one.what.contains("it runs hraftd")).collect();
        let [one] = versions[..] else { panic!("{found:#?}") };
        assert_eq!(one.node, nodes[0].node.id().to_string());
        let wanted = format!("runs {}", env!("CARGO_PKG_VERSION"));
        assert!(one.what.contains("hraftd 0.1.0") && one.what.contains(&wanted), "{}", one.what);
    }
}
