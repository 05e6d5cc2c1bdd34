//! What supervisors, terminals and readers of logs do to a node.

use rustix::process::Signal;

use crate::support::cluster::Cluster;
use crate::support::http;
use crate::support::wait::{SETTLE, check, eventually};

/// Issue 18, D7: a closed terminal, or a tool that rotates logs, ended a node without a line.
#[test]
fn sighup_is_ignored_and_said() {
    let mut cluster = Cluster::start(1);
    let node = &mut cluster.nodes[0];
    rustix::process::kill_process(node.pid(), Signal::HUP).unwrap();
    eventually(SETTLE, "SIGHUP is logged", || check(node.log_text().contains("SIGHUP is ignored"), || node.log_text()));
    node.assert_alive();
    node.set("k", "1").unwrap();
    node.stop();
}

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
