//! Handing leadership over, as asked to.

use std::sync::Arc;

use openraft::async_runtime::watch::WatchReceiver as _;

use super::net::{Net, TestNode, in_secs};
use super::{leader, three};
use crate::node::NodeError;
use crate::node::leader::Leader;

/// A command that froze the others right after the answer found a leader that could take no write.
#[tokio::test(start_paused = true)]
async fn who_is_made_leader_has_committed_an_entry_of_its_term() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let lead = leader(&nodes);
    let (old, to, third) = (&nodes[lead], nodes[(lead + 1) % 3].port, nodes[(lead + 2) % 3].port);
    for other in [old.port, third] {
        net.set_hole(to, other, true);
    }
    let made = old.node.lead(Some(&format!(":{to}")), in_secs(2)).await;
    assert!(matches!(&made, Err(NodeError::Timeout(why)) if why.contains("nothing of its term")), "{made:?}");
    for other in [old.port, third] {
        net.set_hole(to, other, false);
    }
    let applied = |node: &TestNode| node.node.metrics().borrow_watched().last_applied.map(|last| last.leader_id.term);
    old.node.lead(Some(&format!(":{to}")), in_secs(10)).await.unwrap();
    let made = nodes.iter().find(|node| node.port == to).unwrap();
    assert_eq!(applied(made), Some(made.node.metrics().borrow_watched().current_term));
    assert_eq!(made.node.leader(), Some(Leader::ThisNode));
}
