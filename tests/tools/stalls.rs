//! A network that carries small packets and no large ones: nothing goes on, and every node says why.

use crate::namespace::busy_in_own_network;
use crate::partitions::{Lan, others};
use crate::support::wait::{SETTLE, check, eventually};

/// Issue 18, D10: heartbeats arrived, entries did not. Each write was a 504 for over a minute, and all nodes called
/// themselves ready.
#[test]
fn an_mtu_hole_is_told() {
    const TEST: &str = "stalls::an_mtu_hole_is_told";
    busy_in_own_network(TEST, &[("nsenter", "util-linux"), ("nft", "nftables")], || {
        let lan = Lan::start();
        let (leader, _) = lan.leader();
        assert_eq!(lan.set(leader, "k", 1, "10s").unwrap().status, 200);
        let machine = &lan.machines[leader];
        machine.run(
            "nft add table inet t && nft add chain inet t out \"{ type filter hook output priority 0; }\" && \
             nft add rule inet t out \"tcp dport 12000 meta length > 1000 drop\"",
        );
        let body = format!(r#"{{"large":"{}"}}"#, "x".repeat(4_000));
        let written = lan.call(leader, "POST", "/hraftd/key?timeout=1s", Some(&body)).unwrap();
        assert_eq!(written.status, 504, "{}", written.brief());
        eventually(SETTLE, "the leader is not ready, and says why", || {
            let ready = lan.get(leader, "/hraftd/raft/ready")?;
            let text = ready.text();
            let peers = others(leader).iter().all(|&other| text.contains(&lan.machines[other].id()));
            check(ready.status == 503 && text.contains("MTU") && peers, || ready.brief())
        });
        for asked in 0..3 {
            let cluster = lan.get(asked, "/hraftd/raft/cluster").unwrap().ok().unwrap().text();
            assert!(cluster.contains("nothing was committed for more than 5 s"), "{asked}: {cluster}");
        }
        machine.run("nft flush chain inet t out");
        eventually(SETTLE, "writes go on", || {
            lan.set(leader, "k", 2, "1s")?.ok()?;
            lan.get(leader, "/hraftd/raft/ready")?.ok()
        });
        let read = lan.get(leader, "/hraftd/key/large").unwrap().ok().unwrap();
        assert!(read.text().len() > 4_000, "the write whose outcome was unknown: {}", read.brief());
    });
}
