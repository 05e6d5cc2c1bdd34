//! Registrations under faults: all keys of a lease or none, and kept alive means alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::clients::Clients;

const TTL: Duration = Duration::from_secs(6);
const KEYS: usize = 5;

/// Registers again and again, and is kept alive for a while each time; how often all keys, or none, were seen.
pub fn register(haddrs: &[String], stop: &AtomicBool, seed: u64) -> u64 {
    let (mut rng, mut clients, mut looks) = (StdRng::seed_from_u64(seed), Clients::new(haddrs, TTL), 0);
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let target = format!("/hraftd/lease?ttl={}s&timeout=2s", TTL.as_secs());
        let Some(made) = clients.ask(&mut rng, "POST", &target, &[], None).filter(|made| made.status == 201) else {
            continue;
        };
        let lease = made.json()["lease"].as_u64().unwrap();
        let keys: Vec<String> = (0..KEYS).map(|key| format!("\"svc/{lease}/{key}\":{lease}")).collect();
        let target = format!("/hraftd/key?lease={lease}&timeout=2s");
        let attached = clients.ask(&mut rng, "POST", &target, &[], Some(&format!("{{{}}}", keys.join(","))));
        if attached.is_none_or(|attached| attached.status != 200) {
            continue;
        }
        let mut until = asked + TTL;
        for _ in 0..rng.random_range(1..6) {
            std::thread::park_timeout(TTL.mul_f64(rng.random_range(0.0..0.7)));
            let sent = Instant::now();
            let kept = clients.ask(&mut rng, "PUT", &format!("/hraftd/lease/{lease}?timeout=2s"), &[], None);
            match kept.map(|kept| kept.status) {
                Some(200) => until = sent + TTL,
                Some(404) => {
                    assert!(Instant::now() >= until, "lease {lease} is lost before its time");
                    break;
                }
                _ => {}
            }
            let target = format!("/hraftd/key?prefix=svc/{lease}/&count&timeout=2s");
            let Some(read) = clients.ask(&mut rng, "GET", &target, &[], None).filter(|read| read.status == 200) else {
                continue;
            };
            let count = read.json()["count"].as_u64().unwrap();
            let is_alive = Instant::now() < until;
            assert!(
                count == KEYS as u64 || (count == 0 && !is_alive),
                "{count} keys of lease {lease}, alive: {is_alive}"
            );
            looks += 1;
        }
        // Some are just left.
        if rng.random_range(0..2) == 0 {
            clients.ask(&mut rng, "DELETE", &format!("/hraftd/lease/{lease}?timeout=2s"), &[], None);
        }
    }
    looks
}
