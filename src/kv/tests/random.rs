//! Thousands of random commands over few keys: the state is what the model says, on every replica.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::model::Model;
use crate::command::*;
use crate::formats::Format;
use crate::kv::{Change, Event, KvStore, Limits};
use crate::raft_types::alias::{LogId, SnapshotMeta};
use crate::raft_types::{ClusterId, TypeConfig};
use crate::storage::disk::MemDisk;
use crate::storage::{ClusterHandle, SnapshotStore};

const KEYS: [&str; 8] =
    ["a", "a/1", "a/2", "b", "é", "a/long enough for an allocation of its own/1", "b/1", "a/long enough as well/é"];
const PREFIXES: [&str; 7] = ["", "a", "a/", "a/1", "a/long", "b/1", "none"];
const VALUES: [&str; 10] = [
    "1",
    "-2",
    " 3\n",
    "1.0",
    "\"4\"",
    "\"text\"",
    "[1,2]",
    "[1, 2 ]",
    r#"{"a":1,"b":"é"}"#,
    r#"{ "b":"\u00e9","a":1}"#,
];
const LOCKS: [&str; 3] = ["l", "m", "a lock of a name that is rather long"];

/// Few and small, so that both are met.
const LIMITS: Limits = Limits { kept: 5, kept_bytes: 250 };

struct Random {
    rng: StdRng,
    /// Over some hundred keys instead of a few.
    many: bool,
    now: u64,
    index: u64,
}

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }

    fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }

    fn of(&mut self, all: &[&str]) -> Key {
        (*all.choose(&mut self.rng).unwrap()).into()
    }

    fn key(&mut self) -> Key {
        if self.many && !self.one_in(4) { format!("a/{:03}", self.below(300)).into() } else { self.of(&KEYS) }
    }

    fn json(&mut self) -> bytes::Bytes {
        if self.one_in(20) { i64::MAX.to_string().into() } else { self.of(&VALUES).to_string().into() }
    }

    fn ttl(&mut self) -> Option<u64> {
        self.one_in(2).then(|| 1 + self.below(1_500))
    }

    fn by(&mut self) -> i64 {
        [1, -1, 7, i64::MAX, i64::MIN][usize::try_from(self.below(5)).unwrap()]
    }

    /// The index of a recent entry; sometimes of none.
    fn recent(&mut self) -> u64 {
        self.index.saturating_sub(self.below(40))
    }

    fn modified(&mut self, model: &Model) -> u64 {
        let key = self.key();
        match model.keys.get(&key) {
            Some(entry) if !self.one_in(4) => entry.record().modify_index(),
            _ => self.recent(),
        }
    }

    fn conditions(&mut self, model: &Model) -> Vec<Condition> {
        let many = if self.one_in(3) { 1 + self.below(2) } else { 0 };
        let one = |random: &mut Self| match random.below(4) {
            0 => Condition::Exists,
            1 => Condition::Missing,
            2 => Condition::ModifiedBy(vec![random.modified(model), random.modified(model), random.modified(model)]),
            _ => Condition::NotModifiedBy(vec![random.modified(model)]),
        };
        (0..many).map(|_| one(self)).collect()
    }

    fn pairs(&mut self) -> Vec<(Key, bytes::Bytes)> {
        let mut keys: Vec<&str> = KEYS.to_vec();
        let many = 1 + self.below(3);
        if self.many {
            let first = self.below(300);
            return (0..10 * many).map(|n| (format!("a/{:03}", first + n).into(), self.json())).collect();
        }
        (0..many)
            .map(|_| {
                let at = self.rng.random_range(0..keys.len());
                (keys.swap_remove(at).into(), self.json())
            })
            .collect()
    }

    fn test(&mut self, model: &Model) -> Test {
        let key = self.key();
        let known = model.keys.get(&key).map(|entry| entry.record());
        let marks = known.as_ref().map_or((0, 0, 0), |r| (r.modify_index(), r.create_index(), r.version()));
        let off = u64::from(self.one_in(5));
        let of = match self.below(6) {
            0 => TestOf::Exists(known.is_some() ^ (off == 1)),
            1 => TestOf::ModifyIndex(marks.0 + off),
            2 => TestOf::CreateIndex(marks.1 + off),
            3 => TestOf::Version(marks.2 + off),
            4 => TestOf::Value(self.json()),
            _ => known.map_or(TestOf::Exists(false), |record| TestOf::Value(record.json().into_owned().into())),
        };
        Test { key, of }
    }

    fn op(&mut self) -> Op {
        match self.below(8) {
            0..=2 => Op::Set { pairs: self.pairs(), ttl_ms: self.ttl() },
            3 | 4 => Op::Incr { pairs: vec![(self.key(), self.by()), (self.key(), 1)], ttl_ms: self.ttl() },
            5 => Op::Delete(self.key()),
            6 => Op::DeletePrefix(self.of(&PREFIXES)),
            _ => Op::Get(self.key()),
        }
    }

    fn ops(&mut self) -> Vec<Op> {
        let many = self.below(5);
        (0..many).map(|_| self.op()).collect()
    }

    /// A lock, and one of those who hold it or wait for it; sometimes nobody.
    fn claim(&mut self, model: &Model) -> (Key, u64, u64) {
        let name = self.of(&LOCKS);
        let recent = self.recent();
        let token = model.view(&name).map_or(recent, |view| if recent.is_multiple_of(4) { recent } else { view.token });
        let ticket = model.claims.choose(&mut self.rng).map_or(recent, |claim| claim.ticket);
        (name, token, ticket)
    }

    fn action(&mut self, model: &Model) -> Action {
        match self.below(23) {
            0..=2 => {
                let conditions = self.conditions(model);
                let mut pairs = self.pairs();
                pairs.truncate(if conditions.is_empty() { 30 } else { 1 });
                Action::Set { pairs, ttl_ms: self.ttl(), conditions }
            }
            3..=5 => {
                let is_bytes = self.one_in(3);
                let data = if is_bytes { b"\xff\0 ".as_slice().into() } else { self.json() };
                let content_type = self.one_in(3).then(|| self.of(&["", "image/png", "application/ld+json"]));
                let (key, value) = (self.key(), Value { data, is_bytes, content_type });
                Action::Put { key, value, ttl_ms: self.ttl(), conditions: self.conditions(model) }
            }
            6 => Action::Delete { key: self.key(), conditions: self.conditions(model) },
            7 => Action::DeletePrefix { prefix: self.of(&PREFIXES) },
            8 | 9 => {
                let (key, by) = (self.key(), self.by());
                Action::Incr { key, by, ttl_ms: self.ttl(), conditions: self.conditions(model) }
            }
            10 => {
                let (key, ttl_ms) = (self.key(), 1 + self.below(1_500));
                Action::Touch { key, ttl_ms, conditions: self.conditions(model) }
            }
            11..=13 => {
                let many = self.below(3);
                let tests = (0..many).map(|_| self.test(model)).collect();
                Action::Txn(Txn { tests, then: self.ops(), otherwise: self.ops() })
            }
            14..=16 => {
                let wait_ms = if self.one_in(3) { 0 } else { 1 + self.below(2_000) };
                let body = self.one_in(2).then(|| self.json());
                Action::Acquire { name: self.of(&LOCKS), ttl_ms: 1 + self.below(1_000), body, wait_ms }
            }
            17 => {
                let (name, token, _) = self.claim(model);
                Action::Renew { name, token, ttl_ms: self.ttl() }
            }
            18 => {
                let (name, token, _) = self.claim(model);
                Action::Release { name, token }
            }
            19 => {
                let (name, _, ticket) = self.claim(model);
                Action::Cancel { name, ticket }
            }
            20 => Action::Mark,
            21 if self.one_in(8) => Action::Raise { to: Format(1 + u32::try_from(self.below(3)).unwrap()) },
            _ => Action::Tick { most: u32::try_from(self.below(8)).unwrap() },
        }
    }

    fn command(&mut self, model: &Model) -> Command {
        self.index += 1 + self.below(2);
        self.now += self.below(150);
        match self.below(40) {
            0 => return Command::Set(self.pairs()),
            1 => return Command::Delete(self.key()),
            _ => {}
        }
        // Now and then of a leader that has seen less, or of none at all.
        let stamp_ms = if self.one_in(10) { self.below(self.now + 1) } else { self.now };
        let retry = self.one_in(3).then(|| Retry {
            key: format!("{}key {}", "x".repeat(usize::try_from(self.index % 50).unwrap_or_default()), self.below(20))
                .into(),
            digest: u128::from(self.one_in(5)),
            window_ms: 1 + self.below(4_000),
        });
        let retry = retry.map(|retry| Retry { key: if self.one_in(2) { "few".into() } else { retry.key }, ..retry });
        Command::Stamped(Stamped { stamp_ms, retry, action: self.action(model) })
    }
}

/// Through a snapshot on a disk.
fn restored(kv: &KvStore, index: u64) -> KvStore {
    let cluster = ClusterId(1);
    let log_id = LogId::new(openraft::alias::CommittedLeaderIdOf::<TypeConfig>::new(1), index);
    let store = SnapshotStore::open(Arc::new(MemDisk::new()), ClusterHandle::new(Some(cluster))).unwrap();
    let meta = SnapshotMeta { last_log_id: Some(log_id), ..SnapshotMeta::default() };
    let file = store.write(&meta, cluster, kv).unwrap();
    store.load(&file).unwrap()
}

/// With every sum and every order made anew from what is there.
fn rebuilt(kv: &KvStore) -> KvStore {
    let mut new = KvStore::new();
    new.restore_log_time(kv.log_time_ms());
    new.restore_format(kv.format());
    kv.iter().for_each(|(key, record)| new.restore(key.clone(), record.clone()));
    kv.locks().for_each(|(name, lock)| new.restore_lock(name.clone(), lock));
    kv.kept().for_each(|(key, kept)| new.restore_kept(key.clone(), kept.clone()));
    new
}

fn same_as_the_model(kv: &KvStore, model: &Model, random: &mut Random) {
    let keys: Vec<_> = kv.iter().map(|(key, record)| (key.clone(), record.clone())).collect();
    let wanted: Vec<_> = model.keys.iter().map(|(key, entry)| (key.clone(), entry.record())).collect();
    assert_eq!(keys, wanted);
    assert_eq!((kv.len(), kv.log_time_ms(), kv.kept().count()), (wanted.len(), model.now, model.kept()));
    assert_eq!((kv.next_deadline(), kv.format()), (model.next_deadline(), model.format));
    let (prefix, after) = (random.of(&PREFIXES), random.key());
    let after = random.one_in(2).then_some(after.as_str());
    let range: Vec<_> = kv.range(&prefix, after).map(|(key, _)| key).collect();
    let is_in = |key: &&Key| key.starts_with(&*prefix) && after.is_none_or(|after| key.as_str() > after);
    assert_eq!(range, model.keys.keys().filter(is_in).collect::<Vec<_>>(), "{prefix:?} after {after:?}");
    for name in LOCKS {
        assert_eq!(kv.lock(name), model.view(name));
        let ticket = model.claims.choose(&mut random.rng).map_or(0, |claim| claim.ticket);
        for ticket in [ticket, random.recent()] {
            assert_eq!(kv.ticket(name, ticket), model.ticket(name, ticket));
        }
    }
}

#[test]
fn any_commands_do_what_the_model_says_on_every_replica() {
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for seed in 0..30 {
        let mut random = Random { rng: StdRng::seed_from_u64(seed), many: seed % 3 == 2, now: 0, index: 0 };
        let mut model = Model::new(LIMITS);
        let (mut kv, mut other) = (KvStore::new(), KvStore::new());
        let (mut from_snapshot, mut events) = (KvStore::new(), Vec::new());
        let mut views: Vec<(KvStore, KvStore)> = Vec::new();
        for step in 0..600 {
            let command = random.command(&model);
            let index = random.index;
            let what = format!("seed {seed}, step {step}: {command:?}");
            let (wanted, changes) = model.apply(index, command.clone());
            events.clear();
            let reply = kv.apply_within(LIMITS, index, &command, &mut events);
            assert_eq!(reply, wanted, "{what}");
            let numbered = |(n, change)| Event { index, n, change };
            assert_eq!(events, (1..).zip(changes).map(numbered).collect::<Vec<_>>(), "{what}");
            for replica in [&mut other, &mut from_snapshot] {
                assert_eq!(replica.apply_within(LIMITS, index, &command, &mut Vec::new()), reply, "{what}");
            }
            *seen.entry(kind(&reply)).or_default() += 1;
            for event in &events {
                *seen.entry(kind(&event.change)).or_default() += 1;
            }
            if random.one_in(25) {
                same_as_the_model(&kv, &model, &mut random);
                for same in [&other, &from_snapshot, &rebuilt(&kv)] {
                    assert_eq!((same.digest(), same), (kv.digest(), &kv), "{what}");
                }
                views.push((kv.clone(), rebuilt(&kv)));
                from_snapshot = restored(&kv, index);
            }
        }
        // What was seen once is not changed by what came later.
        for (view, then) in views {
            assert_eq!((view.digest(), &view), (then.digest(), &then));
        }
    }
    let all = "Done Touched Put Deleted Number Txn Granted Queued Ticked Failed:Precondition Failed:Missing Failed:NotANumber \
        Failed:Locked Failed:LockLost Failed:RetryMismatch Failed:RetriesFull Replayed Set Expired Acquired Released \
        LockExpired";
    for kind in all.split_whitespace() {
        assert!(seen.get(kind).is_some_and(|times| *times >= 30), "{kind}: {seen:?}");
    }
}

/// The name of a reply or a change.
fn kind(of: &impl std::fmt::Debug) -> String {
    let shown = format!("{of:?}");
    let mut words = shown.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    match (words.next().unwrap(), words.next()) {
        ("Failed", Some(why)) => format!("Failed:{why}"),
        (word, _) => word.to_owned(),
    }
}

#[test]
fn states_that_differ_in_anything_have_other_digests() {
    let mut random = Random { rng: StdRng::seed_from_u64(7), many: false, now: 0, index: 0 };
    let mut model = Model::new(LIMITS);
    let mut kv = KvStore::new();
    let mut states: Vec<KvStore> = Vec::new();
    for _ in 0..1_500 {
        let command = random.command(&model);
        model.apply(random.index, command.clone());
        kv.apply_within(LIMITS, random.index, &command, &mut Vec::new());
        states.push(kv.clone());
    }
    states.sort_by_key(KvStore::digest);
    for pair in states.windows(2) {
        assert_eq!(pair[0].digest() == pair[1].digest(), pair[0] == pair[1]);
    }
}

#[test]
fn changes_are_numbered_from_one_in_every_entry() {
    let mut kv = KvStore::new();
    let mut events = Vec::new();
    let set = |keys: &[&str]| Command::Set(keys.iter().map(|key| (Key::from(*key), "1".into())).collect());
    kv.apply(4, &set(&["b", "a"]), &mut events);
    kv.apply(6, &set(&["c"]), &mut events);
    kv.apply(7, &Action::DeletePrefix { prefix: "".into() }.into(), &mut events);
    let found: Vec<_> = events.iter().map(|event| (event.index, event.n)).collect();
    assert_eq!(found, [(4, 1), (4, 2), (6, 1), (7, 1), (7, 2), (7, 3)]);
    let deleted = |key: &str| Change::Deleted { key: key.into() };
    assert_eq!(
        events.split_off(3).into_iter().map(|event| event.change).collect::<Vec<_>>(),
        ["a", "b", "c"].map(deleted)
    );
}
