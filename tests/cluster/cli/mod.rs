//! The binary as the client of three nodes.

mod bench;
mod commands;
mod data;
mod drill;
mod endpoints;
mod faults;
mod killed;
mod moments;
mod other_cluster;
mod terminal;
mod verbs;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::node::{Node, hraftd};
use crate::support::process::{Finished, Reaped, finish};

/// A command ends within this time.
const WITHIN: Duration = Duration::from_secs(60);

/// The endpoints of these nodes.
fn endpoints(nodes: &[Node]) -> String {
    nodes.iter().map(|node| node.haddr.clone()).collect::<Vec<_>>().join(",")
}

/// The client of a cluster.
fn client(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = hraftd(cluster.lab.path());
    command.args(args).env("HRAFTD_ENDPOINTS", endpoints(&cluster.nodes));
    command
}

fn run(cluster: &Cluster, args: &[&str]) -> Finished {
    finish(&mut client(cluster, args), WITHIN)
}

/// What it prints, where all goes well.
#[track_caller]
fn ok(cluster: &Cluster, args: &[&str]) -> String {
    let end = run(cluster, args);
    assert_eq!(end.code, Some(0), "{args:?}: {end:?}");
    end.stdout
}

/// What it says, where it ends with this code.
#[track_caller]
fn fails(cluster: &Cluster, code: i32, args: &[&str]) -> String {
    let end = run(cluster, args);
    assert_eq!((end.code, end.stdout.as_str()), (Some(code), ""), "{args:?}: {end:?}");
    assert_eq!(end.stderr.lines().count(), 1, "{args:?}: {end:?}");
    end.stderr
}

/// Runs it with this standard input: its exit code, and all that it printed.
fn fed(mut command: Command, input: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut to, input) = (child.stdin.take().unwrap(), input.to_vec());
    let feed = std::thread::spawn(move || drop(to.write_all(&input)));
    let end = child.wait_with_output().unwrap();
    feed.join().unwrap();
    (end.status.code(), end.stdout, String::from_utf8_lossy(&end.stderr).into_owned())
}

/// Nothing of it steers a terminal.
fn is_harmless(text: &str) -> bool {
    let turns =
        |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|c| turns(c) || c.is_control() && !matches!(c, '\n' | '\t'))
}

/// Runs it in the background; what it prints is in a file.
fn started(cluster: &Cluster, name: &str, args: &[&str]) -> (Reaped, std::path::PathBuf) {
    let path = cluster.lab.path().join(name);
    let file = std::fs::File::create(&path).unwrap();
    let mut command = client(cluster, args);
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    (Reaped::spawn(&mut command), path)
}

fn text(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
