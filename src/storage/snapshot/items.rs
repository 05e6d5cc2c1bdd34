//! The things in a snapshot, and how they are read from its blocks.

use compact_str::CompactString;
use serde::de::DeserializeOwned;

use crate::command::{Key, TokenId};
use crate::kv::{AuthRecord, Kept, KvStore, Lease, Lock, Token};
use crate::record::{Marks, Rare, Record};
use crate::storage::file_header::u32_at;

const OLD_KEY_HEAD_BYTES: usize = 6;
const KEY_HEAD_BYTES: usize = 33;
pub(super) const IS_BYTES: u8 = 1;
pub(super) const HAS_DEADLINE: u8 = 2;
pub(super) const HAS_LEASE: u8 = 4;

/// One thing in a snapshot.
pub(in crate::storage) enum Item<'a> {
    Key { key: &'a str, marks: Marks, rare: Rare, value: &'a [u8] },
    Lock(Key, Lock),
    Kept(CompactString, Kept),
    Lease(u64, Lease),
    Claim(Key, u64, u64),
    Auth(AuthRecord),
    Token(TokenId, Token),
    Owner(bool, u64, TokenId),
    Quota(u64),
}

impl Item<'_> {
    /// Puts it into a state that is rebuilt.
    pub(in crate::storage) fn restore(self, kv: &mut KvStore) {
        match self {
            Item::Key { key, marks, rare, value } => kv.restore(Key::from(key), Record::new(marks, &rare, value)),
            Item::Lock(name, lock) => kv.restore_lock(name, lock),
            Item::Kept(key, kept) => kv.restore_kept(key, kept),
            Item::Lease(id, lease) => kv.restore_lease(id, lease),
            Item::Claim(name, ticket, lease) => kv.restore_leased_claim(&name, ticket, lease),
            Item::Auth(record) => kv.restore_auth(record),
            Item::Token(id, token) => kv.restore_token(id, token),
            Item::Owner(is_lease, index, owner) => kv.restore_owner(is_lease, index, owner),
            Item::Quota(bytes) => kv.restore_quota(bytes),
        }
    }
}

const CUT: &str = "a record that is longer than its block";

fn split<'b>(rest: &mut &'b [u8], length: usize) -> Result<&'b [u8], &'static str> {
    let (head, tail) = rest.split_at_checked(length).ok_or(CUT)?;
    *rest = tail;
    Ok(head)
}

fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes).map_err(|_| "a key that is not UTF-8")
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let bytes = split(rest, 8)?;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

pub(super) fn take_old_key<'b>(rest: &mut &'b [u8]) -> Result<Item<'b>, &'static str> {
    let head = split(rest, OLD_KEY_HEAD_BYTES)?;
    let key = text(split(rest, u16_at(head, 0))?)?;
    let value = split(rest, u32_at(head, 2) as usize)?;
    Ok(Item::Key { key, marks: Marks::UNKNOWN, rare: Rare::default(), value })
}

pub(super) fn take_key<'b>(rest: &mut &'b [u8]) -> Result<Item<'b>, &'static str> {
    let mut head = split(rest, KEY_HEAD_BYTES)?;
    let (key_len, value_len, type_len, flags) = (u16_at(head, 0), u32_at(head, 2) as usize, u16_at(head, 6), head[8]);
    head = &head[9..];
    let create_index = take_u64(&mut head)?;
    let modify_index = take_u64(&mut head)?;
    let version = take_u64(&mut head)?;
    let deadline_ms = if flags & HAS_DEADLINE == 0 { None } else { Some(take_u64(rest)?) };
    let lease = if flags & HAS_LEASE == 0 { None } else { Some(take_u64(rest)?) };
    let content_type = text(split(rest, type_len)?)?;
    let key = text(split(rest, key_len)?)?;
    let value = split(rest, value_len)?;
    let content_type = (!content_type.is_empty()).then(|| CompactString::from(content_type));
    let rare = Rare { is_bytes: flags & IS_BYTES != 0, content_type, deadline_ms, lease };
    Ok(Item::Key { key, marks: Marks { create_index, modify_index, version }, rare, value })
}

pub(super) fn take_lock<'b>(rest: &mut &'b [u8]) -> Result<Item<'b>, &'static str> {
    take(rest).map(|(name, lock)| Item::Lock(name, lock))
}

pub(super) fn take_kept<'b>(rest: &mut &'b [u8]) -> Result<Item<'b>, &'static str> {
    take(rest).map(|(key, kept)| Item::Kept(key, kept))
}

pub(super) fn take_lease<'b>(rest: &mut &'b [u8]) -> Result<Item<'b>, &'static str> {
    take(rest).map(|(id, lease)| Item::Lease(id, lease))
}

pub(super) fn take_claim<'b>(rest: &mut &'b [u8]) -> Result<Item<'b>, &'static str> {
    take(rest).map(|(name, ticket, lease)| Item::Claim(name, ticket, lease))
}

pub(super) fn take_auth<'b>(rest: &mut &'b [u8]) -> Result<Item<'b>, &'static str> {
    take(rest).map(Item::Auth)
}

pub(super) fn take_token<'b>(rest: &mut &'b [u8]) -> Result<Item<'b>, &'static str> {
    take(rest).map(|(id, token)| Item::Token(id, token))
}

pub(super) fn take_owner<'b>(rest: &mut &'b [u8]) -> Result<Item<'b>, &'static str> {
    take(rest).map(|(is_lease, index, owner)| Item::Owner(is_lease, index, owner))
}

pub(super) fn take_quota<'b>(rest: &mut &'b [u8]) -> Result<Item<'b>, &'static str> {
    take(rest).map(Item::Quota)
}

fn take<T: DeserializeOwned>(rest: &mut &[u8]) -> Result<T, &'static str> {
    let length = u32_at(split(rest, 4)?, 0) as usize;
    match postcard::take_from_bytes(split(rest, length)?) {
        Ok((item, [])) => Ok(item),
        _ => Err("a record that cannot be decoded"),
    }
}
