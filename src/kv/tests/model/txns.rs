//! Transactions.

use super::*;

impl Model {
    pub(super) fn txn(&mut self, index: u64, txn: Txn) -> Ended<Reply> {
        let holds = |test: &Test| {
            let entry = self.keys.get(&test.key);
            match &test.of {
                TestOf::Exists(exists) => entry.is_some() == *exists,
                TestOf::ModifyIndex(index) => entry.map_or(0, |entry| entry.modified) == *index,
                TestOf::CreateIndex(index) => entry.map_or(0, |entry| entry.created) == *index,
                TestOf::Version(version) => entry.map_or(0, |entry| entry.version) == *version,
                TestOf::Number(order, than) => entry
                    .filter(|entry| !entry.is_bytes)
                    .and_then(|entry| whole(&entry.value)?.partial_cmp(&whole(than)?))
                    .is_some_and(|found| match order {
                        Order::Less => found.is_lt(),
                        Order::LessOrEqual => found.is_le(),
                        Order::Greater => found.is_gt(),
                        Order::GreaterOrEqual => found.is_ge(),
                    }),
                TestOf::Holder(token) => self.holder(&test.key, *token).is_ok(),
                TestOf::Alive(lease) => self.leases.contains_key(lease),
                TestOf::Value(value) => entry
                    .is_some_and(|entry| entry.json() == serde_json::from_slice::<serde_json::Value>(value).unwrap()),
            }
        };
        let succeeded = txn.tests.iter().all(holds);
        let before = self.clone();
        let mut results = Vec::new();
        for (at, op) in (0..).zip(if succeeded { txn.then } else { txn.otherwise }) {
            let place = Some(OpIndex { then: succeeded, at });
            let result = match op {
                Op::Set { pairs, ttl_ms } => Ok(OpResult::Set(self.set(index, pairs, self.until(ttl_ms)))),
                Op::SetLeased { pairs, lease } => {
                    self.of_lease(lease, place).map(|life| OpResult::Set(self.set(index, pairs, life)))
                }
                Op::Incr { pairs, ttl_ms } => self.incr_all(index, pairs, self.until(ttl_ms), place),
                Op::IncrLeased { pairs, lease } => {
                    self.of_lease(lease, place).and_then(|life| self.incr_all(index, pairs, life, place))
                }
                Op::Touch { keys, ttl_ms } => {
                    let touched = keys.iter().filter(|key| self.touch(key, ttl_ms).is_some());
                    Ok(OpResult::Touched(touched.count() as u64))
                }
                Op::Delete(key) => Ok(OpResult::Deleted(self.delete(&key))),
                Op::DeletePrefix(prefix) => Ok(OpResult::Deleted(self.delete_prefix(&prefix))),
                Op::Get(key) => Ok(OpResult::Got(key.clone(), self.keys.get(&key).map(Entry::record))),
            };
            results.push(result.inspect_err(|_| *self = before.clone())?);
        }
        Ok(Reply::Txn { succeeded, results })
    }

    fn incr_all(&mut self, index: u64, pairs: Vec<(Key, i64)>, life: Life, place: Option<OpIndex>) -> Ended<OpResult> {
        let add = |(key, by): (Key, i64)| Ok((key.clone(), self.incr(index, &key, by, life, place)?));
        pairs.into_iter().map(add).collect::<Ended<_>>().map(OpResult::Numbers)
    }
}

/// The numbers that tests have are few enough for this.
fn whole(value: &[u8]) -> Option<f64> {
    serde_json::from_slice(value).ok()
}
