//! Tokens in a cluster: whoever asks where, by the newest word of all.

use std::sync::Arc;
use std::time::Duration;

use super::net::{Net, TestNode, in_secs, until};
use super::{leader, set_cut_off, three};
use crate::command::*;
use crate::formats::NEWEST;
use crate::node::rpc::{MemberChange, PeerReply, PeerRequest, Target};
use crate::node::{Gate, Node, NodeError, NodeSlot, ReadLevel, ReadOptions};
use crate::storage::IdentityStore;
use crate::storage::disk::MemDisk;

fn grants(texts: &[&str]) -> Grants {
    Grants(texts.iter().map(|text| Grant::parse(text).unwrap()).collect())
}

fn by_root(action: Action) -> Command {
    Command::By(Principal::Root, Stamped { stamp_ms: 0, retry: None, action })
}

fn put_token(id: u64, texts: &[&str]) -> Command {
    let (name, hash) = (format!("t{id}").as_str().into(), [u8::try_from(id).unwrap(); 32]);
    by_root(Action::PutToken { name, id, hash, grants: grants(texts), ttl_ms: None, certificate: None })
}

async fn closed(net: &Arc<Net>) -> Vec<TestNode> {
    let nodes = three(net).await;
    for node in &nodes {
        until("the newest format", || node.node.format() == NEWEST).await;
    }
    nodes[0].node.clone().turn_on_authentication(Grants::default()).await;
    for node in &nodes {
        let auth = node.node.auth_changes();
        until("authentication is on", || auth.borrow().record.is_some()).await;
    }
    nodes
}

async fn write(node: &Node, command: Command) -> Reply {
    node.write(command, in_secs(10)).await.unwrap().reply
}

fn set_by(by: &Principal, key: &str) -> Command {
    let action = Action::Set { pairs: vec![(key.into(), "1".into())], ttl_ms: None, conditions: Vec::new() };
    Command::By(by.clone(), Stamped { stamp_ms: 0, retry: None, action })
}

fn is_denied(reply: &Reply, denied: &Denied) -> bool {
    matches!(reply, Reply::Failed(failure) if **failure == Failure::Denied(denied.clone()))
}

async fn read_by(node: &Node, by: Option<&Principal>, level: ReadLevel) -> Result<(), NodeError> {
    let options = ReadOptions { level, ..level.into() };
    node.read_by(by, &"a".into(), options, in_secs(10)).await.map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn a_token_is_known_everywhere_and_revoked_for_all() {
    let net = Arc::default();
    let nodes = closed(&net).await;
    assert!(matches!(write(&nodes[1].node, put_token(7, &["write:a", "read:a"])).await, Reply::Token { fresh: true }));
    for node in &nodes {
        until("it is known", || node.node.who_shows(7, &[7; 32]).is_ok()).await;
    }
    let (by, _) = nodes[2].node.who_shows(7, &[7; 32]).unwrap();
    for node in &nodes {
        assert_eq!(write(&node.node, set_by(&by, "a")).await, Reply::Done);
        for level in [ReadLevel::Linearizable, ReadLevel::Weak, ReadLevel::None] {
            assert_eq!(read_by(&node.node, Some(&by), level).await, Ok(()), "{level:?}");
            assert_eq!(read_by(&node.node, None, level).await, Err(NodeError::Denied(Denied::Missing)), "{level:?}");
        }
    }
    // Whoever has heard the answer finds that no write of it takes effect, wherever it is sent.
    write(&nodes[0].node, by_root(Action::DeleteToken { name: "t7".into() })).await;
    for node in &nodes {
        assert!(is_denied(&write(&node.node, set_by(&by, "a")).await, &Denied::Unknown));
        for level in [ReadLevel::Linearizable, ReadLevel::Weak] {
            let read = read_by(&node.node, Some(&by), level).await;
            assert_eq!(read, Err(NodeError::Denied(Denied::Unknown)), "{level:?}");
        }
    }
}

/// One that is cut off knows nothing of a revocation: it answers `none` as before, and writes nothing.
#[tokio::test(start_paused = true)]
async fn a_state_of_before_authorises_no_write() {
    let net = Arc::default();
    let nodes = closed(&net).await;
    let lead = leader(&nodes);
    let (away, other) = ((lead + 1) % 3, (lead + 2) % 3);
    write(&nodes[lead].node, put_token(7, &["write:a", "read:a"])).await;
    until("it is known", || nodes[away].node.who_shows(7, &[7; 32]).is_ok()).await;
    let (by, _) = nodes[away].node.who_shows(7, &[7; 32]).unwrap();
    set_cut_off(&net, nodes[away].port, true);
    write(&nodes[other].node, put_token(7, &["read:a"])).await;
    assert_eq!(read_by(&nodes[away].node, Some(&by), ReadLevel::None).await, Ok(()));
    assert!(nodes[away].node.allowed(Some(&by), Need::Write("a")).is_ok(), "as far as it knows");
    // It comes back, and what it let through by what it knew is refused where it is applied.
    set_cut_off(&net, nodes[away].port, false);
    let refused = write(&nodes[away].node, set_by(&by, "a")).await;
    assert!(is_denied(&refused, &Denied::Forbidden("write:a".into())), "{refused:?}");
}

/// Every message of a peer that asks for a client: without one it gets nothing, with one what that may have.
#[tokio::test(start_paused = true)]
async fn every_request_of_a_peer_is_checked_or_is_of_nodes_alone() {
    let net = Arc::default();
    let nodes = closed(&net).await;
    let lead = leader(&nodes);
    let follower = &nodes[(lead + 1) % 3].node;
    for (id, texts) in [(1, &["read:a"][..]), (2, &["members"]), (3, &["write:a"]), (4, &["admin"])] {
        write(follower, put_token(id, texts)).await;
    }
    until("they are known", || nodes[lead].node.who_shows(4, &[4; 32]).is_ok()).await;
    let known = |id: u64| nodes[lead].node.who_shows(id, &[u8::try_from(id).unwrap(); 32]).unwrap().0;
    let revoked = Principal::Token(Holder { id: 9, generation: 1, revision: 1, name: "t9".into() });
    let askers: Vec<(&str, Option<Principal>)> = vec![
        ("nobody", None),
        ("anonymous", Some(Principal::Anonymous { revision: 1 })),
        ("revoked", Some(revoked)),
        ("reads", Some(known(1))),
        ("members", Some(known(2))),
        ("writes", Some(known(3))),
        ("admin", Some(known(4))),
        ("root", Some(Principal::Root)),
        ("node", Some(Principal::Node)),
    ];
    let inner = &nodes[lead].node.inner;
    let target = Target { raft_id: Some(inner.me.raft_id()), id: inner.id.clone() };
    let call = async |request: PeerRequest| {
        follower.inner.peers.call(&target, request, Duration::from_secs(10)).await.unwrap()
    };
    let timeout_ms = 5_000;
    let nothing = || "127.0.0.1:77,127.0.0.1:1077".to_owned();
    for (who, by) in askers {
        let all = ["admin", "root", "node"].contains(&who);
        let read = match by.clone() {
            Some(by) => PeerRequest::ReadBy { by, key: "a".into(), min_index: 0, timeout_ms },
            None => PeerRequest::Read { key: "a".into(), min_index: 0, timeout_ms },
        };
        let PeerReply::Read(Ok(read)) = call(read).await else { panic!("{who}") };
        assert_eq!(!matches!(read, Err(NodeError::Denied(_))), all || who == "reads", "{who}: {read:?}");
        let changes = [
            MemberChange::Remove { wanted: nothing(), force: false },
            MemberChange::Lead(Some(nothing())),
            MemberChange::Join(nothing().parse().unwrap()),
        ];
        for change in changes {
            let request = match (by.clone(), change.clone()) {
                (Some(by), change) => PeerRequest::AdminBy { by, change, timeout_ms },
                (None, MemberChange::Join(id)) => PeerRequest::Join { id, timeout_ms },
                (None, MemberChange::Lead(wanted)) => PeerRequest::Lead { wanted, timeout_ms },
                (None, MemberChange::Remove { wanted, force }) => PeerRequest::Remove { wanted, force, timeout_ms },
            };
            let PeerReply::Admin(Ok(done)) = call(request).await else { panic!("{who}") };
            assert_eq!(
                !matches!(done, Err(NodeError::Denied(_))),
                all || who == "members",
                "{who} {change:?}: {done:?}"
            );
        }
        let set = Action::Set { pairs: vec![("a".into(), "2".into())], ttl_ms: None, conditions: Vec::new() };
        let stamped = Stamped { stamp_ms: 0, retry: None, action: set };
        // As a node would that knows of no change since another: the entry looks at the grants itself.
        let command = match by.clone() {
            Some(Principal::Token(holder)) => Command::By(Principal::Token(Holder { revision: 0, ..holder }), stamped),
            Some(by) => Command::By(by, stamped),
            None => Command::Stamped(stamped),
        };
        let PeerReply::Forward(done) = call(PeerRequest::Forward { commands: vec![command.into()], timeout_ms }).await
        else {
            panic!("{who}")
        };
        let Ok((_, reply)) = &done[0] else { panic!("{who}: {done:?}") };
        let denied = matches!(reply, Reply::Failed(failure) if matches!(**failure, Failure::Denied(_)));
        assert_eq!(!denied, all || who == "writes", "{who}: {reply:?}");
    }
}

/// A new kind of request fails to compile here until somebody has said what it is.
fn is_of_nodes_alone(request: &PeerRequest) -> bool {
    match request {
        // They ask for a client, and are checked where they are done.
        PeerRequest::Forward { .. }
        | PeerRequest::Read { .. }
        | PeerRequest::ReadBy { .. }
        | PeerRequest::Join { .. }
        | PeerRequest::Lead { .. }
        | PeerRequest::Remove { .. }
        | PeerRequest::AdminBy { .. } => false,
        // Raft's own, and what nodes tell each other of themselves: no key, no value, no name of a lock.
        PeerRequest::Append(_)
        | PeerRequest::Vote(_)
        | PeerRequest::PreVote(_)
        | PeerRequest::TransferLeader(_)
        | PeerRequest::ReadIndex { .. }
        | PeerRequest::WeakIndex
        | PeerRequest::Status
        | PeerRequest::Identify
        | PeerRequest::LeaderWatch
        | PeerRequest::IsLeaderGone(_)
        | PeerRequest::IsMember(_)
        | PeerRequest::Found(_)
        | PeerRequest::Vouch
        | PeerRequest::Marks(_)
        | PeerRequest::Events { .. }
        | PeerRequest::Examine
        | PeerRequest::Clock
        | PeerRequest::Acknowledged { .. }
        | PeerRequest::Witness { .. }
        | PeerRequest::Forgotten { .. } => true,
    }
}

/// What it applies first may be of before authentication was on.
#[tokio::test(start_paused = true)]
async fn a_new_node_serves_nobody_before_it_has_caught_up() {
    let net: Arc<Net> = Arc::default();
    let joins = TestNode::start(&net, 2, &[1], MemDisk::new()).await;
    let slot = NodeSlot::new(joins.node.id().clone(), false);
    slot.close_until_ready();
    assert!(matches!(slot.gate(), Gate::Shut), "who asks now may be answered with what is loaded");
    slot.started(joins.node.clone());
    assert!(matches!(slot.gate(), Gate::Shut));
    slot.gate_opens(in_secs(1)).await;
    assert!(matches!(slot.gate(), Gate::Shut), "nobody is there to join");
    let _first = TestNode::start(&net, 1, &[], MemDisk::new()).await;
    slot.gate_opens(in_secs(60)).await;
    assert!(matches!(slot.gate(), Gate::Open), "of a cluster that asks nobody");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_applied_it_starts_closed_ever_after() {
    assert!(is_of_nodes_alone(&PeerRequest::Status));
    let net: Arc<Net> = Arc::default();
    let disk = MemDisk::new();
    let noted = |disk: &MemDisk| IdentityStore::new(Arc::new(disk.clone())).is_closed().unwrap();
    let node = TestNode::start(&net, 1, &[], disk.clone()).await;
    until("the newest format", || node.node.format() == NEWEST).await;
    assert!(!noted(&disk));
    node.node.clone().turn_on_authentication(grants(&["read:"])).await;
    assert!(noted(&disk), "before anybody can see it");
    assert_eq!(read_by(&node.node, None, ReadLevel::None).await, Ok(()), "all may");
    assert!(matches!(node.node.allowed(None, Need::Write("a")), Err(Denied::Forbidden(_))));
    let slot = NodeSlot::new(node.node.id().clone(), true);
    assert!(matches!(slot.gate(), Gate::Open), "one that nobody closed");
    slot.close();
    assert!(matches!(slot.gate(), Gate::Shut));
    slot.started(node.node.clone());
    assert!(matches!(slot.gate(), Gate::Asks(record) if record.anonymous == grants(&["read:"])));
    let off = Action::Authentication { on: false, anonymous: None, first: false };
    write(&node.node, by_root(off)).await;
    assert!(matches!(slot.gate(), Gate::Open), "what is recorded counts");
    // The flag of another start does not override it.
    node.node.clone().turn_on_authentication(Grants::default()).await;
    assert!(matches!(slot.gate(), Gate::Open));
}

/// A node that has applied nothing yet knows of no client: it asked the others in nobody's name, and was refused.
#[tokio::test(start_paused = true)]
async fn what_root_asks_of_a_new_node_is_of_root() {
    let net = Arc::default();
    let _nodes = closed(&net).await;
    let new = TestNode::start(&net, 4, &[1], MemDisk::new()).await;
    assert!(!new.node.knows_clients());
    let root = Some(&Principal::Root);
    let (wrote, read, led) = tokio::join!(
        write(&new.node, set_by(&Principal::Root, "a")),
        read_by(&new.node, root, ReadLevel::Weak),
        new.node.lead_by(root, Some("127.0.0.1:77"), in_secs(10))
    );
    assert_eq!(wrote, Reply::Done);
    assert_eq!(read, Ok(()));
    assert!(matches!(led, Err(NodeError::NotFound(_))), "{led:?}");
}
