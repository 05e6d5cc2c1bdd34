//! Transactions: all or nothing of them happens.

use super::event::Events;
use super::same_json::same_json;
use super::{Failed, KvStore};
use crate::command::{Failure, Op, OpIndex, OpResult, Reply, Test, TestOf, Txn};

/// The most bytes of values that a transaction reads: its answer travels between nodes in one message.
pub const MAX_READ_BYTES: usize = 16 << 20;

impl KvStore {
    pub(super) fn txn(&mut self, index: u64, txn: &Txn, events: &mut Events<'_>) -> Reply {
        let succeeded = txn.tests.iter().all(|test| self.holds(test));
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        // Only these can fail; a clone makes all changes dearer.
        let can_fail = ops.iter().any(|op| matches!(op, Op::Incr { .. } | Op::Get(_)));
        let before = can_fail.then(|| self.clone());
        match self.run_all(index, succeeded, ops, events) {
            Ok(results) => Reply::Txn { succeeded, results },
            Err(failure) => {
                if let Some(before) = before {
                    *self = before;
                }
                events.forget();
                Reply::failed(failure)
            }
        }
    }

    fn run_all(
        &mut self,
        index: u64,
        then: bool,
        ops: &[Op],
        events: &mut Events<'_>,
    ) -> Result<Vec<OpResult>, Failure> {
        let mut results = Vec::with_capacity(ops.len());
        let mut read = 0;
        for (at, op) in ops.iter().enumerate() {
            let place = OpIndex { then, at: u32::try_from(at).unwrap_or(u32::MAX) };
            let result = self.run(index, op, events).map_err(|failed| failed.failure(Some(place)))?;
            if let OpResult::Got(_, Some(record)) = &result {
                read += record.value().len();
                if read > MAX_READ_BYTES {
                    return Err(Failure::ReadsTooMuch { place });
                }
            }
            results.push(result);
        }
        Ok(results)
    }

    fn run(&mut self, index: u64, op: &Op, events: &mut Events<'_>) -> Result<OpResult, Failed> {
        Ok(match op {
            Op::Set { pairs, ttl_ms } => {
                let count = pairs.len() as u64;
                self.set(index, pairs, *ttl_ms, events);
                OpResult::Set(count)
            }
            Op::Incr { pairs, ttl_ms } => {
                let mut numbers = Vec::with_capacity(pairs.len());
                for (key, by) in pairs {
                    let number = self.incr(index, key, *by, *ttl_ms, events)?;
                    numbers.push((key.clone(), number));
                }
                OpResult::Numbers(numbers)
            }
            Op::Delete(key) => OpResult::Deleted(self.delete(key, events)),
            Op::DeletePrefix(prefix) => OpResult::Deleted(self.delete_prefix(prefix, events)),
            Op::Get(key) => OpResult::Got(key.clone(), self.get(key).cloned()),
        })
    }

    fn holds(&self, test: &Test) -> bool {
        let record = self.get(&test.key);
        let number = |of: fn(&crate::record::Record) -> u64| record.map_or(0, of);
        match &test.of {
            TestOf::Exists(exists) => record.is_some() == *exists,
            TestOf::ModifyIndex(index) => number(crate::record::Record::modify_index) == *index,
            TestOf::CreateIndex(index) => number(crate::record::Record::create_index) == *index,
            TestOf::Version(version) => number(crate::record::Record::version) == *version,
            TestOf::Value(value) => record.is_some_and(|record| same_json(&record.json(), value)),
        }
    }
}
