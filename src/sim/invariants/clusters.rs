//! One cluster: nodes that are told of one another never form two.

use super::Checked;
use crate::raft_types::ClusterId;

#[derive(Debug, Default)]
pub struct Clusters {
    /// The one that is looked at: the first to apply something.
    first: Option<ClusterId>,
}

impl Clusters {
    /// A node has the state of this cluster. True where it is the one that is looked at; another is fine only where the
    /// node may well be alone: nobody told it of others.
    pub fn seen(&mut self, cluster: Option<ClusterId>, by: u16, may_be_alone: bool) -> Checked<bool> {
        let Some(cluster) = cluster else { return Err(format!("one cluster: node {by} has a state and no cluster")) };
        if may_be_alone && self.first.is_some_and(|first| first != cluster) {
            return Ok(false);
        }
        let first = *self.first.get_or_insert(cluster);
        if first == cluster {
            return Ok(true);
        }
        Err(format!("one cluster: node {by} is in {cluster}, beside {first}"))
    }
}
