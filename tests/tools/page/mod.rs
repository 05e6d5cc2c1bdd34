//! The page, in real headless Chromium, on a live cluster: Debian's `chromium` and `chromium-driver`.

mod apart;
pub mod browser;
mod edits;
mod faults;
mod secure;
mod sign_in;
mod views;

use browser::{Browser, PROGRAMS};

use crate::support::cluster::Cluster;
use crate::support::http;
use crate::support::namespace::in_own_network_within;
use crate::support::node::Node;

const WITHIN: std::time::Duration = std::time::Duration::from_secs(300);

/// A cluster, and a browser beside it, in a network without any other place.
fn on_a_cluster(test: &str, nodes: usize, body: impl FnOnce(Cluster, Browser)) {
    in_own_network_within(test, PROGRAMS, WITHIN, || {
        let cluster = Cluster::start(nodes);
        let browser = Browser::open(cluster.lab.path(), 1280, 1000);
        browser.set_dark(false);
        body(cluster, browser);
    });
}

fn page(node: &Node, view: &str) -> String {
    format!("http://{}/ui/#{view}", node.haddr)
}

/// Stores a value as it is.
#[track_caller]
fn put(node: &Node, key: &str, query: &str, value: &[u8]) {
    let reply = http::call(&node.haddr, "PUT", &format!("/hraftd/key/{key}{query}"), Some(value)).unwrap();
    assert!(matches!(reply.status, 200 | 201), "{}", reply.brief());
}
