//! Checks the operations of a transaction before any of them changes anything.
//!
//! Three things can fail: an addition to an integer, a read of too many bytes, and a lease that is not alive, which no
//! operation changes. The first two depend only on values that are known
//! before the transaction runs: those that are stored, and those that its own operations leave. So a transaction that is
//! refused costs as much as it has conditions and operations, whatever its operations would have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::{KvStore, add, integer};
use crate::command::{Failure, Key, Op, OpIndex};
use crate::kv::txn::MAX_READ_BYTES;
use crate::record::Record;

/// The value of a key at some point of the transaction.
#[derive(Clone, Copy)]
enum Value<'a> {
    Stored(&'a Record),
    Json(&'a [u8]),
    Integer(i64),
}

impl Value<'_> {
    fn bytes(self) -> usize {
        match self {
            Value::Stored(record) => record.value().len(),
            Value::Json(text) => text.len(),
            Value::Integer(number) => number.to_string().len(),
        }
    }
}

struct Plan<'a> {
    kv: &'a KvStore,
    /// The keys that an operation wrote or deleted, and what it left.
    changed: BTreeMap<&'a str, Option<Value<'a>>>,
    /// The prefixes that were deleted. None is a prefix of another.
    deleted: BTreeSet<&'a str>,
}

/// The sums of all additions, in their order.
///
/// # Errors
/// The failure of the first operation that cannot be run.
pub(super) fn sums(kv: &KvStore, then: bool, ops: &[Op]) -> Result<Vec<i64>, Failure> {
    // A transaction that only writes, and under no lease, cannot fail.
    let can_fail = |op: &Op| matches!(op, Op::Incr { .. } | Op::Get(_) | Op::SetLeased { .. } | Op::IncrLeased { .. });
    if !ops.iter().any(can_fail) {
        return Ok(Vec::new());
    }
    let mut plan = Plan { kv, changed: BTreeMap::new(), deleted: BTreeSet::new() };
    let (mut sums, mut read_bytes) = (Vec::new(), 0);
    for (at, op) in ops.iter().enumerate() {
        let place = OpIndex { then, at: u32::try_from(at).unwrap_or(u32::MAX) };
        if let Op::SetLeased { lease, .. } | Op::IncrLeased { lease, .. } = op
            && kv.lease(*lease).is_none()
        {
            return Err(Failure::LeaseLost { place: Some(place), lease: *lease });
        }
        match op {
            Op::Set { pairs, .. } | Op::SetLeased { pairs, .. } => {
                let values = pairs.iter().map(|(key, value)| (key.as_str(), Some(Value::Json(value))));
                plan.changed.extend(values);
            }
            Op::Incr { pairs, .. } | Op::IncrLeased { pairs, .. } => {
                for (key, by) in pairs {
                    let sum = plan.sum(key, *by).map_err(|why| Failure::NotANumber {
                        place: Some(place),
                        key: key.clone(),
                        why,
                    })?;
                    plan.changed.insert(key, Some(Value::Integer(sum)));
                    sums.push(sum);
                }
            }
            Op::Touch { .. } => {}
            Op::Delete(key) => drop(plan.changed.insert(key, None)),
            Op::DeletePrefix(prefix) => plan.delete_prefix(prefix),
            Op::Get(key) => {
                read_bytes += plan.value(key).map_or(0, Value::bytes);
                if read_bytes > MAX_READ_BYTES {
                    return Err(Failure::ReadsTooMuch { place });
                }
            }
        }
    }
    Ok(sums)
}

impl<'a> Plan<'a> {
    fn value(&self, key: &str) -> Option<Value<'a>> {
        match self.changed.get(key) {
            Some(value) => *value,
            None if self.is_deleted(key) => None,
            None => self.kv.get(key).map(Value::Stored),
        }
    }

    fn sum(&self, key: &Key, by: i64) -> Result<i64, crate::command::NotANumber> {
        let old = match self.value(key) {
            None => 0,
            Some(Value::Stored(record)) => integer(record.is_bytes(), record.value())?,
            Some(Value::Json(text)) => integer(false, text)?,
            Some(Value::Integer(number)) => number,
        };
        add(old, by)
    }

    /// True if a deleted prefix begins this text. Only the last one at or before it can: all between a prefix and a text
    /// that it begins have that prefix too.
    fn is_deleted(&self, text: &str) -> bool {
        let before = self.deleted.range::<str, _>((Bound::Unbounded, Bound::Included(text))).next_back();
        before.is_some_and(|prefix| text.starts_with(prefix))
    }

    fn delete_prefix(&mut self, prefix: &'a str) {
        let in_prefix = |names: &mut dyn Iterator<Item = &'a str>| -> Vec<&'a str> {
            names.take_while(|name| name.starts_with(prefix)).collect()
        };
        let from = (Bound::Included(prefix), Bound::Unbounded);
        for key in in_prefix(&mut self.changed.range::<str, _>(from).map(|(key, _)| *key)) {
            self.changed.remove(key);
        }
        if !self.is_deleted(prefix) {
            for inner in in_prefix(&mut self.deleted.range::<str, _>(from).copied()) {
                self.deleted.remove(inner);
            }
            self.deleted.insert(prefix);
        }
    }
}
