//! The state of one run of the simulation: its randomness, its trace, what it has seen, and its first failure.
//!
//! A run has a thread to itself, so all this is found by thread. Where there is none, as in other tests of this crate,
//! nothing is noted, nothing takes time, and no chance comes about.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::clock::TRUE_RATE;
use super::host::Host;
use super::invariants::Invariants;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// How long a flush takes, in milliseconds: between the first and the second.
type FlushMs = (u64, u64);

pub struct World {
    rng: StdRng,
    began: Instant,
    trace: Trace,
    /// The last number given.
    number: u64,
    failure: Option<String>,
    failed: Arc<Notify>,
    flush_ms: BTreeMap<u16, FlushMs>,
    /// The power fails at who says this next, and who that was.
    fatal: Option<Word>,
    fell: Option<u16>,
    invariants: Invariants,
}

/// A promise of a node that must be on its disk when the node gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It has voted.
    Vote,
    /// It has these entries.
    Append,
}

/// All that happened, as a hash: equal for equal runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    pub events: u64,
    pub hash: u64,
}

impl World {
    /// Begins a run on this thread, in its runtime.
    pub fn begin(seed: u64) {
        let world = Self {
            rng: StdRng::seed_from_u64(seed),
            began: Instant::now(),
            trace: Trace::default(),
            number: 0,
            failure: None,
            failed: Arc::default(),
            flush_ms: BTreeMap::new(),
            fatal: None,
            fell: None,
            invariants: Invariants::default(),
        };
        WORLD.set(Some(world));
    }

    /// Ends it.
    pub fn end() {
        WORLD.set(None);
    }
}

fn with<T>(work: impl FnOnce(&mut World) -> T) -> T {
    try_with(work).expect("a run is under way on this thread")
}

fn try_with<T>(work: impl FnOnce(&mut World) -> T) -> Option<T> {
    WORLD.with_borrow_mut(|world| world.as_mut().map(work))
}

/// Uses the run's randomness.
pub fn with_rng<T>(work: impl FnOnce(&mut StdRng) -> T) -> T {
    with(|world| work(&mut world.rng))
}

/// A random number: of the seed where there is a run, else of the system.
pub fn random() -> u64 {
    try_with(|world| world.rng.random()).unwrap_or_else(rand::random)
}

/// Random bytes: of the seed where there is a run, else of the system.
pub fn fill(bytes: &mut [u8]) -> std::io::Result<()> {
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random().to_le_bytes()[..chunk.len()]);
    }
    Ok(())
}

/// A number that nothing else of this run has.
pub fn next_number() -> u64 {
    static OF_NO_RUN: AtomicU64 = AtomicU64::new(1);
    let next = |world: &mut World| {
        world.number += 1;
        world.number
    };
    try_with(next).unwrap_or_else(|| OF_NO_RUN.fetch_add(1, Ordering::Relaxed))
}

/// A random rate for a clock, at most `drift_ppm` off.
pub fn rate(drift_ppm: u32) -> u32 {
    with_rng(|rng| rng.random_range(TRUE_RATE - drift_ppm..=TRUE_RATE + drift_ppm))
}

/// Below a number, which is not 0.
pub fn below(end: u64) -> u64 {
    try_with(|world| world.rng.random_range(0..end)).unwrap_or_default()
}

/// True `per_mille` times out of a thousand; never where there is no run.
pub fn chance(per_mille: u64) -> bool {
    per_mille > 0 && try_with(|world| world.rng.random_range(0..1_000) < per_mille).unwrap_or_default()
}

/// Between both, in milliseconds; the least where there is no run.
pub fn ms_between((least, most): (u64, u64)) -> Duration {
    Duration::from_millis(try_with(|world| world.rng.random_range(least..=most)).unwrap_or(least))
}

/// Notes that something happened now: part of what a replay must show again.
pub fn note(what: &str, numbers: &[u64]) {
    try_with(|world| {
        let at = world.began.elapsed();
        let trace = &mut world.trace;
        trace.events += 1;
        trace.hash = xxh3_64_with_seed(what.as_bytes(), trace.hash ^ u64::try_from(at.as_nanos()).unwrap_or(0));
        for number in numbers {
            trace.hash = xxh3_64_with_seed(&number.to_le_bytes(), trace.hash);
        }
        if super::options().trace {
            eprintln!("{:>10.3} {what} {numbers:?}", at.as_secs_f64());
        }
    });
}

/// How long the run has lasted; zero where there is none, or it is being changed.
pub fn elapsed() -> Duration {
    WORLD.with(|world| {
        let world = world.try_borrow().ok();
        world.and_then(|world| world.as_ref().map(|world| world.began.elapsed())).unwrap_or_default()
    })
}

/// The trace so far.
pub fn trace() -> Trace {
    with(|world| world.trace)
}

/// The run has shown that something is wrong. The first finding counts.
///
/// # Panics
/// Where there is no run: it is a test's own failure there.
pub fn fail(why: String) {
    let noted = try_with(|world| {
        let at = world.began.elapsed().as_secs_f64();
        if world.failure.is_none() {
            world.failure = Some(format!("after {at:.3} s: {why}"));
        }
        world.failed.notify_one();
    });
    assert!(noted.is_some(), "{why}");
}

/// The first failure, if there was one.
pub fn failure() -> Option<String> {
    with(|world| world.failure.clone())
}

/// Is notified when something goes wrong.
pub fn failed() -> Arc<Notify> {
    with(|world| world.failed.clone())
}

/// Looks at what was seen, or adds to it; what is found wrong fails the run.
pub fn check<T: Default>(check: impl FnOnce(&mut Invariants) -> Result<T, String>) -> T {
    let checked = try_with(|world| check(&mut world.invariants));
    match checked {
        Some(Ok(done)) => done,
        Some(Err(why)) => {
            fail(why);
            T::default()
        }
        None => T::default(),
    }
}

/// The host whose task this is; `None` outside a run.
pub fn host() -> Option<Host> {
    try_with(|_| ())?;
    Host::current()
}

/// From now on flushes of this host take so long.
pub fn set_flush_ms(host: u16, flush_ms: FlushMs) {
    with(|world| world.flush_ms.insert(host, flush_ms));
}

/// How long the next flush of this task's host takes; `None` where nothing is simulated.
pub fn disk_delay() -> Option<Duration> {
    let host = host()?;
    let flush_ms = with(|world| world.flush_ms.get(&host.name()).copied());
    Some(ms_between(flush_ms.unwrap_or((1, 1))))
}

/// How long blocking work takes, as if it waited for a thread and for the disk.
pub fn blocking_delay() -> Duration {
    disk_delay().unwrap_or_default() + ms_between((0, 5))
}

/// The power fails at whoever says this next, at once; what it said is on its way. `None`: at nobody.
pub fn set_fatal(word: Option<Word>) {
    with(|world| (world.fatal, world.fell) = (word, None));
}

/// Whose power failed so.
pub fn fell() -> Option<u16> {
    with(|world| world.fell)
}

/// A node says something, and is heard.
pub fn said(host: &Host, word: Word) {
    let falls = try_with(|world| {
        let falls = world.fatal == Some(word) && !host.is_dead();
        if falls {
            (world.fatal, world.fell) = (None, Some(host.name()));
        }
        falls
    });
    if falls == Some(true) {
        note("last word", &[host.name().into(), word as u64]);
        host.kill();
    }
}
