//! Authentication: whether it is on, the tokens, and who may propose a command.
//!
//! * A state without a record, or whose record says *off*, asks nobody.
//! * A token has an id, which stays, and secrets one after another, its generations. The one before is good for a grace.
//! * Each change of a token is told by its index, its revision. Whoever saw the same revision saw the same grants.
//! * Its time is up by log time, from that millisecond on. It is listed for [`KEPT_MS`] more, so that who has it learns why
//!   it is refused.
//!
//! Caveat: [`Auth::check`] looks at grants always, [`Auth::check_command`] only where the revision is another than the edge
//! saw: a command may have a million keys.

mod owners;
mod store;

use std::sync::Arc;

use compact_str::CompactString;
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::command::{ANONYMOUS, Action, Denied, Failure, Grants, Need, Principal, Reply, TokenHash, TokenId, Whose};

pub(super) use owners::Owners;

/// The most tokens.
pub const MAX_TOKENS: usize = 100_000;

/// How long a token is listed once its time is up, in milliseconds.
const KEPT_MS: u64 = 24 * 3600 * 1000;

/// Tokens alone cause no more than one tick in this time, in milliseconds.
const TICK_MS: u64 = 3600 * 1000;

/// The word on authentication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthRecord {
    /// Clients must say who they are.
    pub on: bool,
    /// What is granted to those who do not.
    pub anonymous: Grants,
    /// Who made it what it is.
    pub by: Arc<str>,
    /// The index of its last change.
    pub revision: u64,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its name.
    pub name: Arc<str>,
    /// What it allows.
    pub grants: Grants,
    /// Counts its secrets, from 1.
    pub generation: u32,
    /// The hash of its secret.
    pub hash: TokenHash,
    /// The hash of the secret before, and until when that is good, in milliseconds of log time.
    pub before: Option<(TokenHash, u64)>,
    /// A client whose certificate has this name needs no token.
    pub certificate: Option<CompactString>,
    /// Who made it.
    pub by: Arc<str>,
    /// Log time when it was made, in milliseconds.
    pub created_ms: u64,
    /// When its time is up, in milliseconds of log time.
    pub expires_ms: Option<u64>,
    /// The index of its last change.
    pub revision: u64,
}

impl Token {
    fn is_over(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms)
    }

    /// The generation of the secret with this hash, if it is good. All bytes are compared, whatever they are.
    fn generation_of(&self, hash: &TokenHash, now_ms: u64) -> Option<u32> {
        let same = |own: &TokenHash| crate::secret::same(own, hash);
        if same(&self.hash) {
            return Some(self.generation);
        }
        let before = self.before.as_ref().filter(|(before, until_ms)| same(before) && *until_ms > now_ms);
        before.map(|_| self.generation - 1)
    }

    fn is_good(&self, generation: u32, now_ms: u64) -> bool {
        generation == self.generation
            || (generation + 1 == self.generation && self.before.is_some_and(|(_, until_ms)| until_ms > now_ms))
    }

    /// Until when the state may be believed about a secret of this generation: then its time is up.
    fn good_until(&self, generation: u32) -> Option<u64> {
        let grace = self.before.filter(|_| generation != self.generation).map(|(_, until_ms)| until_ms);
        grace.into_iter().chain(self.expires_ms).min()
    }
}

/// What somebody may do.
#[derive(Debug, Clone, Copy)]
enum Allowed<'a> {
    All,
    These(&'a Grants, u64),
}

/// Invariants: `names`, `certificates` and `drops` have what `tokens` has; `digest` is the sum over all tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Auth {
    record: Option<Arc<AuthRecord>>,
    tokens: OrdMap<TokenId, Arc<Token>>,
    names: OrdMap<CompactString, TokenId>,
    certificates: OrdMap<CompactString, TokenId>,
    /// When tokens are dropped that have a time.
    drops: OrdSet<(u64, TokenId)>,
    digest: u64,
}

impl Auth {
    /// The word on authentication, if there was ever one.
    pub fn record(&self) -> Option<&AuthRecord> {
        self.record.as_deref()
    }

    /// The same, shared.
    pub fn shared_record(&self) -> Option<Arc<AuthRecord>> {
        self.record.clone()
    }

    /// Differs after each change of anything here.
    pub fn mark(&self) -> (u64, u64) {
        (self.record.as_ref().map_or(0, |record| record.revision), self.digest)
    }

    /// Clients must say who they are.
    pub fn is_on(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.on)
    }

    /// True where there was never anything.
    pub fn is_empty(&self) -> bool {
        self.record.is_none() && self.tokens.is_empty()
    }

    /// A token by its id.
    pub fn token(&self, id: TokenId) -> Option<&Arc<Token>> {
        self.tokens.get(&id)
    }

    /// A token by its name, and its id.
    pub fn named(&self, name: &str) -> Option<(TokenId, &Arc<Token>)> {
        let id = *self.names.get(name)?;
        self.tokens.get(&id).map(|token| (id, token))
    }

    /// All tokens, by their names.
    pub fn by_name(&self) -> impl Iterator<Item = (TokenId, &Arc<Token>)> {
        self.names.values().filter_map(|id| self.tokens.get(id).map(|token| (*id, token)))
    }

    /// All tokens, by their ids.
    pub fn tokens(&self) -> impl Iterator<Item = (TokenId, &Arc<Token>)> {
        self.tokens.iter().map(|(id, token)| (*id, token))
    }

    /// Who shows the secret with this hash, and the generation of that.
    ///
    /// # Errors
    /// [`Denied::Unknown`], and [`Denied::Expired`] to who has the right secret.
    pub fn identify(&self, id: TokenId, hash: &TokenHash, now_ms: u64) -> Result<(&Arc<Token>, u32), Denied> {
        let token = self.tokens.get(&id).ok_or(Denied::Unknown)?;
        let generation = token.generation_of(hash, now_ms).ok_or(Denied::Unknown)?;
        if token.is_over(now_ms) { Err(Denied::Expired) } else { Ok((token, generation)) }
    }

    /// The token with this id, where its secret of this generation is good.
    ///
    /// # Errors
    /// [`Denied::Unknown`], and [`Denied::Expired`] to who has the right secret.
    pub fn held(&self, id: TokenId, generation: u32, now_ms: u64) -> Result<&Arc<Token>, Denied> {
        let token = self.tokens.get(&id).filter(|token| token.is_good(generation, now_ms)).ok_or(Denied::Unknown)?;
        if token.is_over(now_ms) { Err(Denied::Expired) } else { Ok(token) }
    }

    /// The token that a certificate with this name stands for, if its time is not up.
    pub fn of_certificate(&self, name: &str, now_ms: u64) -> Option<(TokenId, &Arc<Token>)> {
        let id = *self.certificates.get(name)?;
        self.tokens.get(&id).filter(|token| !token.is_over(now_ms)).map(|token| (id, token))
    }

    fn allowed(&self, by: Option<&Principal>, now_ms: u64) -> Result<Allowed<'_>, Denied> {
        let Some(record) = self.record.as_ref().filter(|record| record.on) else { return Ok(Allowed::All) };
        match by {
            Some(Principal::Node | Principal::Root) => Ok(Allowed::All),
            // Without a name it was under way when authentication was turned on: what all may do it may go on to do.
            None | Some(Principal::Anonymous { .. }) if record.anonymous.0.is_empty() => Err(Denied::Missing),
            None | Some(Principal::Anonymous { .. }) => Ok(Allowed::These(&record.anonymous, record.revision)),
            Some(Principal::Token(holder)) => {
                let token = self.held(holder.id, holder.generation, now_ms)?;
                Ok(Allowed::These(&token.grants, token.revision))
            }
        }
    }

    /// Ok where somebody may do this now.
    ///
    /// # Errors
    /// [`Denied`]: why not.
    pub fn check(&self, by: Option<&Principal>, need: Need<'_>, now_ms: u64) -> Result<(), Denied> {
        match self.allowed(by, now_ms)? {
            Allowed::All => Ok(()),
            Allowed::These(_, _) if need == Need::Nothing => Ok(()),
            Allowed::These(grants, _) => grants.demand(need),
        }
    }

    /// Until when [`check`](Self::check) says the same as long as no entry changes it, in milliseconds of log time.
    pub fn good_until(&self, by: Option<&Principal>) -> Option<u64> {
        match by {
            Some(Principal::Token(holder)) if self.is_on() => {
                self.tokens.get(&holder.id).and_then(|token| token.good_until(holder.generation))
            }
            _ => None,
        }
    }

    /// Ok where a command may be applied; `now_ms` is log time with the command's own stamp. True in it: its client may do
    /// everything.
    ///
    /// # Errors
    /// [`Denied`]: why not. Nothing of it may be done.
    pub fn check_command(&self, by: Option<&Principal>, action: &Action, now_ms: u64) -> Result<bool, Denied> {
        if by.is_none() && action.whose() == Whose::Own {
            return Ok(true);
        }
        match self.allowed(by, now_ms)? {
            Allowed::All => Ok(true),
            Allowed::These(grants, revision) => {
                if by.is_none_or(|by| by.revision() != revision) {
                    action.demand(grants)?;
                }
                Ok(grants.allow(Need::Admin))
            }
        }
    }

    /// Whether the owner of a place in a queue may still have the lock.
    pub(super) fn may_lock(&self, owner: Option<TokenId>, name: &str, now_ms: u64) -> bool {
        match owner {
            Some(owner) if self.is_on() && !Principal::is_root_owner(owner) => {
                let good = self.tokens.get(&owner).filter(|token| !token.is_over(now_ms));
                good.is_some_and(|token| token.grants.allow(Need::Lock(name)))
            }
            _ => true,
        }
    }

    /// Turns it on or off.
    pub(super) fn set(&mut self, index: u64, by: &str, on: bool, anonymous: Option<&Grants>, first: bool) -> Reply {
        if first && self.record.is_some() {
            return Reply::Done;
        }
        let old = self.record.as_deref().map(|record| record.anonymous.clone()).unwrap_or_default();
        let anonymous = anonymous.cloned().unwrap_or(old);
        self.record = Some(Arc::new(AuthRecord { on, anonymous, by: by.into(), revision: index }));
        Reply::Done
    }

    /// Makes a token, or changes the one of this name.
    pub(super) fn put(
        &mut self,
        (index, now_ms): (u64, u64),
        by: &str,
        name: &str,
        (id, hash): (TokenId, &TokenHash),
        grants: &Grants,
        (ttl_ms, certificate): (Option<u64>, Option<&CompactString>),
    ) -> Reply {
        if name == ANONYMOUS {
            return self.grant_all(index, by, grants.clone());
        }
        let expires_ms = ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms));
        let known = self.named(name).map(|(id, _)| id);
        if certificate.and_then(|name| self.certificates.get(name)).is_some_and(|of| Some(*of) != known) {
            return Reply::failed(Failure::CertificateTaken);
        }
        let certificate = certificate.cloned();
        if let Some((id, token)) = self.named(name) {
            let grants = grants.clone();
            let changed = Token { grants, expires_ms, certificate, revision: index, ..Token::clone(token) };
            self.restore(id, changed);
            return Reply::Token { fresh: false };
        }
        if self.tokens.len() >= MAX_TOKENS || self.tokens.contains_key(&id) || id == 0 {
            return Reply::failed(Failure::TokensFull);
        }
        let token = Token {
            name: name.into(),
            grants: grants.clone(),
            generation: 1,
            hash: *hash,
            before: None,
            certificate,
            by: by.into(),
            created_ms: now_ms,
            expires_ms,
            revision: index,
        };
        self.restore(id, token);
        Reply::Token { fresh: true }
    }

    /// Changes what is granted to those who show no token; without a record there is no such.
    fn grant_all(&mut self, index: u64, by: &str, grants: Grants) -> Reply {
        let Some(record) = &self.record else { return Reply::failed(Failure::NoToken) };
        self.record = Some(Arc::new(AuthRecord { on: record.on, anonymous: grants, by: by.into(), revision: index }));
        Reply::Token { fresh: false }
    }

    /// Gives a token another secret.
    pub(super) fn rotate(
        &mut self,
        (index, now_ms): (u64, u64),
        name: &str,
        (id, hash): (TokenId, &TokenHash),
        grace_ms: u64,
    ) -> Reply {
        let Some((_, token)) = self.named(name).filter(|(found, _)| *found == id) else {
            return Reply::failed(Failure::NoToken);
        };
        let before = (grace_ms > 0).then(|| (token.hash, now_ms.saturating_add(grace_ms)));
        let generation = token.generation + 1;
        let rotated = Token { hash: *hash, before, generation, revision: index, ..Token::clone(token) };
        self.restore(id, rotated);
        Reply::Token { fresh: true }
    }

    /// Ends a token.
    pub(super) fn delete(&mut self, index: u64, by: &str, name: &str) -> Reply {
        if name == ANONYMOUS {
            return match self.grant_all(index, by, Grants::default()) {
                Reply::Token { .. } => Reply::Deleted(1),
                failed => failed,
            };
        }
        match self.names.get(name).copied() {
            Some(id) => {
                self.remove(id);
                Reply::Deleted(1)
            }
            None => Reply::failed(Failure::NoToken),
        }
    }

    fn remove(&mut self, id: TokenId) {
        let Some(token) = self.tokens.remove(&id) else { return };
        self.names.remove(&*token.name);
        if let Some(certificate) = &token.certificate {
            self.certificates.remove(certificate);
        }
        self.digest = self.digest.wrapping_sub(digest_of(id, &token));
        if let Some(drop_ms) = dropped_at(&token) {
            self.drops.remove(&(drop_ms, id));
        }
    }

    /// Puts one token as it is; also from a snapshot.
    pub(super) fn restore(&mut self, id: TokenId, token: Token) {
        self.remove(id);
        self.names.insert(CompactString::from(&*token.name), id);
        if let Some(certificate) = &token.certificate {
            self.certificates.insert(certificate.clone(), id);
        }
        self.digest = self.digest.wrapping_add(digest_of(id, &token));
        if let Some(drop_ms) = dropped_at(&token) {
            self.drops.insert((drop_ms, id));
        }
        self.tokens.insert(id, Arc::new(token));
    }

    pub(super) fn restore_record(&mut self, record: AuthRecord) {
        self.record = Some(Arc::new(record));
    }

    /// When a tick has something to drop here, in milliseconds of log time; many share one.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.drops.get_min().map(|(drop_ms, _)| *drop_ms)
    }

    /// Drops at most `most` tokens whose time was up long ago. Returns how many it dropped.
    pub(super) fn expire(&mut self, now_ms: u64, most: usize) -> usize {
        let mut dropped = 0;
        while dropped < most
            && let Some((drop_ms, id)) = self.drops.get_min().copied()
            && drop_ms <= now_ms
        {
            self.remove(id);
            dropped += 1;
        }
        dropped
    }

    pub(super) fn digest(&self) -> u64 {
        let record = self.record.as_deref();
        let record = xxh3_64(&postcard::to_stdvec(&record).expect("every record can be encoded"));
        record.wrapping_add(self.digest)
    }
}

/// When an expired token is dropped: at a full hour, together with others.
fn dropped_at(token: &Token) -> Option<u64> {
    let late = token.expires_ms?.saturating_add(KEPT_MS);
    Some((late / TICK_MS).saturating_add(1).saturating_mul(TICK_MS))
}

fn digest_of(id: TokenId, token: &Token) -> u64 {
    xxh3_64(&postcard::to_stdvec(&(id, token)).expect("every token can be encoded"))
}
