//! Transactions: all of a transaction happens, or nothing of it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::compare::Digests;
use super::event::Events;
use super::number::Number;
use super::{KvStore, Life, plan};
use crate::command::{Key, Op, OpResult, Reply, Test, TestOf, Txn};
use crate::record::Record;

/// The most bytes of values that a transaction reads: its answer travels between nodes in one message.
pub const MAX_READ_BYTES: usize = 16 << 20;

impl KvStore {
    pub(super) fn txn(&mut self, index: u64, txn: &Txn, events: &mut Events<'_>) -> Reply {
        // They are put back below: to compare values changes nothing else.
        let mut digests = std::mem::take(&mut self.digests);
        let mut tests = Tests { kv: self, digests: &mut digests, numbers: BTreeMap::new() };
        let succeeded = txn.tests.iter().all(|test| tests.holds(test));
        self.digests = digests;
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
}

/// What the conditions of one transaction look at.
struct Tests<'a> {
    kv: &'a KvStore,
    digests: &'a mut Digests,
    /// Values as numbers: each is read once, however often it is compared.
    numbers: BTreeMap<&'a Key, Option<Number<'a>>>,
}

impl<'a> Tests<'a> {
    fn holds(&mut self, test: &'a Test) -> bool {
        let record = self.kv.keys.get(&test.key);
        let mark = |of: fn(&Record) -> u64| record.map_or(0, of);
        match &test.of {
            TestOf::Exists(exists) => record.is_some() == *exists,
            TestOf::ModifyIndex(index) => mark(Record::modify_index) == *index,
            TestOf::CreateIndex(index) => mark(Record::create_index) == *index,
            TestOf::Version(version) => mark(Record::version) == *version,
            TestOf::Number(order, than) => {
                let value = record.filter(|record| !record.is_bytes()).map(Record::value);
                let number = self.numbers.entry(&test.key).or_insert_with(|| value.and_then(Number::parse));
                let than = Number::parse(than);
                number.as_ref().zip(than).is_some_and(|(number, than)| order.holds(number.cmp(&than)))
            }
            TestOf::Holder(token) => self.kv.locks.is_held(&test.key, *token),
            TestOf::Alive(lease) => self.kv.leases.get(*lease).is_some(),
            TestOf::Value(value) => record.is_some_and(|record| self.digests.same(&test.key, record, value)),
        }
    }
}
