//! Nodes that found a cluster together: all of them agree, or nobody forms.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::net::{Net, TestNode, id, until};
use crate::node::ReadLevel;
use crate::node::membership::found::Muster;
use crate::node::rpc::{PeerReply, PeerRequest, Target};
use crate::raft_types::{ClusterId, Founding};
use crate::storage::disk::MemDisk;

/// A name that leads to all nodes.
const NAME: u16 = 9;

/// Longer than anything that leads to a cluster takes.
const LONG: Duration = Duration::from_secs(30);

async fn founder(net: &Arc<Net>, port: u16, expect: usize) -> TestNode {
    TestNode::start_founder(net, port, &[NAME], MemDisk::new(), expect).await
}

fn members_of(nodes: &[TestNode]) -> Vec<usize> {
    nodes.iter().map(|node| node.node.members().len()).collect()
}

/// They are one cluster, whose first membership had all of them.
async fn are_one_cluster(nodes: &[TestNode]) {
    for node in nodes {
        until("all are voters", || node.voters() == nodes.len()).await;
    }
    let clusters: Vec<_> = nodes.iter().map(|node| node.node.inner.me.cluster()).collect();
    assert!(clusters[0].is_some() && clusters.iter().all(|cluster| *cluster == clusters[0]), "{clusters:?}");
    nodes[1].set("k", "1").await.unwrap();
    assert_eq!(nodes[2].get("k", ReadLevel::Linearizable).await.unwrap(), Some("1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn by_one_name_for_all_they_form_one_cluster() {
    for balanced in [false, true] {
        let net: Arc<Net> = Arc::default();
        if balanced {
            net.set_balancer(NAME, &[1, 2, 3]);
        } else {
            net.set_name(NAME, &[1, 2, 3]);
        }
        let mut nodes = Vec::new();
        for port in [2, 3] {
            nodes.push(founder(&net, port, 3).await);
        }
        sleep(LONG).await;
        assert_eq!(members_of(&nodes), [0, 0], "they wait for the third");
        nodes.push(founder(&net, 1, 3).await);
        are_one_cluster(&nodes).await;
        // The name leads to a fourth one day, which joins.
        net.set_name(NAME, &[1, 2, 3, 4]);
        nodes.push(founder(&net, 4, 3).await);
        are_one_cluster(&nodes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_more_than_are_expected_nobody_forms() {
    let net: Arc<Net> = Arc::default();
    net.set_name(NAME, &[1, 2, 3, 4]);
    let mut nodes = Vec::new();
    for port in [1, 2, 3, 4] {
        nodes.push(founder(&net, port, 3).await);
    }
    sleep(LONG).await;
    assert_eq!(members_of(&nodes), [0; 4]);
    let fourth = nodes.pop().unwrap();
    fourth.crash().await;
    net.set_name(NAME, &[1, 2, 3]);
    are_one_cluster(&nodes).await;
}

#[tokio::test(start_paused = true)]
async fn where_they_differ_in_whom_they_see_or_expect_nobody_forms() {
    let net: Arc<Net> = Arc::default();
    net.set_name(NAME, &[1, 2, 3]);
    net.set_cut(2, 3, true);
    let mut nodes = Vec::new();
    for port in [1, 2, 3] {
        nodes.push(founder(&net, port, 3).await);
    }
    sleep(LONG).await;
    assert_eq!(members_of(&nodes), [0; 3]);
    net.set_cut(2, 3, false);
    are_one_cluster(&nodes).await;

    let net: Arc<Net> = Arc::default();
    net.set_name(NAME, &[1, 2]);
    let nodes = [founder(&net, 1, 2).await, founder(&net, 2, 3).await];
    sleep(LONG).await;
    assert_eq!(members_of(&nodes), [0; 2]);
}

/// It is adopted once, by the word of the lowest alone, also over a loss of power.
#[tokio::test(start_paused = true)]
async fn what_was_adopted_is_kept() {
    let net: Arc<Net> = Arc::default();
    net.set_name(NAME, &[1, 2]);
    let node = founder(&net, 2, 2).await;
    let me = node.node.inner.me.raft_id();
    let lowest = 0;
    let members = BTreeMap::from([(lowest, id(1)), (me, id(2))]);
    let founding = |cluster| Founding { cluster: ClusterId(cluster), members: members.clone() };
    let propose = async |from: u64, sees: &[u64], founding: Founding| {
        let seen = sees.iter().map(|raft_id| (*raft_id, id(if *raft_id == me { 2 } else { 1 }))).collect();
        *node.node.inner.muster.lock() = Muster { expect: Some(2), seen };
        let mut envelope = node.node.inner.me.envelope(&Target { raft_id: Some(me), id: id(2) });
        (envelope.from_raft, envelope.from) = (from, id(1));
        match node.node.answer(&envelope, PeerRequest::Found(Some(founding))).await {
            Ok(PeerReply::Found(founder)) => founder.adopted,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(propose(lowest, &[me], founding(1)).await, None, "it sees fewer");
    assert_eq!(propose(lowest, &[lowest, 1, me], founding(1)).await, None, "it sees more");
    assert_eq!(propose(1, &[lowest, me], founding(1)).await, None, "another proposes");
    let adopted = Some(founding(1));
    assert_eq!(propose(lowest, &[lowest, me], founding(1)).await, adopted);
    assert_eq!(propose(lowest, &[lowest, me], founding(2)).await, adopted, "never another");
    let disk = node.crash().await;
    let again = TestNode::start_founder(&net, 2, &[NAME], disk, 2).await;
    assert_eq!(again.node.inner.me.founding(), adopted);
    // The other one lost its disk: nobody knows what it said, so what was agreed is never used, nor anything else.
    let wiped = founder(&net, 1, 2).await;
    sleep(LONG).await;
    assert_eq!(members_of(&[again, wiped]), [0, 0]);
}
