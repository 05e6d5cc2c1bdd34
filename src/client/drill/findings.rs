//! What is wrong with a history, each with the operations that prove it. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::check::{self, Op, What};
use super::history::{Event, History, Key, Record, Tenure};

/// So many findings of one kind are told.
const TOLD: usize = 5;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    StaleRead,
    LostWrite,
    NotLinearizable,
    WatchGap,
    WatchRepetition,
    LockOverlap,
    NodeLost,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    /// What it is about.
    pub(super) about: String,
    /// The operations that prove it, in their order.
    pub(super) proof: Vec<String>,
    pub(super) why: String,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::StaleRead => "stale read",
            Self::LostWrite => "lost write",
            Self::NotLinearizable => "not linearizable",
            Self::WatchGap => "watch gap",
            Self::WatchRepetition => "watch repetition",
            Self::LockOverlap => "lock overlap",
            Self::NodeLost => "node lost",
        }
    }
}

/// What is wrong, by its kind; of each kind so much that it can be read.
pub(super) fn of(history: &History) -> Vec<Finding> {
    let mut found = keys(history);
    found.extend(watch(history, &history.events, &history.holes, history.watch_is_whole));
    if let Some(again) = &history.again {
        found.extend(watch(history, again, &[], true));
    }
    found.extend(locks(&history.tenures));
    found.extend(history.lost_nodes.iter().map(|why| Finding {
        kind: Kind::NodeLost,
        about: "a node that was stopped".to_owned(),
        proof: Vec::new(),
        why: why.clone(),
    }));
    found.sort_by_key(|finding| finding.kind);
    let mut told: BTreeMap<Kind, usize> = BTreeMap::new();
    found.retain(|finding| {
        let count = told.entry(finding.kind).or_default();
        *count += 1;
        *count <= TOLD
    });
    found
}

/// The histories of the keys.
fn keys(history: &History) -> Vec<Finding> {
    let mut by_key: BTreeMap<Key, Vec<&Record>> = BTreeMap::new();
    history.records.iter().for_each(|record| by_key.entry(record.key).or_default().push(record));
    let mut found = Vec::new();
    for (key, records) in by_key {
        let ops: Vec<Op> = records.iter().map(|record| record.op).collect();
        if let Err(stuck) = check::check(&ops) {
            let known = explain(history, key, &records);
            found.push(known.unwrap_or_else(|| {
                let next = records.iter().filter(|record| stuck.next.contains(&record.op));
                let mut proof: Vec<String> = next.map(|record| told(history, record)).collect();
                proof.push(format!("the {} operations before leave it at {}", stuck.ordered, shown(stuck.state)));
                Finding {
                    kind: Kind::NotLinearizable,
                    about: format!("key {key}"),
                    proof,
                    why: "One of these had to come next, and none can".to_owned(),
                }
            }));
        }
    }
    found
}

/// The value that an operation found.
fn saw(op: &Op) -> Option<Option<u64>> {
    op.returned?;
    match op.what {
        What::Get(value) => Some(value),
        What::Cas { from, .. } => Some(Some(from)),
        What::Put(_) | What::Delete(_) => None,
    }
}

/// The value that the key has when the operation ends, or had at a moment of it.
fn shows(op: &Op) -> Option<u64> {
    op.what.written().or_else(|| saw(op).flatten())
}

/// The first operation that found what it cannot have found, and one that says so.
fn explain(history: &History, key: Key, records: &[&Record]) -> Option<Finding> {
    let writers: HashMap<u64, &Record> =
        records.iter().filter_map(|record| Some((record.op.what.written()?, *record))).collect();
    let mut reads: Vec<&Record> = records.iter().copied().filter(|record| saw(&record.op).is_some()).collect();
    reads.sort_by_key(|record| record.op.returned);
    for read in reads {
        let about = format!("key {key}");
        let value = saw(&read.op)?;
        let older = match value.map(|value| (value, writers.get(&value))) {
            Some((value, None)) => {
                let why = format!("No client ever wrote {value}");
                return Some(Finding { kind: Kind::NotLinearizable, about, proof: vec![told(history, read)], why });
            }
            Some((_, Some(write))) if Some(write.op.called) > read.op.returned => {
                let proof = vec![told(history, read), told(history, write)];
                let why = "The value was read before it was written".to_owned();
                return Some(Finding { kind: Kind::NotLinearizable, about, proof, why });
            }
            Some((_, Some(write))) => Some(*write),
            None => None,
        };
        // Its write ended before this one began.
        let is_newer = |value: u64| match older {
            None => true,
            Some(older) => {
                writers.get(&value).is_some_and(|newer| older.op.returned.is_some_and(|end| newer.op.called > end))
            }
        };
        let before = records.iter().filter(|other| other.op.returned.is_some_and(|end| end < read.op.called));
        let mut newer = before.filter(|other| shows(&other.op).is_some_and(is_newer));
        // A write says more than a read.
        let all: Vec<&&Record> = newer.by_ref().collect();
        let write = all.iter().rfind(|other| other.op.what.written().is_some());
        let Some(other) = write.or(all.last()) else { continue };
        let shown = shows(&other.op)?;
        let proof = vec![told(history, other), told(history, read)];
        return Some(if is_seen(history, records, shown) {
            let why = "The second began after the first was answered, and found an older value".to_owned();
            Finding { kind: Kind::StaleRead, about, proof, why }
        } else {
            let why = "The write was acknowledged, and nobody ever saw its value".to_owned();
            Finding { kind: Kind::LostWrite, about, proof, why }
        });
    }
    None
}

/// True where an operation or the watch saw the value.
fn is_seen(history: &History, records: &[&Record], value: u64) -> bool {
    records.iter().any(|record| saw(&record.op) == Some(Some(value)))
        || history.events.iter().any(|event| event.value == Some(value))
}

/// What the watch told, and what it should have.
fn watch(history: &History, events: &[Event], holes: &[(u64, u64)], is_whole: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let finding = |kind, about: String, proof, why: &str| Finding { kind, about, proof, why: why.to_owned() };
    let mut values = HashSet::new();
    for (at, event) in events.iter().enumerate() {
        if found.len() > TOLD {
            break;
        }
        let again = event.value.is_some_and(|value| !values.insert((&event.key, value)));
        let before = at.checked_sub(1).and_then(|before| events.get(before));
        let back = before.filter(|before| before.id >= event.id);
        if again || back.is_some() {
            let is_same = |other: &&Event| other.value == event.value && other.key == event.key;
            let first = back.or_else(|| events.iter().find(is_same));
            let proof = first.into_iter().chain([event]).map(event_told).collect();
            let why = "A change was told twice, or not in its order";
            found.push(finding(Kind::WatchRepetition, format!("key {}", event.key), proof, why));
        }
    }
    let told_index: HashMap<(&str, u64), &Event> =
        events.iter().filter_map(|event| Some(((event.key.as_str(), event.value?), event))).collect();
    let writes = history.records.iter().filter_map(|record| Some((record.key.to_string(), record.op.what.written()?)));
    let written: HashSet<(String, u64)> = writes.collect();
    for event in events {
        if event.value.is_some_and(|value| !written.contains(&(event.key.clone(), value))) {
            let why = "The watch told a value that nobody wrote, or whose write was answered with: nothing was done";
            found.push(finding(Kind::NotLinearizable, format!("key {}", event.key), vec![event_told(event)], why));
        }
    }
    if !is_whole {
        let why = "The watch did not come to the last write of the drill, though it was acknowledged";
        let last = events.last().map(event_told).into_iter().collect();
        found.push(finding(Kind::WatchGap, "the end of the watch".to_owned(), last, why));
        return found;
    }
    let before = found.len();
    for record in &history.records {
        if found.len() > before + TOLD {
            break;
        }
        let (Some(value), Some(_)) = (record.op.what.written(), record.op.returned) else { continue };
        let in_hole = |index: u64| holes.iter().any(|(from, until)| (*from..=*until).contains(&index));
        // Without an index a hole may have it.
        if record.index.map_or(!holes.is_empty(), in_hole) {
            continue;
        }
        match told_index.get(&(record.key.to_string().as_str(), value)) {
            None => {
                let mut proof = vec![told(history, record)];
                let after = record.index.and_then(|index| events.iter().find(|event| event.id.0 > index));
                proof.extend(after.map(event_told));
                let why = "The write was acknowledged, and the watch went past it without telling it";
                found.push(finding(Kind::WatchGap, format!("key {}", record.key), proof, why));
            }
            Some(event) if record.index.is_some_and(|index| index != event.id.0) => {
                let proof = vec![told(history, record), event_told(event)];
                let why = "The watch told the write at another index";
                found.push(finding(Kind::WatchGap, format!("key {}", record.key), proof, why));
            }
            Some(_) => {}
        }
    }
    found
}

/// Two that held the lock at once, or a token that did not grow.
fn locks(tenures: &[Tenure]) -> Vec<Finding> {
    let mut by_time = tenures.to_vec();
    by_time.sort_by_key(|tenure| tenure.from);
    let mut found = Vec::new();
    let finding = |one: &Tenure, other: &Tenure, why: &str| Finding {
        kind: Kind::LockOverlap,
        about: "the lock".to_owned(),
        proof: vec![tenure_told(one), tenure_told(other)],
        why: why.to_owned(),
    };
    // The one that lasts longest of those before, and the highest token of those that had ended.
    let (mut longest, mut highest): (Option<Tenure>, u64) = (None, 0);
    for (at, tenure) in by_time.iter().enumerate() {
        if let Some(before) = longest.filter(|before| before.until > tenure.from && before.from < tenure.until) {
            found.push(finding(&before, tenure, "The second was granted while the first still held it"));
        } else if highest >= tenure.token
            && let Some(before) =
                by_time[..at].iter().rfind(|before| before.from < tenure.asked && before.token >= tenure.token)
        {
            found.push(finding(before, tenure, "The fencing token did not grow"));
        }
        highest = highest.max(tenure.token);
        longest = longest.filter(|before| before.until > tenure.until).or(Some(*tenure));
    }
    found
}

fn seconds(at: u64) -> String {
    format!("{:.6} s", at as f64 / 1e9)
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}

/// An operation in words.
fn told(history: &History, record: &Record) -> String {
    let Record { client, node, op, index, .. } = record;
    let did = match op.what {
        What::Put(value) => format!("wrote {value}"),
        What::Cas { from, to } => format!("found {from} and wrote {to}"),
        What::Get(value) => format!("read {}", shown(value)),
        What::Delete(_) => "deleted it".to_owned(),
    };
    let at = history.nodes.get(*node).map_or("a node", String::as_str);
    let end = op.returned.map_or_else(|| "and was not answered".to_owned(), |end| format!("to {}", seconds(end)));
    let index = index.map_or_else(String::new, |index| format!(", at index {index}"));
    format!("client {client} {did} through {at}, from {} {end}{index}", seconds(op.called))
}

fn event_told(event: &Event) -> String {
    let (index, number) = event.id;
    format!("the watch at {} told {} = {}, with the id {index}.{number}", event.node, event.key, shown(event.value))
}

fn tenure_told(tenure: &Tenure) -> String {
    let Tenure { client, token, from, until, .. } = tenure;
    format!("client {client} held it with the token {token}, from {} to {}", seconds(*from), seconds(*until))
}
