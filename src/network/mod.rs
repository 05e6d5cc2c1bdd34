//! The Raft transport: HTTP/1.1 with compact binary bodies, on the Raft address.
//!
//! [`HttpPeers`] is the client side, [`router`] the server side, [`wire`] what goes between them. A
//! small request is answered in one exchange on a kept connection; entries travel in a stream each way
//! on a connection that was upgraded; a snapshot is streamed from file to file and never in memory whole.
//!
//! What is on its way to this node is bounded all together, by [`bounds`].
//!
//! Caveat: whoever reaches the Raft port can be a member; there is no authentication.

mod appends;
mod client;
#[cfg(test)]
#[path = "../../tests/fuzz/wire.rs"]
mod fuzz;
mod limits;
mod server;
mod snapshot;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

#[cfg(test)]
pub(crate) use appends::{answer, way};

pub use client::HttpPeers;
pub use server::router;
