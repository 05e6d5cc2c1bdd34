//! Small requests that cost much, all kinds of them at once (issue 18, A): memory and leadership hold.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::overload::{MIB, runtime, serves_as_ever, under};
use crate::support::cluster::Cluster;
use crate::support::crowd::{Client, allow_files, request};
use crate::support::extent::extent;
use crate::support::lab::Lab;
use crate::support::say;

/// Values that one transaction reads, of a megabyte each.
const LARGE: usize = 16;
/// Keys that each transaction would delete, before it fails.
const KEYS: usize = 20_000;
/// So long all of them are asked, in the plain run and in the full one.
const LENGTH_SECS: (u64, u64) = (6, 20);
/// Whoever waits longer for an answer asks anew.
const PATIENCE: Duration = Duration::from_secs(5);

/// So many clients that ask this, and again once they were answered or waited for long.
async fn ask_again(addr: String, ask: Vec<u8>, clients: usize) {
    let client = async || {
        loop {
            let asked = async {
                if let Ok(mut client) = Client::open(&addr).await
                    && client.stream.write_all(&ask).await.is_ok()
                {
                    let _ = client.head().await;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            let _ = tokio::time::timeout(PATIENCE, asked).await;
        }
    };
    futures_util::future::join_all((0..clients).map(|_| client())).await;
}

/// A server that answers without end; its port.
async fn endless() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let chunk = [b"100000\r\n".to_vec(), vec![2; 1 << 20], b"\r\n".to_vec()].concat();
        while let Ok((mut socket, _)) = listener.accept().await {
            let chunk = chunk.clone();
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 4096]).await;
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                while socket.write_all(&chunk).await.is_ok() {}
            });
        }
    });
    port
}

#[test]
fn all_small_requests_of_huge_cost_at_once() {
    allow_files();
    let cluster = Cluster::start_with(Lab::alone(), 3, &[]);
    let (leads, follows) = (&cluster.nodes[cluster.leader()], &cluster.nodes[cluster.follower()]);
    let large = format!("\"{}\"", "x".repeat(1_000_000));
    for number in 0..LARGE {
        leads.set(&format!("mb{number}"), &large).unwrap();
    }
    let keys: Vec<String> = (0..KEYS).map(|number| format!("\"p/{number}\":1")).collect();
    leads.post("/hraftd/key?timeout=60s", &format!("{{{}}}", keys.join(","))).unwrap().ok().unwrap();
    leads.set("text", "\"x\"").unwrap();
    let reads: Vec<String> = (0..LARGE).map(|number| format!("{{\"get\":\"mb{number}\"}}")).collect();
    let reads = format!("{{\"then\":[{}]}}", reads.join(","));
    let fails = r#"{"then":[{"delete_prefix":"p/"},{"incr":{"text":1}}]}"#;
    let part = |addr: &str, head: &str| format!("{head} HTTP/1.1\r\nHost: {addr}\r\n").into_bytes();
    let claim =
        [part(&leads.haddr, "PUT /hraftd/key/s?timeout=60s"), b"Content-Length: 8388608\r\n\r\n".to_vec()].concat();
    let half = [part(&leads.raddr, "POST /raft/v1/call"), b"Content-Length: 100\r\n\r\nx".to_vec()].concat();
    let runtime = runtime();
    let join = format!("{{\"id\":\"127.0.0.1:1,127.0.0.1:{}\"}}", runtime.block_on(endless()));
    let txn = |addr: &str, body: &str| request(addr, "POST", "/hraftd/txn?timeout=5s", body);
    let refused = [
        part(&leads.haddr, "PUT /hraftd/key/mb0?cas=1"),
        b"Idempotency-Key: one\r\nContent-Length: 1\r\n\r\n1".to_vec(),
    ];
    let attacks = [
        (&follows.haddr, txn(&follows.haddr, &reads), 50),
        (&leads.haddr, txn(&leads.haddr, &reads), 20),
        (&follows.haddr, txn(&follows.haddr, fails), 20),
        (&leads.haddr, request(&leads.haddr, "POST", "/hraftd/raft/join?timeout=5s", &join), 4),
        (&leads.haddr, refused.concat(), 4),
        (&leads.haddr, claim, 16),
        (&leads.raddr, half, 1_000),
        (&leads.haddr, request(&leads.haddr, "GET", "/hraftd/raft/node", ""), 4),
    ];
    under("all small requests of huge cost", &cluster.nodes, 1_024 * MIB, || {
        let asking = attacks.map(|(addr, ask, clients)| runtime.spawn(ask_again(addr.clone(), ask, clients)));
        let length = Duration::from_secs(extent(LENGTH_SECS.0, LENGTH_SECS.1));
        let (began, mut done, mut refused) = (Instant::now(), 0, 0);
        while began.elapsed() < length {
            for node in &cluster.nodes {
                match node.set("k", "1") {
                    Ok(_) => done += 1,
                    // Some are in its way that take long: it is refused, or waits too long.
                    Err(why) if why.starts_with("503 ") || why.starts_with("504 ") => refused += 1,
                    Err(why) => panic!("{why}"),
                }
            }
        }
        say(&format!("overload: beside small requests of huge cost: {done} writes done, {refused} not"));
        asking.iter().for_each(tokio::task::JoinHandle::abort);
    });
    serves_as_ever(&cluster, "afterwards");
}
