//! Every subset of a directory's files, deleted or put back from an earlier moment: each start ends in one of three ways. The
//! node is as before, which it may be only with all that it remembered; it comes back as a new member; or it stops and says
//! why.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::storage::RaftLogReader as _;
use openraft::storage::RaftLogStorage as _;
use tokio::time::{Instant, sleep};

use super::clients::{Ask, Client, Shared};
use super::cluster::{Cluster, Down};
use super::net::Net;
use super::process::Settings;
use super::run::simulate;
use crate::node::RaftOptions;
use crate::raft_types::Role;
use crate::raft_types::alias::{LogId, Vote};
use crate::storage::disk::{Disk as _, MemDisk};
use crate::storage::log::{AtOnce, LogOptions, LogStore};
use crate::watch::HistoryLimits;

/// The node whose directory it is.
const PORT: u16 = 3;

/// Within this a start has ended in one of the ways.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// What was done to the files of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Deleted,
    PutBack,
}

const FATES: [Fate; 3] = [Fate::Kept, Fate::Deleted, Fate::PutBack];

/// The kinds of files, in the order of their fates.
const KINDS: [&str; 5] = ["identity", "first log", "other logs", "last log", "snapshot"];

type Fates = [Fate; KINDS.len()];

fn name(fates: Fates) -> String {
    let of = |wanted: Fate, what: &str| {
        let kinds: Vec<_> =
            KINDS.iter().zip(fates).filter(|(_, fate)| *fate == wanted).map(|(kind, _)| *kind).collect();
        (!kinds.is_empty()).then(|| format!("{} {what}", kinds.join(", ")))
    };
    let parts: Vec<_> = [of(Fate::Deleted, "deleted"), of(Fate::PutBack, "put back")].into_iter().flatten().collect();
    if parts.is_empty() { "all kept".to_owned() } else { parts.join("; ") }
}

/// The files of a kind.
fn files(disk: &MemDisk, kind: &str) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.sort_unstable();
    let mut logs: Vec<String> = names.iter().filter(|name| name.starts_with("log-")).cloned().collect();
    match kind {
        "identity" => names.into_iter().filter(|name| name == "identity").collect(),
        "first log" => logs.into_iter().take(1).collect(),
        "last log" => logs.split_off(1.min(logs.len())).pop().into_iter().collect(),
        "other logs" => logs.drain(1.min(logs.len())..logs.len().saturating_sub(1).max(1).min(logs.len())).collect(),
        "snapshot" => names.into_iter().filter(|name| name.starts_with("snapshot")).collect(),
        other => unreachable!("{other}"),
    }
}

fn meddled(now: &MemDisk, earlier: &MemDisk, fates: Fates) -> MemDisk {
    let after = MemDisk::new();
    for (kind, fate) in KINDS.into_iter().zip(fates) {
        let from = match fate {
            Fate::Kept => now,
            Fate::PutBack => earlier,
            Fate::Deleted => continue,
        };
        for file in files(from, kind) {
            after.put(&file, from.bytes(&file).unwrap());
        }
    }
    after
}

/// All that a voter must not forget: its vote, and the end of its log. `None` where it cannot be read.
async fn memory(disk: &MemDisk) -> Option<(Option<Vote>, Option<LogId>)> {
    let copy = MemDisk::new();
    for file in disk.list().unwrap() {
        copy.put(&file, disk.bytes(&file).unwrap());
    }
    let options = LogOptions { prezero: false, scheduler: Some(Arc::new(AtOnce)), ..LogOptions::default() };
    let mut log = LogStore::open(Arc::new(copy), options).ok()?;
    let vote = log.get_log_reader().await.read_vote().await.ok()?;
    Some((vote, log.last_log_id()))
}

fn settings() -> Settings {
    Settings {
        mixed: false,
        raft: RaftOptions {
            heartbeat_ms: 50,
            election_min_ms: 200,
            election_max_ms: 400,
            snapshot_threshold: 60,
            snapshot_bytes: 1 << 20,
        },
        segment_bytes: 4_096,
        cache_bytes: 1 << 16,
        history: HistoryLimits { events: 1_000, bytes: 1 << 20 },
        streams: true,
        drift_ppm: 0,
        quota: 0,
        closed: false,
    }
}

async fn write(client: &mut Client, from: u64, count: u64) {
    for number in from..from + count {
        let path = format!("/hraftd/key/subset{number}");
        let body = format!("\"{}\"", "x".repeat(150));
        client.ask(1, &Ask::new("PUT", path, body), Duration::from_secs(3)).await;
    }
}

/// What is wrong with the end of this start; nothing where it is one of the three.
async fn start(fates: Fates) -> String {
    let net = Net::default();
    let mut cluster = Cluster::new(net.clone(), settings());
    for port in 1..=3 {
        cluster.add(port, &[1, 2, 3], Role::Voter);
    }
    cluster.settle().await;
    let shared = Shared::new(net, vec![1, 2, 3], false);
    let mut client = Client::new(&shared, "writer".to_owned());
    write(&mut client, 0, 90).await;
    let earlier = cluster.process(PORT).unwrap().disk.copy();
    write(&mut client, 90, 100).await;
    cluster.agree().await;
    let before = cluster.raft_id(PORT);
    cluster.down(PORT, Down::Killed);
    let now = cluster.disk_copy(PORT);
    assert!(!files(&now, "last log").is_empty() && files(&now, "snapshot").len() == 1, "{:?}", now.list());
    let after = meddled(&now, &earlier, fates);
    let is_whole = memory(&after).await == memory(&now).await;
    cluster.replace_disk(PORT, after);
    cluster.meddle(PORT);
    write(&mut client, 190, 5).await;
    cluster.up(PORT);
    let deadline = Instant::now() + ENDS_WITHIN;
    loop {
        sleep(Duration::from_millis(50)).await;
        if let Some(Err(exit)) = cluster.process(PORT).and_then(super::process::Process::end) {
            let says_why = exit.err.is_some_and(|line| !line.is_empty());
            return if says_why { String::new() } else { format!("ended with {} and no word", exit.code) };
        }
        let id = cluster.raft_id(PORT);
        let is_member = |port: u16| cluster.node(port).is_some_and(|node| id.is_some_and(|id| node.has_member(id)));
        let is_ready = cluster.node(PORT).is_some_and(|node| node.ready().is_ok());
        if is_ready && is_member(1) && is_member(2) {
            let forgot = id == before && !is_whole;
            return if forgot { "serves as before, and has forgotten".to_owned() } else { String::new() };
        }
        if Instant::now() >= deadline {
            let why = cluster.node(PORT).map_or("it does not serve".to_owned(), |node| format!("{:?}", node.ready()));
            return format!("neither serves nor stops: {why}");
        }
    }
}

fn all_fates() -> Vec<Fates> {
    let mut all = vec![[Fate::Kept; KINDS.len()]];
    for kind in 0..KINDS.len() {
        all = all
            .into_iter()
            .flat_map(|fates| {
                FATES.map(|fate| {
                    let mut next = fates;
                    next[kind] = fate;
                    next
                })
            })
            .collect();
    }
    all
}

/// True where all that is not kept goes the same way: a subset is deleted, or a subset is put back.
fn is_one_act(fates: &Fates) -> bool {
    !(fates.contains(&Fate::Deleted) && fates.contains(&Fate::PutBack))
}

/// What is wrong with each of these, all processors at work.
fn wrong(cases: &[Fates]) -> BTreeMap<String, String> {
    let (next, seen) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(fates) = cases.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
                    let (found, told) = std::sync::mpsc::channel();
                    let ran = simulate((1, 0), async move {
                        let _ = found.send(start(fates).await);
                    });
                    let wrong = match ran {
                        Ok(()) => told.recv().unwrap(),
                        Err(why) => why.split(": ").skip(1).collect::<Vec<_>>().join(": "),
                    };
                    if !wrong.is_empty() {
                        seen.lock().unwrap().insert(name(fates), wrong);
                    }
                }
            });
        }
    });
    seen.into_inner().unwrap()
}

/// Each takes up to a second: `cargo test` has a part of them, and CI another share.
fn share(cases: Vec<Fates>, plain: usize, full: usize) -> Vec<Fates> {
    let is_full = std::env::var_os("HRAFTD_TESTS").is_some_and(|value| value == "full");
    let every = cases.len().div_ceil(if is_full { full } else { plain });
    // Another part where a seed says so.
    let first = super::options().first as usize % every;
    cases.into_iter().skip(first).step_by(every).collect()
}

#[test]
fn each_subset_of_a_directory_is_as_before_or_a_new_member_or_stops() {
    let seen = wrong(&share(all_fates().into_iter().filter(is_one_act).collect(), 11, 63));
    assert!(seen.is_empty(), "starts that end in none of the three ways: {seen:#?}");
}

/// Some files deleted and others put back: 180 cases, of which a seed chooses.
#[test]
fn each_mixed_subset_of_a_directory_is_as_before_or_a_new_member_or_stops() {
    let seen = wrong(&share(all_fates().into_iter().filter(|fates| !is_one_act(fates)).collect(), 12, 40));
    assert!(seen.is_empty(), "starts that end in none of the three ways: {seen:#?}");
}
