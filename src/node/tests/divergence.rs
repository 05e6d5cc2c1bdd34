//! Nodes whose state is not their cluster's.

use std::sync::Arc;
use std::time::Duration;

use openraft::entry::RaftEntry;
use openraft::raft::AppendEntriesRequest;
use openraft::storage::RaftLogStorage as _;
use openraft::{EntryPayload, alias::CommittedLeaderIdOf};
use tokio::time::{sleep, timeout};

use super::net::{Net, TestNode, id, until};
use super::{leader, three};
use crate::node::rpc::{Mark, PeerReply, PeerRequest, Refusal, Target};
use crate::node::{Node, NodeError, ReadLevel, Severity, State};
use crate::raft_types::TypeConfig;
use crate::raft_types::alias::{LogEntry, LogId, Vote};
use crate::record::{Marks, Rare, Record};
use crate::storage::disk::MemDisk;

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderIdOf::<TypeConfig>::new(term), index)
}

fn has_diverged(node: &TestNode) -> bool {
    matches!(node.node.ready(), Err(NodeError::Diverged(_)))
}

/// All but `?level=none` is refused.
async fn serves_only_its_own_copy(node: &TestNode, key: &str, own: &str) {
    for level in [ReadLevel::Linearizable, ReadLevel::Weak, ReadLevel::Auto] {
        let read = node.get(key, level).await;
        assert!(matches!(read, Err(NodeError::Diverged(_))), "{level:?}: {read:?}");
    }
    let written = node.set("k", "1").await;
    assert!(matches!(written, Err(NodeError::Diverged(_))), "{written:?}");
    let led = node.node.lead(None, super::in_secs(5)).await;
    assert!(matches!(led, Err(NodeError::Diverged(_))), "{led:?}");
    assert_eq!(node.get(key, ReadLevel::None).await.unwrap(), Some(own.to_owned()));
    assert_eq!(node.node.state(), State::Shutdown);
    assert!(node.node.watches().is_closed());
}

/// As `field/02`: the first two are put back to a time before the third.
#[tokio::test(start_paused = true)]
async fn who_applied_what_its_leader_lacks_has_diverged_until_it_comes_back_empty() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set("x", "\"old\"").await.unwrap();
    let early = [nodes[0].copy(), nodes[1].copy()];
    for i in 0..20 {
        nodes[0].set("x", &i.to_string()).await.unwrap();
    }
    until("the third has all", || nodes[2].node.applied_index() == nodes[0].node.applied_index()).await;
    let late = nodes[2].copy();
    for node in nodes {
        node.crash().await;
    }
    let mut nodes = Vec::new();
    for (port, disk) in [1, 2].into_iter().zip(early) {
        nodes.push(TestNode::start(&net, port, &[1], disk).await);
    }
    for node in &nodes {
        until("two are ready", || node.node.ready() == Ok(())).await;
    }
    let old = nodes[0].get("x", ReadLevel::Linearizable).await.unwrap();
    assert_eq!(old.as_deref(), Some("\"old\""));
    let third = TestNode::start(&net, 3, &[1], late).await;
    until("it has noticed", || has_diverged(&third)).await;
    serves_only_its_own_copy(&third, "x", "19").await;
    let raft_id = third.node.inner.me.raft_id();
    for node in &nodes {
        let warnings = node.node.cluster().await.warnings;
        assert!(warnings.iter().any(|w| w.contains("127.0.0.1:3") && w.contains("has diverged")), "{warnings:?}");
    }
    nodes[0].set("y", "1").await.unwrap();
    let applied = third.node.applied_index();

    // After a restart it knows at once, and gives no vote.
    let disk = third.crash().await;
    let third = TestNode::start(&net, 3, &[1], disk).await;
    assert!(has_diverged(&third));
    serves_only_its_own_copy(&third, "x", "19").await;
    let envelope = nodes[0].node.inner.me.envelope(&Target { raft_id: Some(raft_id), id: id(3) });
    let rpc = openraft::raft::VoteRequest::new(Vote::new(1_000, nodes[0].node.inner.me.raft_id()), None);
    for request in [PeerRequest::PreVote(rpc.clone()), PeerRequest::Vote(rpc)] {
        let answer = third.node.answer(&envelope, request).await;
        assert!(matches!(answer, Err(Refusal::Diverged(_))), "{answer:?}");
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(third.node.applied_index(), applied, "nothing was taken back and nothing added");
    third.crash().await;

    let third = TestNode::start(&net, 3, &[1], MemDisk::new()).await;
    until("it is ready", || third.node.ready() == Ok(())).await;
    assert_eq!(third.get("x", ReadLevel::Linearizable).await.unwrap(), old);
    assert_eq!(nodes[0].node.cluster().await.warnings.iter().filter(|w| w.contains("diverged")).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_digest_that_differs_from_the_leaders_is_found_at_the_next_mark() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set("x", "1").await.unwrap();
    let marked = |node: &TestNode| node.node.inner.me.mark().map(|mark| mark.index);
    until("all have marked", || nodes.iter().all(|node| marked(node).is_some())).await;
    sleep(Duration::from_secs(200)).await;
    assert!(nodes.iter().all(|node| node.node.ready() == Ok(())), "none differs");
    let (applied, mark) = (nodes[0].node.applied_index(), marked(&nodes[0]));
    assert_eq!(Some(applied), mark, "nothing is written where nobody writes");

    let bad = (leader(&nodes) + 1) % 3;
    let wrong = Record::new(Marks::UNKNOWN, &Rare::default(), b"7");
    nodes[bad].node.inner.map.tamper("x", wrong);
    nodes[bad].set("y", "1").await.unwrap();
    until("it has noticed", || has_diverged(&nodes[bad])).await;
    serves_only_its_own_copy(&nodes[bad], "x", "7").await;
    let after = applied + 2;
    assert_eq!(marked(&nodes[leader(&nodes)]), Some(after), "one mark for one write");
    for node in nodes.iter().filter(|node| node.port != nodes[bad].port) {
        assert_eq!(node.get("x", ReadLevel::Linearizable).await.unwrap().as_deref(), Some("1"));
        // The doctor names it (issue 22).
        let found = node.node.examine().await;
        let [worst, ..] = &found[..] else { panic!("nothing is found") };
        assert_eq!((worst.severity, &worst.node), (Severity::Critical, &nodes[bad].node.id().to_string()));
        assert!(worst.what.contains("it has diverged"), "{worst:?}");
    }
}

/// The sender is asked where the membership has it, and says otherwise.
#[tokio::test(start_paused = true)]
async fn a_message_alone_makes_nobody_diverge() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set("x", "1").await.unwrap();
    until("all have marked", || nodes.iter().all(|node| node.node.inner.me.mark().is_some())).await;
    let leading = leader(&nodes);
    let (leads, follower) = (&nodes[leading].node.inner.me, &nodes[(leading + 1) % 3]);
    let mut envelope =
        leads.envelope(&Target { raft_id: Some(follower.node.inner.me.raft_id()), id: id(follower.port) });
    let term = follower.node.voted_term().unwrap();
    let committed = follower.node.applied_index();
    // Of the leader's own term, and of a later one.
    for (later, from) in [(0, leads.raft_id()), (1, leads.raft_id()), (1, 4711)] {
        envelope.from_raft = from;
        let entries = vec![LogEntry::new(log_id(term + 1, committed), EntryPayload::Blank)];
        let rpc = AppendEntriesRequest {
            vote: Vote::new_committed(term + later, from),
            prev_log_id: Some(log_id(term, committed - 1)),
            entries,
            leader_commit: None,
        };
        let answer = follower.node.answer(&envelope, PeerRequest::Append(rpc)).await;
        match answer {
            Err(Refusal::Unreadable(why)) if why.contains("contradicts") => {}
            // Nobody stands by a start of it.
            Err(Refusal::Stopped) if from == 4711 => {}
            answer => panic!("{answer:?}"),
        }
        sleep(Duration::from_secs(2)).await;
    }
    envelope.from_raft = leads.raft_id();
    envelope.mark = envelope.mark.map(|mark| Mark { digest: !mark.digest, ..mark });
    assert!(envelope.mark.is_some());
    let heartbeat = AppendEntriesRequest {
        vote: Vote::new_committed(term, leads.raft_id()),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    };
    let answer = follower.node.answer(&envelope, PeerRequest::Append(heartbeat)).await;
    assert!(matches!(answer, Ok(PeerReply::Append(..))), "{answer:?}");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(follower.node.ready(), Ok(()));
}

/// Behind all checks the log itself refuses. openraft then stops, and the process goes on.
#[tokio::test(start_paused = true)]
async fn what_is_committed_is_not_truncated_whoever_asks() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    for _ in 0..10 {
        nodes[0].set("x", "1").await.unwrap();
    }
    let node = &nodes[(leader(&nodes) + 1) % 3];
    let failed = tokio::spawn({
        let node: Node = node.node.clone();
        async move { node.failed().await }
    });
    let mut log = node.node.inner.log.clone();
    let last = log.last_log_id();
    let refused = log.truncate_after(Some(log_id(1, 2))).await.unwrap_err();
    assert!(refused.to_string().contains("is committed"), "{refused}");
    assert_eq!(log.last_log_id(), last);
    node.node.inner.raft.shutdown().await.unwrap();
    assert!(timeout(Duration::from_secs(60), failed).await.is_err(), "the process goes on");
    assert!(has_diverged(node));
    assert_eq!(node.get("x", ReadLevel::None).await.unwrap().as_deref(), Some("1"));
}
