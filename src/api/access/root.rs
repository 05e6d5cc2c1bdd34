//! The root tokens of this node: of its own file, and of no other node.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::secret::{Generated, Token};

/// Clones share them.
#[derive(Debug, Clone, Default)]
pub struct RootTokens(Arc<RwLock<Vec<Token>>>);

impl RootTokens {
    /// These.
    pub fn new(tokens: Vec<Token>) -> Self {
        Self(Arc::new(RwLock::new(tokens)))
    }

    /// From now on these count.
    pub fn replace(&self, tokens: Vec<Token>) {
        *self.0.write() = tokens;
    }

    /// Whether one of them is this. All are compared, in constant time each.
    pub fn has(&self, token: &Token) -> bool {
        self.0.read().iter().fold(false, |found, root| found | root.is_same(token))
    }
}
