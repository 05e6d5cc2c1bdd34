//! Issue 18, B1: what one message says changes nothing until the node that it names says the same.

use std::sync::Arc;
use std::time::Duration;

use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, sleep};

use crate::formats::{OLDEST, Speaks};
use crate::node::rpc::{Envelope, PeerRequest, Refusal};
use crate::node::tests::net::{Net, TestNode, id, until};
use crate::node::{NodeError, ReadLevel, State};
use crate::raft_types::alias::Vote;
use crate::raft_types::{ClusterId, RaftId, StartMark};
use crate::storage::disk::MemDisk;

/// A heartbeat to `node` in the name of the node at `port`.
async fn call(
    node: &TestNode,
    port: u16,
    (from_raft, cluster): (RaftId, ClusterId),
    to_raft: RaftId,
) -> Result<(), Refusal> {
    let envelope = Envelope {
        cluster: Some(cluster),
        from: id(port),
        from_raft,
        start: StartMark { starts: 1, boot: 1 },
        to: id(node.port),
        to_raft: Some(to_raft),
        to_start: None,
        echo: None,
        confirmed: None,
        log_time: None,
        mark: None,
        format: OLDEST,
        speaks: Speaks::own(),
    };
    let vote = Vote::new_committed(1, from_raft);
    let rpc = AppendEntriesRequest { vote, prev_log_id: None, entries: Vec::new(), leader_commit: None };
    node.node.answer(&envelope, PeerRequest::Append(rpc)).await.map(drop)
}

fn sender(node: &TestNode) -> (RaftId, ClusterId) {
    let me = &node.node.inner.me;
    (me.raft_id(), me.cluster().unwrap())
}

async fn leading(net: &Arc<Net>, port: u16) -> TestNode {
    let node = TestNode::start(net, port, &[], MemDisk::new()).await;
    until("it leads", || node.node.state() == State::Leader && node.node.ready() == Ok(())).await;
    node
}

#[tokio::test(start_paused = true)]
async fn one_message_of_a_stranger_does_not_stop_a_node() {
    let net: Arc<Net> = Arc::default();
    let (node, other) = (leading(&net, 1).await, leading(&net, 2).await);
    let me = node.node.inner.me.raft_id();
    for to in [me, 4711] {
        // Nobody is there; somebody is, who knows nothing of it; and that one under another name.
        assert!(call(&node, 7, (8, ClusterId(9)), to).await.is_err());
        assert!(call(&node, 2, sender(&other), to).await.is_err());
        assert!(call(&node, 2, (8, ClusterId(9)), to).await.is_err());
    }
    sleep(Duration::from_secs(3)).await;
    assert_eq!(node.node.ready(), Ok(()));
    assert!(node.set("k", "1").await.is_ok());
    assert_eq!(*node.node.inner.strangers.leader().borrow(), None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_of_another_cluster_that_calls_stops_a_node_until_it_is_silent() {
    let net: Arc<Net> = Arc::default();
    let first = leading(&net, 2).await;
    let member = TestNode::start(&net, 3, &[2], MemDisk::new()).await;
    until("two voters", || first.voters() == 2 && member.voters() == 2).await;
    let last = TestNode::start(&net, 4, &[2], MemDisk::new()).await;
    until("three voters", || first.voters() == 3 && last.voters() == 3).await;
    member.crash().await;
    net.set_cut(2, 3, true);
    net.set_cut(4, 3, true);
    let stray = leading(&net, 3).await;
    stray.set("k", "1").await.unwrap();
    net.set_cut(2, 3, false);
    net.set_cut(4, 3, false);
    until("it hears the other cluster", || matches!(stray.node.ready(), Err(NodeError::NotReady(_)))).await;
    assert!(matches!(stray.set("k", "2").await, Err(NodeError::Conflict(msg)) if msg.contains("disk 3")));
    assert!(stray.get("k", ReadLevel::None).await.is_ok());
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_secs(1)).await;
        assert!(stray.node.ready().is_err(), "it calls all the time");
    }
    first.crash().await;
    last.crash().await;
    until("it serves again", || stray.node.ready() == Ok(())).await;
    stray.set("k", "2").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_message_of_a_stranger_makes_nobody_a_member() {
    let net: Arc<Net> = Arc::default();
    let other = leading(&net, 2).await;
    let joiner = TestNode::start(&net, 1, &[5], MemDisk::new()).await;
    let me = joiner.node.inner.me.raft_id();
    assert!(call(&joiner, 7, (8, ClusterId(9)), me).await.is_err());
    assert!(call(&joiner, 2, sender(&other), me).await.is_err());
    assert_eq!(joiner.node.inner.me.cluster(), None);
    // The cluster that it was told to join comes up, and has it.
    let listed = leading(&net, 5).await;
    until("it joined", || listed.voters() == 2 && joiner.node.ready() == Ok(())).await;
}

#[tokio::test(start_paused = true)]
async fn one_message_of_a_stranger_does_not_keep_a_node_from_forming_its_cluster() {
    let net: Arc<Net> = Arc::default();
    let node = TestNode::start(&net, 1, &[1], MemDisk::new()).await;
    assert!(call(&node, 7, (8, ClusterId(9)), 4711).await.is_err());
    until("it leads", || node.node.ready() == Ok(())).await;
}
