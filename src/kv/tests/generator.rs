//! Random commands, made with an eye on the state that they are for.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::model::Model;
use crate::command::*;
use crate::formats::Format;
use crate::kv::idempotency::Limits;

const KEYS: [&str; 8] =
    ["a", "a/1", "a/2", "b", "é", "a/long enough for an allocation of its own/1", "b/1", "a/long enough as well/é"];
pub(super) const PREFIXES: [&str; 7] = ["", "a", "a/", "a/1", "a/long", "b/1", "none"];
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
pub(super) const LOCKS: [&str; 3] = ["l", "m", "a lock of a name that is rather long"];

/// Few and small, so that both are met.
pub(super) const LIMITS: Limits = Limits { kept: 5, kept_bytes: 250 };

pub(super) struct Random {
    pub(super) rng: StdRng,
    /// Over some hundred keys instead of a few.
    pub(super) many: bool,
    pub(super) now: u64,
    pub(super) index: u64,
}

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }

    pub(super) fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }

    pub(super) fn of(&mut self, all: &[&str]) -> Key {
        (*all.choose(&mut self.rng).unwrap()).into()
    }

    pub(super) fn key(&mut self) -> Key {
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
    pub(super) fn recent(&mut self) -> u64 {
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
        let than = self.json();
        let order = [Order::Less, Order::LessOrEqual, Order::Greater, Order::GreaterOrEqual];
        let order = order[usize::try_from(self.below(4)).unwrap()];
        match self.below(10) {
            0 => {
                let (name, token, _) = self.claim(model);
                return Test { key: name, of: TestOf::Holder(token) };
            }
            1 => return Test { key: Key::default(), of: TestOf::Alive(self.lease(model)) },
            2 if self.below(2) == 0 => return Test { key, of: TestOf::Number(order, than) },
            2 => return Test { key, of: TestOf::Number(order, "1.0".into()) },
            _ => {}
        }
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

    /// One that is alive; sometimes none.
    fn lease(&mut self, model: &Model) -> u64 {
        let alive: Vec<u64> = model.leases.keys().copied().collect();
        if self.one_in(8) { self.recent() } else { alive.choose(&mut self.rng).copied().unwrap_or(0) }
    }

    fn op(&mut self, model: &Model) -> Op {
        match self.below(11) {
            8 => Op::SetLeased { pairs: self.pairs(), lease: self.lease(model) },
            9 => Op::IncrLeased { pairs: vec![(self.key(), self.by())], lease: self.lease(model) },
            10 => Op::Touch { keys: vec![self.key(), self.key()], ttl_ms: 1 + self.below(1_500) },
            0..=2 => Op::Set { pairs: self.pairs(), ttl_ms: self.ttl() },
            3 | 4 => Op::Incr { pairs: vec![(self.key(), self.by()), (self.key(), 1)], ttl_ms: self.ttl() },
            5 => Op::Delete(self.key()),
            6 => Op::DeletePrefix(self.of(&PREFIXES)),
            _ => Op::Get(self.key()),
        }
    }

    fn ops(&mut self, model: &Model) -> Vec<Op> {
        let many = self.below(5);
        (0..many).map(|_| self.op(model)).collect()
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
        match self.below(33) {
            22..=24 => Action::Grant { ttl_ms: 1 + self.below(2_000), body: self.one_in(2).then(|| self.json()) },
            25 => Action::KeepAlive { lease: self.lease(model), ttl_ms: self.ttl() },
            26 if self.one_in(2) => Action::Revoke { lease: self.lease(model) },
            26..=31 => Action::Leased { lease: self.lease(model), write: self.leased(model) },
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
                Action::Txn(Txn { tests, then: self.ops(model), otherwise: self.ops(model) })
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
            32 if self.one_in(6) => {
                // Around what is there: below it, and a little above it.
                let bytes = model.bytes() + self.below(60);
                Action::Quota { bytes: if self.one_in(2) { 0 } else { bytes.saturating_sub(20) } }
            }
            32 if self.one_in(8) => Action::Raise { to: Format(1 + u32::try_from(self.below(3)).unwrap()) },
            _ => Action::Tick { most: u32::try_from(self.below(8)).unwrap() },
        }
    }

    fn leased(&mut self, model: &Model) -> Leased {
        let conditions = self.conditions(model);
        match self.below(5) {
            0 => {
                let mut pairs = self.pairs();
                pairs.truncate(if conditions.is_empty() { 30 } else { 1 });
                Leased::Set { pairs, conditions }
            }
            1 => {
                let value = Value { data: self.json(), is_bytes: false, content_type: None };
                Leased::Put { key: self.key(), value, conditions }
            }
            2 => Leased::Incr { key: self.key(), by: self.by(), conditions },
            _ => {
                let wait_ms = if self.one_in(3) { 0 } else { 1 + self.below(2_000) };
                let body = self.one_in(2).then(|| self.json());
                Leased::Acquire { name: self.of(&LOCKS), body, wait_ms }
            }
        }
    }

    pub(super) fn command(&mut self, model: &Model) -> Command {
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
