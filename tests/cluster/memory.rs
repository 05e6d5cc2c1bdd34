//! What bodies that are too big cost the node: little while they come, and little more once they are refused.

use std::sync::Barrier;

use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

const CLIENTS: usize = 50;
const CHUNK: usize = 64 << 10;
const CHUNKS: usize = 100_000_000 / CHUNK;
/// In turn: an allocator may keep what the second burst takes, where it gave back that of the first (glibc's did).
const BURSTS: usize = 3;

const MIB: u64 = 1 << 10;
/// Clients at once, each up to `--max-request`, would be 400 MiB.
const PEAK: u64 = 256 * MIB;
/// What the allocator may keep of 64 MiB of room and its own waste; 80 were seen on a busy machine.
const KEPT: u64 = 192 * MIB;

/// 100 MB in chunks; how many of them the node took, or the kernel for it.
fn send_too_much(node: &Node, together: &Barrier) -> usize {
    let mut chunk = format!("{CHUNK:x}\r\n").into_bytes();
    chunk.extend([b' '; CHUNK]);
    chunk.extend(b"\r\n");
    let mut conn = Conn::open(&node.haddr).unwrap();
    let head = format!("POST /hraftd/key HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", node.haddr);
    conn.send(head.as_bytes()).unwrap();
    together.wait();
    let taken = (0..CHUNKS).take_while(|_| conn.send(&chunk).is_ok()).count();
    // Past the lingering close the answer may be lost to a reset.
    if let Ok(reply) = conn.reply(false) {
        assert_eq!(reply.status, 413, "{}", reply.brief());
    }
    taken
}

#[test]
fn too_big_bodies_hold_no_memory() {
    let lab = Lab::busy();
    let mut node = lab.node("only");
    node.start();
    node.wait_ready();
    node.set("k", "1").unwrap();
    let (before, index) = (node.memory_kib("VmRSS"), node.stat("last_log_index").unwrap());
    for _ in 0..BURSTS {
        let together = Barrier::new(CLIENTS);
        let taken: Vec<usize> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| send_too_much(&node, &together))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        assert!(taken.iter().all(|&chunks| chunks < CHUNKS), "all of a body was taken: {taken:?}");
        assert_eq!(node.value("k").unwrap(), 1);
    }
    let peak = node.memory_kib("VmHWM").saturating_sub(before);
    assert!(peak < PEAK, "{} MiB more than before, at the peak", peak / MIB);
    let kept = eventually(SETTLE, "the memory is given back", || {
        let kept = node.memory_kib("VmRSS").saturating_sub(before);
        check(kept < KEPT, || format!("{} MiB more than before", kept / MIB)).map(|()| kept)
    });
    say(&format!(
        "memory: {BURSTS} bursts of {CLIENTS} bodies of 100 MB: {} MiB before, {} more at the peak, {} more after",
        before / MIB,
        peak / MIB,
        kept / MIB
    ));
    assert_eq!(node.stat("last_log_index").unwrap(), index, "something was stored");
    node.assert_alive();
}
