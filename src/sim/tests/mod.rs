//! Runs seeds.

mod logs;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{options, run};

fn all(first: u64, seeds: u64) {
    if options().trace {
        logs::show();
    }
    let next = AtomicU64::new(first);
    let end = first + seeds;
    let failed = Mutex::new(BTreeMap::new());
    let totals = Mutex::new(BTreeMap::new());
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    match run::run(seed) {
                        Ok(summary) => {
                            let mut totals = totals.lock().unwrap();
                            for (what, count) in summary.counts {
                                *totals.entry(what).or_insert(0) += count;
                            }
                            if seeds == 1 {
                                eprintln!("seed {seed}: {:?}", summary.trace);
                            }
                        }
                        Err(why) => {
                            eprintln!("seed {seed} failed: {why}\nreplay: .ci/simulate --seed {seed} --trace");
                            failed.lock().unwrap().insert(seed, why);
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
        let (first, second) = (run::run(seed), run::run(seed));
        assert_eq!(first.map(|summary| summary.trace), second.map(|summary| summary.trace), "seed {seed}");
    }
}
