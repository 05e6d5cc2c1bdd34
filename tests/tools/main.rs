//! The built binary with the programs that people use beside it: supervisord, httpie, curl, several machines.
//!
//! Each test runs in network and process namespaces of its own, so that the documented ports 11000–11002 and wildcard
//! binds can be used as they are written. Needs Debian packages; where one is missing the test says so and is skipped,
//! except in CI.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod closed;
mod etcd;
mod held;
mod http2;
mod machines;
mod metrics;
mod names;
mod openapi;
mod page;
mod partitions;
mod places;
mod proxies;
mod stalls;
mod supervisor;
mod walkthrough;
mod warned;

use support::{namespace, shell};
