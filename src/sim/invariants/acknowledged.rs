//! A write that was acknowledged is committed where its answer says, and one that was refused never is.

use std::collections::{BTreeMap, BTreeSet};

use super::{Applied, Checked};
use crate::command::{Action, Command};
use crate::kv::Change;
use openraft::EntryPayload;

#[derive(Debug, Default)]
pub struct Acknowledged {
    /// The index at which each value was stored; each is written once.
    stored: BTreeMap<Vec<u8>, u64>,
    refused: BTreeSet<Vec<u8>>,
    /// The highest index of all writes that were acknowledged.
    newest: u64,
}

impl Acknowledged {
    pub fn applied(&mut self, applied: &Applied<'_>) -> Checked {
        for event in applied.events {
            if let Change::Set { key, record } = &event.change
                && super::linearizable::is_register(key)
            {
                let value = record.value().to_vec();
                if self.refused.contains(&value) {
                    return Err(format!(
                        "acknowledged: {} of {key} was refused, and is committed at {}",
                        String::from_utf8_lossy(&value),
                        event.index
                    ));
                }
                if let Some(before) = self.stored.insert(value, event.index) {
                    return Err(format!("acknowledged: one write to {key} counts at {before} and at {}", event.index));
                }
            }
        }
        Ok(())
    }

    /// A client was told that a value is stored.
    pub fn stored(&mut self, value: &[u8], index: u64) -> Checked {
        self.newest = self.newest.max(index);
        match self.stored.get(value) {
            Some(at) if *at == index => Ok(()),
            at => Err(format!(
                "acknowledged: the write of {} was acknowledged at {index}, and is committed at {at:?}",
                String::from_utf8_lossy(value)
            )),
        }
    }

    /// A client was told that a value is not stored, and never will be.
    pub fn refused(&mut self, value: &[u8]) -> Checked {
        if let Some(at) = self.stored.get(value) {
            let value = String::from_utf8_lossy(value);
            return Err(format!("acknowledged: the write of {value} was refused, and is committed at {at}"));
        }
        self.refused.insert(value.to_vec());
        Ok(())
    }

    /// A client was told that a key was deleted at this index.
    pub fn deleted(&mut self, key: &str, index: u64, committed: &super::committed::Committed) -> Checked {
        self.newest = self.newest.max(index);
        let entry = committed.entry(index);
        let deletes = |command: &Command| match command {
            Command::Stamped(stamped) | Command::By(_, stamped) => {
                matches!(&stamped.action, Action::Delete { key: of, .. } if of == key)
            }
            _ => false,
        };
        match entry.map(|entry| &entry.payload) {
            Some(EntryPayload::Normal(command)) if deletes(command) => Ok(()),
            _ => Err(format!("acknowledged: the deletion of {key} was acknowledged at {index}, where {entry:?} is")),
        }
    }

    /// A client was told something else that this index did.
    pub fn done(&mut self, index: u64) {
        self.newest = self.newest.max(index);
    }

    /// In the end: what all nodes have applied, that must have everything.
    pub fn all_present(&self, applied: u64) -> Checked {
        if applied < self.newest {
            return Err(format!("acknowledged: {} was acknowledged, and all there is is {applied}", self.newest));
        }
        Ok(())
    }

    pub fn count(&self) -> usize {
        self.stored.len()
    }
}
