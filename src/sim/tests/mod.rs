//! Runs seeds.

mod logs;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Options, options, run};

/// How to have what failed again.
fn replay(seed: u64, order: u64) -> String {
    match (cfg!(tokio_unstable), order) {
        (true, 0) => format!(".ci/simulate --seed {seed} --trace"),
        (true, order) => format!(".ci/simulate --seed {seed} --order {order} --trace"),
        // The order of what happened at one moment was of no seed.
        (false, _) => format!(".ci/simulate --seed {seed} --orders 100"),
    }
}

fn all(first: u64, seeds: u64) {
    let Options { orders, order, trace, .. } = *options();
    if trace {
        logs::show();
    }
    let next = AtomicU64::new(0);
    let end = seeds * orders;
    let failed = Mutex::new(BTreeMap::new());
    let totals = Mutex::new(BTreeMap::new());
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        return;
                    }
                    let (seed, order) = (first + number / orders, order + number % orders);
                    match run::run(seed, order) {
                        Ok(summary) => {
                            let mut totals = totals.lock().unwrap();
                            for (what, count) in summary.counts {
                                *totals.entry(what).or_insert(0) += count;
                            }
                            if end == 1 {
                                eprintln!("seed {seed}: {:?}", summary.trace);
                            }
                        }
                        Err(why) => {
                            eprintln!("seed {seed} failed: {why}\nreplay: {}", replay(seed, order));
                            failed.lock().unwrap().insert((seed, order), why);
                            if failed.lock().unwrap().len() >= 10 {
                                next.store(end, Ordering::Relaxed);
                            }
                        }
                    }
                }
            });
        }
    });
    eprintln!("{seeds} seeds in {:?}: {:?}", began.elapsed(), totals.lock().unwrap());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn seeds() {
    let options = options();
    all(options.first, options.seeds);
}

/// The same seed is the same run, event by event.
#[cfg(tokio_unstable)]
#[test]
fn a_seed_replays_exactly() {
    for seed in options().first..options().first + 4 {
        let (first, second) = (run::run(seed, 0), run::run(seed, 0));
        assert_eq!(first.map(|summary| summary.trace), second.map(|summary| summary.trace), "seed {seed}");
    }
}
