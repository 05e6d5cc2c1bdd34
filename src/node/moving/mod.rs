//! Nodes at other addresses: the Raft id is the identity, addresses are hints.
//!
//! * [`AddressBook`] has the addresses at which members were found, where those are not the membership's.
//!   [`BookedPeers`] sends what is for a member to where it was found.
//! * [`search`] asks `Identify` at every address that is known or listed. [`seek`] does it while a node runs, for members
//!   that do not answer; a leader then writes what was found into the membership.
//! * [`verdict`] has the rules for a directory that was started under other addresses: it takes no part until it may go
//!   on. `start::moving` applies them before Raft is started.
//!
//! No address is ever taken from the source of a message: it counts only once the Raft id answered there.

mod book;
pub(in crate::node) mod replace;
mod search;
mod seek;
#[cfg(test)]
mod tests;
mod verdict;

pub use book::{AddressBook, BookedPeers};
pub use search::{Heard, Sighting, ask_leaders, look};
pub use verdict::{LeaderWord, Mover, Verdict, judge};
