//! Writes over several connections at a time.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::support::http::Conn;
use crate::support::node::Node;
use crate::support::wait::{check, eventually};

const KEYS_A_REQUEST: usize = 1_000;
const CONNECTIONS: usize = 32;

fn key(number: usize) -> String {
    format!("key-{number:08}")
}

/// A JSON string of `bytes` bytes, its quotes included.
fn value(mark: char, number: usize, bytes: usize) -> String {
    let mut value = format!("\"{mark}{number}");
    while value.len() < bytes - 1 {
        value.push(mark);
    }
    value.push('"');
    value
}

/// Sends the bodies `request(0)` to `request(count - 1)` over several connections. Returns the highest index answered.
fn many(node: &Node, count: usize, connections: usize, request: impl Fn(usize) -> String + Sync) -> u64 {
    let (next, highest) = (AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut conn = Conn::open(&node.haddr).unwrap();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let reply = conn.request("POST", "/hraftd/key", &[], Some(request(number).as_bytes()));
                    let index = reply.unwrap().ok().unwrap().json()["index"].as_u64().unwrap();
                    highest.fetch_max(index, Ordering::Relaxed);
                }
            });
        }
    });
    highest.into_inner()
}

/// Writes all keys once, 1,000 in a request. Returns the index of the last write.
pub fn fill(node: &Node, keys: usize, mark: char) -> u64 {
    fill_by(node, keys, KEYS_A_REQUEST, mark)
}

/// Does the same as [`fill`], with another number of keys in a request.
pub fn fill_by(node: &Node, keys: usize, keys_a_request: usize, mark: char) -> u64 {
    let connections = if keys_a_request == 1 { CONNECTIONS } else { 4 };
    many(node, keys.div_ceil(keys_a_request), connections, |request| {
        let mut body = String::from("{");
        for number in request * keys_a_request..keys.min((request + 1) * keys_a_request) {
            let comma = if body.len() > 1 { "," } else { "" };
            let _ = write!(body, "{comma}\"{}\":{}", key(number), value(mark, number, 100));
        }
        body.push('}');
        body
    })
}

/// Writes one key in each of `times` requests, spread over the keys. Returns the index of the last write.
pub fn overwrite(node: &Node, times: usize, bytes: usize, keys: usize) -> u64 {
    many(node, times, CONNECTIONS, |number| {
        format!("{{\"{}\":{}}}", key(number * 7919 % keys), value('o', number, bytes))
    })
}

/// Writes until there is a snapshot that covers `index`.
pub fn wait_snapshot(node: &Node, index: u64) {
    eventually(crate::READY_TIMEOUT, "a snapshot", || {
        overwrite(node, 100, 100, 100);
        let found = node.stat("last_snapshot_index")?;
        check(found >= index, || format!("{found} of {index}"))
    });
}
