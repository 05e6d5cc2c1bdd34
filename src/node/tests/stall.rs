//! Nothing goes on, and the reason is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::net::{Net, until};
use super::{leader, three};
use crate::command::Command;
use crate::node::{Node, NodeError, ReadLevel};

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
    others.iter().for_each(|other| net.set_small_only(nodes[*other].port, true));
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
    others.iter().for_each(|other| net.set_small_only(nodes[*other].port, false));
    written.await.unwrap().unwrap();
    until("the leader is ready again", || nodes[leads].node.ready() == Ok(())).await;
    assert_eq!(warnings(&nodes[leads].node).await, "");
    assert_eq!(nodes[leads].get("k", ReadLevel::Linearizable).await.unwrap().as_deref(), Some("2"));
}
