//! Faults that are easy to make and that nobody sees until they count.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::command::Action;
use crate::node::rpc::{PeerRequest, Refusal, Target};
use crate::node::tests::net::{Net, TestNode, id, in_secs, until};
use crate::node::tests::{leader, three};
use crate::node::{NodeError, ReadLevel, State};
use crate::raft_types::alias::Vote;
use crate::storage::disk::MemDisk;

/// A write that was done and whose answer was lost is not done again.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_an_unknown_outcome() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let follower = &nodes[(leader(&nodes) + 1) % 3];
    net.lose_every_nth_answer(1);
    let incr = Action::Incr { key: "n".into(), by: 1, ttl_ms: None, conditions: Vec::new() };
    let written = follower.node.write(incr.into(), in_secs(10)).await;
    assert!(matches!(written, Err(NodeError::Timeout(_))), "{written:?}");
    assert_eq!(follower.get("n", ReadLevel::Linearizable).await.unwrap(), Some("1".to_owned()));
}

/// A node that knows the index to read at, and has not applied it, does not answer with what it has.
#[tokio::test(start_paused = true)]
async fn a_read_waits_until_its_index_is_applied() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let leader = leader(&nodes);
    let follower = &nodes[(leader + 1) % 3];
    nodes[leader].set("k", "1").await.unwrap();
    assert_eq!(follower.get("k", ReadLevel::Linearizable).await.unwrap(), Some("1".to_owned()));
    net.set_starved(follower.port, true);
    nodes[leader].set("k", "2").await.unwrap();
    let soon = Instant::now() + Duration::from_millis(100);
    let read = follower.node.read(&"k".into(), ReadLevel::Linearizable.into(), soon).await;
    assert!(matches!(read, Err(NodeError::Timeout(_))), "{read:?}");
    net.set_starved(follower.port, false);
    assert_eq!(follower.get("k", ReadLevel::Linearizable).await.unwrap(), Some("2".to_owned()));
}

/// A voter without the log counts in the quorum, and brings nothing to it.
#[tokio::test(start_paused = true)]
async fn a_learner_that_has_not_caught_up_is_no_voter() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    net.set_starved(4, true);
    let joiner = TestNode::start(&net, 4, &[1], MemDisk::new()).await;
    until("it is a member", || nodes[0].node.stats().latest_configuration.len() == 4).await;
    for _ in 0..20 {
        nodes[0].set("k", "1").await.unwrap();
        sleep(Duration::from_millis(200)).await;
        assert!(nodes.iter().all(|node| node.voters() == 3), "it has nothing of the log");
    }
    net.set_starved(4, false);
    until("it is a voter", || nodes[0].voters() == 4).await;
    until("it is ready", || joiner.node.ready() == Ok(())).await;
}

/// Also after it was started again: a vote from it could elect a leader without a quorum of those who are left.
#[tokio::test(start_paused = true)]
async fn a_removed_node_gives_no_vote() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    let gone = (leader(&nodes) + 1) % 3;
    let mut gone = nodes.remove(gone);
    nodes[0].node.remove(&format!(":{}", gone.port), false, in_secs(10)).await.unwrap();
    until("it knows", || gone.node.state() == State::Shutdown).await;
    for _ in 0..2 {
        let raft_id = gone.node.inner.me.raft_id();
        let asker = &nodes[0].node.inner.me;
        let envelope = asker.envelope(&Target { raft_id: Some(raft_id), id: id(gone.port) });
        let rpc = openraft::raft::VoteRequest::new(Vote::new(1_000, asker.raft_id()), None);
        for request in [PeerRequest::PreVote(rpc.clone()), PeerRequest::Vote(rpc)] {
            let answer = gone.node.answer(&envelope, request).await;
            assert!(matches!(answer, Err(Refusal::Stopped)), "{answer:?}");
        }
        let port = gone.port;
        let disk = gone.crash().await;
        gone = TestNode::start(&net, port, &[], disk).await;
        assert_eq!(gone.node.state(), State::Shutdown);
    }
}
