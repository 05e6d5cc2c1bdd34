//! The parts of the benchmark. Each starts a cluster of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::bench_support::load::{self, Requests};
use crate::bench_support::system;
use crate::bench_support::template::{Protocol, Secure, Target};
use crate::faults::Proxy;
use crate::support::cluster::Cluster;
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::wait::{check, eventually};
use crate::support::watch::Watch;

const CONNECTIONS: usize = 64;
const VALUE_BYTES: usize = 100;
const WARM: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(300);
const KEYS_A_REQUEST: usize = 1_000;

/// The result of one measured window.
pub struct Seen {
    pub rate: f64,
    times: Histogram<u64>,
    /// CPU that each node used, in cores.
    pub cpu: Vec<f64>,
}

impl Seen {
    pub fn line(&self) -> String {
        let at = |quantile: f64| self.times.value_at_quantile(quantile) as f64 / 1e6;
        let cpu: Vec<String> = self.cpu.iter().map(|cores| format!("{:.0}", cores * 100.0)).collect();
        format!(
            "{:>8.0}/s  p50 {:>6.2} ms  p99 {:>6.2}  p99.9 {:>7.2}  max {:>7.1}  CPU % {}",
            self.rate,
            at(0.5),
            at(0.99),
            at(0.999),
            self.times.max() as f64 / 1e6,
            cpu.join(" ")
        )
    }
}

fn target(addrs: Vec<String>) -> Target {
    let secure = None;
    Target { protocol: Protocol::Http, addrs, value_bytes: VALUE_BYTES, linearizable: true, channels: 1, secure }
}

pub fn window(cluster: &Cluster, addrs: Vec<String>, keys: usize, puts: u64, length: Duration) -> Seen {
    let pids: Vec<u32> = cluster.running().map(|node| node.pid().as_raw_nonzero().get().cast_unsigned()).collect();
    let cpu = || pids.iter().map(|&pid| system::cpu_seconds(pid)).collect::<Vec<f64>>();
    let mut used = Vec::new();
    let times = load::run(&target(addrs), CONNECTIONS, &Requests::Random { keys, puts }, WARM, length, |begin, end| {
        thread::sleep(begin.saturating_duration_since(Instant::now()));
        let before = cpu();
        thread::sleep(end.saturating_duration_since(Instant::now()));
        used = cpu().iter().zip(before).map(|(after, before)| (after - before) / length.as_secs_f64()).collect();
    });
    let times = times.unwrap();
    Seen { rate: times.len() as f64 / length.as_secs_f64(), times, cpu: used }
}

/// The result of a window at the leader.
pub struct Load {
    pub rate: f64,
    /// CPU of all servers for a request, in microseconds.
    pub us_each: f64,
    /// CPU of the load itself, in cores.
    pub own: f64,
}

/// Requests at the leader, as `secure` says.
pub fn window_of(cluster: &Cluster, secure: Option<Secure>, keys: usize, puts: u64) -> Load {
    let target = Target { secure, ..target(vec![leader_of(cluster)]) };
    let pids: Vec<u32> = cluster.running().map(|node| node.pid().as_raw_nonzero().get().cast_unsigned()).collect();
    let cpu = || pids.iter().map(|&pid| system::cpu_seconds(pid)).sum::<f64>();
    let own_cpu = || system::cpu_seconds(std::process::id());
    let (mut used, mut own) = (0.0, 0.0);
    let times = load::run(&target, CONNECTIONS, &Requests::Random { keys, puts }, WARM, WINDOW, |begin, end| {
        thread::sleep(begin.saturating_duration_since(Instant::now()));
        let before = (cpu(), own_cpu());
        thread::sleep(end.saturating_duration_since(Instant::now()));
        (used, own) = (cpu() - before.0, own_cpu() - before.1);
    });
    let done = times.unwrap().len() as f64;
    let seconds = WINDOW.as_secs_f64();
    Load { rate: done / seconds, us_each: used / done * 1e6, own: own / seconds }
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn leader_of(cluster: &Cluster) -> String {
    cluster.nodes[cluster.leader()].haddr.clone()
}

/// Writes the keys from `from` up to `to`, 1,000 in a request.
pub fn fill(addr: &str, from: usize, to: usize) {
    let (target, next) = (target(Vec::new()), AtomicUsize::new(from));
    let (prefix, value) = (target.first_key().replace("00000000", ""), target.value());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut conn = Conn::open(addr).unwrap();
                loop {
                    let first = next.fetch_add(KEYS_A_REQUEST, Ordering::Relaxed);
                    if first >= to {
                        return;
                    }
                    let pairs: Vec<String> = (first..to.min(first + KEYS_A_REQUEST))
                        .map(|number| format!("\"{prefix}{number:08}\":\"{value}\""))
                        .collect();
                    let body = format!("{{{}}}", pairs.join(","));
                    conn.request("POST", "/hraftd/key", &[], Some(body.as_bytes())).unwrap().ok().unwrap();
                }
            });
        }
    });
}

/// Shows throughput and memory by number of keys.
pub fn keys() {
    let cluster = Cluster::start(3);
    let (leader, number) = (leader_of(&cluster), cluster.leader());
    let mut filled = 0;
    for keys in [10_000, 100_000, 1_000_000, 5_000_000] {
        fill(&leader, filled, keys);
        filled = keys;
        wait_applied(&cluster);
        let put = window(&cluster, vec![leader.clone()], keys, 100, WINDOW);
        let get = window(&cluster, vec![leader.clone()], keys, 0, WINDOW);
        let rss = cluster.nodes[number].memory_kib("VmRSS") / 1024;
        println!("{keys:>8} keys  put {}", put.line());
        println!("{:>8}       get {}  leader {rss} MiB", "", get.line());
    }
}

fn wait_applied(cluster: &Cluster) {
    eventually(PATIENCE, "all have applied the same", || {
        let applied = |node: &Node| node.stat("applied_index");
        let all: Vec<u64> = cluster.running().map(applied).collect::<Result<_, _>>()?;
        check(all.iter().all(|index| *index == all[0]), || format!("{all:?}"))
    });
}

/// Measures puts while a snapshot of a million keys is made, then while one is sent to a node that lost its disk.
pub fn snapshot() {
    const KEYS: usize = 1_000_000;
    let mut cluster = Cluster::start_with(Lab::new(), 3, &["--snapshot-threshold", "1000000000"]);
    fill(&leader_of(&cluster), 0, KEYS);
    cluster.stop_all();
    let first = cluster.nodes[0].haddr.clone();
    for node in &mut cluster.nodes {
        node.set_args(&["--rjoin", &first, "--snapshot-threshold", "100000"]);
    }
    cluster.start_all();
    cluster.settled();
    let leader = leader_of(&cluster);
    let length = Duration::from_secs(12);
    let snapshots = |cluster: &Cluster| cluster.nodes[cluster.leader()].stat("last_snapshot_index").unwrap();
    let before = snapshots(&cluster);
    println!("  first 12 s    {}", window(&cluster, vec![leader.clone()], KEYS, 100, length).line());
    println!("  snapshots up to index {} -> {}", before, snapshots(&cluster));
    let before = snapshots(&cluster);
    println!("  next 12 s     {}", window(&cluster, vec![leader.clone()], KEYS, 100, length).line());
    println!("  snapshots up to index {} -> {}", before, snapshots(&cluster));
    let empty = cluster.follower();
    cluster.nodes[empty].stop();
    cluster.nodes[empty].wipe();
    let began = Instant::now();
    let taken = thread::scope(|scope| {
        let mut nodes: Vec<&mut Node> = cluster.nodes.iter_mut().collect();
        let node = nodes.remove(empty);
        let starting = scope.spawn(move || {
            node.start();
            node.wait_ready();
            began.elapsed()
        });
        let requests = Requests::Random { keys: KEYS, puts: 100 };
        let times = load::run(&target(vec![leader.clone()]), CONNECTIONS, &requests, WARM, length, |_, _| ()).unwrap();
        let seen = Seen { rate: times.len() as f64 / length.as_secs_f64(), times, cpu: Vec::new() };
        println!("  one is sent   {}", seen.line());
        starting.join().unwrap()
    });
    println!("  the node that lost its disk was ready after {taken:.1?}");
}

fn allow_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Measures puts beside watchers of another prefix, then beside watchers of everything that is put.
pub fn watchers() {
    allow_files();
    let cluster = Cluster::start(3);
    let (leader, number) = (leader_of(&cluster), cluster.leader());
    fill(&leader, 0, 100_000);
    let mut idle = Vec::new();
    for count in [0_usize, 100, 1_000, 10_000] {
        while idle.len() < count {
            idle.push(Watch::open(&leader, "prefix=other"));
        }
        let put = window(&cluster, vec![leader.clone()], 100_000, 100, WINDOW);
        let rss = cluster.nodes[number].memory_kib("VmRSS") / 1024;
        println!("{count:>6} of another prefix  {}  leader {rss} MiB", put.line());
    }
    drop(idle);
    for count in [1_usize, 10, 100] {
        let (stop, events) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..count)
            .map(|_| {
                let (stop, events, addr) = (stop.clone(), events.clone(), leader.clone());
                thread::spawn(move || read_all(&addr, &stop, &events))
            })
            .collect();
        let before = events.load(Ordering::Relaxed);
        let put = window(&cluster, vec![leader.clone()], 100_000, 100, WINDOW);
        let read = (events.load(Ordering::Relaxed) - before) as f64 / (WARM + WINDOW).as_secs_f64();
        println!("{count:>6} that read all       {}  {read:.0} KiB/s read", put.line());
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Watches everything until `stop`, and counts the KiB that arrive.
fn read_all(addr: &str, stop: &AtomicBool, kib: &AtomicUsize) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    write!(stream, "GET /hraftd/watch?prefix= HTTP/1.1\r\nHost: {addr}\r\n\r\n").unwrap();
    let (mut buffer, mut bytes) = (vec![0; 64 << 10], 0);
    while !stop.load(Ordering::Relaxed) {
        // A read that times out is a pause in the stream, not its end.
        if let Ok(length) = stream.read(&mut buffer) {
            bytes += length;
            kib.fetch_add(bytes >> 10, Ordering::Relaxed);
            bytes &= 1023;
        }
    }
}

/// Compares one, three and five nodes.
pub fn nodes() {
    for count in [1, 3, 5] {
        let cluster = Cluster::start(count);
        let leader = leader_of(&cluster);
        fill(&leader, 0, 100_000);
        let all: Vec<String> = cluster.nodes.iter().map(|node| node.haddr.clone()).collect();
        println!("{count} nodes  put        {}", window(&cluster, vec![leader.clone()], 100_000, 100, WINDOW).line());
        println!("         get leader {}", window(&cluster, vec![leader], 100_000, 0, WINDOW).line());
        println!("         get spread {}", window(&cluster, all, 100_000, 0, WINDOW).line());
    }
}

/// Measures puts while one follower of three is behind a slow network, then while it stands still half the time.
pub fn slow_follower() {
    let lab = Lab::new();
    let mut cluster = Cluster { nodes: Vec::new(), lab };
    for number in 0..3 {
        let node = cluster.lab.node(&format!("n{number}"));
        let first = cluster.nodes.first().map_or(node.haddr.clone(), |first| first.haddr.clone());
        cluster.nodes.push(node.rjoin(&[&first]));
    }
    // The last one is known by the address of a proxy.
    let (real, shown) = {
        let spare = cluster.lab.node("spare");
        (spare.raddr.clone(), cluster.nodes[2].raddr.clone())
    };
    let proxy = Proxy::start(&shown, &real);
    cluster.nodes[2].bind.extend(["--raddr".to_owned(), real, "--radv".to_owned(), shown]);
    for node in &mut cluster.nodes {
        node.start();
        node.wait_ready();
    }
    cluster.settled();
    assert_ne!(cluster.leader(), 2);
    let leader = leader_of(&cluster);
    fill(&leader, 0, 100_000);
    let put = |what: &str| {
        println!("{what:<24}{}", window(&cluster, vec![leader.clone()], 100_000, 100, WINDOW).line());
    };
    put("none slow");
    for delay_ms in [5, 50] {
        proxy.delay(Duration::from_millis(delay_ms));
        put(&format!("{delay_ms} ms each way"));
    }
    proxy.delay(Duration::ZERO);
    wait_applied(&cluster);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                cluster.nodes[2].pause();
                thread::sleep(Duration::from_millis(400));
                cluster.nodes[2].resume();
                thread::sleep(Duration::from_millis(400));
            }
        });
        put("stands still half the time");
        stop.store(true, Ordering::Relaxed);
    });
    let began = Instant::now();
    wait_applied(&cluster);
    println!("it has all of it {:.1?} later", began.elapsed());
}

/// Measures how soon a node answers after its start, and the CPU of three nodes without clients.
pub fn start_and_idle() {
    let mut cluster = Cluster::start(3);
    fill(&leader_of(&cluster), 0, 1_000);
    let pids: Vec<u32> = cluster.running().map(|node| node.pid().as_raw_nonzero().get().cast_unsigned()).collect();
    let cpu = || pids.iter().map(|&pid| system::cpu_seconds(pid)).collect::<Vec<f64>>();
    let (before, length) = (cpu(), Duration::from_secs(20));
    thread::sleep(length);
    let used: Vec<String> = cpu()
        .iter()
        .zip(before)
        .map(|(after, before)| format!("{:.2}", (after - before) / length.as_secs_f64() * 100.0))
        .collect();
    println!("idle: CPU % of a core {}", used.join(" + "));
    let mut times = Vec::new();
    for _ in 0..7 {
        let number = cluster.follower();
        let node = &mut cluster.nodes[number];
        node.stop();
        let began = Instant::now();
        node.start();
        // Closer looks than those of `eventually`.
        while !node.get("/hraftd/key/nothing?level=none").is_ok_and(|reply| reply.status == 404) {
            thread::sleep(Duration::from_millis(1));
        }
        let answers = began.elapsed();
        while node.ready().is_err() {
            thread::sleep(Duration::from_millis(1));
        }
        times.push((answers, began.elapsed()));
    }
    times.sort();
    let (answers, ready) = times[times.len() / 2];
    println!(
        "restart with 1,000 keys: level=none after {answers:.0?}, ready after {ready:.0?} (medians of {})",
        times.len()
    );
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_hraftd")).unwrap().len();
    println!("binary: {:.1} MB", binary as f64 / 1e6);
}
