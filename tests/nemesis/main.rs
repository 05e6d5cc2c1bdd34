//! Everything at once, on real processes on machines of their own: kills, pauses, partitions, lost and late packets, full
//! disks, wall clocks that jump; beside it registers, locks, leases, watches and a counter, each with a check of what its clients saw;
//! secrets, certificates and tokens that are rotated ([`secrets`]); and bounds on what a process takes. Every kind of fault is there at least once, and must be seen to have done something.
//!
//! Three quarters of a minute by default. `HRAFTD_NEMESIS_SECS=600 HRAFTD_SEED=7 cargo test --test nemesis -- --ignored` runs for
//! longer and otherwise; an hour of it (3600) is the soak.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod changes;
mod clients;
mod counter;
mod faults;
mod leases;
mod locks;
mod proxy;
mod samples;
mod secrets;
mod told;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use changes::Changes;
use faults::Nemesis;
use samples::Samples;
use serde_json::Value;
use world::World;

use crate::support::events::follow;
use crate::support::faketime::library;
use crate::support::history::{Recorder, StopOnDrop};
use crate::support::namespace::{in_own_network_within, say_figure, skip};
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

const TEST: &str = "everything_at_random";
const NEEDS: [(&str, &str); 4] =
    [("nsenter", "util-linux"), ("mount", "mount"), ("nft", "nftables"), ("faketime", "faketime")];

const DEFAULT_SECS: u64 = 45;
/// To settle and to check.
const SPARE: Duration = Duration::from_secs(240);

const REGISTER_CLIENTS: u64 = 6;
const KEYS: u64 = 4;
/// A history is checked after so long, and another begun.
const ROUND: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_millis(1_500);
const PACE: Duration = Duration::from_millis(8);

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// All events of a node.
fn followed(haddr: &str, stop: &AtomicBool) -> Vec<Value> {
    let all = Mutex::default();
    follow(haddr, stop, &all);
    all.into_inner().unwrap()
}

/// Ends the clients when the test ends, by a panic too.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One history after the other; how many operations had an answer.
fn registers(haddrs: &[String], stop: &AtomicBool, seed: u64) -> u64 {
    let mut all = 0;
    for round in 0.. {
        let recorder = Recorder::new(haddrs.to_vec(), KEYS);
        let until = Instant::now() + ROUND;
        std::thread::scope(|scope| {
            let ends = StopOnDrop(&recorder);
            for client in 0..REGISTER_CLIENTS {
                let recorder = &recorder;
                scope.spawn(move || recorder.work(seed << 16 | round << 8 | client, PATIENCE, PACE));
            }
            while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(100));
            }
            drop(ends);
        });
        recorder.assert_linearizable(&format!("seed {seed}, round {round}"));
        say(&format!("nemesis: a history is linearizable: {}", recorder.counts()));
        all += recorder.counts().ok;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    all
}

/// What one client found would else be told when all others have ended, and those who watch wait for what never comes. This
/// process is the first of its namespace, so all others end with it; logs stay where they are.
fn end_with_the_first_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(101);
    }));
}

#[test]
#[ignore = "a long random run; `.ci/run` has it, and `cargo test --test nemesis -- --ignored`"]
fn everything_at_random() {
    let length = Duration::from_secs(from_env("HRAFTD_NEMESIS_SECS", DEFAULT_SECS));
    let seed = from_env("HRAFTD_SEED", 1);
    let Some(faketime) = library() else { return skip(TEST, "missing Debian packages: faketime") };
    in_own_network_within(TEST, &NEEDS, length * 2 + SPARE, || {
        say(&format!("nemesis: seed {seed}, {length:?}"));
        end_with_the_first_panic();
        // `HRAFTD_NEMESIS_OPEN=1`: without secrets, certificates and tokens.
        let mut world = World::start(faketime, std::env::var_os("HRAFTD_NEMESIS_OPEN").is_none());
        let root = world.secrets.as_ref().map(|secrets| secrets.root().to_owned());
        let (haddrs, stop, changes) = (world.haddrs(), AtomicBool::new(false), Changes::default());
        let mut samples = Samples::new();
        std::thread::scope(|scope| {
            let (haddrs, stop, changes) = (&haddrs, &stop, &changes);
            let ends = Stop(stop);
            let seeds = move |kind: u64| (0..3).map(move |n| seed << 8 | kind << 4 | n);
            let registers = scope.spawn(move || registers(haddrs, stop, seed));
            let locks: Vec<_> = seeds(1).map(|seed| scope.spawn(move || locks::contend(haddrs, stop, seed))).collect();
            let leases: Vec<_> =
                seeds(5).map(|seed| scope.spawn(move || leases::register(haddrs, stop, seed))).collect();
            let counts: Vec<_> = seeds(2).map(|seed| scope.spawn(move || counter::count(haddrs, stop, seed))).collect();
            let writers: Vec<_> = seeds(3).map(|seed| scope.spawn(move || changes.write(haddrs, stop, seed))).collect();
            let events = haddrs.iter().map(|haddr| scope.spawn(move || followed(haddr, stop))).collect::<Vec<_>>();
            let watchers: Vec<_> = seeds(4).map(|seed| scope.spawn(move || changes::watch(haddrs, seed))).collect();

            let revoked = root
                .as_deref()
                .map(|root| scope.spawn(move || secrets::revoke(haddrs, stop, root, seed << 8 | 6 << 4)));

            let mut nemesis = Nemesis::new(&mut world, seed);
            if length >= samples::LONG {
                nemesis.warm();
            }
            nemesis.run(length, |world| {
                samples.look(world);
                if let Some(mut secrets) = world.secrets.take() {
                    secrets.look(world);
                    world.secrets = Some(secrets);
                }
            });
            nemesis.assert_bitten(length >= samples::LONG);
            let faults = nemesis.counts();
            let healed = Instant::now();
            world.settled();
            say_figure(&format!(
                "seed {seed}, {length:?}: faults {faults}; settled {:.1?} after the last",
                healed.elapsed()
            ));
            drop(ends);
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            eventually(SETTLE, "a last change", || {
                let body = format!(r#"{{"{}":0}}"#, changes::LAST);
                world.nodes[0].call("POST", "/hraftd/key", Some(&body))?.ok()
            });
            let told: Vec<u64> = counts.into_iter().flat_map(|count| count.join().unwrap()).collect();
            let held: Vec<_> = locks.into_iter().flat_map(|lock| lock.join().unwrap()).collect();
            let registered: u64 = leases.into_iter().map(|lease| lease.join().unwrap()).sum();
            let watched: Vec<_> = watchers.into_iter().map(|watcher| watcher.join().unwrap()).collect();
            let operations = registers.join().unwrap();
            let events: Vec<Vec<Value>> = events.into_iter().map(|events| events.join().unwrap()).collect();
            say_figure(&told::check(&world.nodes.iter().map(world::Place::id).collect::<Vec<_>>(), &events));
            if let Some(revoked) = revoked {
                secrets::check_revoked(&world, &revoked.join().unwrap());
            }
            if let Some(secrets) = &world.secrets {
                secrets.check();
            }

            let counted = counter::check(&told);
            for place in &world.nodes {
                eventually(SETTLE, "every node has counted as far", || {
                    let read = place.get("/hraftd/key/n?level=none")?.ok()?.json();
                    check(read["n"] == counted, || format!("{read}, not {counted}"))
                });
            }
            let (held, compacted) = (locks::check(held), changes::check(changes, &watched));
            let acked = changes.acked.lock().unwrap().len();
            say_figure(&format!(
                "{operations} operations on registers, {held} times a lock, {registered} looks at registrations, {counted} \
                 increments, {acked} watched changes ({compacted} times compacted)"
            ));
            assert!(
                operations > 500 && held > 5 && registered > 5 && counted > 50 && acked > 100,
                "hardly anything was done"
            );
        });
        samples.assert_steady(length);
        same_everywhere(&world);
    });
}

/// All have the same state in the end.
fn same_everywhere(world: &World) {
    eventually(SETTLE, "one digest at one index", || {
        let mut seen = Vec::new();
        for place in &world.nodes {
            let about = place.get("/hraftd/raft/node")?.ok()?.json();
            seen.push((about["applied_index"].clone(), about["digest"].clone()));
        }
        check(seen.windows(2).all(|pair| pair[0] == pair[1]), || format!("{seen:?}"))
    });
}
