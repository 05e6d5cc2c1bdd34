//! Goodput of three nodes when more is asked of them than they can do: `cargo bench --bench overload`.
//!
//! First their capacity is measured, with a closed loop: each client waits for its answer. Then an open loop sends requests
//! at a fixed rate, whether or not earlier ones are answered: half the capacity, the capacity, twice and five times that. A
//! request that finds all connections busy is not sent, and counts as lost. Times count from when a request was due.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::LocalSet;

use support::cluster::Cluster;
use support::crowd::{Client, allow_files, open_many, request};
use support::lab::Lab;
use support::node::Node;

const THREADS: usize = 2;
const KEYS: u64 = 100_000;
const TICK: Duration = Duration::from_millis(1);
/// How long requests may still take after the last one was due.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Goodput beyond capacity.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench overload --")]
struct Options {
    /// Seconds at each rate
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Connections, all to the leader
    #[arg(long, default_value_t = 8_000)]
    connections: usize,
    /// Puts in 100 requests; the others are linearizable gets
    #[arg(long, default_value_t = 100)]
    puts: u64,
    /// Multiples of the capacity
    #[arg(long, value_delimiter = ',', default_values_t = [0.5, 1.0, 2.0, 5.0])]
    rates: Vec<f64>,
    /// Clients in a closed loop that measure the capacity
    #[arg(long, default_value_t = 256)]
    clients: usize,
    /// Cargo passes this.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The outcomes of the requests of one measurement.
struct Seen {
    ok: Histogram<u64>,
    refused: u64,
    other: u64,
    lost: u64,
}

impl Seen {
    fn new() -> Self {
        let ok = Histogram::new_with_bounds(1_000, 60_000_000_000, 2).unwrap();
        Self { ok, refused: 0, other: 0, lost: 0 }
    }

    fn add(mut self, more: Self) -> Self {
        self.ok.add(more.ok).unwrap();
        Self {
            ok: self.ok,
            refused: self.refused + more.refused,
            other: self.other + more.other,
            lost: self.lost + more.lost,
        }
    }

    fn answer(&mut self, status: Option<u16>, took: Duration) {
        match status {
            Some(200 | 201 | 404) => self.ok.saturating_record(u64::try_from(took.as_nanos()).unwrap()),
            Some(503) => self.refused += 1,
            _ => self.other += 1,
        }
    }

    fn ms(&self, quantile: f64) -> f64 {
        self.ok.value_at_quantile(quantile) as f64 / 1e6
    }
}

fn main() {
    let options = Options::parse();
    let files = allow_files();
    let connections = options.connections.min(files / 4 * 3 - 500);
    let cluster = Cluster::start_with(Lab::alone(), 3, &[]);
    let leader = &cluster.nodes[cluster.leader()];
    println!(
        "{connections} connections to the leader, {} % puts of 100 bytes, {} s each",
        options.puts, options.seconds
    );

    let closed = load(&leader.haddr, options.clients, options.puts, None, options.seconds);
    let capacity = closed.ok.len() as f64 / options.seconds as f64;
    println!(
        "capacity: {capacity:.0} a second with {} clients in a closed loop, p50 {:.1} ms, p99 {:.1} ms",
        options.clients,
        closed.ms(0.5),
        closed.ms(0.99)
    );
    println!("offered | goodput/s | p50 ms | p99 ms | p99.9 ms | 503 % | other % | not sent % | elections | RSS MiB");
    for rate in &options.rates {
        let before = term(leader);
        let seen = load(&leader.haddr, connections, options.puts, Some(capacity * rate), options.seconds);
        let all = (seen.ok.len() + seen.refused + seen.other + seen.lost) as f64;
        let share = |count: u64| 100.0 * count as f64 / all;
        println!(
            "{rate:4}x {:7.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} | {:.1} | {} | {}",
            capacity * rate,
            seen.ok.len() as f64 / options.seconds as f64,
            seen.ms(0.5),
            seen.ms(0.99),
            seen.ms(0.999),
            share(seen.refused),
            share(seen.other),
            share(seen.lost),
            term(leader) - before,
            cluster.nodes.iter().map(|node| node.memory_kib("VmRSS")).max().unwrap() >> 10
        );
    }
    let again = load(&leader.haddr, options.clients, options.puts, None, options.seconds);
    println!("afterwards: {:.0} a second", again.ok.len() as f64 / options.seconds as f64);
}

fn term(node: &Node) -> u64 {
    node.stat("term").unwrap()
}

/// Runs a closed loop, or an open loop of `rate` requests a second.
fn load(addr: &str, connections: usize, puts: u64, rate: Option<f64>, seconds: u64) -> Seen {
    let (barrier, length) = (Barrier::new(THREADS), Duration::from_secs(seconds));
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..THREADS)
            .map(|number| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    LocalSet::new().block_on(&runtime, async {
                        let clients = open_many(addr, connections / THREADS).await;
                        barrier.wait();
                        let asks = Asks { addr: addr.to_owned(), puts, random: StdRng::seed_from_u64(number as u64) };
                        match rate {
                            None => closed(clients, asks, length).await,
                            Some(rate) => open(clients, asks, rate / THREADS as f64, length).await,
                        }
                    })
                })
            })
            .collect();
        parts.into_iter().map(|part| part.join().unwrap()).fold(Seen::new(), Seen::add)
    })
}

struct Asks {
    addr: String,
    puts: u64,
    random: StdRng,
}

impl Asks {
    /// The same, with random numbers of its own.
    fn split(&mut self) -> Self {
        Self { addr: self.addr.clone(), puts: self.puts, random: StdRng::seed_from_u64(self.random.random()) }
    }

    fn next(&mut self) -> Vec<u8> {
        let target = format!("/hraftd/key/k{}", self.random.random_range(0..KEYS));
        if self.random.random_range(0..100) < self.puts {
            request(&self.addr, "PUT", &target, &"v".repeat(100))
        } else {
            request(&self.addr, "GET", &target, "")
        }
    }
}

async fn closed(clients: Vec<Client>, mut asks: Asks, length: Duration) -> Seen {
    let (seen, until) = (Rc::new(RefCell::new(Seen::new())), Instant::now() + length);
    let mut tasks = Vec::new();
    for mut client in clients {
        let (seen, mut asks) = (seen.clone(), asks.split());
        tasks.push(tokio::task::spawn_local(async move {
            while Instant::now() < until {
                let began = Instant::now();
                let answer = client.ask(&asks.next()).await;
                seen.borrow_mut().answer(answer.ok().map(|(head, _)| head.status), began.elapsed());
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    seen.replace(Seen::new())
}

async fn open(clients: Vec<Client>, mut asks: Asks, rate: f64, length: Duration) -> Seen {
    let (seen, free) = (Rc::new(RefCell::new(Seen::new())), Rc::new(RefCell::new(clients)));
    let all = free.borrow().len();
    let (began, mut sent) = (Instant::now(), 0_u64);
    let mut ticks = tokio::time::interval(TICK);
    while began.elapsed() < length {
        ticks.tick().await;
        while (sent as f64) < began.elapsed().min(length).as_secs_f64() * rate {
            let due = began + Duration::from_secs_f64(sent as f64 / rate);
            sent += 1;
            let Some(mut client) = free.borrow_mut().pop() else {
                seen.borrow_mut().lost += 1;
                continue;
            };
            let (seen, free, ask) = (seen.clone(), free.clone(), asks.next());
            tokio::task::spawn_local(async move {
                let answer = client.ask(&ask).await;
                seen.borrow_mut().answer(answer.as_ref().ok().map(|(head, _)| head.status), due.elapsed());
                free.borrow_mut().push(client);
            });
        }
    }
    let drained = Instant::now() + DRAIN_TIMEOUT;
    while free.borrow().len() < all && Instant::now() < drained {
        ticks.tick().await;
    }
    let seen = seen.replace(Seen::new());
    Seen { other: seen.other + (all - free.borrow().len()) as u64, ..seen }
}
