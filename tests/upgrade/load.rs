//! Clients that must not notice an upgrade: writers, readers, watchers, and holders of a lock.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::cluster::Cluster;
use crate::support::http::{Conn, PATIENCE, Reply};
use crate::support::slowest::Slowest;
use crate::support::wait::{SETTLE, check, eventually};
use crate::support::watch::Watch;

pub const WRITERS: usize = 32;
const READERS: usize = 8;
const WATCHERS: usize = 3;
const HOLDERS: usize = 3;
/// Some hundred requests a second in all: a load, but no overload of two cores that build and test beside it.
const PACE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Load {
    haddrs: Vec<String>,
    /// Told to stop, or not ready again yet: connections to it may break, and no client moves to it.
    pub away: Vec<AtomicBool>,
    stop: AtomicBool,
    /// How often clients were told to connect anew: by TLS, with another token.
    moves: AtomicU64,
    /// How many have done so since they were told last.
    moved: AtomicUsize,
    /// Number of the last acknowledged write of each writer.
    pub acked: Vec<AtomicU64>,
    /// Who is between a grant of the lock and its release.
    inside: AtomicU64,
    pub holds: AtomicU64,
    /// Watchers that have not ended: they wait for changes.
    watchers: AtomicUsize,
    pub seen: AtomicU64,
    pub slowest: Mutex<Slowest>,
    pub broken: AtomicU64,
    failed: Mutex<Vec<String>>,
}

/// Ends the clients when the test ends, by a panic too: the scope waits for them.
pub struct StopOnDrop<'a>(pub &'a Load);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Load {
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            haddrs: cluster.nodes.iter().map(|node| node.haddr.clone()).collect(),
            away: cluster.nodes.iter().map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            moves: AtomicU64::new(0),
            moved: AtomicUsize::new(0),
            acked: (0..WRITERS).map(|_| AtomicU64::new(0)).collect(),
            inside: AtomicU64::new(0),
            holds: AtomicU64::new(0),
            watchers: AtomicUsize::new(WATCHERS),
            seen: AtomicU64::new(0),
            slowest: Mutex::default(),
            broken: AtomicU64::new(0),
            failed: Mutex::default(),
        }
    }

    /// Starts all of them.
    pub fn begin<'scope, 'env>(&'env self, scope: &'scope std::thread::Scope<'scope, 'env>) {
        for number in 0..WRITERS {
            scope.spawn(move || self.write(number));
        }
        for number in 0..READERS {
            scope.spawn(move || self.read(number));
        }
        for number in 0..WATCHERS {
            scope.spawn(move || {
                self.watch(number);
                self.watchers.fetch_sub(1, Ordering::SeqCst);
            });
        }
        for number in 0..HOLDERS {
            scope.spawn(move || self.hold(number));
        }
    }

    /// Has all clients connect anew, as [`secure`](crate::support::secure::secure) says by now; returns once nobody waits for
    /// an answer of before.
    pub fn move_clients(&self) {
        self.moved.store(0, Ordering::SeqCst);
        self.moves.fetch_add(1, Ordering::SeqCst);
        let all = WRITERS + READERS + WATCHERS + HOLDERS;
        eventually(SETTLE, "all clients have moved", || {
            let moved = self.moved.load(Ordering::SeqCst);
            check(moved == all, || format!("{moved} of {all}"))
        });
    }

    /// What went wrong for clients.
    pub fn failures(&self) -> Vec<String> {
        self.failed.lock().unwrap().clone()
    }

    /// How many failures there were so far.
    pub fn failure_count(&self) -> usize {
        self.failed.lock().unwrap().len()
    }

    /// Takes back the failures from this one on that are 504: the leader was gone, and the outcome is unknown. How many.
    pub fn forgive_timeouts(&self, from: usize) -> usize {
        let mut failed = self.failed.lock().unwrap();
        let mut later = failed.split_off(from);
        let before = later.len();
        later.retain(|what| !what.contains(": 504 "));
        let forgiven = before - later.len();
        failed.append(&mut later);
        forgiven
    }

    fn fail(&self, what: String) {
        self.failed.lock().unwrap().push(what);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn node_for(&self, rng: &mut StdRng) -> usize {
        let mut node = rng.random_range(0..self.haddrs.len());
        while self.away[node].load(Ordering::SeqCst) {
            node = (node + 1) % self.haddrs.len();
        }
        node
    }

    /// A new key each time, stored once, however often it is sent.
    fn write(&self, writer: usize) {
        let mut client = Client::new(self, writer);
        for number in 1.. {
            let body = format!(r#"{{"w{writer}-{number}":{number}}}"#);
            let name = format!("w{writer}-{number}");
            let headers = [("Idempotency-Key", name.as_str())];
            if client.call_until("POST", "/hraftd/key", &headers, Some(body.as_bytes()), &[200]).is_some() {
                self.acked[writer].store(number, Ordering::SeqCst);
            }
            if !self.goes_on() && (writer >= WATCHERS || self.watchers.load(Ordering::SeqCst) == 0) {
                return;
            }
            // A rate, not a wait for something.
            std::thread::park_timeout(PACE);
        }
    }

    /// The last write that was acknowledged before the read began must be there.
    fn read(&self, reader: usize) {
        let mut client = Client::new(self, WRITERS + reader);
        while self.goes_on() {
            let number = self.acked[reader].load(Ordering::SeqCst);
            if number > 0 {
                client.call("GET", &format!("/hraftd/key/w{reader}-{number}"), &[], None, &[200]);
            }
            std::thread::park_timeout(PACE);
        }
    }

    /// One writer's keys, each once and in order, over streams of many nodes.
    fn watch(&self, writer: usize) {
        let mut rng = StdRng::seed_from_u64(writer as u64);
        let (mut next, mut last_id) = (None::<u64>, None::<String>);
        let query = format!("prefix=w{writer}-");
        let mut moves = 0;
        while self.goes_on() {
            if self.moves.load(Ordering::SeqCst) != moves {
                moves += 1;
                self.moved.fetch_add(1, Ordering::SeqCst);
            }
            let node = self.node_for(&mut rng);
            let resumed = last_id.as_deref().map(|id| ("Last-Event-ID", id));
            let headers: Vec<(&str, &str)> = resumed.into_iter().collect();
            let opened = Watch::open_with(&self.haddrs[node], &query, &headers, PATIENCE);
            let mut stream = match opened {
                Ok(stream) => stream,
                Err(_) if self.away[node].load(Ordering::SeqCst) => continue,
                Err(error) => return self.fail(format!("watch at node {node}: {error:?}")),
            };
            while let Ok(Some(event)) = stream.next() {
                let number = event.data["value"].as_u64().filter(|_| event.name == "set");
                if number.is_none() || next.is_some_and(|next| number != Some(next)) {
                    return self.fail(format!("watch at node {node}: {event:?}, and write {next:?} is due"));
                }
                next = number.map(|number| number + 1);
                self.seen.fetch_add(1, Ordering::Relaxed);
                if !self.goes_on() {
                    return;
                }
                if self.moves.load(Ordering::SeqCst) != moves {
                    break;
                }
            }
            last_id = stream.last_id.or(last_id);
        }
    }

    /// One lock for all: nobody holds it while another does.
    fn hold(&self, number: usize) {
        let mut client = Client::new(self, WRITERS + READERS + number);
        for turn in 0_u64.. {
            let asked = format!("{number}-{turn}");
            let headers = [("Idempotency-Key", asked.as_str())];
            let granted = client.call_until("POST", "/hraftd/lock/l?ttl=60s", &headers, None, &[200, 409]);
            if let Some(granted) = granted.filter(|granted| granted.status == 200) {
                if self.inside.fetch_add(1, Ordering::SeqCst) > 0 {
                    self.fail("two hold the lock".to_owned());
                }
                self.holds.fetch_add(1, Ordering::Relaxed);
                std::thread::park_timeout(PACE);
                let token = granted.json()["token"].as_u64().unwrap();
                self.inside.fetch_sub(1, Ordering::SeqCst);
                let released = format!("{asked}-done");
                let headers = [("Idempotency-Key", released.as_str())];
                client.call_until("DELETE", &format!("/hraftd/lock/l?token={token}"), &headers, None, &[200]);
            }
            if !self.goes_on() {
                return;
            }
            std::thread::park_timeout(PACE);
        }
    }
}

struct Client<'a> {
    load: &'a Load,
    rng: StdRng,
    node: usize,
    conn: Option<Conn>,
    /// The last time that it was told to connect anew and did.
    moves: u64,
}

impl<'a> Client<'a> {
    fn new(load: &'a Load, number: usize) -> Self {
        Self { load, rng: StdRng::seed_from_u64(number as u64), node: number % load.haddrs.len(), conn: None, moves: 0 }
    }

    /// For a living node.
    fn leave(&mut self) {
        self.conn = None;
        self.node = self.load.node_for(&mut self.rng);
    }

    /// As [`call`](Self::call), again and again until there is such an answer, or the end: for what counts once.
    fn call_until(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        good: &[u16],
    ) -> Option<Reply> {
        loop {
            let answer = self.call(method, path, headers, body, good);
            if answer.is_some() || !self.load.goes_on() {
                return answer;
            }
            std::thread::park_timeout(PACE);
        }
    }

    /// Tries other nodes as long as connections break at one that is going; the answer, if it is one of these.
    fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        good: &[u16],
    ) -> Option<Reply> {
        let sent = Instant::now();
        loop {
            // Where it is until its connection breaks: nobody tells it that the node is going. Sometimes elsewhere, so
            // that nodes that came back have clients.
            if self.rng.random_range(0..20) == 0 {
                self.leave();
            }
            let moves = self.load.moves.load(Ordering::SeqCst);
            if self.moves != moves {
                (self.moves, self.conn) = (moves, None);
                self.load.moved.fetch_add(1, Ordering::SeqCst);
            }
            let addr = &self.load.haddrs[self.node];
            let conn = self.conn.take().map_or_else(|| Conn::open_within(addr, PATIENCE), Ok);
            let answer = conn.and_then(|mut conn| Ok((conn.request(method, path, headers, body)?, conn)));
            let failed = match answer {
                Ok((reply, conn)) => {
                    let closes = reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                    self.conn = (!closes).then_some(conn);
                    if good.contains(&reply.status) {
                        self.load.slowest.lock().unwrap().answered(sent);
                        return Some(reply);
                    }
                    reply.brief()
                }
                Err(_) if self.load.away[self.node].load(Ordering::SeqCst) => {
                    self.load.broken.fetch_add(1, Ordering::Relaxed);
                    self.leave();
                    continue;
                }
                Err(error) => error,
            };
            let away: Vec<bool> = self.load.away.iter().map(|away| away.load(Ordering::SeqCst)).collect();
            self.load.fail(format!("{method} {path} at node {}, away {away:?}: {failed}", self.node));
            return None;
        }
    }
}
