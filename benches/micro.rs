//! The cost of a write inside one node, part by part: `cargo bench --bench micro`. Arguments filter parts by name, as in
//! `-- apply`.
//!
//! Only [`set`] and [`entry`] know how a command and a log entry are made.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use openraft::EntryPayload;
use openraft::alias::CommittedLeaderIdOf;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;

use hraftd::command::{Action, Command, Grant, Grants, Key, Need, Principal, Stamped};
use hraftd::kv::KvStore;
use hraftd::raft_types::TypeConfig;
use hraftd::raft_types::alias::{LogEntry, LogId};
use hraftd::secret::{Generated, Token};
use hraftd::storage::disk::{Disk, RealDisk};
use hraftd::storage::log::{LogOptions, LogStore};

const VALUE_BYTES: [usize; 2] = [100, 10_000];
const KEY_COUNTS: [usize; 2] = [1_000, 1_000_000];
/// Divan takes 100 by default, which are few where a sample is one call.
const SAMPLE_COUNT: u32 = 1_000;

fn main() {
    divan::main();
}

fn key(number: usize) -> Key {
    Key::from(format!("key-{number:08}"))
}

fn value(size: usize) -> Bytes {
    Bytes::from(format!("\"{}\"", "v".repeat(size - 2)))
}

/// The command that a POST of one key proposes.
fn set(number: usize, value: &Bytes) -> Command {
    let pairs = vec![(key(number), value.clone())];
    Action::Set { pairs, ttl_ms: None, conditions: Vec::new() }.into()
}

fn entry(index: u64, command: Command) -> LogEntry {
    let log_id = LogId::new(CommittedLeaderIdOf::<TypeConfig>::new(1), index);
    LogEntry { log_id, payload: EntryPayload::Normal(command.into()) }
}

/// Returns another key's number each time, in no order.
fn numbers(keys: usize) -> impl FnMut() -> usize {
    let mut number = 0;
    move || {
        number = (number + 7_919) % keys;
        number
    }
}

fn filled(keys: usize) -> KvStore {
    let mut store = KvStore::new();
    let value = value(100);
    for number in 0..keys {
        store.apply(number as u64 + 1, &set(number, &value), &mut Vec::new());
    }
    store
}

/// Overwrites one of `keys` keys.
#[divan::bench(args = KEY_COUNTS, sample_count = SAMPLE_COUNT)]
fn apply(bencher: Bencher, keys: usize) {
    let (mut store, mut next, value) = (filled(keys), numbers(keys), value(100));
    let mut events = Vec::new();
    bencher.counter(ItemsCount::new(1u32)).with_inputs(|| set(next(), &value)).bench_local_values(|command| {
        events.clear();
        store.apply(2_000_000, &command, &mut events)
    });
}

/// Does the same while a snapshot of the map is held, as it is while one is written.
#[divan::bench(args = [1_000_000], sample_count = SAMPLE_COUNT)]
fn apply_beside_snapshot(bencher: Bencher, keys: usize) {
    let (mut store, mut next, value) = (filled(keys), numbers(keys), value(100));
    let mut events = Vec::new();
    let _snapshot = store.clone();
    bencher.counter(ItemsCount::new(1u32)).with_inputs(|| set(next(), &value)).bench_local_values(|command| {
        events.clear();
        store.apply(2_000_000, &command, &mut events)
    });
}

#[divan::bench(args = KEY_COUNTS, sample_count = SAMPLE_COUNT)]
fn read(bencher: Bencher, keys: usize) {
    let (store, mut next) = (filled(keys), numbers(keys));
    bencher.counter(ItemsCount::new(1u32)).with_inputs(|| key(next())).bench_local_refs(|key| store.get(key));
}

fn by_root(action: Action) -> Command {
    Command::By(Principal::Root, Stamped { stamp_ms: 0, retry: None, action })
}

/// From the text of a token to what it may do, among so many tokens: all that a request costs more for being asked who it is of,
/// but the lock of the state. Its 64 grants are looked through to the last.
#[divan::bench(args = [1, 100_000])]
fn authorise(bencher: Bencher, tokens: usize) {
    let mut store = KvStore::new();
    let on = Action::Authentication { on: true, anonymous: None, first: true };
    store.apply(1, &by_root(on), &mut Vec::new());
    let mut texts = (0..63).map(|number| format!("read:other{number}/")).collect::<Vec<_>>();
    texts.push("read:app/".to_owned());
    let grants = Grants(texts.iter().map(|text| Grant::parse(text).unwrap()).collect());
    let mut shown = String::new();
    for number in 0..tokens {
        let token = Token::generate().unwrap();
        let (id, hash, grants) =
            (token.id().0, token.digest(), if number == 0 { grants.clone() } else { Grants::default() });
        let name = format!("t{number}").as_str().into();
        let put = Action::PutToken { name, id, hash, grants, ttl_ms: None, certificate: None };
        store.apply(number as u64 + 2, &by_root(put), &mut Vec::new());
        if number == 0 {
            shown = token.text().to_string();
        }
    }
    bencher.bench(|| {
        let token = Token::parse(black_box(&shown)).unwrap();
        let (held, _) = store.auth().identify(token.id().0, &token.digest(), 0).unwrap();
        assert!(held.grants.allow(Need::Read(black_box("app/x"))));
    });
}

/// Encodes an entry as it is in the log and on the wire.
#[divan::bench(args = VALUE_BYTES)]
fn encode(bencher: Bencher, size: usize) {
    let entry = entry(1, set(1, &value(size)));
    bencher.bench(|| postcard::to_extend(black_box(&entry), Vec::with_capacity(size + 64)).unwrap());
}

#[divan::bench(args = VALUE_BYTES)]
fn decode(bencher: Bencher, size: usize) {
    let bytes = postcard::to_stdvec(&entry(1, set(1, &value(size)))).unwrap();
    bencher.bench(|| postcard::from_bytes::<LogEntry>(black_box(&bytes)).unwrap());
}

/// Appends `entries` entries at once, and waits until they are on the disk.
#[divan::bench(args = [1, 16, 256], sample_count = SAMPLE_COUNT)]
fn append(bencher: Bencher, entries: usize) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).unwrap());
    let mut log = LogStore::open(disk, LogOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (value, mut index) = (value(100), 0);
    bencher
        .counter(ItemsCount::new(entries))
        .with_inputs(|| {
            index += entries as u64;
            (index - entries as u64..index).map(|index| entry(index, set(index as usize, &value))).collect::<Vec<_>>()
        })
        .bench_local_values(|entries| {
            let (sender, flushed) = TypeConfig::oneshot();
            runtime.block_on(async {
                log.append(entries, IOFlushed::signal(sender)).await.unwrap();
                flushed.await.unwrap().unwrap();
            });
        });
    log.close().unwrap();
}
