//! Removing members: a removal that would leave no quorum of voters that answer is refused, unless it is forced.
//!
//! The cases are a table: how many voters and learners there are, which of them are down, who is to go, and what is said.

use std::sync::Arc;

use openraft::async_runtime::watch::WatchReceiver as _;

use super::leader;
use super::net::{Net, TestNode, in_secs, until};
use crate::node::NodeError;
use crate::raft_types::Role;
use crate::storage::disk::MemDisk;

/// Who is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    Leader,
    /// A voter that answers and does not lead.
    Follower,
    /// A voter that is down.
    DeadVoter,
    Learner,
    DeadLearner,
}

/// One cluster, and a removal in it.
#[derive(Debug, Clone, Copy)]
struct Case {
    voters: usize,
    /// Voters that are down; never the leader.
    down: usize,
    learners: usize,
    gone: Gone,
    /// Whether it is done without `force`.
    done: bool,
}

const fn case(voters: usize, down: usize, learners: usize, gone: Gone, done: bool) -> Case {
    Case { voters, down, learners, gone, done }
}

/// Each with what is left: of so many voters so many answer.
const CASES: [Case; 16] = [
    // Of 2 left, 2 answer; then 1, which is half.
    case(3, 0, 0, Gone::Follower, true),
    case(3, 0, 0, Gone::Leader, true),
    case(3, 1, 0, Gone::Follower, false),
    case(3, 1, 0, Gone::Leader, false),
    case(3, 1, 0, Gone::DeadVoter, true),
    // Learners that answer are no voters.
    case(3, 1, 1, Gone::Follower, false),
    case(3, 1, 3, Gone::Follower, false),
    // A learner is nobody's quorum, dead or alive.
    case(3, 1, 1, Gone::Learner, true),
    case(3, 1, 1, Gone::DeadLearner, true),
    // Of 3 left, 2 answer.
    case(4, 1, 0, Gone::Follower, true),
    case(4, 1, 0, Gone::DeadVoter, true),
    // Of 4 left, 3 answer; then 2, which is half.
    case(5, 1, 0, Gone::Follower, true),
    case(5, 2, 0, Gone::Follower, false),
    case(5, 2, 2, Gone::Follower, false),
    case(5, 2, 0, Gone::DeadVoter, true),
    case(2, 0, 0, Gone::Follower, true),
];

struct Made {
    nodes: Vec<TestNode>,
    /// The port of who is to go.
    gone: u16,
    net: Arc<Net>,
}

/// Makes the cluster of a case, once the leader knows who does not answer.
async fn make(case: Case) -> Made {
    let net: Arc<Net> = Arc::default();
    let mut nodes = Vec::new();
    for number in 0..case.voters + case.learners {
        let role = if number < case.voters { Role::Voter } else { Role::Learner };
        let port = u16::try_from(number + 1).unwrap();
        nodes.push(TestNode::start_as(&net, port, &[1], MemDisk::new(), role).await);
        until("it is ready", || nodes[number].node.ready() == Ok(())).await;
    }
    until("all are voters", || nodes[0].voters() == case.voters).await;
    let leads = leader(&nodes);
    let followers: Vec<u16> = (0..case.voters).filter(|number| *number != leads).map(|n| nodes[n].port).collect();
    let learner = nodes[nodes.len() - 1].port;
    let mut down: Vec<u16> = followers[..case.down].to_vec();
    if case.gone == Gone::DeadLearner {
        down.push(learner);
    }
    let leads = nodes[leads].port;
    for port in &down {
        let at = nodes.iter().position(|node| node.port == *port).unwrap();
        nodes.remove(at).crash().await;
    }
    let made = Made {
        gone: match case.gone {
            Gone::Leader => leads,
            Gone::Follower => *followers.last().unwrap(),
            Gone::DeadVoter => down[0],
            Gone::Learner | Gone::DeadLearner => learner,
        },
        nodes,
        net,
    };
    // Longer than a member that answered may be silent.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    made
}

impl Made {
    fn leader(&self) -> &TestNode {
        &self.nodes[leader(&self.nodes)]
    }

    async fn remove(&self, force: bool) -> Result<(), NodeError> {
        self.leader().node.remove(&format!(":{}", self.gone), force, in_secs(20)).await
    }

    fn is_member(&self) -> bool {
        let nodes = self.nodes.iter().filter(|node| node.port != self.gone);
        let metrics = |node: &TestNode| node.node.inner.raft.metrics();
        nodes.into_iter().any(|node| {
            let metrics = metrics(node);
            let metrics = metrics.borrow_watched();
            metrics.membership_config.nodes().any(|(_, member)| member.id.haddr.port == self.gone)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_would_leave_no_quorum_is_refused() {
    for case in CASES {
        let made = make(case).await;
        let removed = made.remove(false).await;
        if case.done {
            assert_eq!(removed, Ok(()), "{case:?}");
            until("it is gone", || !made.is_member()).await;
        } else {
            let Err(NodeError::Conflict(why)) = &removed else { panic!("{case:?}: {removed:?}") };
            assert!(why.contains("?force"), "{case:?}: {why}");
            assert!(made.is_member(), "{case:?}: it is still a member");
        }
        assert!(made.net.node(made.gone).is_some() || matches!(case.gone, Gone::DeadVoter | Gone::DeadLearner));
    }
}

/// What is refused otherwise is done where it is forced, in so far as the voters that are there can do it.
#[tokio::test(start_paused = true)]
async fn force_removes_all_the_same() {
    for case in CASES.into_iter().filter(|case| !case.done && case.gone == Gone::Follower) {
        let made = make(case).await;
        let forced = made.remove(true).await;
        // Whoever is left is no quorum, so it is begun, and nobody can say that it is done.
        let Err(NodeError::Timeout(why)) = &forced else { panic!("{case:?}: {forced:?}") };
        assert!(why.contains("may still change"), "{case:?}: {why}");
    }
}

/// Nobody would be left who could take it back.
#[tokio::test(start_paused = true)]
async fn the_only_voter_is_never_removed() {
    for learners in [0, 1] {
        let made = make(case(1, 0, learners, Gone::Leader, false)).await;
        for force in [false, true] {
            let removed = made.remove(force).await;
            let Err(NodeError::Conflict(why)) = &removed else { panic!("{removed:?}") };
            assert!(why.contains("only voter"), "{why}");
        }
        assert_eq!(made.leader().set("k", "1").await.map(|_| ()), Ok(()));
    }
}
