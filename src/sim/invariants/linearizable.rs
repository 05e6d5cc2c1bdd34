//! Registers are linearizable: as the checker of whole histories sees it, and, all along, by the indexes that answers
//! carry. What returns after something else was acknowledged is not older than that; what a read shows is what was
//! committed at its index.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Checked;
use super::state::{Held, State};
use crate::client::drill::check::{Op, What, check};

#[derive(Debug, Default)]
pub struct Linearizable {
    histories: BTreeMap<String, Vec<Op>>,
    /// The newest index that an answered request saw or made.
    seen: u64,
    /// When `seen` came to be that.
    grew: Vec<(Instant, u64)>,
    reads: u64,
    /// Ages that were checked.
    ages: u64,
}

/// True for the keys that are registers.
pub fn is_register(key: &str) -> bool {
    key.starts_with("reg")
}

impl Linearizable {
    /// A request is about to be sent: its answer must not be older than this.
    pub fn floor(&self) -> u64 {
        self.seen
    }

    /// A request was answered.
    pub fn answered(&mut self, what: &str, floor: u64, index: u64) -> Checked {
        if index < floor {
            return Err(format!(
                "linearizable: {what} is of index {index}, and {floor} was answered before it was sent"
            ));
        }
        if index > self.seen {
            self.seen = index;
            self.grew.push((Instant::now(), index));
        }
        Ok(())
    }

    /// A read that was asked for at this moment says that it is of `index`, and no older than this.
    pub fn no_older(&mut self, what: &str, asked: Instant, age: Duration, index: u64) -> Checked {
        self.ages += 1;
        let Some(since) = asked.checked_sub(age) else { return Ok(()) };
        let before = self.grew.partition_point(|(at, _)| *at < since);
        match before.checked_sub(1).map(|last| self.grew[last]) {
            Some((at, newest)) if newest > index => Err(format!(
                "staleness: {what} is of {index} and at most {age:?} old, and {newest} was answered {:?} before it was \
                 asked for",
                asked - at
            )),
            _ => Ok(()),
        }
    }

    /// How many ages were checked.
    pub fn ages(&self) -> u64 {
        self.ages
    }

    /// A read showed this, at any level.
    pub fn read(&mut self, key: &str, index: u64, found: &Option<Vec<u8>>, state: &State) -> Checked {
        self.reads += 1;
        let held: Held = state.at(key, index);
        if held.as_ref().map(|(value, _)| value) == found.as_ref() {
            return Ok(());
        }
        Err(format!("linearizable: a read of {key} at {index} found {found:?}, where {held:?} is committed"))
    }

    pub fn add(&mut self, key: &str, op: Op) {
        self.histories.entry(key.to_owned()).or_default().push(op);
    }

    /// In the end.
    pub fn check_all(&self) -> Checked {
        for (key, ops) in &self.histories {
            check(ops).map_err(|stuck| format!("linearizable: the history of {key} is not: {stuck:?}"))?;
        }
        Ok(())
    }

    /// How many reads and writes there were.
    pub fn counts(&self) -> (u64, usize) {
        let writes = |ops: &Vec<Op>| ops.iter().filter(|op| !matches!(op.what, What::Get(_))).count();
        (self.reads, self.histories.values().map(writes).sum())
    }
}
