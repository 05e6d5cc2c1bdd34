//! The Raft transport: HTTP/1.1 with compact binary bodies, on the Raft address.
//!
//! * [`HttpPeers`] is the client side, [`router`] the server side, [`wire`] the format between them.
//! * A small request is answered in one exchange on a kept connection ([`client`], [`server`]). Entries travel in a stream
//!   each way on a connection that was upgraded ([`appends`]). A snapshot is streamed from file to file, and never in
//!   memory whole ([`snapshot`]).
//! * [`limits`] bounds what is on its way to this node, [`large_reply`] what is on its way back, [`validate`] refuses messages that no correct
//!   peer sends, [`origin`] those that a web page may have sent.
//!
//! Caveat: without a cluster secret there is no authentication: whoever reaches the Raft port can act as a member. With one,
//! [`crate::tls`] lets nodes of the cluster in alone, before anything here is called.

mod appends;
mod client;
mod decode;
#[cfg(test)]
#[path = "../../tests/fuzz/wire.rs"]
mod fuzz;
#[cfg(test)]
mod golden;
mod large_reply;
mod limits;
mod link;
mod origin;
mod port;
mod reply;
mod resolver;
mod server;
mod snapshot;
#[cfg(test)]
mod tests;
mod validate;
pub(crate) mod wire;

#[cfg(test)]
pub(crate) use appends::{leader_side, serve_appends};
#[cfg(test)]
pub(crate) use validate::{check_request, check_snapshot};

pub use client::HttpPeers;
pub use server::router;
pub use validate::CommandLimits;
