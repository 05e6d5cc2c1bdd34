//! What a client request says: its query, body, conditions, key and origin, read and checked.
//!
//! Nothing here knows what a request is for; each resource asks for the parts that it takes.

pub(in crate::api) mod body;
pub(in crate::api) mod conditions;
pub(in crate::api) mod idempotency;
pub(in crate::api) mod json_body;
pub(in crate::api) mod key_path;
pub(in crate::api) mod origin;
pub(in crate::api) mod query;
pub(in crate::api) mod value;
