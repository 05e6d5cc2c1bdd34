//! What it costs to be closed: TLS at both ports and a token with each request, beside the same without.

use std::path::PathBuf;

use super::parts::{Load, fill, leader_of, median, window_of};
use crate::bench_support::template::Secure;
use crate::support::cluster::Cluster;
use crate::support::http;
use crate::support::lab::Lab;
use crate::support::secure::{client_config, secure, tool};

const KEYS: usize = 100_000;

/// Pairs of windows, each of so many seconds; `HRAFTD_BENCH_ROUNDS` for others.
const ROUNDS: usize = 12;

fn rounds() -> usize {
    std::env::var("HRAFTD_BENCH_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap())
}

/// `HRAFTD_BIN`: another binary than the one that was built with this.
fn program() -> Option<PathBuf> {
    std::env::var_os("HRAFTD_BIN").map(PathBuf::from)
}

/// A cluster with a secret and a root token; its clients show a token that is not root's.
fn start() -> (Cluster, Secure) {
    let lab = Lab::new();
    let path = |name: &str| lab.path().join(name).to_str().unwrap().to_owned();
    let (secret, root) = (path("secret"), path("root"));
    tool(lab.path(), &["secret", &secret]);
    tool(lab.path(), &["token", &root]);
    let ca = tool(lab.path(), &["ca", "--cluster-secret-file", &secret]);
    let token = std::fs::read_to_string(&root).unwrap().trim().to_owned();
    let args = ["--cluster-secret-file", &secret, "--tls-auto", "--root-token-file", &root].map(str::to_owned);
    let cluster = Cluster::start_prepared(lab, 3, &args.each_ref().map(String::as_str), |node| {
        node.program = program();
        secure(std::slice::from_ref(&node.haddr), &ca, Some(&token));
    });
    let grants: &[u8] = br#"{"grants":["read:","write:"]}"#;
    let made = http::call(&leader_of(&cluster), "PUT", "/hraftd/auth/token/load", Some(grants)).unwrap();
    let token = made.json()["token"].as_str().unwrap().to_owned();
    (cluster, Secure { config: client_config(&ca), token })
}

/// Compares CPU and rate, in pairs of windows whose order changes.
pub fn closed() {
    // A thread has one lab.
    let plain = std::thread::spawn(|| Cluster::start_prepared(Lab::new(), 3, &[], |node| node.program = program()));
    let plain = plain.join().unwrap();
    let (closed, shown) = start();
    let arms = [(&plain, None), (&closed, Some(shown))];
    for (cluster, _) in &arms {
        fill(&leader_of(cluster), 0, KEYS);
    }
    for (what, puts) in [("get", 0), ("put", 100)] {
        let (mut cpu, mut rate, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds() {
            let mut seen: [Option<Load>; 2] = [None, None];
            for place in 0..2 {
                let arm = (round + place) % 2;
                let (cluster, secure) = &arms[arm];
                seen[arm] = Some(window_of(cluster, secure.clone(), KEYS, puts));
            }
            let [Some(plain), Some(closed)] = seen else { unreachable!() };
            cpu.push([plain.us_each, closed.us_each, closed.us_each / plain.us_each]);
            rate.push([plain.rate, closed.rate, closed.rate / plain.rate]);
            own.push([plain.own, closed.own, 0.0]);
        }
        let of = |all: &[[f64; 3]], at: usize| median(&mut all.iter().map(|one| one[at]).collect::<Vec<_>>());
        println!(
            "{what}: CPU of the servers {:.1} us plain, {:.1} closed: x {:.3}; rate {:.0}/s and {:.0}: x {:.3}; the load's own CPU \
             {:.0} % and {:.0} % of one core (medians of {} pairs)",
            of(&cpu, 0),
            of(&cpu, 1),
            of(&cpu, 2),
            of(&rate, 0),
            of(&rate, 1),
            of(&rate, 2),
            100.0 * of(&own, 0),
            100.0 * of(&own, 1),
            cpu.len()
        );
    }
}
