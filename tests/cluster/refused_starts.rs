//! Starts that are refused: exit code, and one line on stderr that says why.

use std::net::TcpListener;
use std::time::Duration;

use crate::support::lab::Lab;
use crate::support::node::{hraftd, plain_file};
use crate::support::process::{Finished, finish};

/// The code, and one line on stderr that holds all of `named`.
fn assert_refused(end: &Finished, code: i32, named: &[&str]) {
    assert_eq!(end.code, Some(code), "{end:?}");
    assert_eq!(end.stderr.trim_end().lines().count(), 1, "not one line on stderr: {end:?}");
    assert!(!end.stderr.contains("panicked"), "{end:?}");
    for name in named {
        assert!(end.stderr.contains(name), "{name} is not named: {end:?}");
    }
}

#[test]
fn a_bad_command_line() {
    let lab = Lab::new();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--nope"], &["--nope"]),
        (&["-nope"], &["nope"]),
        (&["stray"], &["stray"]),
        (&["--haddr"], &["--haddr"]),
        (&["--haddr", "nonsense"], &["--haddr", "nonsense"]),
        (&["--haddr", "127.0.0.1:99999"], &["--haddr", "99999"]),
        (&["--haddr", "127.0.0.1:port"], &["--haddr", "port"]),
        (&["--haddr", "::1:11000"], &["--haddr", "::1:11000"]),
        // There is no port 65999 for Raft.
        (&["--haddr", "127.0.0.1:64999"], &["--haddr", "64999"]),
        (&["--raddr", "127.0.0.1:900"], &["--raddr", "900"]),
        (&["--rjoin", "a b:1"], &["--rjoin", "a b:1"]),
        (&["--rmem=maybe"], &["--rmem", "maybe"]),
        (&["--snapshot-threshold", "few"], &["--snapshot-threshold", "few"]),
        (&["--max-value", "lots"], &["--max-value", "lots"]),
        (&["--heartbeat-interval", "soon"], &["--heartbeat-interval", "soon"]),
        (&["--log-format", "xml"], &["--log-format", "xml"]),
    ];
    for (args, named) in cases {
        let rdir = lab.path().join("never-made");
        let end = finish(hraftd(lab.path()).args(*args).arg("--rdir").arg(&rdir), Duration::from_secs(10));
        assert_refused(&end, 64, named);
        assert!(!rdir.exists(), "{args:?} made a directory");
    }
}

/// Whether that is the command line or the configuration, the contract leaves open.
#[test]
fn an_interface_that_is_not_there() {
    let lab = Lab::new();
    let node = lab.node("n").args(&["--iface", "no-such-iface0"]);
    let end = node.start_refused();
    let code = if end.code == Some(78) { 78 } else { 64 };
    assert_refused(&end, code, &["--iface", "no-such-iface0"]);
}

#[test]
fn a_bad_environment() {
    let lab = Lab::new();
    let end = finish(hraftd(lab.path()).env("HRAFTD_HADDR", "nonsense"), Duration::from_secs(10));
    assert_refused(&end, 64, &["nonsense"]);
}

#[test]
fn help_and_version_are_no_errors() {
    let lab = Lab::new();
    for flag in ["--help", "-help", "-h"] {
        let end = finish(hraftd(lab.path()).arg(flag), Duration::from_secs(10));
        assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{flag}");
        for name in ["--haddr", "--raddr", "--hadv", "--radv", "--iface", "--rjoin", "--rdir", "--rmem"] {
            assert!(end.stdout.contains(name), "{flag} does not tell of {name}");
        }
        assert!(end.stdout.lines().count() <= 110, "{flag} prints more than two screens");
    }
    for flag in ["--version", "-version"] {
        let end = finish(hraftd(lab.path()).arg(flag), Duration::from_secs(10));
        assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{flag}");
        assert!(end.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", end.stdout);
    }
}

#[test]
fn a_data_directory_that_cannot_be() {
    let lab = Lab::new();
    let mut node = lab.node("n");
    node.rdir = plain_file(&lab.path().join("a-file")).join("data");
    assert_refused(&node.start_refused(), 78, &["--rdir", node.rdir.to_str().unwrap()]);
    node.rdir = plain_file(&lab.path().join("another-file"));
    assert_refused(&node.start_refused(), 78, &["--rdir", node.rdir.to_str().unwrap()]);
}

#[test]
fn a_home_that_cannot_be() {
    let lab = Lab::new();
    let file = plain_file(&lab.path().join("a-file"));
    let node = lab.node("n");
    let end = finish(hraftd(&file).args(["--haddr", &node.haddr]), Duration::from_secs(10));
    assert_refused(&end, 78, &[file.to_str().unwrap()]);
}

/// Two processes must not vote with one identity.
#[test]
fn a_copy_of_the_directory_of_a_node_that_runs() {
    let lab = Lab::new();
    let mut node = lab.node("n");
    node.start();
    node.wait_ready();
    let copy = lab.node("copy");
    std::fs::create_dir(&copy.rdir).unwrap();
    for file in std::fs::read_dir(&node.rdir).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), copy.rdir.join(file.file_name())).unwrap();
    }
    let end = copy.start_refused();
    // It had to look for the other first, so it has said where it listens: the reason is the last line.
    assert_eq!(end.code, Some(78), "{end:?}");
    let reason = end.stderr.lines().last().unwrap();
    assert!(reason.contains(&node.haddr) && reason.contains(&copy.haddr), "{end:?}");
    node.assert_alive();
}

#[test]
fn a_directory_in_use() {
    let lab = Lab::new();
    let mut node = lab.node("n");
    node.start();
    node.wait_ready();
    assert_refused(&node.start_refused(), 78, &[node.rdir.to_str().unwrap()]);
    node.set("k", "1").unwrap();
}

#[test]
fn a_port_in_use() {
    let lab = Lab::new();
    for raft in [false, true] {
        let node = lab.node(if raft { "raft" } else { "http" });
        let addr = if raft { &node.raddr } else { &node.haddr };
        let taken = TcpListener::bind(addr).unwrap();
        assert_refused(&node.start_refused(), 1, &[addr]);
        drop(taken);
    }
}
