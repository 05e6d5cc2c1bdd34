//! One leader a term: one process, whatever it calls itself.

use std::collections::BTreeMap;

use super::Checked;
use crate::raft_types::{ClusterId, RaftId};

/// A process, and the Raft id that it uses.
type Leader = (u64, RaftId);

#[derive(Debug, Default)]
pub struct Leaders(BTreeMap<(Option<u128>, u64), Leader>);

impl Leaders {
    /// A process sends something that only the leader of this term sends.
    pub fn leads(&mut self, cluster: Option<ClusterId>, term: u64, leader: Leader) -> Checked {
        match *self.0.entry((cluster.map(|cluster| cluster.0), term)).or_insert(leader) {
            first if first == leader => Ok(()),
            (process, node) => Err(format!(
                "one leader a term: both process {process} as {node} and process {} as {} lead in term {term}",
                leader.0, leader.1
            )),
        }
    }

    /// How many led.
    pub fn terms(&self) -> usize {
        self.0.len()
    }
}
