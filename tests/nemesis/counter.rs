//! Increments with an `Idempotency-Key`, repeated until they are answered: each counts once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::clients::Clients;

const PATIENCE: Duration = Duration::from_millis(1_000);
const PACE: Duration = Duration::from_millis(10);

/// The numbers that a client was told.
pub fn count(haddrs: &[String], stop: &AtomicBool, seed: u64) -> Vec<u64> {
    let (mut rng, mut clients, mut told) = (StdRng::seed_from_u64(seed), Clients::new(haddrs, PATIENCE), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{seed}-{}", told.len());
        // Also after the stop: what was asked for is known in the end.
        let number = loop {
            let headers = [("Idempotency-Key", key.as_str())];
            let target = "/hraftd/key/n?incr=1&timeout=2s";
            let Some(reply) = clients.ask(&mut rng, "POST", target, &headers, None) else { continue };
            match reply.status {
                200 => break reply.json()["n"].as_u64().unwrap(),
                503 | 504 => {}
                _ => panic!("{key}: {}", reply.brief()),
            }
        };
        told.push(number);
        std::thread::park_timeout(PACE);
    }
    told
}

/// Of all clients: 1, 2, 3 and so on, each once. How many there are.
pub fn check(told: &[u64]) -> u64 {
    let numbers: BTreeSet<u64> = told.iter().copied().collect();
    assert_eq!(numbers.len(), told.len(), "numbers that two were told");
    assert_eq!(numbers.last().copied().unwrap_or(0), told.len() as u64, "increments that nobody asked for");
    told.len() as u64
}
