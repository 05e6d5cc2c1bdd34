//! Clients that write down what they asked and what they were answered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::http::{Conn, Reply};
use super::linear::{Op, What, check};

/// Recorders of one process so far: each has keys of its own, which nobody wrote before.
static RECORDERS: AtomicU64 = AtomicU64::new(0);

/// What all clients share.
#[derive(Debug)]
pub struct Recorder {
    number: u64,
    haddrs: Mutex<Vec<String>>,
    keys: u64,
    began: Instant,
    next_value: AtomicU64,
    stop: AtomicBool,
    written_down: Mutex<BTreeMap<u64, Vec<Op>>>,
    counts: Mutex<Counts>,
    /// When a write was last acknowledged, and the longest time between two such moments.
    acknowledged: Mutex<(Instant, Duration)>,
}

#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub ok: u64,
    pub unknown: u64,
    pub failed: u64,
    why: BTreeMap<String, u64>,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ok, unknown, failed, why } = self;
        write!(f, "{ok} ok, {unknown} unknown, {failed} failed {why:?}")
    }
}

/// How an operation ended.
#[derive(Debug)]
enum End {
    Ok(What),
    /// A write may have been done, or may still be. (Of a read there is nothing to know.)
    Unknown(String),
    /// Nothing was done.
    Failed(String),
}

/// Ends the clients when the test ends, by a panic too: their scope waits for them.
#[derive(Debug)]
pub struct StopOnDrop<'a>(pub &'a Recorder);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Recorder {
    pub fn new(haddrs: Vec<String>, keys: u64) -> Self {
        Self {
            number: RECORDERS.fetch_add(1, Ordering::Relaxed),
            haddrs: Mutex::new(haddrs),
            keys,
            began: Instant::now(),
            next_value: AtomicU64::new(1),
            stop: AtomicBool::new(false),
            written_down: Mutex::default(),
            counts: Mutex::default(),
            acknowledged: Mutex::new((Instant::now(), Duration::ZERO)),
        }
    }

    /// From now on a node is at another address.
    pub fn moved(&self, node: usize, haddr: &str) {
        haddr.clone_into(&mut self.haddrs.lock().unwrap()[node]);
    }

    fn haddr(&self, node: usize) -> String {
        self.haddrs.lock().unwrap()[node].clone()
    }

    fn nodes(&self) -> usize {
        self.haddrs.lock().unwrap().len()
    }

    /// Works until it is stopped.
    pub fn work(&self, seed: u64, patience: Duration, pace: Duration) {
        let mut client = Client::new(self, patience);
        let mut rng = StdRng::seed_from_u64(seed);
        while !self.stop.load(Ordering::Relaxed) {
            let node = rng.random_range(0..self.nodes());
            let key = rng.random_range(0..self.keys);
            match rng.random_range(0..10) {
                0..=3 => client.put(node, key),
                4 => client.delete(node, key),
                _ => client.get(node, key, "linearizable"),
            }
            // A rate, not a wait for something.
            std::thread::park_timeout(pace);
        }
    }

    /// Reads every key once at every node.
    pub fn read_all(&self) {
        let mut client = Client::new(self, Duration::from_secs(12));
        for node in 0..self.nodes() {
            (0..self.keys).for_each(|key| client.get(node, key, "linearizable"));
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap().clone()
    }

    /// Longest time without an acknowledged write, at any client; counts anew from here.
    pub fn longest_gap(&self) -> Duration {
        let mut acknowledged = self.acknowledged.lock().unwrap();
        let (last, longest) = *acknowledged;
        *acknowledged = (Instant::now(), Duration::ZERO);
        longest.max(last.elapsed())
    }

    /// Panics with the part of a history that makes no sense.
    pub fn assert_linearizable(&self, what: &str) {
        for (key, ops) in self.written_down.lock().unwrap().iter() {
            if let Err(stuck) = check(ops) {
                let from = stuck.next.iter().map(|op| op.called).min().unwrap_or(0);
                // Some 50 ms before and after, in the order of the calls.
                let near = |op: &&Op| op.called.abs_diff(from) < 50_000_000;
                let mut near: Vec<String> = ops.iter().filter(near).map(|op| format!("{op:?}")).collect();
                near.sort();
                panic!("{what}: key {} is not linearizable: {stuck:#?}\nnear it: {}", self.key(*key), near.join("\n"));
            }
        }
    }

    /// The histories are linearizable, as the checker sees it.
    pub fn is_linearizable(&self) -> bool {
        self.written_down.lock().unwrap().values().all(|ops| check(ops).is_ok())
    }

    fn key(&self, key: u64) -> String {
        format!("r{}-{key}", self.number)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    fn write_down(&self, key: u64, asked: What, called: u64, end: End) {
        let returned = self.now();
        let mut counts = self.counts.lock().unwrap();
        let (op, why) = match end {
            End::Ok(what) => {
                counts.ok += 1;
                if !matches!(what, What::Get(_)) {
                    let mut acknowledged = self.acknowledged.lock().unwrap();
                    let gap = acknowledged.0.elapsed();
                    *acknowledged = (Instant::now(), acknowledged.1.max(gap));
                }
                (Some(Op { what, called, returned: Some(returned) }), None)
            }
            End::Unknown(why) => {
                counts.unknown += 1;
                let is_write = !matches!(asked, What::Get(_));
                (is_write.then_some(Op { what: asked, called, returned: None }), Some(why))
            }
            End::Failed(why) => {
                counts.failed += 1;
                (None, Some(why))
            }
        };
        if let Some(why) = why {
            *counts.why.entry(why).or_default() += 1;
        }
        drop(counts);
        if let Some(op) = op {
            self.written_down.lock().unwrap().entry(key).or_default().push(op);
        }
    }
}

/// One client: one request at a time, on connections that it keeps.
#[derive(Debug)]
pub struct Client<'a> {
    recorder: &'a Recorder,
    patience: Duration,
    conns: Vec<Option<Conn>>,
}

impl<'a> Client<'a> {
    /// `patience` is longer than the server's own (`timeout=`), so that it is mostly the server that says no.
    pub fn new(recorder: &'a Recorder, patience: Duration) -> Self {
        Self { recorder, patience, conns: (0..recorder.nodes()).map(|_| None).collect() }
    }

    /// Writes a value that nobody wrote before.
    pub fn put(&mut self, node: usize, key: u64) {
        let value = self.recorder.next_value.fetch_add(1, Ordering::Relaxed);
        let body = format!(r#"{{"{}":{value}}}"#, self.recorder.key(key));
        self.run(node, key, What::Put(value), "POST", &self.path(""), Some(body.as_bytes()), |_| What::Put(value));
    }

    pub fn delete(&mut self, node: usize, key: u64) {
        let path = self.path(&format!("/{}", self.recorder.key(key)));
        self.run(node, key, What::Delete(None), "DELETE", &path, None, |reply| {
            What::Delete(Some(reply.json()["deleted"] == 1))
        });
    }

    pub fn get(&mut self, node: usize, key: u64, level: &str) {
        let name = self.recorder.key(key);
        let path = format!("{}&level={level}", self.path(&format!("/{}", self.recorder.key(key))));
        self.run(node, key, What::Get(None), "GET", &path, None, |reply| {
            What::Get((reply.status == 200).then(|| reply.json()[&name].as_u64().unwrap()))
        });
    }

    fn path(&self, key: &str) -> String {
        format!("/hraftd/key{key}?timeout={}ms", self.patience.as_millis() * 3 / 4)
    }

    #[allow(clippy::too_many_arguments)]
    fn run(
        &mut self,
        node: usize,
        key: u64,
        asked: What,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        answered: impl FnOnce(&Reply) -> What,
    ) {
        let called = self.recorder.now();
        let end = match self.request(node, method, path, body) {
            Ok(reply) => match (reply.status, method) {
                (200, _) | (404, "GET") => End::Ok(answered(&reply)),
                // The contract: with these, nothing was done.
                (408 | 409 | 503, _) => End::Failed(format!("{method} {}", code(&reply))),
                (504, _) => End::Unknown(format!("{method} {}", code(&reply))),
                _ => panic!("{method} {path}: {}", reply.brief()),
            },
            Err((true, _)) => End::Unknown(format!("{method} without an answer")),
            Err((false, _)) => End::Failed("no connection".to_owned()),
        };
        self.recorder.write_down(key, asked, called, end);
    }

    /// The error says whether anything was sent.
    fn request(&mut self, node: usize, method: &str, path: &str, body: Option<&[u8]>) -> Result<Reply, (bool, String)> {
        let kept = self.conns[node].take();
        let opened = kept.map_or_else(|| Conn::open_within(&self.recorder.haddr(node), self.patience), Ok);
        let mut conn = opened.map_err(|error| (false, error))?;
        let reply = conn.request(method, path, &[], body).map_err(|error| (true, error))?;
        if !reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.conns[node] = Some(conn);
        }
        Ok(reply)
    }
}

fn code(reply: &Reply) -> String {
    format!("{} {}", reply.status, reply.json()["code"].as_str().unwrap_or_default())
}
