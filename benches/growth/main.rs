//! How cost grows, measured on the built binary from outside: `cargo bench --bench growth`.
//!
//! Names of parts as arguments run these alone: `keys`, `snapshot`, `watchers`, `nodes`, `slow`, `start`. Each prints a
//! table; `benches/README.md` says what is in it.

#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code, missing_docs)]

#[path = "../cluster/client.rs"]
mod client;
mod faults;
#[path = "../cluster/grpc.rs"]
mod grpc;
#[path = "../cluster/http1.rs"]
mod http1;
#[path = "../cluster/load.rs"]
mod load;
mod parts;
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../cluster/system.rs"]
mod system;

type Part = (&'static str, fn());

const PARTS: [Part; 6] = [
    ("keys", parts::keys),
    ("snapshot", parts::snapshot),
    ("watchers", parts::watchers),
    ("nodes", parts::nodes),
    ("slow", parts::slow_follower),
    ("start", parts::start_and_idle),
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
