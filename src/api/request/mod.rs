//! Reads and checks what a client request says: its query, body, conditions, key and origin.
//!
//! Nothing here knows what a request is for; each resource asks for the parts that it takes.

pub(super) mod body;
pub(super) mod conditions;
pub(super) mod content;
pub(super) mod deadline;
pub(super) mod hosts;
pub(super) mod idempotency;
pub(super) mod json_body;
pub(super) mod json_error;
pub(super) mod key_path;
pub(super) mod origin;
pub(super) mod query;
pub(super) mod read;
pub(super) mod ttl;
pub(super) mod value;
