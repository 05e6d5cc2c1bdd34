//! The root tokens of this node: of its own file, and of no other node.

use std::sync::Arc;

use tokio::sync::watch;

use crate::secret::{Generated, Token, TokenMark};

/// Clones share them.
#[derive(Debug, Clone, Default)]
pub struct RootTokens(Arc<watch::Sender<Vec<Token>>>);

impl RootTokens {
    /// These.
    pub fn new(tokens: Vec<Token>) -> Self {
        Self(Arc::new(watch::Sender::new(tokens)))
    }

    /// From now on these count. What was opened with another ends.
    pub fn replace(&self, tokens: Vec<Token>) {
        self.0.send_replace(tokens);
    }

    /// Whether one of them is this. All are compared, in constant time each.
    pub fn has(&self, token: &Token) -> bool {
        self.0.borrow().iter().fold(false, |found, root| found | root.is_same(token))
    }

    /// Whether one of them is called so.
    pub fn has_mark(&self, mark: &TokenMark) -> bool {
        self.0.borrow().iter().any(|root| root.mark() == *mark)
    }

    /// Follows their changes.
    pub fn changes(&self) -> watch::Receiver<Vec<Token>> {
        self.0.subscribe()
    }
}
