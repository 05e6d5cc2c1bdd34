//! Parts that several benchmarks share: clients of each protocol, the load they make, and what the system tells of it.

// Each benchmark includes this module and uses a part of it.
#![allow(dead_code)]

pub mod client;
pub mod grpc;
mod http1;
mod http2;
pub mod load;
mod resp;
pub mod system;
pub mod template;
