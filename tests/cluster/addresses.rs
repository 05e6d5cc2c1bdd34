//! Where a node listens, and what it calls itself.

use std::net::TcpListener;

use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

fn port(addr: &str) -> u16 {
    addr.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// It answers at its haddr, and everybody knows it by this id.
fn answers_as(node: &mut Node, id: &str) {
    node.start();
    node.wait_ready();
    node.set("k", "1").unwrap();
    assert_eq!(node.voters().unwrap(), [id.to_owned()].into());
    assert_eq!(node.get("/hraftd/raft/node").unwrap().ok().unwrap().json()["nodeID"], id);
}

fn is_second(node: &Node, first: &Node) {
    eventually(SETTLE, "two voters", || {
        let voters = node.voters()?;
        check(voters == [first.id(), node.id()].into(), || format!("{voters:?}"))
    });
}

#[test]
fn a_raft_address_alone() {
    let lab = Lab::new();
    let mut node = lab.node("n");
    node.bind = vec![format!("--raddr={}", node.raddr)];
    let id = node.id();
    answers_as(&mut node, &id);
}

#[test]
fn both_addresses() {
    let lab = Lab::new();
    let mut node = lab.node("n");
    node.raddr = lab.node("other").raddr.clone();
    node.bind.extend(["-raddr".to_owned(), node.raddr.clone()]);
    let id = node.id();
    answers_as(&mut node, &id);
}

/// Loopback is one host, however it is written: the same node, the same data.
#[test]
fn names_of_loopback() {
    let lab = Lab::new();
    let mut node = lab.node("n");
    let id = node.id();
    for host in ["localhost", "127.0.0.1"] {
        node.bind = vec![format!("--haddr={host}:{}", port(&node.haddr))];
        answers_as(&mut node, &id);
        node.stop();
    }
}

#[test]
fn ipv6_is_bracketed() {
    if TcpListener::bind("[::1]:0").is_err() {
        return say("addresses::ipv6_is_bracketed ... SKIPPED: no IPv6 loopback here");
    }
    let lab = Lab::new();
    let mut nodes: Vec<Node> = (0..2)
        .map(|number| {
            let mut node = lab.node(&format!("n{number}"));
            let free = port(&node.haddr);
            (node.haddr, node.raddr) = (format!("[::1]:{free}"), format!("[::1]:{}", free + 1000));
            node.bind = vec!["--haddr".to_owned(), node.haddr.clone()];
            node
        })
        .collect();
    let id = nodes[0].id();
    answers_as(&mut nodes[0], &id);
    let first = nodes[0].haddr.clone();
    let mut second = nodes.remove(1).rjoin(&[&first]);
    second.start();
    second.wait_ready();
    is_second(&second, &nodes[0]);
    assert_eq!(second.value("k").unwrap(), 1);
}

/// In `--rjoin` a port alone is at the host of `--haddr`.
#[test]
fn a_port_alone_in_the_list() {
    let lab = Lab::new();
    let mut first = lab.node("n0");
    let id = first.id();
    answers_as(&mut first, &id);
    let mut second = lab.node("n1").rjoin(&[&format!(":{}", port(&first.haddr))]);
    second.start();
    second.wait_ready();
    is_second(&second, &first);
}

/// Loopback alone is nothing to warn of.
#[test]
fn no_warning_on_loopback() {
    let lab = Lab::new();
    let mut node = lab.node("n");
    node.start();
    node.wait_ready();
    assert!(!node.log_text().contains("authentication"), "{}", node.log_text());
}
