//! The page of a node that takes no part any more says so in words, in every view, and names the others.

use super::{Browser, on_a_cluster, page, put};
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};

const VIEWS: [&str; 5] = ["cluster", "live", "write", "keys", "watch"];

/// Each view has the banner with these words and a link to another member, and none waits for what does not come.
fn says_so(browser: &Browser, node: &Node, other: &Node, name: &str, wanted: &[&str]) {
    for view in VIEWS {
        browser.go(&page(node, view));
        let wanted = [wanted, &["Go on at another member", &other.haddr]].concat();
        browser.sees("#banner", &wanted);
        eventually(SETTLE, "the view says something of its own", || {
            let said = browser.text("main")?;
            let waits = ["Listening to the members", "Asking the members", "Examining", "Nothing has changed yet"];
            check(!said.trim().is_empty() && !waits.iter().any(|wait| said.contains(wait)), || said)
        });
        browser.shoot(&format!("{name}-{view}"));
    }
    let script = "return [...document.querySelectorAll('#banner a')].map((one) => one.href)";
    let links = browser.run(script, &[]).to_string();
    assert!(links.contains(&format!("http://{}/ui/#watch", other.haddr)), "{links}");
}

#[test]
fn removed() {
    on_a_cluster("page::apart::removed", 3, |cluster, browser| {
        let (node, leader) = (&cluster.nodes[cluster.follower()], &cluster.nodes[cluster.leader()]);
        put(leader, "app/motd", "", b"hello");
        browser.go(&page(node, "live"));
        browser.sees("main", &["leads in term"]);
        let body = format!(r#"{{"id":"{}"}}"#, node.id());
        leader.delete("/hraftd/raft/remove", Some(&body)).unwrap().ok().unwrap();
        browser.sees("#banner", &["removed"]);
        browser.shoot("removed-while-open");
        says_so(&browser, node, leader, "removed", &["removed"]);
        browser.go(&page(node, "cluster"));
        browser.sees("main", &["This node takes no part in its cluster any more"]);
        // A write there is refused, and says why.
        browser.go(&page(node, "write"));
        browser.sees("main", &["Write it"]);
        browser.click("Write it");
        browser.sees("main", &["removed"]);
        assert_eq!(browser.complaints(&["503 (Service Unavailable)", "421"]), Vec::<String>::new());
    });
}

#[test]
fn diverged() {
    on_a_cluster("page::apart::diverged", 3, |mut cluster, browser| {
        cluster.put_back_different_moments();
        for number in [0, 1] {
            cluster.nodes[number].start();
        }
        for number in [0, 1] {
            cluster.nodes[number].wait_ready();
        }
        cluster.nodes[2].start();
        let (apart, other) = (&cluster.nodes[2], &cluster.nodes[0]);
        eventually(SETTLE, "it says so", || {
            let ready = apart.get("/hraftd/raft/ready")?;
            check(ready.text().contains("diverged"), || ready.brief())
        });
        says_so(&browser, apart, other, "diverged", &["this node's state is not its cluster's", "takes no part"]);
        // At the others it is shown for what it is.
        browser.go(&page(other, "cluster"));
        browser.sees("main", &["Critical", &apart.haddr, "it has diverged", "move its data directory away"]);
        browser.shoot("diverged-at-another");
        assert_eq!(browser.complaints(&["503 (Service Unavailable)"]), Vec::<String>::new());
    });
}
