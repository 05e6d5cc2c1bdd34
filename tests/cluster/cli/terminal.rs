//! On a terminal: how far long work is, in one line, however wide the terminal is by now.

use std::process::Command;

use super::{WITHIN, endpoints};
use crate::support::cluster::Cluster;
use crate::support::process::finish;

#[test]
fn a_line_of_progress_fits_a_terminal_that_is_resized() {
    let cluster = Cluster::start(1);
    let mut command = Command::new("script");
    // A terminal of its own, which becomes narrow amid it.
    let line =
        "stty cols 50; (sleep 2; stty cols 20 </dev/tty) & \"$HRAFTD\" bench --seconds 5 --rate 20 --keys 5; wait";
    command.args(["-qec", line, "/dev/null"]).current_dir(cluster.lab.path());
    command.env("HRAFTD", env!("CARGO_BIN_EXE_hraftd")).env("HRAFTD_ENDPOINTS", endpoints(&cluster.nodes));
    let end = finish(&mut command, WITHIN);
    assert_eq!(end.code, Some(0), "{end:?}");
    let shown: Vec<&str> = end.stdout.split('\r').filter(|line| line.contains("bench: [")).collect();
    let widths: Vec<usize> = shown.iter().map(|line| line.split('\u{1b}').next().unwrap().chars().count()).collect();
    assert!(widths.len() > 3 && widths.iter().all(|width| *width <= 49), "{end:?}");
    assert!(widths[0] > 30 && widths.last() <= Some(&19), "{widths:?}");
    assert!(end.stdout.contains("errors: none"), "{end:?}");
}
