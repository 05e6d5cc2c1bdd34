//! The load: clients in a closed loop, each sending its next request when it has the answer to the last.
//!
//! Each thread has a runtime, a part of the clients and a histogram of its own, so that they share nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::client::{self, Client};
use super::system;
use super::template::Target;

/// How long requests in flight may take to end after the window.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
const FILL_TIMEOUT: Duration = Duration::from_secs(120);
const FILL_CLIENTS: usize = 64;

/// Which request comes next.
#[derive(Debug, Clone)]
pub enum Requests {
    /// Keys below `keys` at random; `puts` of 100 requests are puts, the others gets.
    Random { keys: usize, puts: u64 },
    /// A put of each key once.
    Each { keys: usize, next: Arc<AtomicUsize> },
}

/// Only requests that end in the window count.
#[derive(Debug, Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

/// An empty histogram of nanoseconds, to a percent.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 2).unwrap()
}

/// Writes each key once.
///
/// # Errors
///
/// A put failed, or not all keys were written in [`FILL_TIMEOUT`].
pub fn fill(target: &Target, keys: usize) -> Result<(), String> {
    let next = Arc::<AtomicUsize>::default();
    let requests = Requests::Each { keys, next: next.clone() };
    run(target, FILL_CLIENTS, &requests, Duration::ZERO, FILL_TIMEOUT, |_, _| ())?;
    let begun = next.load(Ordering::Relaxed);
    if begun < keys { Err(format!("{begun} of {keys} keys were written in {FILL_TIMEOUT:?}")) } else { Ok(()) }
}

/// Drives `clients` clients through a window of `length` that begins `warm` after all are connected. Returns the times of
/// the requests that ended in it.
///
/// `watch` is called with the window's begin and end as soon as they are known, while the clients run.
pub fn run(
    target: &Target,
    clients: usize,
    requests: &Requests,
    warm: Duration,
    length: Duration,
    watch: impl FnOnce(Instant, Instant),
) -> Result<Histogram<u64>, String> {
    let threads = system::cores().min(clients);
    let barrier = Barrier::new(threads + 1);
    let window = OnceLock::new();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|number| {
                let (barrier, window) = (&barrier, &window);
                let count = clients / threads + usize::from(number < clients % threads);
                scope.spawn(move || thread(number, threads, count, target, requests, barrier, window))
            })
            .collect();
        barrier.wait();
        let begin = Instant::now() + warm;
        let end = begin + length;
        let _ = window.set(Window { begin, end });
        barrier.wait();
        watch(begin, end);
        let mut all = histogram();
        for part in parts {
            let part = part.join().map_err(|_| "a thread of the load panicked".to_owned())??;
            all.add(part).map_err(|error| error.to_string())?;
        }
        Ok(all)
    })
}

fn thread(
    number: usize,
    threads: usize,
    count: usize,
    target: &Target,
    requests: &Requests,
    barrier: &Barrier,
    window: &OnceLock<Window>,
) -> Result<Histogram<u64>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let clients = client::open(target, count, (target.channels / threads).max(1)).await;
        // The others wait for this thread, even if it failed.
        barrier.wait();
        barrier.wait();
        let (clients, window) = (clients?, *window.get().unwrap());
        let times = Arc::new(Mutex::new(histogram()));
        let mut tasks = Vec::new();
        for (client_number, client) in clients.into_iter().enumerate() {
            let random = StdRng::seed_from_u64((number * 1_000_003 + client_number) as u64);
            tasks.push(tokio::spawn(closed_loop(client, requests.clone(), random, window, times.clone())));
        }
        let deadline = tokio::time::Instant::from_std(window.end + DRAIN_TIMEOUT);
        for task in tasks {
            let ended = tokio::time::timeout_at(deadline, task).await;
            ended.map_err(|_| format!("a request was not answered within {DRAIN_TIMEOUT:?}"))?.unwrap()?;
        }
        let times = times.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(times.clone())
    })
}

async fn closed_loop(
    mut client: Client,
    requests: Requests,
    mut random: StdRng,
    window: Window,
    times: Arc<Mutex<Histogram<u64>>>,
) -> Result<(), String> {
    let mut began = Instant::now();
    while began < window.end {
        match &requests {
            Requests::Random { keys, puts } => {
                let key = random.random_range(0..*keys);
                if random.random_range(0..100) < *puts { client.put(key).await? } else { client.get(key).await? }
            }
            Requests::Each { keys, next } => {
                let key = next.fetch_add(1, Ordering::Relaxed);
                if key >= *keys {
                    return Ok(());
                }
                client.put(key).await?;
            }
        }
        let ended = Instant::now();
        if (window.begin..window.end).contains(&ended) {
            let nanos = u64::try_from((ended - began).as_nanos()).unwrap_or(u64::MAX);
            times.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(nanos);
        }
        began = ended;
    }
    Ok(())
}
