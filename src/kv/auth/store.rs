//! The state's part in authentication: who made what, and what snapshots have of it.

use super::{Auth, AuthRecord, Token};
use crate::command::{Principal, TokenId};
use crate::kv::KvStore;

impl KvStore {
    /// Authentication, and the tokens.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Whether this client made a lease, or nobody who is known did.
    pub fn is_lease_of(&self, lease: u64, by: Option<&Principal>) -> bool {
        !self.auth.is_on() || self.lease_owners.lets(lease, by)
    }

    /// Whether somebody who is known made a lease.
    pub fn has_owner(&self, lease: u64) -> bool {
        self.lease_owners.get(lease).is_some()
    }

    /// Who made locks, by ticket, and leases, by id: true for a lease.
    pub fn owners(&self) -> impl Iterator<Item = (bool, u64, TokenId)> {
        let locks = self.locks.owners().iter().map(|(ticket, owner)| (false, ticket, owner));
        locks.chain(self.lease_owners.iter().map(|(lease, owner)| (true, lease, owner)))
    }

    /// Puts an owner back as a snapshot has it.
    pub fn restore_owner(&mut self, is_lease: bool, index: u64, owner: TokenId) {
        if is_lease { self.lease_owners.restore(index, owner) } else { self.locks.restore_owner(index, owner) }
    }

    /// Puts a token back as a snapshot has it.
    pub fn restore_token(&mut self, id: TokenId, token: Token) {
        self.auth.restore(id, token);
    }

    /// Puts the word on authentication back as a snapshot has it.
    pub fn restore_auth(&mut self, record: AuthRecord) {
        self.auth.restore_record(record);
    }
}
