//! How cost grows, measured on the built binary from outside: `cargo bench --bench growth`.
//!
//! Arguments name the parts to run: `keys`, `snapshot`, `watchers`, `nodes`, `slow`, `start`, `looked-at`, `backup`, `closed`; without any, all run. Each
//! prints a table, which `benches/README.md` explains.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod backups;
#[path = "../support/mod.rs"]
mod bench_support;
mod closed;
mod faults;
mod looked_at;
mod parts;
#[path = "../../tests/support/mod.rs"]
mod support;

use bench_support::system;

type Part = (&'static str, fn());

const PARTS: [Part; 9] = [
    ("keys", parts::keys),
    ("snapshot", parts::snapshot),
    ("watchers", parts::watchers),
    ("nodes", parts::nodes),
    ("slow", parts::slow_follower),
    ("start", parts::start_and_idle),
    ("looked-at", looked_at::looked_at),
    ("backup", backups::backup),
    ("closed", closed::closed),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    println!("{}", system::describe());
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("\n{name}");
            part();
        }
    }
}
