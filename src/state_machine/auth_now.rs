//! What the state says of authentication, for whoever waits for a change of it.

use std::sync::Arc;

use crate::kv::{AuthRecord, KvStore};

/// Authentication as it is here now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthNow {
    /// The word on it, if there was ever one.
    pub record: Option<Arc<AuthRecord>>,
    /// Differs after each change of it and of tokens.
    pub mark: (u64, u64),
}

impl AuthNow {
    /// As a state has it.
    pub(super) fn of(kv: &KvStore) -> Self {
        Self { record: kv.auth().shared_record(), mark: kv.auth().mark() }
    }
}
