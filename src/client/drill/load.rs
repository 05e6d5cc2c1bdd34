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
use super::visiting::visit;
use crate::client::link::{Answer, Ended, Request, key_path, query};
use crate::exit::{EX_NOPERM, Exit};

/// Keys that are in use at one time.
pub(super) const SLOTS: u64 = 8;

/// One operation of so many, or of more, is a write of a key that nobody else writes: what is lost of it stays lost.
pub(super) const ONCE_EVERY: u64 = 3;

/// At most so many keys are written once: all are read in the end, at each node.
pub(super) const MOST_ONCE: u64 = 2_000;

/// After so many operations other keys are used: the history of one is checked as a whole.
pub(super) const GROUP_OPERATIONS: u64 = 4_000;

/// The server gives up before the client does: then it is mostly known what was done.
const SERVER_TIMEOUT: &str = "2s";
const ATTEMPT: Duration = Duration::from_secs(3);

/// In the end each key is read within this time.
const READ_WITHIN: Duration = Duration::from_secs(15);
/// After so long the rest is left unread: well within the time to live of what was written.
const READ_ALL_WITHIN: Duration = Duration::from_secs(300);
const READ_PAUSE: Duration = Duration::from_millis(200);
const READS_AT_A_TIME: usize = 8;

/// The header that has the index of a write whose body has none.
const INDEX: &str = "x-hraftd-index";

/// What a request is to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Put(u64),
    /// Once it was done, the same request is put to another node: it counts once.
    PutTwice(u64),
    /// Only where the key was last changed at this index, where it got the value `from`.
    PutIf {
        from: u64,
        index: u64,
        to: u64,
    },
    /// Only where the key is not there. It is for keys that nobody else writes.
    Create(u64),
    /// Adds to a number that is not there yet. It is for keys that nobody else writes.
    Add(u64),
    Get,
    /// A transaction, by the value.
    Cas {
        from: u64,
        to: u64,
    },
    /// A transaction whose second operation fails: nothing of it is done.
    Broken(u64),
}

/// A value that a key was seen to have, and the index at which it got it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    value: u64,
    index: Option<u64>,
}

/// How many clients make this rate.
pub(super) fn clients(rate: u64) -> usize {
    usize::try_from(rate / 25).unwrap_or_default().clamp(4, 64)
}

/// What a client does while a node is stopped.
enum Part {
    /// What it always does.
    Stays,
    /// It goes to other nodes: there are writes that the stopped one does not see.
    Avoids,
    /// It goes there.
    Visits,
}

impl Part {
    fn of(client: usize) -> Self {
        [Self::Stays, Self::Avoids, Self::Visits].into_iter().nth(client % 3).unwrap_or(Self::Stays)
    }
}

/// Works until the drill ends: one of `count` clients that make this rate.
///
/// # Errors
/// It is not permitted: 77.
pub(super) async fn work(drill: &Drill<'_>, client: usize, count: usize, rate: f64) -> Result<(), Exit> {
    let period = Duration::from_secs(1).mul_f64(count as f64 / rate);
    // They begin one after the other.
    let mut next = Instant::now() + period.mul_f64(client as f64 / count as f64);
    let mut seen: HashMap<Key, Seen> = HashMap::new();
    while !drill.is_over() {
        tokio::select! {
            () = drill.over() => return Ok(()),
            () = sleep_until(next) => {}
        }
        if let (Part::Visits, Some(node)) = (Part::of(client), drill.stopped.get()) {
            visit(drill, client, node, period).await?;
            next = Instant::now();
            continue;
        }
        // What was missed is not made up for.
        next = (next + period).max(Instant::now());
        let (key, mut node) = (drill.next_key(), rand::rng().random_range(0..drill.nodes.len()));
        if let Part::Avoids = Part::of(client)
            && drill.stopped.get() == Some(node)
        {
            node = drill.beside(node);
        }
        if !seen.contains_key(&key) {
            seen.retain(|known, _| known.group + 1 >= key.group);
        }
        let ask = match (rand::rng().random_range(0..20), seen.get(&key)) {
            _ if key.is_written_once() => Ask::Put(drill.next_value()),
            (0..=4, _) => Ask::Put(drill.next_value()),
            (5..=6, _) => Ask::PutTwice(drill.next_value()),
            (7..=9, Some(seen)) => Ask::Cas { from: seen.value, to: drill.next_value() },
            (10..=12, Some(Seen { value, index: Some(index) })) => {
                Ask::PutIf { from: *value, index: *index, to: drill.next_value() }
            }
            (13, _) => Ask::Broken(drill.next_value()),
            _ => Ask::Get,
        };
        let Some(value) = once(drill, client, node, key, ask).await? else { continue };
        if !key.is_written_once() {
            seen.insert(key, value);
        }
        if let Ask::Put(_) = ask {
            // What was acknowledged is seen at once, at any node. It is a request of the rate.
            next += period;
            let value = once(drill, client, drill.beside(node), key, Ask::Get).await?;
            if let Some(value) = value.filter(|_| !key.is_written_once()) {
                seen.insert(key, value);
            }
        }
    }
    Ok(())
}

/// Asks once; the value that the key was seen to have.
pub(super) async fn once(
    drill: &Drill<'_>,
    client: usize,
    node: usize,
    key: Key,
    ask: Ask,
) -> Result<Option<Seen>, Exit> {
    let request = request(drill, key, ask).attempt(ATTEMPT);
    let Some(to) = drill.nodes.get(node) else { return Ok(None) };
    let called = drill.now();
    let answered = drill.cluster.try_at(to, &request).await;
    let returned = drill.now();
    let unknown = match ask {
        Ask::Put(value) | Ask::PutTwice(value) | Ask::Create(value) | Ask::Add(value) => Some(What::Put(value)),
        Ask::Cas { from, to } | Ask::PutIf { from, to, .. } => Some(What::Cas { from, to }),
        Ask::Get | Ask::Broken(_) => None,
    };
    let (what, returned, index) = match answered {
        Ok(answer) => match outcome(drill, key, ask, &answer) {
            Some((what, index)) => (Some(what), Some(returned), index),
            // As it should be.
            None if is_refused_rightly(ask, answer.status) => return Ok(None),
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
    let Some(what) = what else {
        drill.history.borrow_mut().not_done += 1;
        return Ok(None);
    };
    let op = Op { what, called, returned };
    let at = if matches!(what, What::Get(_)) { None } else { index };
    drill.history.borrow_mut().records.push(Record { client, node, key, op, index: at });
    if returned.is_some() && what.written().is_some() {
        drill.last.set(Some(key));
    }
    if let (Ask::PutTwice(_), Some(_)) = (ask, returned)
        && let Some(other) = drill.nodes.get(drill.beside(node))
    {
        // What it is answered says nothing: whether it was done again is seen by those who read and watch.
        let _ = drill.cluster.try_at(other, &request).await;
    }
    let value = match (what, returned) {
        (_, None) => None,
        (What::Get(value), _) => value,
        (other, _) => other.written(),
    };
    Ok(value.map(|value| Seen { value, index }))
}

/// True where nothing was done, and nothing should have been.
fn is_refused_rightly(ask: Ask, status: StatusCode) -> bool {
    match ask {
        Ask::PutIf { .. } => status == StatusCode::PRECONDITION_FAILED,
        Ask::Broken(_) => status.is_client_error(),
        _ => false,
    }
}

fn request(drill: &Drill<'_>, key: Key, ask: Ask) -> Request {
    let (name, timeout) = (drill.name(key), Some(SERVER_TIMEOUT.to_owned()));
    let put = |value: u64, cas: Option<u64>, timeout| {
        let (ttl, cas) = (Some(drill.ttl.clone()), cas.map(|cas| cas.to_string()));
        let parameters = [("json", Some(String::new())), ("ttl", ttl), ("cas", cas), ("timeout", timeout)];
        (query(&key_path(&name), &parameters), value.to_string())
    };
    match ask {
        Ask::Put(value) => {
            let (path, body) = put(value, None, timeout);
            Request::plain(Method::PUT, path, body)
        }
        Ask::PutTwice(value) => {
            let (path, body) = put(value, None, timeout);
            Request::write(Method::PUT, path, body)
        }
        Ask::PutIf { index, to, .. } => {
            let (path, body) = put(to, Some(index), timeout);
            Request::plain(Method::PUT, path, body)
        }
        Ask::Create(value) => {
            let (path, body) = put(value, Some(0), timeout);
            Request::plain(Method::PUT, path, body)
        }
        Ask::Add(value) => {
            let parameters =
                [("incr", Some(value.to_string())), ("ttl", Some(drill.ttl.clone())), ("timeout", timeout)];
            Request::plain(Method::POST, query(&key_path(&name), &parameters), "")
        }
        Ask::Broken(value) => {
            // The first mark is a text, which nothing can be added to.
            let mark = format!("{}{}", drill.prefix, super::BEGIN);
            let body =
                json!({"then": [{"set": {name.as_str(): value}, "ttl": drill.ttl}, {"incr": {mark.as_str(): 1}}]});
            let request = Request::plain(Method::POST, query("/hraftd/txn", &[("timeout", timeout)]), body.to_string());
            request.header("content-type", "application/json")
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
    if let (Ask::Create(value), StatusCode::PRECONDITION_FAILED) = (ask, answer.status) {
        // It was there, and nobody else writes it: this request found what it had written itself.
        return Some((What::Get(Some(value)), None));
    }
    if !answer.status.is_success() {
        return None;
    }
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let index = said["index"].as_u64();
    match ask {
        Ask::Put(value) | Ask::PutTwice(value) | Ask::Create(value) | Ask::Broken(value) => {
            Some((What::Put(value), index))
        }
        // What is read in the end says whether it was added once.
        Ask::Add(value) => Some((What::Put(value), answer.header(INDEX).and_then(|index| index.parse().ok()))),
        Ask::PutIf { from, to, .. } => Some((What::Cas { from, to }, index)),
        Ask::Get => {
            let tag = answer.header("etag").and_then(|tag| tag.trim_matches('"').parse().ok());
            Some((What::Get(Some(number(&said[&name]))), tag))
        }
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
            if began.elapsed() > READ_ALL_WITHIN {
                drill.history.borrow_mut().unread.push(key);
                return Ok(());
            }
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
