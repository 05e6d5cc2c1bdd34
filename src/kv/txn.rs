//! Transactions: all of a transaction happens, or nothing of it.

use super::event::Events;
use super::{KvStore, plan};
use crate::command::{Op, OpResult, Reply, Test, TestOf, Txn};
use crate::record::Record;

/// The most bytes of values that a transaction reads: its answer travels between nodes in one message.
pub const MAX_READ_BYTES: usize = 16 << 20;

impl KvStore {
    pub(super) fn txn(&mut self, index: u64, txn: &Txn, events: &mut Events<'_>) -> Reply {
        let succeeded = txn.tests.iter().all(|test| self.holds(test));
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        // Nothing is changed before all of it is known to succeed.
        match plan::sums(self, succeeded, ops) {
            Ok(sums) => {
                let mut sums = sums.into_iter();
                let results = ops.iter().map(|op| self.run(index, op, &mut sums, events)).collect();
                Reply::Txn { succeeded, results }
            }
            Err(failure) => Reply::failed(failure),
        }
    }

    fn run(&mut self, index: u64, op: &Op, sums: &mut impl Iterator<Item = i64>, events: &mut Events<'_>) -> OpResult {
        match op {
            Op::Set { pairs, ttl_ms } => {
                let count = pairs.len() as u64;
                self.set(index, pairs, *ttl_ms, events);
                OpResult::Set(count)
            }
            Op::Incr { pairs, ttl_ms } => {
                let mut numbers = Vec::with_capacity(pairs.len());
                for ((key, _), sum) in pairs.iter().zip(sums) {
                    self.store_integer(index, key, sum, *ttl_ms, events);
                    numbers.push((key.clone(), sum));
                }
                OpResult::Numbers(numbers)
            }
            Op::Delete(key) => OpResult::Deleted(self.delete(key, events)),
            Op::DeletePrefix(prefix) => OpResult::Deleted(self.delete_prefix(prefix, events)),
            Op::Get(key) => OpResult::Got(key.clone(), self.get(key).cloned()),
        }
    }

    fn holds(&mut self, test: &Test) -> bool {
        let record = self.keys.get(&test.key);
        let number = |of: fn(&Record) -> u64| record.map_or(0, of);
        match &test.of {
            TestOf::Exists(exists) => record.is_some() == *exists,
            TestOf::ModifyIndex(index) => number(Record::modify_index) == *index,
            TestOf::CreateIndex(index) => number(Record::create_index) == *index,
            TestOf::Version(version) => number(Record::version) == *version,
            TestOf::Value(value) => record.is_some_and(|record| self.digests.same(&test.key, record, value)),
        }
    }
}
