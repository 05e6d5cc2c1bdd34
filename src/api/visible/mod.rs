//! Raft made visible: what members do, when an entry came how far, and what is wrong.

pub(super) mod doctor;
pub(super) mod entry;
pub(super) mod events;
pub(super) mod members;
