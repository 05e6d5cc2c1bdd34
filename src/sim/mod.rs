//! Whole nodes in one process, on simulated time, network and disks, with faults from a seed.
//!
//! The product runs: the life of a process ([`crate::start`]), the client API behind its router, the node, openraft, the
//! state machine, the log and its recovery, snapshots. Simulated is what lies behind its seams: time (tokio's paused clock), the
//! network ([`crate::node::rpc::Peers`] and the routers' requests), disks ([`crate::storage::disk::Disk`]), threads
//! ([`crate::task`]) and randomness.
//!
//! * `run`: one run. `faults`: what goes wrong. `cluster`, `process`: nodes up and down. `clients`: what is done.
//! * `invariants`: what must hold all along, one file each; `observer` tells them what a state machine does.
//! * `subsets`: a directory with any of its files gone or put back from an earlier moment.
//! * `host`: a machine, paused and killed. `net`, `connection`, `peers`, `disk`, `runtime`: what it runs on. `world`: what a run knows.
//!
//! `.ci/simulate --seeds 2000` runs seeds 0 to 1,999, `--seed 17` that one, `--seed 17 --trace` shows what happened, with what
//! the nodes logged (`logs`). A
//! seed replays exactly: same code, same events at the same times. That needs a tokio that takes a seed for its own
//! randomness (`--cfg tokio_unstable`, which the script sets): plain `cargo test` runs some seeds without, each time in another
//! order of what happens at one moment. What failed there is found again by `.ci/simulate --seed 17 --orders 100`, which runs
//! the seed with a hundred seeds of tokio's.
//!
//! Why not turmoil or madsim: turmoil simulates `tokio::net` under hyper, but not our client (which resolves and connects by
//! itself), no disk and no threads; madsim replaces tokio as a whole and has no axum or hyper of this age. Neither
//! would run more of the product than this does: what is left out is sockets and HTTP's bytes, which the tests of built
//! binaries in real network namespaces have.
//!
//! tests/README.md lists all that breaks the product on purpose, and how many seeds it took to find each.
//!
//! Caveats:
//! * Timers run alike on all hosts, those of elections too. What differs in half of the runs is the rate of the clock that
//!   log time is measured with ([`crate::task::Moment`]). A host's clock jumps by a pause of that host, or with all others.
//!   (The product asks no wall clock.)
//! * Timers have tokio's grain of 1 ms, and what needs no time takes none.

mod clients;
pub mod clock;
mod cluster;
mod connection;
mod disk;
mod faults;
pub mod host;
mod invariants;
pub mod net;
mod observer;
pub mod peers;
pub mod process;
mod run;
pub mod runtime;
mod subsets;
mod tests;
mod versions;
pub mod world;

use std::sync::OnceLock;

/// How many seeds `cargo test` runs, unoptimised and with debug assertions.
const PLAIN_SEEDS: u64 = 10;
/// How many it runs with `HRAFTD_TESTS=full`, as in `.ci/run`.
const FULL_SEEDS: u64 = 30;

/// The options of the environment.
#[derive(Debug, Clone)]
struct Options {
    /// The first seed, and how many.
    first: u64,
    seeds: u64,
    /// In how many orders of what happens at one moment each seed is run, and the first of them: tokio's seeds.
    orders: u64,
    order: u64,
    /// Print all that happens.
    trace: bool,
}

fn options() -> &'static Options {
    static OPTIONS: OnceLock<Options> = OnceLock::new();
    OPTIONS.get_or_init(|| {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
        let seed = number("HRAFTD_SEED");
        let is_full = std::env::var_os("HRAFTD_TESTS").is_some_and(|value| value == "full");
        let default = if is_full { FULL_SEEDS } else { PLAIN_SEEDS };
        Options {
            first: seed.unwrap_or(0),
            seeds: number("HRAFTD_SEEDS").unwrap_or(if seed.is_some() { 1 } else { default }),
            orders: number("HRAFTD_ORDERS").unwrap_or(1),
            order: number("HRAFTD_ORDER").unwrap_or(0),
            trace: std::env::var_os("HRAFTD_TRACE").is_some(),
        }
    })
}
