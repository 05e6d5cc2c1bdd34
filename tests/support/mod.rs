//! What the integration tests share: processes of the built binary, free ports, a small HTTP client, polling.
//!
//! Every process is reaped when its owner is dropped, by a panic too; a dropped [`node::Node`] prints the end of its
//! log when the test failed. Nothing here sleeps but [`wait::eventually`], between two looks.

// Each test binary includes this module and uses a part of it.
#![allow(dead_code)]

pub mod cluster;
pub mod crowd;
pub mod events;
pub mod extent;
pub mod faketime;
pub mod gate;
pub mod history;
pub mod http;
pub mod lab;
pub mod linear;
pub mod machine;
pub mod namespace;
pub mod node;
pub mod ports;
pub mod process;
pub mod secure;
pub mod shell;
pub mod slow_disk;
pub mod slowest;
pub mod wait;
pub mod watch;

use std::io::Write;

/// Prints a line that is seen even when the test passes (`println!` would be captured).
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}
