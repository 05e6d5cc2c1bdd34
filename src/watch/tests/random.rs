//! Watchers that come and go between two nodes, slow and fast, while events are appended: each sees what it should.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;

fn one_of<'a>(rng: &mut StdRng, all: &[&'a str]) -> &'a str {
    all[rng.random_range(0..all.len())]
}

const KEYS: [&str; 7] = ["a", "aa", "ab", "abc", "b", "é", "x"];

fn filter(rng: &mut StdRng) -> Filter {
    match rng.random_range(0..4) {
        0 => key(one_of(rng, &KEYS)),
        1 => Filter::Lock(one_of(rng, &KEYS).into()),
        _ => prefix(one_of(rng, &["", "a", "ab", "abc", "é", "z"])),
    }
}

fn entry(index: u64, rng: &mut StdRng) -> Vec<Event> {
    // Now and then one with many.
    let count = if rng.random_range(0..50) == 0 { rng.random_range(0..300) } else { rng.random_range(0..4) };
    let changes = (0..count).map(|_| {
        // One key is written far more often than others.
        let key = Key::from(if rng.random_range(0..3) > 0 { "x" } else { one_of(rng, &KEYS) });
        match rng.random_range(0..5) {
            0 => Change::Deleted { key },
            1 => Change::Expired { key, lease: None },
            2 => Change::Released { lock: key, token: index },
            _ => Change::Set { key, record: "1".into() },
        }
    });
    (1..).zip(changes).map(|(n, change)| Event { index, n, change, by: None }).collect()
}

/// The events one watcher saw, over all its connections.
struct Seen {
    filter: Filter,
    after: Position,
    given: Vec<Event>,
    missed: bool,
}

/// How far the log is, and where it ends once that is known.
#[derive(Default)]
struct Log {
    applied: AtomicU64,
    last: OnceLock<Position>,
}

async fn watch(nodes: [Watches; 2], seed: u64, log: Arc<Log>) -> Seen {
    let mut rng = StdRng::seed_from_u64(seed);
    let filter = filter(&mut rng);
    let after = Position::whole(rng.random_range(0..=log.applied.load(Ordering::Relaxed)));
    let mut seen = Seen { filter: filter.clone(), after, given: Vec::new(), missed: false };
    let mut position = after;
    // Between one that reads all at once and one that hardly keeps up.
    let slow = [0, 0, 1, 20][usize::try_from(rng.random_range(0..4)).unwrap()];
    loop {
        let node = &nodes[usize::try_from(rng.random_range(0..2)).unwrap()];
        let Ok(mut watcher) = node.watch(filter.clone(), position) else {
            seen.missed = true;
            return seen;
        };
        for _ in 0..rng.random_range(0..50) {
            match timeout(Duration::from_millis(rng.random_range(0..4)), watcher.next()).await {
                Ok(Ok(events)) => {
                    position = Position::of_event(events.last().unwrap());
                    seen.given.extend(events);
                }
                Ok(Err(_)) => {
                    seen.missed = true;
                    return seen;
                }
                Err(_) => {
                    let here = watcher.position();
                    assert!(here >= position, "{here} after {position}");
                    position = here;
                    if log.last.get().is_some_and(|last| here >= *last) {
                        return seen;
                    }
                }
            }
            if rng.random_range(0..100) < slow {
                sleep(Duration::from_millis(rng.random_range(0..5))).await;
            }
        }
        // Another connection goes on from what the last event said, or from what the watcher knows.
        if rng.random_range(0..2) == 0 {
            position = watcher.position();
        }
    }
}

async fn run(seed: u64, history: usize) -> (usize, usize) {
    const WATCHERS: u64 = 40;
    const ENTRIES: u64 = 3_000;
    let nodes = [start(history), start(history)];
    let log = Arc::new(Log::default());
    let mut rng = StdRng::seed_from_u64(seed);
    let mut all = Vec::new();
    let mut watchers = JoinSet::new();
    let mut lag: Vec<Event> = Vec::new();
    for index in 1..=ENTRIES {
        if index % (ENTRIES / WATCHERS) == 1 {
            watchers.spawn(watch(nodes.clone(), seed << 20 | index, log.clone()));
        }
        let events = entry(index, &mut rng);
        all.extend(events.iter().cloned());
        lag.extend(events.iter().cloned());
        nodes[0].append(&mut events.clone());
        log.applied.store(index, Ordering::Relaxed);
        // The other node is a little behind, and applies more at once.
        if rng.random_range(0..5) == 0 {
            nodes[1].append(&mut lag);
        }
        if rng.random_range(0..20) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    nodes[1].append(&mut lag);
    let last = Position::of_event(all.last().unwrap());
    log.last.set(last).unwrap();
    let (mut missed, mut given) = (0, 0);
    while let Some(seen) = timeout(SOON, watchers.join_next()).await.expect("a watcher knows that it has all") {
        let seen = seen.unwrap();
        let wanted: Vec<&Event> =
            all.iter().filter(|event| Position::of_event(event) > seen.after && seen.filter.takes(event)).collect();
        let got: Vec<&Event> = seen.given.iter().collect();
        let shown = format!("seed {seed}: {:?} after {}, last {last}", seen.filter, seen.after);
        if seen.missed {
            missed += 1;
            assert!(got.len() < wanted.len() || history < 1000, "{shown}: missed nothing");
            assert_eq!(got, wanted[..got.len()], "{shown}");
        } else {
            assert_eq!(got, wanted, "{shown}");
        }
        given += got.len();
    }
    (missed, given)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_sees_all_once_and_in_order() {
    let mut missed = 0;
    for seed in 1..=4 {
        // With all of history nobody may miss anything.
        let (none, given) = run(seed, 1_000_000).await;
        assert_eq!(none, 0);
        assert!(given > 10_000, "{given}");
        missed += run(seed, 300).await.0;
        missed += run(seed, 8).await.0;
    }
    assert!(missed > 0, "history was never too short");
}
