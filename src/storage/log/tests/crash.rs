//! Power loss: what was acknowledged is there, and nothing that was never written.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::storage::log::segment;

/// Plays a script on a disk that dies; `None` when it outlived the script.
async fn play_until_death(seed: u64, changes: usize) -> (Script, MemDisk, bool) {
    let disk = countdown(MemDisk::new(), changes);
    let mut script = Script::new(SmallRng::seed_from_u64(seed), State::default());
    let mut died = true;
    if let Ok(store) = LogStore::open(Arc::new(disk.clone()), small()) {
        script.play(&store, 25).await;
        // Removals come after the acknowledgement: let them come.
        let last = script.perform(&store, Step::Vote(vote(99))).await;
        drop(store);
        died = last.is_err();
    }
    (script, disk.mem, died)
}

async fn check(script: &Script, image: &MemDisk, what: &str) {
    let store = open(image).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = state(&store).await;
    assert!(script.allows(&found), "{what}: {found:?} is not from {:?} on", script.states[script.acknowledged]);
}

fn unflushed(mem: &MemDisk) -> usize {
    let mut total = 0;
    mem.crash(|_, _, len| {
        total += len;
        0
    });
    total
}

/// The disk where of all unflushed bytes, in the order of writing, the first `left` survive.
fn cut_to(mem: &MemDisk, mut left: usize) -> MemDisk {
    mem.crash(|_, _, len| {
        let kept = left.min(len);
        left -= kept;
        kept
    })
}

/// The disk where of the unflushed bytes random sectors survive, in no order.
fn some_sectors(mem: &MemDisk, rng: &mut SmallRng) -> MemDisk {
    let (none, all) = (mem.crash(|_, _, _| 0), mem.crash(|_, _, len| len));
    let mixed = MemDisk::new();
    for name in all.list().unwrap() {
        let (mut bytes, written) = (none.bytes(&name).unwrap(), all.bytes(&name).unwrap());
        bytes.resize(written.len(), 0);
        for (kept, new) in bytes.chunks_mut(16).zip(written.chunks(16)) {
            if rng.random() {
                kept.copy_from_slice(new);
            }
        }
        mixed.put(&name, bytes);
    }
    mixed
}

#[tokio::test]
async fn power_loss_at_every_byte_of_every_write_keeps_what_was_acknowledged() {
    let (mut cases, mut rolled) = (0, false);
    for seed in 0..2 {
        for changes in 0.. {
            let (script, mem, died) = play_until_death(seed, changes).await;
            rolled |= mem.list().unwrap().iter().any(|name| *name > segment::name(3));
            for kept in 0..=unflushed(&mem) {
                cases += 1;
                check(&script, &cut_to(&mem, kept), &format!("seed {seed}, {changes} changes, {kept} bytes")).await;
            }
            if !died {
                break;
            }
        }
    }
    assert!(rolled && cases > 2000, "{cases} cases");
}

#[tokio::test]
async fn power_loss_that_keeps_sectors_in_no_order_keeps_what_was_acknowledged() {
    let mut rng = SmallRng::seed_from_u64(7);
    for seed in 10..13 {
        for changes in 0.. {
            let (script, mem, died) = play_until_death(seed, changes).await;
            for nth in 0..if unflushed(&mem) > 16 { 8 } else { 1 } {
                let image = some_sectors(&mem, &mut rng);
                check(&script, &image, &format!("seed {seed}, {changes} changes, mix {nth}")).await;
            }
            if !died {
                break;
            }
        }
    }
}

/// Recovery writes too: it may itself be interrupted anywhere, again and again, by a power loss or
/// by the end of the process, which leaves everything that was written.
#[tokio::test]
async fn power_loss_during_recovery_changes_nothing() {
    let mut rng = SmallRng::seed_from_u64(8);
    for seed in 20..24 {
        for changes in (5..).step_by(3) {
            let (script, mem, died) = play_until_death(seed, changes).await;
            let mut image = if rng.random() { mem } else { some_sectors(&mem, &mut rng) };
            for more in 0..9 {
                let disk = countdown(image, more);
                drop(LogStore::open(Arc::new(disk.clone()), small()));
                image = if rng.random() { disk.mem } else { some_sectors(&disk.mem, &mut rng) };
            }
            check(&script, &image, &format!("seed {seed}, {changes} changes")).await;
            if !died {
                break;
            }
        }
    }
}

/// Crash, reopen, write on, crash: numbers and cuts must fit together over many lives.
#[tokio::test]
async fn a_log_survives_many_lives() {
    for seed in 0..40 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut image = MemDisk::new();
        let mut from = State::default();
        for life in 0..12 {
            let disk = countdown(image, rng.random_range(0..60));
            let mut script = Script::new(SmallRng::seed_from_u64(rng.random()), from.clone());
            match LogStore::open(Arc::new(disk.clone()), small()) {
                Ok(store) => {
                    assert_eq!(state(&store).await, from, "seed {seed}, life {life}");
                    script.play(&store, 15).await;
                    if rng.random() && store.close().is_ok() {
                        script.acknowledged = script.states.len() - 1;
                    }
                }
                Err(error) => assert!(matches!(error, StorageError::Io { .. }), "seed {seed}, life {life}: {error}"),
            }
            image = if rng.random() { disk.mem } else { some_sectors(&disk.mem, &mut rng) };
            // An intact open, so that what is to be found is known.
            let store = open(&image).unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
            from = state(&store).await;
            assert!(script.allows(&from), "seed {seed}, life {life}: {from:?}");
        }
    }
}

/// A start after a clean stop writes before anything is acknowledged. It may break off anywhere, again and again: the log
/// is what it was.
#[tokio::test]
async fn power_loss_in_the_start_after_a_clean_stop_loses_nothing() {
    let mut rng = SmallRng::seed_from_u64(9);
    let (mut cases, mut torn, mut rolled) = (0, 0, 0);
    for seed in 0..60 {
        let disk = MemDisk::new();
        let store = open(&disk).unwrap();
        let mut script = Script::new(SmallRng::seed_from_u64(seed), State::default());
        if seed < 20 {
            script.play(&store, 10 + seed as usize % 7).await;
        } else {
            // So long that some of these leave room for the mark of a stop in their segment, and not for more.
            let entry = entry(1, 0, (seed as usize - 20) * 16);
            script.perform(&store, Step::Append(vec![entry])).await.unwrap();
        }
        store.close().unwrap();
        drop(store);
        script.acknowledged = script.states.len() - 1;
        let stopped = disk.crash(|_, _, _| 0);
        let segments = stopped.list().unwrap().len();
        for changes in 0..12 {
            let start = |image: &MemDisk| {
                let disk = countdown(image.crash(|_, _, len| len), changes);
                drop(LogStore::open(Arc::new(disk.clone()), small()));
                disk.mem
            };
            let begun = start(&stopped);
            rolled += usize::from(begun.list().unwrap().len() > segments);
            for kept in 0..=unflushed(&begun) {
                let what = format!("seed {seed}, {changes} changes, {kept} bytes");
                let image = cut_to(&begun, kept);
                torn += usize::from(kept > 0);
                cases += 1;
                check(&script, &start(&image), &format!("{what}, begun again")).await;
                check(&script, &image, &what).await;
            }
            for nth in 0..4 {
                let image = some_sectors(&start(&some_sectors(&begun, &mut rng)), &mut rng);
                check(&script, &image, &format!("seed {seed}, {changes} changes, mix {nth}")).await;
            }
        }
    }
    assert!(cases > 1000 && torn > 500 && rolled > 5, "{cases} cases, {torn} torn, {rolled} in a new segment");
}
