//! What supervisors, terminals and readers of logs do to a node.

use crate::support::cluster::Cluster;
use crate::support::http;

/// Issue 18, B2: a web page could post to the Raft port, whatever its `Origin`.
#[test]
fn the_raft_port_takes_nothing_of_a_web_page() {
    let cluster = Cluster::start(1);
    let raddr = &cluster.nodes[0].raddr;
    let post = |headers: &[(&str, &str)]| {
        http::call_with(raddr, "POST", "/raft/v1/call", headers, Some(b"\x02")).unwrap().status
    };
    assert_eq!(post(&[("Origin", "http://evil.example"), ("Content-Type", "text/plain")]), 403);
    assert_eq!(post(&[("Sec-Fetch-Mode", "no-cors")]), 403);
    assert_eq!(post(&[("Content-Type", "text/plain")]), 415);
    assert_eq!(post(&[("Content-Type", "application/vnd.hraftd.raft")]), 200);
}
