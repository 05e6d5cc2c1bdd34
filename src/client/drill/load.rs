//! The clients of a drill: each has one request under way, at any node, and writes down what it was answered.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use hyper::{Method, StatusCode};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::Drill;
use super::check::{Op, What};
use super::history::{Key, Record};
use crate::client::link::{Answer, Ended, Request, key_path, query};
use crate::config::Endpoint;
use crate::exit::{EX_NOPERM, Exit};

/// Keys that are in use at one time.
pub(super) const SLOTS: u64 = 8;

/// After so many operations other keys are used: the history of one is checked as a whole.
pub(super) const GROUP_OPERATIONS: u64 = 4_000;

/// The server gives up before the client does: then it is mostly known what was done.
const SERVER_TIMEOUT: &str = "2s";
const ATTEMPT: Duration = Duration::from_secs(3);

/// In the end each key is read within this time.
const READ_WITHIN: Duration = Duration::from_secs(15);
const READ_PAUSE: Duration = Duration::from_millis(200);
const READS_AT_A_TIME: usize = 8;

/// What a request is to do.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Put(u64),
    Get,
    Cas { from: u64, to: u64 },
}

/// How many clients make this rate.
pub(super) fn clients(rate: u64) -> usize {
    usize::try_from(rate / 25).unwrap_or_default().clamp(4, 64)
}

/// Works until the drill ends.
///
/// # Errors
/// It is not permitted: 77.
pub(super) async fn work(drill: &Drill<'_>, client: usize, rate: u64) -> Result<(), Exit> {
    let count = clients(rate);
    let period = Duration::from_secs(1).mul_f64(count as f64 / rate as f64);
    // They begin one after the other.
    let mut next = Instant::now() + period.mul_f64(client as f64 / count as f64);
    let mut seen: HashMap<Key, u64> = HashMap::new();
    while !drill.is_over() {
        tokio::select! {
            () = drill.over() => return Ok(()),
            () = sleep_until(next) => {}
        }
        // What was missed is not made up for.
        next = (next + period).max(Instant::now());
        let (key, node) = (drill.next_key(), rand::rng().random_range(0..drill.nodes.len()));
        if !seen.contains_key(&key) {
            seen.retain(|known, _| known.group + 1 >= key.group);
        }
        let ask = match (rand::rng().random_range(0..10), seen.get(&key)) {
            (0..=3, _) => Ask::Put(drill.next_value()),
            (4..=5, Some(from)) => Ask::Cas { from: *from, to: drill.next_value() },
            _ => Ask::Get,
        };
        if let Some(value) = once(drill, client, node, key, ask).await? {
            seen.insert(key, value);
        }
    }
    Ok(())
}

/// Asks once; the value that the key was seen to have.
async fn once(drill: &Drill<'_>, client: usize, node: usize, key: Key, ask: Ask) -> Result<Option<u64>, Exit> {
    let request = request(drill, key, ask).attempt(ATTEMPT);
    let Some(to) = drill.nodes.get(node) else { return Ok(None) };
    let called = drill.now();
    let answered = drill.cluster.try_at(to, &request).await;
    let returned = drill.now();
    let unknown = match ask {
        Ask::Put(value) => Some(What::Put(value)),
        Ask::Cas { from, to } => Some(What::Cas { from, to }),
        Ask::Get => None,
    };
    let (what, returned, index) = match answered {
        Ok(answer) => match outcome(drill, key, ask, &answer) {
            Some((what, index)) => (Some(what), Some(returned), index),
            // A fault of the server: nobody knows.
            None if answer.status == StatusCode::INTERNAL_SERVER_ERROR => (unknown, None, None),
            None => {
                drill.history.borrow_mut().last_failure = answer.refused().err;
                (None, None, None)
            }
        },
        Err(Ended::Unknown(why)) => {
            drill.history.borrow_mut().last_failure = Some(why);
            (unknown, None, None)
        }
        Err(Ended::NotDone(why)) => {
            drill.history.borrow_mut().last_failure = Some(why);
            (None, None, None)
        }
        Err(Ended::Final(exit)) if exit.code == EX_NOPERM => return Err(exit),
        Err(Ended::Final(_)) => (unknown, None, None),
    };
    let mut history = drill.history.borrow_mut();
    let Some(what) = what else {
        history.not_done += 1;
        return Ok(None);
    };
    let op = Op { what, called, returned };
    history.records.push(Record { client, node, key, op, index });
    Ok(match (what, returned) {
        (_, None) => None,
        (What::Get(value), _) => value,
        (other, _) => other.written(),
    })
}

fn request(drill: &Drill<'_>, key: Key, ask: Ask) -> Request {
    let (name, timeout) = (drill.name(key), Some(SERVER_TIMEOUT.to_owned()));
    match ask {
        Ask::Put(value) => {
            let parameters = [("json", Some(String::new())), ("ttl", Some(drill.ttl.clone())), ("timeout", timeout)];
            Request::plain(Method::PUT, query(&key_path(&name), &parameters), value.to_string())
        }
        Ask::Get => {
            let level = Some("linearizable".to_owned());
            Request::get(query(&key_path(&name), &[("level", level), ("timeout", timeout)]))
        }
        Ask::Cas { from, to } => {
            let body = json!({
                "if": [{"key": name, "value": from}],
                "then": [{"set": {name.as_str(): to}, "ttl": drill.ttl}],
                "else": [{"get": name}],
            });
            let request = Request::plain(Method::POST, query("/hraftd/txn", &[("timeout", timeout)]), body.to_string());
            request.header("content-type", "application/json")
        }
    }
}

/// What was done, and the index of its entry; `None`: nothing was, or it is not said.
fn outcome(drill: &Drill<'_>, key: Key, ask: Ask, answer: &Answer) -> Option<(What, Option<u64>)> {
    let name = drill.name(key);
    // What is no number of the drill's own is a value that nobody wrote.
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    if matches!(ask, Ask::Get) && answer.status == StatusCode::NOT_FOUND {
        return Some((What::Get(None), None));
    }
    if !answer.status.is_success() {
        return None;
    }
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let index = said["index"].as_u64();
    match ask {
        Ask::Put(value) => Some((What::Put(value), index)),
        Ask::Get => Some((What::Get(Some(number(&said[&name]))), None)),
        Ask::Cas { from, to } if said["succeeded"] == true => Some((What::Cas { from, to }, index)),
        // It is the read of what it found.
        Ask::Cas { .. } => Some((What::Get(said["results"][0].get(&name).map(number)), None)),
    }
}

/// Reads each key at each node, once the load is over.
///
/// # Errors
/// It is not permitted: 77.
pub(super) async fn read_all(drill: &Drill<'_>, client: usize) -> Result<(), Exit> {
    let mut keys: Vec<Key> = drill.history.borrow().records.iter().map(|record| record.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let began = Instant::now();
    let read = async |key: Key| {
        loop {
            let before = drill.history.borrow().records.len();
            for node in 0..drill.nodes.len() {
                once(drill, client, node, key, Ask::Get).await?;
            }
            let is_read = drill.history.borrow().records[before..].iter().any(|record| record.key == key);
            if is_read || drill.is_interrupted() {
                return Ok(());
            }
            if began.elapsed() > READ_WITHIN {
                drill.history.borrow_mut().unread.push(key);
                return Ok(());
            }
            sleep(READ_PAUSE).await;
        }
    };
    let mut all = stream::iter(keys.into_iter().map(read)).buffer_unordered(READS_AT_A_TIME);
    while let Some(done) = all.next().await {
        done?;
    }
    Ok(())
}

/// The nodes that the cluster tells, beside those that are known.
pub(super) fn add_members(nodes: &mut Vec<Endpoint>, told: impl Iterator<Item = Endpoint>) {
    for node in told {
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
}
