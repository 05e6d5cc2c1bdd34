//! Transactions: all of a transaction happens, or nothing of it.

use bytes::Bytes;

use super::event::Events;
use super::{KvStore, Life, number, plan};
use crate::command::{Key, Op, OpResult, Reply, Test, TestOf, Txn};
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
            Op::Set { pairs, ttl_ms } => self.set_all(index, pairs, self.life(*ttl_ms), events),
            Op::SetLeased { pairs, lease } => self.set_all(index, pairs, Life::of_lease(*lease), events),
            Op::Incr { pairs, ttl_ms } => self.store_sums(index, pairs, sums, self.life(*ttl_ms), events),
            Op::IncrLeased { pairs, lease } => self.store_sums(index, pairs, sums, Life::of_lease(*lease), events),
            Op::Touch { keys, ttl_ms } => {
                let touched = keys.iter().filter(|key| matches!(self.touch(key, *ttl_ms), Reply::Touched { .. }));
                OpResult::Touched(touched.count() as u64)
            }
            Op::Delete(key) => OpResult::Deleted(self.delete(key, events)),
            Op::DeletePrefix(prefix) => OpResult::Deleted(self.delete_prefix(prefix, events)),
            Op::Get(key) => OpResult::Got(key.clone(), self.get(key).cloned()),
        }
    }

    fn set_all(&mut self, index: u64, pairs: &[(Key, Bytes)], life: Life, events: &mut Events<'_>) -> OpResult {
        self.set(index, pairs, life, events);
        OpResult::Set(pairs.len() as u64)
    }

    fn store_sums(
        &mut self,
        index: u64,
        pairs: &[(Key, i64)],
        sums: &mut impl Iterator<Item = i64>,
        life: Life,
        events: &mut Events<'_>,
    ) -> OpResult {
        let mut numbers = Vec::with_capacity(pairs.len());
        for ((key, _), sum) in pairs.iter().zip(sums) {
            self.store_integer(index, key, sum, life, events);
            numbers.push((key.clone(), sum));
        }
        OpResult::Numbers(numbers)
    }

    fn holds(&mut self, test: &Test) -> bool {
        let record = self.keys.get(&test.key);
        let mark = |of: fn(&Record) -> u64| record.map_or(0, of);
        match &test.of {
            TestOf::Exists(exists) => record.is_some() == *exists,
            TestOf::ModifyIndex(index) => mark(Record::modify_index) == *index,
            TestOf::CreateIndex(index) => mark(Record::create_index) == *index,
            TestOf::Version(version) => mark(Record::version) == *version,
            TestOf::Number(order, than) => record
                .filter(|record| !record.is_bytes())
                .and_then(|record| number::compare(record.value(), than))
                .is_some_and(|found| order.holds(found)),
            TestOf::Holder(token) => self.locks.is_held(&test.key, *token),
            TestOf::Alive(lease) => self.leases.get(*lease).is_some(),
            TestOf::Value(value) => record.is_some_and(|record| self.digests.same(&test.key, record, value)),
        }
    }
}
