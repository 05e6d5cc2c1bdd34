//! Three machines with a node each, whose network, disk and clock can be troubled; Raft goes through a proxy.

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};

use crate::proxy::Proxy;
use crate::secrets::Secrets;
use crate::support::http::{Conn, Reply};
use crate::support::lab::Lab;
use crate::support::machine::{Machine, lan};
use crate::support::shell::{Background, Shell};
use crate::support::wait::{SETTLE, check, eventually};

pub const NODES: usize = 3;
/// Where the proxy listens for each node's Raft port.
const PROXY: &str = "192.168.0.254";
/// A data directory's file system. The log may have 256 MiB, but a snapshot comes after `SNAPSHOT_AFTER` entries.
const DISK: &str = "256m";
const SNAPSHOT_AFTER: u64 = 2_000;

/// Fields are dropped in order.
pub struct World {
    pub nodes: Vec<Place>,
    pub proxy: Proxy,
    _outside: Shell,
    library: PathBuf,
    list: String,
    /// Where it is closed.
    pub secrets: Option<Secrets>,
    _lab: Lab,
}

/// A node's place, and its process while it runs.
pub struct Place {
    pub number: usize,
    pub process: Option<Background>,
    started: Instant,
    /// What this test shows, which is good at a node that knows nothing else.
    root: Option<String>,
    machine: Machine,
    dir: PathBuf,
    clock: PathBuf,
}

impl World {
    pub fn start(library: PathBuf, closed: bool) -> Self {
        let lab = Lab::alone();
        let (outside, machines) = lan(&lab);
        let ways: Vec<_> = (0..NODES).map(|n| (radv(n), format!("{}:12000", machines[n].addr))).collect();
        let proxy = Proxy::start(&ways);
        let list: Vec<String> = machines.iter().map(|machine| format!("{}:11000", machine.addr)).collect();
        let secrets = closed.then(|| Secrets::make(lab.path(), list.clone()));
        let root = secrets.as_ref().map(|secrets| secrets.root().to_owned());
        let nodes = machines
            .into_iter()
            .enumerate()
            .map(|(number, machine)| Place::new(&lab, number, machine, root.clone()))
            .collect();
        let mut world = Self { nodes, proxy, _outside: outside, library, list: list.join(","), secrets, _lab: lab };
        (0..NODES).for_each(|number| world.start_node(number));
        world.settled();
        if let Some(secrets) = &mut world.secrets {
            secrets.make_token();
        }
        world
    }

    pub fn start_node(&mut self, number: usize) {
        let (list, library) = (&self.list, self.library.display());
        let secrets = self.secrets.as_ref().map(|secrets| secrets.args(number)).unwrap_or_default();
        let place = &mut self.nodes[number];
        assert!(place.process.is_none());
        let (dir, clock) = (place.dir.display(), place.clock.display());
        let line = format!(
            "env LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={clock} FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1 \
             FAKETIME_DONT_FAKE_MONOTONIC=1 hraftd --haddr {0}:11000 --hadv {0}:11000 --raddr {0}:12000 --radv {1} --rjoin {list} \
             --rdir {dir}/data --snapshot-threshold {SNAPSHOT_AFTER} --idempotency-window 2m{secrets}",
            place.machine.addr,
            radv(number)
        );
        place.started = Instant::now();
        place.process = Some(place.machine.start("hraftd", &line));
    }

    pub fn haddrs(&self) -> Vec<String> {
        self.nodes.iter().map(Place::haddr).collect()
    }

    /// Number of the node that says it leads, where just one does.
    pub fn leader(&self) -> Option<usize> {
        let leads = |place: &&Place| place.state().is_ok_and(|state| state == "Leader");
        let mut leaders = self.nodes.iter().filter(leads).map(|place| place.number);
        leaders.next().filter(|_| leaders.next().is_none())
    }

    /// Waits until all nodes serve, as voters.
    pub fn settled(&self) {
        for place in &self.nodes {
            eventually(SETTLE * 2, &format!("node {} serves among three voters", place.number), || {
                place.get("/hraftd/raft/ready")?.ok()?;
                let stats = place.get("/hraftd/raft/stats")?.ok()?.json();
                let servers = stats["latest_configuration"].as_array().map_or(&[][..], Vec::as_slice);
                let voters = servers.iter().filter(|server| server["suffrage"] == "Voter").count();
                check(voters == NODES && servers.len() == NODES, || stats.to_string())
            });
        }
    }
}

fn radv(number: usize) -> String {
    format!("{PROXY}:{}", 12001 + number)
}

impl Place {
    fn new(lab: &Lab, number: usize, machine: Machine, root: Option<String>) -> Self {
        let dir = lab.path().join(format!("disk{number}"));
        std::fs::create_dir(&dir).unwrap();
        machine.run(&format!("mount -t tmpfs -o size={DISK} tmpfs {}", dir.display()));
        machine.run(
            "nft add table inet t && nft add chain inet t in \"{ type filter hook input priority 0; }\" && \
             nft add chain inet t out \"{ type filter hook output priority 0; }\"",
        );
        let (started, clock) = (Instant::now(), lab.path().join(format!("clock{number}")));
        let place = Self { number, process: None, started, root, machine, dir, clock };
        place.set_clock(0);
        place
    }

    /// Whether it runs, with the secrets that its file has since then.
    pub fn has_secrets(&self, since: Instant, logged: &str) -> bool {
        let has = |process: &Background| self.started > since || process.log_text().contains(logged);
        self.process.as_ref().is_some_and(has)
    }

    pub fn haddr(&self) -> String {
        format!("{}:11000", self.machine.addr)
    }

    pub fn id(&self) -> String {
        format!("{},{}", self.haddr(), radv(self.number))
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().process.pid()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// How it ended, where it did by itself.
    pub fn ended(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        let status = process.process.exited()?;
        let log = process.log_text();
        let end: Vec<&str> = log.lines().rev().take(5).collect();
        self.process = None;
        Some(format!("{status}: {}", end.into_iter().rev().collect::<Vec<_>>().join("\n")))
    }

    /// A rule for what it is sent (`in`) or sends (`out`).
    pub fn rule(&self, chain: &str, rule: &str) {
        self.machine.run(&format!("nft add rule inet t {chain} \"{rule}\""));
    }

    /// What it sends to other nodes is lost.
    pub fn mute(&self) {
        self.rule("out", "tcp dport 12001-12003 counter drop");
        self.rule("out", "tcp sport 12000 counter drop");
    }

    /// What other nodes send is lost.
    pub fn deafen(&self) {
        self.rule("in", "tcp sport 12001-12003 counter drop");
        self.rule("in", "tcp dport 12000 counter drop");
    }

    /// It does not reach this one.
    pub fn cut_from(&self, other: usize) {
        self.rule("out", &format!("tcp dport {} counter drop", 12001 + other));
    }

    /// Of a hundred packets, of clients too, so many are lost.
    pub fn lose(&self, percent: u64) {
        self.rule("in", &format!("numgen random mod 100 < {percent} counter drop"));
    }

    /// How many packets were dropped.
    pub fn heal(&self) -> u64 {
        let rules =
            self.machine.run("nft list table inet t && nft flush chain inet t in && nft flush chain inet t out");
        let counted = rules.split("counter packets ").skip(1);
        counted.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Sets the wall clock, at once.
    pub fn set_clock(&self, hours: i64) {
        let renamed = self.clock.with_extension("new");
        std::fs::write(&renamed, format!("{hours:+}h\n")).unwrap();
        std::fs::rename(&renamed, &self.clock).unwrap();
    }

    /// Waits until its answers are dated some hours from now, 2 to 22.
    pub fn wait_jumped(&self, hours: u64) {
        eventually(SETTLE, &format!("the clock of node {} is {hours} hours ahead", self.number), || {
            let reply = self.get("/hraftd/raft/state")?;
            let date = reply.header("Date").ok_or("no Date")?;
            let its: u64 = date.split([' ', ':']).nth(4).and_then(|hour| hour.parse().ok()).ok_or(date)?;
            let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3600;
            let ahead = (its + 24 - ours % 24) % 24;
            check(ahead.abs_diff(hours) <= 1, || date.to_owned())
        });
    }

    /// Takes all the space that is left.
    pub fn fill_disk(&self) {
        self.machine.run(&format!("cat /dev/zero >{}/filler 2>/dev/null; true", self.dir.display()));
    }

    pub fn free_disk(&self) {
        std::fs::remove_file(self.dir.join("filler")).unwrap();
    }

    /// What the directory takes, in KiB.
    pub fn disk_kib(&self) -> u64 {
        let files = std::fs::read_dir(self.dir.join("data")).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|file| file.len() >> 10).sum()
    }

    pub fn get(&self, path: &str) -> Result<Reply, String> {
        self.call("GET", path, None)
    }

    pub fn call(&self, method: &str, path: &str, body: Option<&str>) -> Result<Reply, String> {
        self.request(method, path, body.map(str::as_bytes))
    }

    pub fn put(&self, path: &str, body: &[u8]) -> Result<Reply, String> {
        self.request("PUT", path, Some(body))
    }

    fn request(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Reply, String> {
        let mut conn = Conn::open_within(&self.haddr(), std::time::Duration::from_secs(2))?;
        let bearer = self.root.as_ref().map(|root| format!("Bearer {root}"));
        let shown = bearer.as_deref().map(|bearer| ("Authorization", bearer));
        let headers: Vec<_> = [("Connection", "close")].into_iter().chain(shown).collect();
        conn.request(method, path, &headers, body)
    }

    pub fn state(&self) -> Result<String, String> {
        let reply = self.get("/hraftd/raft/state")?.ok()?;
        Ok(reply.json()["msg"].as_str().unwrap_or_default().to_owned())
    }
}
