//! Directories that were copied, or put back from the past: their nodes take no part, and say why.

use std::sync::Arc;
use std::time::Duration;

use openraft::raft::VoteRequest;
use tokio::time::timeout;

use super::net::{Net, TestNode, id, until};
use super::{leader, three};
use crate::node::rpc::{Envelope, PeerReply, PeerRequest, Refusal};
use crate::node::{NodeError, ReadLevel, State};
use crate::raft_types::StartMark;
use crate::raft_types::alias::Vote;
use crate::storage::disk::{Disk, MemDisk};
use crate::storage::{Identity, IdentityStore};

/// A follower of three is put back to `old`; everything else runs.
async fn put_back(net: &Arc<Net>, nodes: &mut Vec<TestNode>, number: usize, old: MemDisk) {
    let node = nodes.remove(number);
    let port = node.port;
    node.crash().await;
    nodes.insert(number, TestNode::start(net, port, &[1], old).await);
}

/// It abstains, says why, is seen to by the others, and begins anew as soon as those do without it.
async fn abstains(nodes: &[TestNode], number: usize, why: &str) {
    let lost = &nodes[number].node;
    until("it knows", || lost.state() == State::Shutdown).await;
    let Err(NodeError::NotReady(said)) = lost.ready() else { panic!("{:?}", lost.ready()) };
    assert!(said.contains("lost its memory") && said.contains(why), "{said}");
    assert!(matches!(nodes[number].set("k", "9").await, Err(NodeError::NotReady(_))));
    assert!(matches!(nodes[number].get("k", ReadLevel::None).await, Err(NodeError::NotReady(_))));
    let other = &nodes[(number + 1) % 3];
    other.set("meanwhile", "1").await.unwrap();
    let warnings = other.node.cluster().await.warnings.concat();
    assert!(warnings.contains(&lost.id().to_string()) && warnings.contains("lost its memory"), "{warnings}");
    let vote = Vote::new(lost.voted_term().unwrap_or(0) + 1, other.node.inner.me.raft_id());
    let request = VoteRequest::new(vote, other.node.inner.log.last_log_id());
    for request in [PeerRequest::Vote(request.clone()), PeerRequest::PreVote(request)] {
        let answer = lost.answer(&envelope(other, &nodes[number]), request).await;
        assert!(matches!(answer, Err(Refusal::LostMemory(_))), "{answer:?}");
    }
    timeout(Duration::from_secs(60), lost.must_begin_anew(&[])).await.expect("the others do without it");
    assert!(on_disk(&nodes[number]).lost.is_some(), "it is so after another start, too");
}

fn envelope(from: &TestNode, to: &TestNode) -> Envelope {
    let target = crate::node::rpc::Target { raft_id: Some(to.node.inner.me.raft_id()), id: to.node.id().clone() };
    from.node.inner.me.envelope(&target)
}

fn on_disk(node: &TestNode) -> Identity {
    let disk: Arc<dyn Disk> = Arc::new(node.copy_of_disk());
    IdentityStore::new(disk).load().unwrap().unwrap()
}

fn follower(nodes: &[TestNode]) -> usize {
    (leader(nodes) + 1) % 3
}

#[tokio::test(start_paused = true)]
async fn a_start_is_counted_and_remembered_by_the_others() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    let (leads, number) = (leader(&nodes), follower(&nodes));
    let raft_id = nodes[number].node.inner.me.raft_id();
    for starts in 1..4 {
        assert_eq!(on_disk(&nodes[number]).starts, starts);
        // Followers have nothing to say to one another; a start of the binary says it to all that it knows.
        let seen = || on_disk(&nodes[leads]).seen.get(&raft_id).map(|seen| seen.starts);
        until("the leader has it on disk", || seen() == Some(starts)).await;
        let node = nodes.remove(number);
        let port = node.port;
        let disk = node.crash().await;
        nodes.insert(number, TestNode::start(&net, port, &[1], disk).await);
        until("it is back", || nodes[number].node.ready() == Ok(())).await;
    }
}

/// Issue 15, row 4: put back to before its last start.
#[tokio::test(start_paused = true)]
async fn a_directory_from_before_its_last_start_takes_no_part() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    let (leads, number) = (leader(&nodes), follower(&nodes));
    nodes[0].set("k", "1").await.unwrap();
    let old = nodes[number].copy_of_disk();
    let now = nodes[number].copy_of_disk();
    put_back(&net, &mut nodes, number, now).await;
    until("it is back", || nodes[number].node.ready() == Ok(())).await;
    let raft_id = nodes[number].node.inner.me.raft_id();
    let seen = || nodes[leads].node.inner.me.seen(raft_id).map(|seen| seen.starts);
    until("it was heard", || seen() == Some(2)).await;
    put_back(&net, &mut nodes, number, old).await;
    abstains(&nodes, number, "start 2").await;
}

/// Put back to a moment of its last run: only the leader knows what it had acknowledged since.
#[tokio::test(start_paused = true)]
async fn a_follower_that_lost_what_it_had_acknowledged_takes_no_part() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    let number = follower(&nodes);
    let old = nodes[number].copy_of_disk();
    for i in 0..20 {
        nodes[0].set(&format!("k{i}"), "1").await.unwrap();
    }
    let last = nodes[leader(&nodes)].node.applied_index();
    until("it has all of it", || nodes[number].node.applied_index() == last).await;
    // openraft tells the leader's side with the next heartbeat, at the latest.
    tokio::time::sleep(Duration::from_millis(200)).await;
    put_back(&net, &mut nodes, number, old).await;
    abstains(&nodes, number, "acknowledged entry").await;
}

/// Issue 15, row 1: of two processes of one directory the older one is refused, and hears it.
#[tokio::test(start_paused = true)]
async fn of_two_processes_the_later_one_is_heard() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let (leads, older) = (leader(&nodes), follower(&nodes));
    let (leads, older) = (&nodes[leads], &nodes[older]);
    let message = envelope(older, leads);
    until("it was heard", || leads.node.inner.me.seen(message.from_raft) == Some(message.start)).await;
    let vote = PeerRequest::Vote(VoteRequest::new(
        Vote::new(leads.node.voted_term().unwrap() + 1, message.from_raft),
        older.node.inner.log.last_log_id(),
    ));
    for other in [StartMark { starts: message.start.starts - 1, boot: 1 }, StartMark { boot: 1, ..message.start }] {
        let copy = Envelope { start: other, ..message.clone() };
        let answer = leads.node.answer(&copy, vote.clone()).await;
        assert!(matches!(answer, Err(Refusal::Superseded(seen)) if seen == message.start), "{answer:?}");
        // It may ask how it stands.
        let answer = leads.node.answer(&copy, PeerRequest::IsMember(message.from_raft)).await;
        assert!(matches!(answer, Ok(PeerReply::IsMember(_, Some(seen))) if seen == message.start), "{answer:?}");
    }
    assert!(leads.node.cluster().await.warnings.concat().contains("is refused"));
    // A later start takes its place, and the older one hears of it with whatever it asks or is asked next.
    let later = TestNode::start(&net, older.port, &[1], older.copy_of_disk()).await;
    let start = later.node.inner.me.start();
    let answer = leads.node.answer(&envelope(&later, leads), vote).await;
    assert!(matches!(answer, Ok(PeerReply::Vote(_))), "{answer:?}");
    assert_eq!(on_disk(leads).seen.get(&message.from_raft), Some(&start), "on disk before it is answered");
    until("it abstains", || older.node.state() == State::Shutdown).await;
    assert!(older.node.ready().unwrap_err().to_string().contains("start 2"), "{:?}", older.node.ready());
}

/// Issue 18, B1: one message of 148 bytes to each, and all nodes took no part any more.
#[tokio::test(start_paused = true)]
async fn what_a_message_says_of_starts_and_entries_counts_once_it_is_asked_for() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let (leads, follows) = (&nodes[leader(&nodes)], &nodes[follower(&nodes)]);
    let me = &leads.node.inner.me;
    let message = envelope(follows, leads);
    until("it was heard", || me.seen(message.from_raft) == Some(message.start)).await;
    let ask = PeerRequest::WeakIndex;
    for start in [
        StartMark { starts: 1000, boot: 1 },
        // As it tells anybody.
        StartMark { starts: 1000, ..message.start },
    ] {
        let forged = Envelope { start, ..message.clone() };
        assert!(matches!(leads.node.answer(&forged, ask.clone()).await, Err(Refusal::Stopped)));
        // One who asks is answered, and not believed either.
        assert!(leads.node.answer(&forged, PeerRequest::Status).await.is_ok());
    }
    let unknown = Envelope { from: id(9), from_raft: 4711, ..message.clone() };
    assert!(matches!(leads.node.answer(&unknown, ask.clone()).await, Err(Refusal::Stopped)));
    for seen in [StartMark { starts: 1, boot: 42 }, StartMark { starts: 1000, boot: me.boot() }] {
        let forged = Envelope { to_start: Some(seen), ..message.clone() };
        assert!(matches!(leads.node.answer(&forged, ask.clone()).await, Err(Refusal::Stopped)));
    }
    // To a follower, in the name of its leader, of an entry that there is not, and of one that it need not have yet.
    let (vote, last) = (leads.node.inner.log.vote().unwrap(), leads.node.inner.log.last_log_id().unwrap());
    let leader_id = leads.node.inner.me.raft_id();
    let acknowledged =
        openraft::testing::log_id::<crate::raft_types::TypeConfig>(vote.leader_id.term, leader_id, last.index + 9);
    let answer = follows.node.answer(&envelope(leads, follows), PeerRequest::Forgotten { vote, acknowledged }).await;
    assert!(matches!(answer, Ok(PeerReply::Forgotten(false))), "{answer:?}");
    assert_eq!((me.seen(message.from_raft), me.seen(4711)), (Some(message.start), None));
    for node in &nodes {
        assert_eq!(node.node.ready(), Ok(()));
        assert!(node.node.inner.me.lost_why().is_none());
    }
    leads.set("k", "1").await.unwrap();
}

/// Who moved is asked where its message says that it is, once nobody answers where it was.
#[tokio::test(start_paused = true)]
async fn who_cannot_be_asked_is_not_heard() {
    let net: Arc<Net> = Arc::default();
    let mut nodes = three(&net).await;
    let (leads, number) = (leader(&nodes), follower(&nodes));
    let port = nodes[number].port;
    let now = nodes[number].copy_of_disk();
    put_back(&net, &mut nodes, number, now).await;
    let (leads, back) = (&nodes[leads], &nodes[number]);
    let raft_id = back.node.inner.me.raft_id();
    until("it is back", || back.node.ready() == Ok(())).await;
    until("it was heard", || leads.node.inner.me.seen(raft_id) == Some(back.node.inner.me.start())).await;
    // As of a start after that, which cannot be asked.
    net.set_cut(leads.port, port, true);
    let start = StartMark { starts: 3, boot: 3 };
    let message = Envelope { start, ..envelope(back, leads) };
    assert!(matches!(leads.node.answer(&message, PeerRequest::WeakIndex).await, Err(Refusal::Stopped)));
    assert_eq!(leads.node.inner.me.seen(raft_id), Some(back.node.inner.me.start()));
}

/// The leader's own start is older than what it is told of: it must not go on to lead.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_superseded_leads_no_more() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let old = leader(&nodes);
    let (leads, follows) = (&nodes[old], &nodes[(old + 1) % 3]);
    let later = TestNode::start(&net, leads.port, &[1], leads.copy_of_disk()).await;
    let vote = PeerRequest::PreVote(VoteRequest::new(
        Vote::new(follows.node.voted_term().unwrap() + 1, later.node.inner.me.raft_id()),
        later.node.inner.log.last_log_id(),
    ));
    follows.node.answer(&envelope(&later, follows), vote).await.unwrap();
    until("it abstains", || leads.node.state() == State::Shutdown).await;
    assert!(matches!(leads.set("k", "1").await, Err(NodeError::NotReady(_))));
    let others = || (1..3).map(|next| &nodes[(old + next) % 3]);
    until("another leads", || others().chain([&later]).any(|node| node.node.state() == State::Leader)).await;
    follows.set("k", "2").await.unwrap();
}

/// Its log is of a time when it was alone.
#[tokio::test(start_paused = true)]
async fn the_only_voter_of_an_old_log_does_not_lead_alone() {
    let net: Arc<Net> = Arc::default();
    let first = TestNode::start(&net, 1, &[1], MemDisk::new()).await;
    first.set("k", "1").await.unwrap();
    let old = first.copy_of_disk();
    let mut nodes = vec![first];
    for port in [2, 3] {
        nodes.push(TestNode::start(&net, port, &[1], MemDisk::new()).await);
    }
    for node in &nodes {
        until("three voters", || node.voters() == 3).await;
    }
    nodes.remove(0).crash().await;
    until("another leads", || nodes.iter().any(|node| node.node.state() == State::Leader)).await;
    nodes[0].set("k", "2").await.unwrap();
    // It may not be called, and finds them all the same.
    let back = TestNode::start(&net, 1, &[1, 2, 3], old).await;
    until("it takes no part, or follows", || {
        assert_ne!(back.node.state(), State::Leader);
        back.node.state() == State::Shutdown || back.node.ready() == Ok(())
    })
    .await;
    assert_ne!(back.get("k", ReadLevel::Linearizable).await.ok().flatten(), Some("1".to_owned()));
}

/// A cluster of one that lists others has itself to go on with.
#[tokio::test(start_paused = true)]
async fn the_only_voter_leads_where_nobody_knows_better() {
    let net: Arc<Net> = Arc::default();
    let node = TestNode::start(&net, 1, &[1], MemDisk::new()).await;
    node.set("k", "1").await.unwrap();
    let disk = node.crash().await;
    let back = TestNode::start(&net, 1, &[1, 2], disk).await;
    assert_eq!(back.get("k", ReadLevel::Linearizable).await.unwrap(), Some("1".to_owned()));
}
