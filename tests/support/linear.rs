//! The checker of linearizability, which `hraftd drill` has too.

pub use hraftd::client::drill::check::{Op, What, check};
