//! Locks over three nodes: queues, expiry, broken connections, killed nodes, repetitions.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::http::{self, Conn, Reply};
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};

/// Longer than any wait of these tests is to take.
const LONG: Duration = Duration::from_secs(60);

fn acquire(node: &Node, query: &str) -> Result<Reply, String> {
    Conn::open_within(&node.haddr, LONG)?.request("POST", &format!("/hraftd/lock/l?{query}"), &[], None)
}

fn token(reply: &Reply) -> u64 {
    assert_eq!(reply.status, 200, "{}", reply.brief());
    reply.json()["token"].as_u64().unwrap()
}

fn release(node: &Node, token: u64) {
    let reply = node.delete(&format!("/hraftd/lock/l?token={token}"), None).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.brief());
}

fn lock(node: &Node) -> Result<Value, String> {
    Ok(node.get("/hraftd/lock/l")?.ok()?.json())
}

fn wait_for_waiters(node: &Node, count: u64) {
    eventually(SETTLE, &format!("{count} wait for the lock"), || {
        let lock = lock(node)?;
        check(lock["waiting"] == count, || lock.to_string())
    });
}

/// Sends the request of one who waits, and no more.
fn start_waiting(node: &Node, headers: &str) -> Conn {
    let mut conn = Conn::open_within(&node.haddr, LONG).unwrap();
    let request = format!("POST /hraftd/lock/l?ttl=30s&wait=1m HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", node.haddr);
    conn.send(request.as_bytes()).unwrap();
    conn
}

#[test]
fn who_waits_is_served_in_order_whichever_node_was_asked() {
    let cluster = Cluster::start(3);
    let first = acquire(&cluster.nodes[0], "ttl=30s").unwrap();
    let refused = acquire(&cluster.nodes[1], "ttl=30s").unwrap();
    assert_eq!((refused.status, &refused.json()["holder"]["token"]), (409, &first.json()["token"]));
    let after: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=30).contains(&after), "{after}");
    let granted = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..6 {
            let node = &cluster.nodes[number % 3];
            let granted = &granted;
            scope.spawn(move || {
                let token = token(&acquire(node, "ttl=30s&wait=1m").unwrap());
                granted.lock().unwrap().push((token, number));
                release(node, token);
            });
            wait_for_waiters(&cluster.nodes[(number + 1) % 3], number as u64 + 1);
        }
        release(&cluster.nodes[2], token(&first));
    });
    let mut granted = granted.into_inner().unwrap();
    granted.sort_unstable();
    assert_eq!(granted.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5], "{granted:?}");
    assert!(granted[0].0 > token(&first), "tokens grow");
    assert_eq!(cluster.nodes[0].get("/hraftd/lock/l").unwrap().status, 404);
}

/// Whoever holds a lock and dies does not renew it; that the leader dies with it must not make it expire early.
#[test]
fn the_lock_of_one_who_died_goes_to_who_waits() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);
    let first = token(&acquire(&cluster.nodes[leader], "ttl=1h").unwrap());
    let (mut waits, mut waits_too) = (start_waiting(&cluster.nodes[one], ""), start_waiting(&cluster.nodes[two], ""));
    wait_for_waiters(&cluster.nodes[one], 2);
    let asked = Instant::now();
    let renewed =
        http::call(&cluster.nodes[leader].haddr, "PUT", &format!("/hraftd/lock/l?token={first}&ttl=3s"), None);
    assert_eq!(token(&renewed.unwrap()), first);
    cluster.nodes[leader].kill();
    // Either may have come first.
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let read = |conn, node| {
            scope.spawn(move || {
                let conn: &mut Conn = conn;
                let reply = conn.reply(false).unwrap();
                let after = asked.elapsed();
                assert!(after >= Duration::from_secs(3), "it expired early, after {after:?}");
                release(node, token(&reply));
                reply
            })
        };
        let both = [read(&mut waits, &cluster.nodes[one]), read(&mut waits_too, &cluster.nodes[two])];
        both.into_iter().map(|reading| reading.join().unwrap()).collect()
    });
    assert!(replies.iter().all(|reply| token(reply) > first));
    let lost = cluster.nodes[one].delete(&format!("/hraftd/lock/l?token={first}"), None).unwrap();
    assert_eq!((lost.status, &lost.json()["code"]), (409, &"lock_lost".into()), "{}", lost.brief());
}

#[test]
fn a_queue_outlives_its_leader() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);
    let first = token(&acquire(&cluster.nodes[one], "ttl=1h").unwrap());
    let mut waits = start_waiting(&cluster.nodes[two], "");
    wait_for_waiters(&cluster.nodes[one], 1);
    let mut last = start_waiting(&cluster.nodes[one], "");
    wait_for_waiters(&cluster.nodes[one], 2);
    cluster.nodes[leader].kill();
    eventually(SETTLE, "the lock is known under the next leader", || {
        let lock = lock(&cluster.nodes[two])?;
        check(lock["token"] == first && lock["waiting"] == 2, || lock.to_string())
    });
    release(&cluster.nodes[two], first);
    let second = token(&waits.reply(false).unwrap());
    release(&cluster.nodes[one], second);
    assert!(token(&last.reply(false).unwrap()) > second);
}

#[test]
fn a_connection_that_breaks_frees_its_place() {
    let cluster = Cluster::start(3);
    let mut held = token(&acquire(&cluster.nodes[0], "ttl=1h").unwrap());
    for number in 0..3 {
        let gone = start_waiting(&cluster.nodes[number], "");
        wait_for_waiters(&cluster.nodes[0], 1);
        let mut stays = start_waiting(&cluster.nodes[(number + 1) % 3], "");
        wait_for_waiters(&cluster.nodes[0], 2);
        drop(gone);
        wait_for_waiters(&cluster.nodes[0], 1);
        release(&cluster.nodes[0], held);
        held = token(&stays.reply(false).unwrap());
    }
    // In vain, and then there is nothing left of it.
    let answer = acquire(&cluster.nodes[1], "ttl=1s&wait=200ms").unwrap();
    assert_eq!((answer.status, &answer.json()["holder"]["token"]), (409, &held.into()), "{}", answer.brief());
    assert_eq!(lock(&cluster.nodes[1]).unwrap()["waiting"], 0);
}

#[test]
fn a_repetition_with_a_key_finds_what_was_granted() {
    let cluster = Cluster::start(3);
    let ask = |node: &Node, key: &str| {
        let mut conn = Conn::open_within(&node.haddr, LONG).unwrap();
        conn.request("POST", "/hraftd/lock/l?ttl=30s&wait=1m", &[("Idempotency-Key", key)], None).unwrap()
    };
    // The answer is never read. A client that is gone before a node has looked at its request has asked for nothing.
    let unread = start_waiting(&cluster.nodes[0], "Idempotency-Key: a\r\n");
    eventually(SETTLE, "the lock is held", || lock(&cluster.nodes[0]).map(drop));
    drop(unread);
    let first = token(&ask(&cluster.nodes[1], "a"));
    assert_eq!(lock(&cluster.nodes[2]).unwrap()["token"], first);
    assert_eq!(token(&ask(&cluster.nodes[2], "a")), first);

    // The place in the queue is kept, too.
    let unread = start_waiting(&cluster.nodes[1], "Idempotency-Key: b\r\n");
    wait_for_waiters(&cluster.nodes[0], 1);
    drop(unread);
    let again = start_waiting(&cluster.nodes[0], "Idempotency-Key: b\r\n");
    let mut last = start_waiting(&cluster.nodes[0], "");
    wait_for_waiters(&cluster.nodes[0], 2);
    drop(again);
    let second = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&cluster.nodes[2], "b"));
        release(&cluster.nodes[0], first);
        asking.join().unwrap()
    });
    assert_eq!(second.header("Idempotency-Replayed"), Some("true"), "{:?}", second.headers);
    assert!(token(&second) > first);
    assert_eq!(token(&ask(&cluster.nodes[0], "b")), token(&second));
    release(&cluster.nodes[1], token(&second));
    assert!(token(&last.reply(false).unwrap()) > token(&second));
}

#[test]
fn a_node_that_stops_sends_its_waiters_elsewhere() {
    let mut cluster = Cluster::start(3);
    let held = token(&acquire(&cluster.nodes[0], "ttl=1h").unwrap());
    let mut waits = start_waiting(&cluster.nodes[2], "");
    wait_for_waiters(&cluster.nodes[0], 1);
    cluster.nodes[2].ask_to_stop();
    let answer = waits.reply(false).unwrap();
    assert_eq!((answer.status, &answer.json()["code"]), (503, &"not_ready".into()), "{}", answer.brief());
    cluster.nodes[2].wait_stopped();
    wait_for_waiters(&cluster.nodes[0], 0);
    assert_eq!(lock(&cluster.nodes[1]).unwrap()["token"], held);
}
