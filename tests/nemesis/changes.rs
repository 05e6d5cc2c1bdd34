//! Watchers under faults: one that goes on with `Last-Event-ID`, at any node, sees every acknowledged change once and in
//! order, or is told `compacted`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::clients::Clients;
use crate::support::watch::{NotOpen, Watch};

const KEYS: u64 = 6;
const PACE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(3);
/// The last one that is written.
pub const LAST: &str = "w/last";

/// What writers and watchers share.
#[derive(Debug, Default)]
pub struct Changes {
    values: AtomicU64,
    /// Index, key and value of each acknowledged write.
    pub acked: Mutex<Vec<(u64, String, u64)>>,
}

/// What a watcher saw without a gap: all after one index.
#[derive(Debug, Default)]
pub struct Run {
    after: u64,
    events: Vec<((u64, u64), String, Value)>,
}

impl Changes {
    pub fn write(&self, haddrs: &[String], stop: &AtomicBool, seed: u64) {
        let (mut rng, mut clients) = (StdRng::seed_from_u64(seed), Clients::new(haddrs, PATIENCE));
        while !stop.load(Ordering::Relaxed) {
            let (key, value) =
                (format!("w/{}", rng.random_range(0..KEYS)), self.values.fetch_add(1, Ordering::Relaxed));
            let body = format!(r#"{{"{key}":{value}}}"#);
            let reply = clients.ask(&mut rng, "POST", "/hraftd/key?timeout=2s", &[], Some(&body));
            if let Some(reply) = reply.filter(|reply| reply.status == 200) {
                self.acked.lock().unwrap().push((reply.json()["index"].as_u64().unwrap(), key, value));
            }
            std::thread::park_timeout(PACE);
        }
    }
}

/// Watches until it has seen the last change, from node to node.
pub fn watch(haddrs: &[String], seed: u64) -> Vec<Run> {
    let (mut rng, mut runs, mut last_id) = (StdRng::seed_from_u64(seed), Vec::new(), None::<String>);
    loop {
        let id = last_id.clone().unwrap_or_default();
        let headers = [("Last-Event-ID", id.as_str())];
        // A header without a value is none.
        let headers = if last_id.is_some() { &headers[..] } else { &[] };
        let addr = &haddrs[rng.random_range(0..haddrs.len())];
        let mut watch = match Watch::open_with(addr, "prefix=w/&initial&timeout=3s", headers, PATIENCE) {
            Ok(watch) => watch,
            Err(NotOpen::Refused(reply)) => {
                assert!([410, 503, 504].contains(&reply.status), "{}", reply.brief());
                if reply.status == 410 {
                    last_id = None;
                }
                std::thread::park_timeout(Duration::from_millis(50));
                continue;
            }
            Err(NotOpen::Failed(_)) => {
                std::thread::park_timeout(Duration::from_millis(50));
                continue;
            }
        };
        let anew = last_id.is_none();
        let mut has_last = false;
        for _ in 0..=rng.random_range(0..300) {
            let Ok(Some(event)) = watch.next() else { break };
            match (event.name.as_str(), &event.id) {
                ("compacted", _) => {
                    last_id = None;
                    watch.last_id = None;
                    break;
                }
                ("synced", _) => {
                    assert!(anew, "a state, though it goes on from {id}");
                    runs.push(Run { after: event.index().unwrap(), events: Vec::new() });
                }
                // Of the state; it counts once that is whole.
                (_, None) => has_last |= event.data["key"] == LAST,
                (_, Some(id)) => {
                    let (index, n) = id.split_once('.').unwrap();
                    let at = (index.parse().unwrap(), n.parse().unwrap());
                    let key = event.data["key"].as_str().unwrap().to_owned();
                    has_last |= key == LAST;
                    runs.last_mut().unwrap().events.push((at, key, event.data["value"].clone()));
                }
            }
            if watch.last_id.is_some() {
                last_id.clone_from(&watch.last_id);
                if has_last {
                    return runs;
                }
            }
        }
        if watch.last_id.is_some() {
            last_id = watch.last_id;
        }
    }
}

/// All watchers saw the same, and each all that was acknowledged while it watched. How often one was told `compacted`.
pub fn check(changes: &Changes, watchers: &[Vec<Run>]) -> usize {
    let mut acked = changes.acked.lock().unwrap().clone();
    acked.sort();
    let mut all: BTreeMap<(u64, u64), (&str, &Value)> = BTreeMap::new();
    for run in watchers.iter().flatten() {
        let mut last = (run.after, u64::MAX);
        for (at, key, value) in &run.events {
            assert!(*at > last, "{at:?} after {last:?}");
            last = *at;
            let said = *all.entry(*at).or_insert((key, value));
            assert_eq!(said, (key.as_str(), value), "two watchers were told different things of {at:?}");
        }
        let begin = acked.partition_point(|(index, ..)| *index <= run.after);
        let mut events = run.events.iter();
        for (index, key, value) in acked[begin..].iter().take_while(|(index, ..)| *index <= last.0) {
            let seen = events.find(|((at, _), ..)| at >= index);
            let wanted = ((*index, 1), key.clone(), Value::from(*value));
            assert_eq!(seen, Some(&wanted), "a watcher that began after {} missed a change", run.after);
        }
    }
    watchers.iter().map(|runs| runs.len() - 1).sum()
}
