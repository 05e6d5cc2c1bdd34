//! What it costs to be looked at: the CPU of a put while metrics are scraped and events are followed, and while nobody looks.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::parts::{fill, leader_of, median, window};
use crate::support::cluster::Cluster;
use crate::support::http::Conn;

const KEYS: usize = 100_000;
const ROUNDS: usize = 12;
const LENGTH: Duration = Duration::from_secs(3);

/// Who looks.
const ARMS: [&str; 4] = ["nobody", "metrics", "events", "page"];

/// Threads that look, until they are told to end.
struct Lookers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Lookers {
    fn begin(arm: &str, cluster: &Cluster) -> Self {
        let mut lookers = Self { stop: Arc::default(), threads: Vec::new() };
        let addrs: Vec<String> = cluster.nodes.iter().map(|node| node.haddr.clone()).collect();
        match arm {
            "metrics" => addrs.iter().for_each(|addr| lookers.polls(addr, &["/metrics"])),
            "events" => lookers.follows(&addrs[0]),
            // As the page does that a browser has open.
            "page" => {
                lookers.follows(&addrs[0]);
                lookers.polls(&addrs[0], &["/hraftd/raft/cluster", "/hraftd/raft/doctor"]);
            }
            _ => {}
        }
        lookers
    }

    /// Asks for each of these once a second.
    fn polls(&mut self, addr: &str, paths: &'static [&'static str]) {
        let (stop, addr) = (self.stop.clone(), addr.to_owned());
        self.threads.push(thread::spawn(move || {
            let mut conn = Conn::open(&addr).unwrap();
            while !stop.load(Ordering::Relaxed) {
                for path in paths {
                    conn.request("GET", path, &[], None).unwrap().ok().unwrap();
                }
                thread::park_timeout(Duration::from_secs(1));
            }
        }));
    }

    fn follows(&mut self, addr: &str) {
        let (stop, addr) = (self.stop.clone(), addr.to_owned());
        self.threads.push(thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(&addr).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            write!(stream, "GET /hraftd/raft/events?all HTTP/1.1\r\nHost: {addr}\r\n\r\n").unwrap();
            let (mut buffer, mut bytes) = (vec![0; 64 << 10], 0);
            while !stop.load(Ordering::Relaxed) {
                // A read that times out is a pause in the stream, not its end.
                bytes += stream.read(&mut buffer).unwrap_or(0);
            }
            assert!(bytes > 0, "no event came");
        }));
    }
}

impl Drop for Lookers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            thread.join().unwrap();
        }
    }
}

/// Compares the CPU of all servers for a put, in rounds of all arms whose order rotates.
pub fn looked_at() {
    let cluster = Cluster::start(3);
    let leader = leader_of(&cluster);
    fill(&leader, 0, KEYS);
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); ARMS.len()];
    for round in 0..ROUNDS {
        for place in 0..ARMS.len() {
            let arm = (round + place) % ARMS.len();
            let lookers = Lookers::begin(ARMS[arm], &cluster);
            let seen = window(&cluster, vec![leader.clone()], KEYS, 100, LENGTH);
            drop(lookers);
            costs[arm].push(seen.cpu.iter().sum::<f64>() / seen.rate * 1e6);
        }
    }
    for (arm, name) in ARMS.iter().enumerate() {
        let mut ratios: Vec<f64> = costs[arm].iter().zip(&costs[0]).map(|(cost, bare)| cost / bare).collect();
        let (cost, ratio) = (median(&mut costs[arm].clone()), median(&mut ratios));
        println!(
            "{name:>8} looks: {cost:>6.1} us of CPU a put, {:>+5.1} % (median of {ROUNDS} pairs)",
            (ratio - 1.0) * 100.0
        );
    }
}
