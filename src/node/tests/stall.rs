//! Nothing goes on, and the reason is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::net::{Net, TestNode, until};
use super::{leader, three};
use crate::command::{Action, Command};
use crate::node::{Node, NodeError, ReadLevel, State};
use crate::storage::disk::MemDisk;

async fn warnings(node: &Node) -> String {
    node.cluster().await.warnings.join("\n")
}

/// Issue 18, D10: packets above 1,000 bytes vanish. Every write was 504 for over a minute, and all was said to be well.
#[tokio::test(start_paused = true)]
async fn an_mtu_hole_is_told_with_the_peers() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    nodes[0].set("k", "1").await.unwrap();
    let leads = leader(&nodes);
    let others = [(leads + 1) % 3, (leads + 2) % 3];
    others.iter().for_each(|other| net.set_hole(nodes[leads].port, nodes[*other].port, true));
    let node = nodes[leads].node.clone();
    let set = Command::Set(vec![("k".into(), bytes::Bytes::from_static(b"2"))]);
    let written = tokio::spawn(async move { node.write(set, super::in_secs(60)).await });
    sleep(Duration::from_secs(4)).await;
    assert_eq!(nodes[leads].node.ready(), Ok(()), "an election may take as long");
    until("the leader says so", || matches!(nodes[leads].node.ready(), Err(NodeError::NotReady(_)))).await;
    for node in &nodes {
        let told = warnings(&node.node).await;
        assert!(told.contains("nothing was committed for more than 5 s") && told.contains("MTU"), "{told}");
        assert!(others.iter().all(|other| told.contains(&nodes[*other].node.id().to_string())), "{told}");
    }
    assert_eq!(leader(&nodes), leads, "nobody is better off");
    others.iter().for_each(|other| net.set_hole(nodes[leads].port, nodes[*other].port, false));
    written.await.unwrap().unwrap();
    until("the leader is ready again", || nodes[leads].node.ready() == Ok(())).await;
    assert_eq!(warnings(&nodes[leads].node).await, "");
    assert_eq!(nodes[leads].get("k", ReadLevel::Linearizable).await.unwrap().as_deref(), Some("2"));
}

async fn five(net: &Arc<Net>) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    for port in 1..=5 {
        nodes.push(TestNode::start(net, port, &[1], MemDisk::new()).await);
    }
    for node in &nodes {
        until("five voters", || node.voters() == 5).await;
    }
    nodes[0].set("k", "1").await.unwrap();
    for node in &nodes {
        until("each has it", || node.node.applied_index() == nodes[0].node.applied_index()).await;
    }
    nodes
}

fn set_holes(net: &Net, from: u16, nodes: &[TestNode], to: &[usize], hole: bool) {
    to.iter().for_each(|to| net.set_hole(from, nodes[*to].port, hole));
}

/// Issue 18, D10: large packets from the leader to three of the four others vanish, and the fourth reaches all.
#[tokio::test(start_paused = true)]
async fn a_stuck_leader_gives_way_to_a_voter_that_acknowledges_entries() {
    let net: Arc<Net> = Arc::default();
    let nodes = five(&net).await;
    let leads = leader(&nodes);
    let [able, unable @ ..] = [1, 2, 3, 4].map(|n| (leads + n) % 5);
    set_holes(&net, nodes[leads].port, &nodes, &unable, true);
    let began = Instant::now();
    let written = nodes[leads].node.write(Command::Set(vec![("k".into(), "2".into())]), super::in_secs(4)).await;
    assert!(matches!(written, Err(NodeError::Timeout(_))), "{written:?}");
    assert_eq!(leader(&nodes), leads, "not at once");
    until("the able one leads", || nodes[able].node.state() == State::Leader).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    nodes[leads].set("k", "3").await.unwrap();
    until("it is ready", || nodes[able].node.ready() == Ok(())).await;
    for node in &nodes {
        assert_eq!(node.get("k", ReadLevel::Linearizable).await.unwrap().as_deref(), Some("3"));
    }
}

/// The successor has the same hole before it: it leads for a minute before another trial.
#[tokio::test(start_paused = true)]
async fn leadership_is_tried_elsewhere_once_a_minute() {
    let net: Arc<Net> = Arc::default();
    let nodes = five(&net).await;
    let leads = leader(&nodes);
    let [able, unable @ ..] = [1, 2, 3, 4].map(|n| (leads + n) % 5);
    set_holes(&net, nodes[leads].port, &nodes, &unable, true);
    set_holes(&net, nodes[able].port, &nodes, &unable, true);
    let node = nodes[leads].node.clone();
    let set = Command::Set(vec![("k".into(), "2".into())]);
    let waits = tokio::spawn(async move { node.write(set, super::in_secs(200)).await });
    let mut changes: Vec<(usize, Instant)> = vec![(leads, Instant::now())];
    while changes.len() < 4 {
        if let Some(now) = nodes.iter().position(|n| n.node.state() == State::Leader)
            && changes.last().unwrap().0 != now
        {
            changes.push((now, Instant::now()));
        }
        sleep(Duration::from_millis(50)).await;
    }
    let who: Vec<usize> = changes.iter().map(|(who, _)| *who).collect();
    assert_eq!(who, [leads, able, leads, able], "nobody else acknowledged anything");
    for two in changes[1..].windows(2) {
        let apart = two[1].1 - two[0].1;
        assert!(apart > Duration::from_secs(59) && apart < Duration::from_secs(75), "{apart:?}");
    }
    set_holes(&net, nodes[leads].port, &nodes, &unable, false);
    set_holes(&net, nodes[able].port, &nodes, &unable, false);
    // It was proposed in an earlier term, and is committed, or was never told to anybody.
    let _ = waits.await.unwrap();
    nodes[able].set("k", "3").await.unwrap();
}

async fn finds(node: &TestNode, part: &str) -> Option<String> {
    let found = node.node.examine().await;
    let one = found.into_iter().find(|one| one.what.contains(part))?;
    Some(format!("{} {} {:?}", one.node, one.what, one.evidence))
}

/// Issue 22: who lacks much of the log is found, by all, and why it does.
#[tokio::test(start_paused = true)]
async fn one_that_is_far_behind_is_found_with_the_reason() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let leads = leader(&nodes);
    let [behind, other] = [(leads + 1) % 3, (leads + 2) % 3];
    net.set_starved(nodes[behind].port, true);
    let value = |number: usize| vec![(format!("k{}", number % 10).into(), bytes::Bytes::from_static(b"1"))];
    for round in 0..51 {
        let writes = (0..100)
            .map(|number| nodes[leads].node.write(Command::Set(value(round * 100 + number)), super::in_secs(60)));
        futures_util::future::try_join_all(writes).await.unwrap();
    }
    sleep(Duration::from_secs(4)).await;
    for asked in [leads, other] {
        let found = finds(&nodes[asked], "it lacks 5").await.expect("it is found");
        let id = nodes[behind].node.id().to_string();
        assert!(found.starts_with(&id) && found.contains(": it "), "{found}");
    }
    net.set_starved(nodes[behind].port, false);
    let applied = nodes[leads].node.applied_index();
    until("it has all", || nodes[behind].node.applied_index() >= applied).await;
    assert_eq!(finds(&nodes[leads], "it lacks").await, None);
}

/// Issue 22: a queue whose holder's time is up, where nobody can commit that.
#[tokio::test(start_paused = true)]
async fn a_queue_without_a_holder_is_found() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let leads = leader(&nodes);
    let acquire = |ttl_ms, wait_ms| Action::Acquire { name: "l".into(), ttl_ms, body: None, wait_ms };
    for action in [acquire(2_000, 0), acquire(600_000, 600_000)] {
        nodes[leads].node.write(action.into(), super::in_secs(10)).await.unwrap();
    }
    const WHAT: &str = "a queue of a lock has no holder";
    assert_eq!(finds(&nodes[leads], WHAT).await, None, "it has one");
    super::set_cut_off(&net, nodes[leads].port, true);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(finds(&nodes[leads], WHAT).await, None, "its time is only just up");
    sleep(Duration::from_secs(6)).await;
    let found = finds(&nodes[leads], WHAT).await.expect("it is found");
    assert!(found.starts_with(&nodes[leads].node.id().to_string()) && found.contains("(\"waiting\", 1.0)"), "{found}");
    let other = &nodes[(leads + 1) % 3];
    assert_eq!(finds(other, WHAT).await, None, "where there is a leader the next one has it");
    super::set_cut_off(&net, nodes[leads].port, false);
    let applied = other.node.applied_index();
    until("it hears that", || nodes[leads].node.applied_index() >= applied).await;
    assert_eq!(finds(&nodes[leads], WHAT).await, None);
}
