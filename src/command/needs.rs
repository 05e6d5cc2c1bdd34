//! What an action needs grants for.

use super::auth::{Denied, Grants, Need};
use super::{Action, Condition, Key, Leased, Op, Test, TestOf, Txn};

/// Who may propose an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A client with the grants for it.
    Clients,
    /// hraftd itself alone.
    Own,
}

impl Action {
    /// Who may propose it.
    pub fn whose(&self) -> Whose {
        match self {
            Action::Tick { .. } | Action::Mark | Action::Raise { .. } | Action::Cancel { .. } => Whose::Own,
            Action::Set { .. }
            | Action::Put { .. }
            | Action::Delete { .. }
            | Action::DeletePrefix { .. }
            | Action::Incr { .. }
            | Action::Touch { .. }
            | Action::Txn(_)
            | Action::Acquire { .. }
            | Action::Renew { .. }
            | Action::Release { .. }
            | Action::Grant { .. }
            | Action::KeepAlive { .. }
            | Action::Revoke { .. }
            | Action::Leased { .. }
            | Action::Authentication { .. }
            | Action::PutToken { .. }
            | Action::RotateToken { .. }
            | Action::DeleteToken { .. } => Whose::Clients,
        }
    }

    /// Ok where the grants cover all of it, whichever of its branches is run.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] names the first that is missing.
    pub fn demand(&self, grants: &Grants) -> Result<(), Denied> {
        let need = |need: Need<'_>| grants.demand(need);
        match self {
            Action::Set { pairs, conditions, .. } => {
                written(grants, pairs.iter().map(|(key, _)| key))?;
                conditional(grants, pairs.first().map(|(key, _)| key), conditions)
            }
            Action::Put { key, conditions, .. }
            | Action::Delete { key, conditions }
            | Action::Touch { key, conditions, .. } => grants.demand_write(key, conditions),
            Action::Incr { key, .. } => counted(grants, key),
            Action::DeletePrefix { prefix } => need(Need::WriteAll(prefix)),
            Action::Txn(txn) => txn.demand(grants),
            Action::Acquire { name, .. }
            | Action::Renew { name, .. }
            | Action::Release { name, .. }
            | Action::Cancel { name, .. } => need(Need::Lock(name)),
            Action::Grant { .. } | Action::KeepAlive { .. } | Action::Revoke { .. } => need(Need::WriteAny),
            Action::Leased { write, .. } => match write {
                Leased::Set { pairs, conditions } => {
                    written(grants, pairs.iter().map(|(key, _)| key))?;
                    conditional(grants, pairs.first().map(|(key, _)| key), conditions)
                }
                Leased::Put { key, conditions, .. } => grants.demand_write(key, conditions),
                Leased::Incr { key, .. } => counted(grants, key),
                Leased::Acquire { name, .. } => {
                    need(Need::Lock(name))?;
                    // It is attached to a lease, which is for who writes.
                    need(Need::WriteAny)
                }
            },
            Action::Tick { .. } | Action::Mark | Action::Raise { .. } => need(Need::Admin),
            Action::Authentication { .. }
            | Action::PutToken { .. }
            | Action::RotateToken { .. }
            | Action::DeleteToken { .. } => need(Need::Admin),
        }
    }

    /// The leases that it changes, or attaches to.
    pub fn leases(&self) -> impl Iterator<Item = u64> {
        let one = match self {
            Action::KeepAlive { lease, .. } | Action::Revoke { lease } | Action::Leased { lease, .. } => Some(*lease),
            _ => None,
        };
        let txn = match self {
            Action::Txn(txn) => Some(txn),
            _ => None,
        };
        let ops = txn.into_iter().flat_map(|txn| txn.then.iter().chain(&txn.otherwise));
        let of_ops = ops.filter_map(|op| match op {
            Op::SetLeased { lease, .. } | Op::IncrLeased { lease, .. } => Some(*lease),
            _ => None,
        });
        one.into_iter().chain(of_ops)
    }
}

impl Grants {
    /// Ok where they cover a write of one key, under these conditions.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] names the first that is missing.
    pub fn demand_write(&self, key: &Key, conditions: &[Condition]) -> Result<(), Denied> {
        self.demand(Need::Write(key))?;
        conditional(self, Some(key), conditions)
    }
}

fn written<'a>(grants: &Grants, mut keys: impl Iterator<Item = &'a Key>) -> Result<(), Denied> {
    keys.try_for_each(|key| grants.demand(Need::Write(key)))
}

/// An integer is told when it is added to.
fn counted(grants: &Grants, key: &Key) -> Result<(), Denied> {
    grants.demand(Need::Write(key))?;
    grants.demand(Need::Read(key))
}

/// Who may write knows whether a key is there; when it changed, only who may read.
fn conditional(grants: &Grants, key: Option<&Key>, conditions: &[Condition]) -> Result<(), Denied> {
    let reads = |condition: &Condition| match condition {
        Condition::Exists | Condition::Missing => false,
        Condition::ModifiedBy(_) | Condition::NotModifiedBy(_) => true,
    };
    match key.filter(|_| conditions.iter().any(reads)) {
        Some(key) => grants.demand(Need::Read(key)),
        None => Ok(()),
    }
}

impl Txn {
    fn demand(&self, grants: &Grants) -> Result<(), Denied> {
        self.tests.iter().try_for_each(|test| test.demand(grants))?;
        self.then.iter().chain(&self.otherwise).try_for_each(|op| op.demand(grants))?;
        // An empty one is a write all the same: an entry, an index, an outcome that is kept.
        if self.tests.is_empty() && self.then.is_empty() && self.otherwise.is_empty() {
            return grants.demand(Need::WriteAny);
        }
        Ok(())
    }
}

impl Test {
    fn demand(&self, grants: &Grants) -> Result<(), Denied> {
        grants.demand(match &self.of {
            TestOf::Exists(_) => Need::Exists(&self.key),
            TestOf::ModifyIndex(_)
            | TestOf::CreateIndex(_)
            | TestOf::Version(_)
            | TestOf::Value(_)
            | TestOf::Number(..) => Need::Read(&self.key),
            TestOf::Holder(_) => Need::Lock(&self.key),
            TestOf::Alive(_) => Need::WriteAny,
        })
    }
}

impl Op {
    fn demand(&self, grants: &Grants) -> Result<(), Denied> {
        match self {
            Op::Set { pairs, .. } | Op::SetLeased { pairs, .. } => written(grants, pairs.iter().map(|(key, _)| key)),
            Op::Incr { pairs, .. } | Op::IncrLeased { pairs, .. } => {
                pairs.iter().try_for_each(|(key, _)| counted(grants, key))
            }
            Op::Delete(key) => grants.demand(Need::Write(key)),
            Op::DeletePrefix(prefix) => grants.demand(Need::WriteAll(prefix)),
            Op::Get(key) => grants.demand(Need::Read(key)),
            Op::Touch { keys, .. } => written(grants, keys.iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Grant, Order};

    fn lacks(action: &Action, texts: &[&str]) -> Option<String> {
        let grants = Grants(texts.iter().map(|text| Grant::parse(text).unwrap()).collect());
        match action.demand(&grants) {
            Ok(()) => None,
            Err(Denied::Forbidden(need)) => Some(need.to_string()),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn delete(conditions: Vec<Condition>) -> Action {
        Action::Delete { key: "a/k".into(), conditions }
    }

    #[test]
    fn conditions_on_more_than_existence_need_read() {
        for blind in [vec![], vec![Condition::Missing], vec![Condition::Exists, Condition::Missing]] {
            assert_eq!(lacks(&delete(blind), &["write:a/"]), None);
        }
        for seeing in [Condition::ModifiedBy(vec![1]), Condition::NotModifiedBy(vec![1])] {
            let action = delete(vec![Condition::Exists, seeing]);
            assert_eq!(lacks(&action, &["write:a/"]).as_deref(), Some("read:a/k"));
            assert_eq!(lacks(&action, &["write:a/", "read:a/"]), None);
        }
        let incr = Action::Incr { key: "a/k".into(), by: 1, ttl_ms: None, conditions: vec![] };
        assert_eq!(lacks(&incr, &["write:"]).as_deref(), Some("read:a/k"));
        assert_eq!(lacks(&incr, &["read:"]).as_deref(), Some("write:a/k"));
    }

    #[test]
    fn a_transaction_is_looked_at_whole() {
        let of = |tests: Vec<Test>, then: Vec<Op>, otherwise: Vec<Op>| Action::Txn(Txn { tests, then, otherwise });
        for (grant, lacks_it) in [("write:=k", false), ("read:", true), ("lock:", true), ("status", true)] {
            assert_eq!(lacks(&of(vec![], vec![], vec![]), &[grant]).is_some(), lacks_it, "{grant}");
        }
        let test = |of: TestOf| Test { key: "k".into(), of };
        let get = || Op::Get("k".into());
        assert_eq!(lacks(&of(vec![], vec![], vec![get()]), &["write:"]).as_deref(), Some("read:k"), "else, too");
        assert_eq!(lacks(&of(vec![], vec![get()], vec![]), &["read:=k"]), None);
        assert_eq!(lacks(&of(vec![test(TestOf::Exists(true))], vec![], vec![]), &["write:k"]), None);
        assert_eq!(lacks(&of(vec![test(TestOf::Exists(true))], vec![], vec![]), &["read:k"]), None);
        for seeing in [
            TestOf::ModifyIndex(1),
            TestOf::CreateIndex(1),
            TestOf::Version(1),
            TestOf::Value("1".into()),
            TestOf::Number(Order::Less, "1".into()),
        ] {
            assert_eq!(lacks(&of(vec![test(seeing)], vec![], vec![]), &["write:", "lock:"]).as_deref(), Some("read:k"));
        }
        assert_eq!(
            lacks(&of(vec![test(TestOf::Holder(1))], vec![], vec![]), &["write:", "read:"]).as_deref(),
            Some("lock:k")
        );
        for op in [
            Op::Set { pairs: vec![("a".into(), "1".into()), ("k".into(), "1".into())], ttl_ms: None },
            Op::SetLeased { pairs: vec![("k".into(), "1".into())], lease: 1 },
            Op::Delete("k".into()),
            Op::DeletePrefix("k".into()),
            Op::Touch { keys: vec!["a".into(), "k".into()], ttl_ms: 1 },
            Op::IncrLeased { pairs: vec![("k".into(), 1)], lease: 1 },
        ] {
            assert_eq!(lacks(&of(vec![], vec![op], vec![]), &["write:a", "read:"]).as_deref(), Some("write:k"));
        }
    }

    #[test]
    fn leases_of_actions() {
        let txn = Txn {
            tests: vec![],
            then: vec![Op::SetLeased { pairs: vec![], lease: 1 }, Op::Get("k".into())],
            otherwise: vec![Op::IncrLeased { pairs: vec![], lease: 2 }],
        };
        assert_eq!(Action::Txn(txn).leases().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(Action::Revoke { lease: 3 }.leases().collect::<Vec<_>>(), [3]);
        assert_eq!(delete(vec![]).leases().count(), 0);
    }
}
