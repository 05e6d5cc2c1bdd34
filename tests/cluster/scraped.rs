//! Issue 22: metrics that are scraped ten times a second by ten, while clients send what is to be no label.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;
use crate::support::http::{self, Conn};
use crate::support::lab::Lab;
use crate::support::node::Node;

const SCRAPERS: usize = 10;
const ROUNDS: u32 = 20;
const EVERY: Duration = Duration::from_millis(100);

fn metrics(node: &Node) -> String {
    node.get("/metrics").unwrap().ok().unwrap().text()
}

/// The values of a label.
fn values(page: &str, label: &str) -> BTreeSet<String> {
    let begins = format!("{label}=\"");
    let parts = page.split(begins.as_str()).skip(1);
    parts.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn scraped_by_ten_and_no_label_is_from_outside() {
    // Nobody else is elected but for a fault: this machine may be slow.
    let cluster = Cluster::start_with(Lab::new(), 3, &["--heartbeat-interval", "500ms", "--election-timeout", "10s"]);
    let (leader, asked) = (&cluster.nodes[cluster.leader()], &cluster.nodes[cluster.follower()]);
    let (term, before) = (leader.stat("term").unwrap(), metrics(asked));
    std::thread::scope(|scope| {
        for _ in 0..SCRAPERS {
            scope.spawn(|| {
                let (mut conn, began) = (Conn::open(&asked.haddr).unwrap(), Instant::now());
                for round in 0..ROUNDS {
                    let page = conn.request("GET", "/metrics", &[], None).unwrap();
                    assert!(page.status == 200 && page.text().contains("hraftd_raft_term"), "{}", page.brief());
                    std::thread::sleep((EVERY * (round + 1)).saturating_sub(began.elapsed()));
                }
            });
        }
        let evil = [("X-Request-Id", "evil-id"), ("User-Agent", "evil-agent"), ("Idempotency-Key", "evil-retry")];
        for number in 0..20 {
            for (method, path) in [
                ("PUT", format!("/hraftd/key/evil-key-{number}")),
                ("GET", format!("/hraftd/key/evil-nothing-{number}")),
                ("POST", format!("/hraftd/lock/evil-lock-{number}?ttl=10m")),
                ("GET", format!("/evil-path-{number}")),
                ("GET", format!("/hraftd/key?evil-{number}=1")),
                ("EVIL", "/hraftd/key/a".to_owned()),
            ] {
                let headers = if method == "PUT" { &evil[..] } else { &evil[..2] };
                let reply = http::call_with(&asked.haddr, method, &path, headers, (method != "GET").then_some(b"1"));
                let reply = reply.unwrap();
                assert!(reply.status < 500 && reply.status != 429, "{method} {path}: {}", reply.brief());
            }
        }
    });
    let after = metrics(asked);
    assert!(!after.to_lowercase().contains("evil"), "{after}");
    for label in ["route", "method", "reason", "kind", "outcome", "state", "peer"] {
        let (was, is) = (values(&before, label), values(&after, label));
        let new: Vec<&String> = is.difference(&was).filter(|value| *value != "other").collect();
        assert!(new.is_empty(), "{label} has {new:?}");
    }
    assert_eq!(leader.stat("term").unwrap(), term, "nobody was elected");
    assert!(leader.runs());
}
