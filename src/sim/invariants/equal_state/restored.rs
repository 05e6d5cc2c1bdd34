//! After copies of directories of different times were put back: what each node holds at each index. Those that serve hold the
//! same wherever two of them hold something, from then on; the others say that they do not.

use std::collections::BTreeMap;

use crate::raft_types::alias::LogId;
use crate::sim::invariants::Checked;

/// By index: its entry, and the digest of the state.
type Held = BTreeMap<u64, (LogId, u64)>;

#[derive(Debug, Default)]
pub struct Restored {
    /// By node: the newest of its states.
    nodes: BTreeMap<u16, (u64, Held)>,
}

impl Restored {
    /// A node holds this state after this entry.
    pub fn holds(&mut self, by: u16, state: u64, last: LogId, digest: u64) {
        let (newest, held) = self.nodes.entry(by).or_default();
        if *newest != state {
            (*newest, *held) = (state, Held::new());
        }
        held.insert(last.index, (last, digest));
    }

    /// These nodes serve.
    pub fn agree(&self, serving: &[u16]) -> Checked {
        let mut all: BTreeMap<u64, (u16, (LogId, u64))> = BTreeMap::new();
        for (node, (_, held)) in self.nodes.iter().filter(|(node, _)| serving.contains(node)) {
            for (index, found) in held {
                let (first, holds) = *all.entry(*index).or_insert((*node, *found));
                if holds != *found {
                    return Err(format!(
                        "equal state: nodes {first} and {node} both serve, and hold {holds:?} and {found:?} at {index}"
                    ));
                }
            }
        }
        Ok(())
    }
}
