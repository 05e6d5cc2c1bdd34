//! Transactions happen wholly or not at all: what they move between accounts is neither lost nor made.

use std::collections::BTreeMap;

use super::{Applied, Checked};
use crate::command::Key;
use crate::kv::Change;

/// The balances of the accounts. Their sum is 0; an account that does not exist holds 0.
#[derive(Debug, Default)]
pub struct Sums {
    accounts: BTreeMap<Key, i64>,
    moves: u64,
}

/// True for the keys that are accounts.
pub fn is_account(key: &str) -> bool {
    key.starts_with("acc")
}

impl Sums {
    pub fn applied(&mut self, applied: &Applied<'_>) -> Checked {
        let before = self.moves;
        for event in applied.events {
            match &event.change {
                Change::Set { key, record } if is_account(key) => {
                    let number = std::str::from_utf8(record.value()).ok().and_then(|text| text.parse().ok());
                    self.accounts.insert(key.clone(), number.ok_or_else(|| format!("sums: {key} holds {record:?}"))?);
                    self.moves = before + 1;
                }
                Change::Deleted { key } if is_account(key) => {
                    self.accounts.remove(key);
                    self.moves = before + 1;
                }
                _ => {}
            }
        }
        match self.accounts.values().sum::<i64>() {
            0 => Ok(()),
            sum => Err(format!("sums: {} leaves {sum} in {:?}", applied.index(), self.accounts)),
        }
    }

    /// How often something was moved.
    pub fn moves(&self) -> u64 {
        self.moves
    }
}
