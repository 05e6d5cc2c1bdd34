//! Locks under faults: never two holders, and tokens that fence.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::clients::Clients;

const LOCKS: u64 = 3;
const TTL: Duration = Duration::from_secs(6);

/// That a client held a lock, as it may believe by its own clock.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    pub lock: u64,
    pub token: u64,
    pub from: Instant,
    pub until: Instant,
}

/// Takes locks, keeps them for a while, gives them back.
pub fn contend(haddrs: &[String], stop: &AtomicBool, seed: u64) -> Vec<Held> {
    let (mut rng, mut clients, mut all) = (StdRng::seed_from_u64(seed), Clients::new(haddrs, TTL), Vec::new());
    let query = format!("ttl={}s&timeout=2s", TTL.as_secs());
    while !stop.load(Ordering::Relaxed) {
        let (lock, asked) = (rng.random_range(0..LOCKS), Instant::now());
        let path = format!("/hraftd/lock/l{lock}");
        let target = format!("{path}?{query}&wait={}ms", rng.random_range(0..3_000));
        let Some(reply) = clients.ask(&mut rng, "POST", &target, &[], None) else { continue };
        match reply.status {
            200 => {}
            409 | 503 | 504 => continue,
            _ => panic!("{target}: {}", reply.brief()),
        }
        let token = reply.json()["token"].as_u64().unwrap();
        // Counted from when it was asked for: it was granted no sooner.
        let mut held = Held { lock, token, from: Instant::now(), until: asked + TTL };
        if rng.random_range(0..3) == 0 {
            let renewed = Instant::now();
            let reply = clients.ask(&mut rng, "PUT", &format!("{path}?token={token}&timeout=2s"), &[], None);
            match reply.map(|reply| reply.status) {
                Some(200) => held.until = renewed + TTL,
                Some(409) => assert!(Instant::now() >= held.until, "lost before its time: {held:?}"),
                _ => {}
            }
        }
        std::thread::park_timeout(Duration::from_millis(rng.random_range(0..1_000)));
        if rng.random_range(0..4) > 0 {
            held.until = held.until.min(Instant::now());
            clients.ask(&mut rng, "DELETE", &format!("{path}?token={token}&timeout=2s"), &[], None);
        }
        all.push(held);
    }
    all
}

/// Of all clients: who has a greater token held later.
pub fn check(mut all: Vec<Held>) -> usize {
    all.sort_by_key(|held| (held.lock, held.token));
    for pair in all.windows(2).filter(|pair| pair[0].lock == pair[1].lock) {
        assert!(pair[0].token < pair[1].token, "a token twice: {pair:?}");
        assert!(pair[0].until <= pair[1].from, "two hold a lock at once: {pair:#?}");
    }
    all.len()
}
