//! Watchers under leader kills: one that goes on at another node with `Last-Event-ID` sees every change once and in order,
//! or is told that it cannot; compared with the log.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::nemesis::from_env;
use crate::support::cluster::Cluster;
use crate::support::extent::extent;
use crate::support::http;
use crate::support::lab::Lab;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};
use crate::support::watch::{Event, NotOpen, Watch};

const WRITERS: u64 = 4;
const WATCHERS: u64 = 8;
/// Leaders that are killed, in the plain run and in the full one.
const KILLS: (u64, u64) = (3, 5);
const KEYS: u64 = 6;
/// Longer than any election; a watcher then tries elsewhere.
const PATIENCE: Duration = Duration::from_secs(5);
/// Some hundred writes a second.
const PACE: Duration = Duration::from_millis(10);
const LAST_KEY: &str = "w/last";

/// What writers and watchers share.
struct Load {
    haddrs: Vec<String>,
    stop: AtomicBool,
    values: AtomicU64,
    /// Index, method, and the body or the key, of each acknowledged write.
    acked: Mutex<Vec<(u64, String)>>,
}

impl Load {
    fn write(&self, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        while !self.stop.load(Ordering::Relaxed) {
            let addr = &self.haddrs[rng.random_range(0..self.haddrs.len())];
            let (value, key) = (self.values.fetch_add(1, Ordering::Relaxed), rng.random_range(0..KEYS));
            let timeout = "timeout=2s";
            let (method, path, body) = match rng.random_range(0..4) {
                0 => ("DELETE", format!("/hraftd/key/w/{key}?{timeout}"), None),
                // What is not watched counts in the numbers of an entry's events, too.
                1 => (
                    "POST",
                    format!("/hraftd/key?{timeout}"),
                    Some(format!(r#"{{"a":0,"w/{key}":{value},"w/x":[{value}]}}"#)),
                ),
                _ => ("POST", format!("/hraftd/key?{timeout}"), Some(format!(r#"{{"w/{key}":{value}}}"#))),
            };
            if let Ok(reply) = http::call(addr, method, &path, body.as_deref().map(str::as_bytes))
                && reply.status == 200
            {
                let what = body.unwrap_or_else(|| format!("w/{key}"));
                self.acked.lock().unwrap().push((reply.json()["index"].as_u64().unwrap(), what));
            }
            // A rate, not a wait for something.
            std::thread::park_timeout(PACE);
        }
    }
}

/// Ends the writers when the test ends, by a panic too: the scope waits for them.
struct StopOnDrop<'a>(&'a Load);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// What a watcher saw without a gap.
#[derive(Default)]
struct Run {
    /// The state it began with, and the position of that.
    initial: Option<(BTreeMap<String, Value>, u64)>,
    events: Vec<Event>,
}

/// Watches until it has seen the last key, from node to node.
struct Watcher<'a> {
    load: &'a Load,
    rng: StdRng,
    last_id: Option<String>,
    runs: Vec<Run>,
    connections: u64,
}

impl Watcher<'_> {
    fn watch(load: &Load, seed: u64) -> Watcher<'_> {
        let mut watcher = Watcher {
            load,
            rng: StdRng::seed_from_u64(seed),
            last_id: Some("0".to_owned()),
            runs: vec![Run::default()],
            connections: 0,
        };
        while !watcher.connection() {
            // Some while away, so that a short history goes on without it.
            let away = watcher.rng.random_range(0..4) * watcher.rng.random_range(0..200);
            std::thread::park_timeout(Duration::from_millis(away));
        }
        watcher
    }

    /// One connection; whether the last key was seen.
    fn connection(&mut self) -> bool {
        let addr = &self.load.haddrs[self.rng.random_range(0..self.load.haddrs.len())];
        // As a browser: always the same address, with what it saw last.
        let id = self.last_id.clone().unwrap_or_default();
        let headers = [("Last-Event-ID", id.as_str()), ("Accept", self.accept())];
        let mut watch = match Watch::open_with(addr, "prefix=w/&initial&timeout=3s", &headers, PATIENCE) {
            Ok(watch) => watch,
            Err(NotOpen::Refused(reply)) if reply.status == 410 => {
                assert_eq!(reply.json()["code"], "compacted");
                self.anew();
                return false;
            }
            Err(NotOpen::Refused(reply)) => {
                assert!([503, 504].contains(&reply.status), "{}", reply.brief());
                return false;
            }
            Err(NotOpen::Failed(_)) => return false,
        };
        self.connections += 1;
        if self.last_id.is_none() {
            *self.runs.last_mut().unwrap() = Run::default();
        }
        let mut state = BTreeMap::new();
        let most = self.rng.random_range(0..200);
        for _ in 0..=most {
            let Ok(Some(event)) = watch.next() else { break };
            self.last_id = watch.last_id.clone().or(self.last_id.take());
            let run = self.runs.last_mut().unwrap();
            match (event.name.as_str(), &event.id) {
                ("compacted", _) => {
                    self.anew();
                    return false;
                }
                ("synced", _) => run.initial = Some((std::mem::take(&mut state), event.index().unwrap())),
                (_, None) => {
                    state.insert(event.data["key"].as_str().unwrap().to_owned(), event.data["value"].clone());
                }
                _ => {
                    let is_last = event.data["key"] == LAST_KEY;
                    run.events.push(event);
                    if is_last {
                        return true;
                    }
                }
            }
        }
        self.last_id = watch.last_id.clone().or(self.last_id.take());
        // A state that already has it needs no event.
        self.runs.last().unwrap().initial.as_ref().is_some_and(|(state, _)| state.contains_key(LAST_KEY))
    }

    fn accept(&mut self) -> &'static str {
        ["text/event-stream", "application/x-ndjson"][self.rng.random_range(0..2)]
    }

    fn anew(&mut self) {
        self.last_id = None;
        self.runs.push(Run::default());
    }
}

/// The events that the log of a stopped node makes.
fn of_the_log(cluster: &Cluster, number: usize) -> Vec<Event> {
    let mut inspect = Command::new(env!("CARGO_BIN_EXE_hraftd"));
    let output = inspect.arg("inspect").arg(&cluster.nodes[number].rdir).arg("--entries").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut events, mut state) = (Vec::new(), BTreeMap::new());
    let log = String::from_utf8(output.stdout).unwrap();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let index = entry["index"].as_u64().unwrap();
        let id = |n: usize| Some(format!("{index}.{n}"));
        match entry["kind"].as_str().unwrap() {
            "set" => {
                for (n, (key, value)) in entry["keys"].as_object().unwrap().iter().enumerate() {
                    state.insert(key.clone(), value.clone());
                    let data = serde_json::json!({"key": key, "value": value, "index": index});
                    events.push(Event { name: "set".to_owned(), id: id(n + 1), data });
                }
            }
            "delete" => {
                let key = entry["key"].as_str().unwrap();
                if state.remove(key).is_some() {
                    let data = serde_json::json!({"key": key, "index": index});
                    events.push(Event { name: "delete".to_owned(), id: id(1), data });
                }
            }
            "blank" | "membership" | "tick" | "mark" | "raise" => {}
            other => panic!("{other}: {line}"),
        }
    }
    assert!(log.starts_with("{\"index\":0,"), "the log was compacted: {:?}", log.lines().next());
    events.retain(|event| event.data["key"].as_str().unwrap().starts_with("w/"));
    events
}

fn assert_seen(run: &Run, log: &[Event], is_last: bool, what: &str) {
    let after = run.initial.as_ref().map_or(0, |(_, index)| *index);
    if let Some((state, index)) = &run.initial {
        let mut wanted = BTreeMap::new();
        for event in log.iter().take_while(|event| event.index() <= Some(*index)) {
            let key = event.data["key"].as_str().unwrap().to_owned();
            match event.name.as_str() {
                "set" => drop(wanted.insert(key, event.data["value"].clone())),
                _ => drop(wanted.remove(&key)),
            }
        }
        assert_eq!(*state, wanted, "{what}: the state at {index}");
    }
    let wanted: Vec<&Event> = log.iter().filter(|event| event.index() > Some(after)).collect();
    let wrong = run.events.iter().zip(&wanted).position(|(got, wanted)| got != *wanted);
    assert_eq!(
        wrong,
        None,
        "{what}: {:?} instead of {:?}",
        wrong.map(|at| &run.events[at]),
        wrong.map(|at| wanted[at])
    );
    assert!(run.events.len() <= wanted.len(), "{what}: more than there was");
    assert!(!is_last || run.events.len() == wanted.len(), "{what}: {} of {}", run.events.len(), wanted.len());
}

/// How often watchers were told that they missed something.
fn watch_under_leader_kills(args: &[&str], seed: u64) -> usize {
    let kills = extent(KILLS.0, KILLS.1);
    let mut cluster = Cluster::start_with(Lab::busy(), 3, args);
    let load = Load {
        haddrs: cluster.nodes.iter().map(|node| node.haddr.clone()).collect(),
        stop: AtomicBool::new(false),
        values: AtomicU64::new(1),
        acked: Mutex::default(),
    };
    let watchers: Vec<Watcher<'_>> = std::thread::scope(|scope| {
        let stop = StopOnDrop(&load);
        let load = &load;
        let writers: Vec<_> = (0..WRITERS).map(|n| scope.spawn(move || load.write(seed << 8 | n))).collect();
        let watchers: Vec<_> =
            (0..WATCHERS).map(|n| scope.spawn(move || Watcher::watch(load, seed << 16 | n))).collect();
        let acked = || load.acked.lock().unwrap().len();
        for _ in 0..kills {
            let before = acked();
            eventually(SETTLE, "writes go on", || check(acked() > before + 100, || acked().to_string()));
            let leader = cluster.leader();
            cluster.nodes[leader].kill();
            cluster.nodes[leader].start();
            cluster.settled();
        }
        drop(stop);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let index = eventually(SETTLE, "a last write", || cluster.nodes[0].set(LAST_KEY, "1"));
        load.acked.lock().unwrap().push((index, format!(r#"{{"{LAST_KEY}":1}}"#)));
        watchers.into_iter().map(|watcher| watcher.join().unwrap()).collect()
    });
    let number = cluster.follower();
    cluster.nodes[number].stop();
    let mut log = of_the_log(&cluster, number);
    // It may have been written again where the first attempt was not acknowledged.
    let end = log.iter().position(|event| event.data["key"] == LAST_KEY).unwrap();
    log.truncate(end + 1);

    let acked = load.acked.lock().unwrap();
    for (index, what) in acked.iter() {
        let made = log.iter().filter(|event| event.index() == Some(*index));
        let is_set = what.starts_with('{');
        let keys: Vec<&str> = made.map(|event| event.data["key"].as_str().unwrap()).collect();
        // A delete that found nothing is no event.
        assert!(*index > log[end].index().unwrap() || !is_set || !keys.is_empty(), "{index} {what} is not in the log");
        assert!(keys.iter().all(|key| what.contains(key)), "{index} is {keys:?}, not {what}");
    }
    let mut missed = 0;
    for (n, watcher) in watchers.iter().enumerate() {
        missed += watcher.runs.len() - 1;
        for (at, run) in watcher.runs.iter().enumerate() {
            assert_seen(run, &log, at + 1 == watcher.runs.len(), &format!("seed {seed}, watcher {n}, run {at}"));
        }
    }
    let connections: u64 = watchers.iter().map(|watcher| watcher.connections).sum();
    say(&format!(
        "watch: {kills} leaders killed, {} writes acknowledged, {} events, {WATCHERS} watchers on {connections} connections, \
         {missed} times compacted",
        acked.len(),
        log.len()
    ));
    assert!(connections > 3 * WATCHERS, "hardly anybody changed the node");
    missed
}

/// With all of history at every node nothing is missed.
#[test]
fn watchers_see_all_under_leader_kills() {
    assert_eq!(watch_under_leader_kills(&[], from_env("HRAFTD_SEED", 1)), 0);
}

/// With hardly any, they are told, and begin anew.
#[test]
fn watchers_with_a_short_history_are_told() {
    assert!(
        watch_under_leader_kills(&["--watch-history", "20"], from_env("HRAFTD_SEED", 2)) > 0,
        "nobody ever missed anything"
    );
}
