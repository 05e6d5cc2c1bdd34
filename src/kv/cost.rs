//! The cost of applying a command, known before it is applied.
//!
//! It is an estimate in microseconds of one core, on the high side: a key that is stored or deleted counts for one, as do
//! 4 KiB that are copied and 1 KiB that is compared. A command says most of it. How many keys are under a prefix, and how
//! large a value is that it is compared with, the state says.

use std::collections::BTreeSet;

use super::KvStore;
use crate::command::{Action, Command, Leased, Op, Stamped, Test, TestOf};
use crate::record::Record;

/// Bytes of values that cost as much to apply as one more key.
const BYTES_PER_KEY: usize = 4 * 1024;

/// Bytes of a value that cost as much to compare as one more key.
const COMPARED_BYTES_PER_KEY: usize = 1024;

impl KvStore {
    /// The cost of applying a command to this state, in microseconds. It is told in far less: the keys under a prefix are
    /// counted by pages.
    pub fn cost_us(&self, command: &Command) -> u64 {
        let Some(Stamped { action, .. }) = command.stamped() else { return weight(command) as u64 };
        let keys = match action {
            Action::DeletePrefix { prefix } => self.keys.about_with_prefix(prefix),
            Action::Revoke { lease } => self.cost_of_lease(*lease),
            Action::Txn(txn) => {
                let ops = |ops: &[Op]| {
                    let deleted: usize = ops.iter().map(|op| self.deleted_by(op)).sum();
                    let others: usize = ops.iter().filter_map(known_weight).sum();
                    // What the others store may be deleted again. What one operation has deleted no other finds.
                    let deletes = ops.iter().any(|op| matches!(op, Op::DeletePrefix(_)));
                    let again = if deletes { others } else { 0 };
                    (deleted + again).min(self.len() + others) + others
                };
                self.compared(&txn.tests) + ops(&txn.then).max(ops(&txn.otherwise))
            }
            _ => return weight(command) as u64,
        };
        keys.saturating_add(command.bytes() / BYTES_PER_KEY) as u64
    }

    fn deleted_by(&self, op: &Op) -> usize {
        match op {
            Op::DeletePrefix(prefix) => self.keys.about_with_prefix(prefix),
            _ => 0,
        }
    }

    /// Each value is taken apart once, however often it is compared with others by structure, and once as a number.
    fn compared(&self, tests: &[Test]) -> usize {
        let mut stored = BTreeSet::new();
        let mut bytes = 0;
        for test in tests {
            let stored_bytes = || self.keys.get(&test.key).map_or(0, |record: &Record| record.value().len());
            match &test.of {
                TestOf::Value(text) | TestOf::Number(_, text) => {
                    bytes += text.len();
                    let is_number = matches!(test.of, TestOf::Number(..));
                    if stored.insert((&test.key, is_number)) {
                        bytes += stored_bytes();
                    }
                }
                _ => {}
            }
        }
        tests.len() + bytes / COMPARED_BYTES_PER_KEY
    }
}

/// The cost of applying a command as far as it says it itself, in keys that it changes or reads. Of one that deletes under
/// a prefix it is more than any other's.
pub fn weight(command: &Command) -> usize {
    let keys = match command {
        Command::Set(pairs) => pairs.len(),
        Command::Delete(_) => 1,
        Command::Stamped(stamped) | Command::By(_, stamped) => match &stamped.action {
            Action::Set { pairs, .. } => pairs.len(),
            // Nobody knows how many.
            Action::DeletePrefix { .. } | Action::Revoke { .. } => usize::MAX / 2,
            Action::Leased { write: Leased::Set { pairs, .. }, .. } => pairs.len(),
            Action::Txn(txn) => txn.tests.len() + txn.then.iter().chain(&txn.otherwise).map(weight_of).sum::<usize>(),
            Action::Tick { most } => (*most).try_into().unwrap_or(usize::MAX / 2),
            _ => 1,
        },
    };
    keys.saturating_add(command.bytes() / BYTES_PER_KEY)
}

/// Whether the whole cost of a command is its [`weight`].
pub fn weight_is_all(command: &Command) -> bool {
    let Some(stamped) = command.stamped() else { return true };
    match &stamped.action {
        Action::DeletePrefix { .. } | Action::Revoke { .. } => false,
        Action::Txn(txn) => {
            let ops = txn.then.iter().chain(&txn.otherwise);
            let compares = txn.tests.iter().any(|test| matches!(test.of, TestOf::Value(_) | TestOf::Number(..)));
            !compares && ops.into_iter().all(|op| known_weight(op).is_some())
        }
        _ => true,
    }
}

fn weight_of(op: &Op) -> usize {
    known_weight(op).unwrap_or(usize::MAX >> 16)
}

fn known_weight(op: &Op) -> Option<usize> {
    match op {
        Op::Set { pairs, .. } | Op::SetLeased { pairs, .. } => Some(pairs.len()),
        Op::Incr { pairs, .. } | Op::IncrLeased { pairs, .. } => Some(pairs.len()),
        Op::Touch { keys, .. } => Some(keys.len()),
        Op::DeletePrefix(_) => None,
        Op::Delete(_) | Op::Get(_) => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::command::{Key, Txn};
    use crate::kv::Marks;
    use crate::record::Rare;

    fn filled(keys: usize) -> KvStore {
        let mut kv = KvStore::new();
        for n in 0..keys {
            kv.restore(Key::from(format!("p/{n:07}").as_str()), Record::new(Marks::UNKNOWN, &Rare::default(), b"1"));
        }
        kv.restore("q".into(), Record::new(Marks::UNKNOWN, &Rare::default(), &vec![b' '; 1 << 20]));
        kv
    }

    fn txn(tests: Vec<Test>, then: Vec<Op>) -> Command {
        Action::Txn(Txn { tests, then, otherwise: Vec::new() }).into()
    }

    /// Issue 18, A2.
    #[test]
    fn the_cost_of_a_command_is_known_before() {
        let kv = filled(100_000);
        let delete = |prefix: &str| Command::from(Action::DeletePrefix { prefix: prefix.into() });
        let about = |command: Command, keys: u64| {
            let cost = kv.cost_us(&command);
            assert!(cost >= keys && cost <= keys * 3 + 40, "{cost} for {keys}");
            assert!(!weight_is_all(&command));
        };
        about(delete(""), 100_001);
        about(delete("p/"), 100_000);
        about(delete("p/00"), 100_000);
        about(delete("p/001"), 10_000);
        about(delete("p/00123"), 100);
        about(delete("p/0012345"), 1);
        about(delete("o"), 0);
        about(delete("p0"), 0);
        about(delete("z"), 0);
        about(txn(Vec::new(), vec![Op::DeletePrefix("p/".into()), Op::DeletePrefix("p/0".into())]), 100_000);
        about(txn(Vec::new(), vec![Op::DeletePrefix("p/".into()); 1_000]), 100_000);
        let pairs = (0..1_000).map(|n| (Key::from(format!("s/{n}").as_str()), Bytes::from_static(b"1"))).collect();
        let stored_and_deleted = [Op::Set { pairs, ttl_ms: None }, Op::DeletePrefix("s/".into())];
        about(txn(Vec::new(), stored_and_deleted.into_iter().cycle().take(100).collect()), 100_000);
        let same = Test { key: "q".into(), of: TestOf::Value("[]".into()) };
        about(txn(vec![same; 500], Vec::new()), 1_024 + 500);
        let one = Command::from(Action::Delete { key: "p/1".into(), conditions: Vec::new() });
        assert!(weight_is_all(&one) && kv.cost_us(&one) == 1);
    }

    #[test]
    fn an_empty_state_costs_nothing() {
        assert_eq!(KvStore::new().cost_us(&Action::DeletePrefix { prefix: "a".into() }.into()), 0);
    }
}
