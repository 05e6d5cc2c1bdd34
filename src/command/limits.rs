//! Limits of what a command says. A client's request and another node's message are held to the same: what one node lets in
//! no other may refuse.

use std::time::Duration;

/// The most conditions of a transaction, the most operations of a branch, and the most keys that a branch touches.
pub const MAX_TXN_ITEMS: usize = 1024;

/// The most comparisons that one condition of a client makes.
pub const MAX_TESTS_OF_CONDITION: usize = 9;

/// The shortest time to live of a key.
pub const MIN_TTL: Duration = Duration::from_secs(1);

/// The longest time to live of a key, and of a token: ten years, leap days aside.
pub const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The shortest time to live of what its holder renews: a lock, a lease.
pub const MIN_RENEWED_TTL: Duration = Duration::from_secs(1);

/// The longest time to live of what its holder renews.
pub const MAX_RENEWED_TTL: Duration = Duration::from_hours(24);

/// The longest wait for a lock, a key or an index.
pub const MAX_WAIT: Duration = Duration::from_secs(300);
