//! Free port pairs on loopback: p for HTTP and p + 1000 for Raft, as the defaults of hraftd have it.

use std::fs::{File, create_dir_all};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range that the kernel gives to outgoing connections.
const FIRST: u32 = 20_000;
/// Pairs in 20000–29999: the even thousands are for HTTP, the odd ones for Raft.
const PAIRS: u32 = 5_000;

static TAKEN: AtomicU32 = AtomicU32::new(0);
/// Locks on the pairs of this process; the kernel lets go of them when it ends.
static LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port p that is free, as is p + 1000; never given out twice, nor to two test processes at once.
pub fn free_pair() -> u16 {
    let locks = std::env::temp_dir().join("hraftd-test-ports");
    create_dir_all(&locks).unwrap();
    for _ in 0..PAIRS {
        let pair = (std::process::id() * 97 + TAKEN.fetch_add(1, Ordering::Relaxed)) % PAIRS;
        let port = u16::try_from(FIRST + pair / 1000 * 2000 + pair % 1000).unwrap();
        let Ok(lock) = File::create(locks.join(port.to_string())) else { continue };
        if lock.try_lock().is_ok() && is_free(port) && is_free(port + 1000) {
            LOCKS.lock().unwrap().push(lock);
            return port;
        }
    }
    panic!("no free port pair in {FIRST}..{}", FIRST + 2 * PAIRS);
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("0.0.0.0", port)).is_ok()
}
