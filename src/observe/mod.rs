//! Numbers that a node keeps of itself: counters and histograms.
//!
//! They cost a relaxed atomic or two where something happens, on a cache line that other threads rarely touch
//! ([`Sharded`]). Everything else is worked out by whoever looks. Each part of hraftd owns its numbers, and hands them out
//! to be read; nothing here knows what they are of.

mod counter;
mod histogram;
mod pulse;
mod recent;
mod recently;
mod request_log;
mod security;
mod sharded;

pub use counter::Counter;
pub use histogram::{Histogram, Scale, Seen};
pub use pulse::{PulseTasks, Pulses};
pub use recent::Recent;
pub use recently::Recently;
pub use request_log::{Logged, RequestLog};
pub use security::{
    AUTH_REFUSALS, AuthRefusal, CERTIFICATES, Certificate, HANDSHAKE_OUTCOMES, Handshake, PLAIN_PORTS, PlainOpen,
    PlainPort, SecurityFault, SecurityNumbers,
};
pub use sharded::Sharded;
