//! One leader a term.

use std::collections::BTreeMap;

use super::Checked;
use crate::raft_types::RaftId;

#[derive(Debug, Default)]
pub struct Leaders(BTreeMap<u64, RaftId>);

impl Leaders {
    /// A node sends something that only the leader of this term sends.
    pub fn leads(&mut self, term: u64, node: RaftId) -> Checked {
        match *self.0.entry(term).or_insert(node) {
            first if first == node => Ok(()),
            first => Err(format!("one leader a term: both {first} and {node} lead in term {term}")),
        }
    }

    /// How many led.
    pub fn terms(&self) -> usize {
        self.0.len()
    }
}
