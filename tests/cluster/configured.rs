//! A node with a configuration file: what it starts with, what it does not start with, and what SIGHUP changes.

use std::fs::write;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::lab::Lab;
use crate::support::node::hraftd;
use crate::support::process::{Finished, finish};
use crate::support::wait::{SETTLE, check, eventually};

fn check_config(home: &Path, args: &[&str]) -> Finished {
    finish(hraftd(home).args(["check", "config"]).args(args), Duration::from_secs(10))
}

#[test]
fn a_file_is_read_at_start_and_again_at_sighup() {
    let lab = Lab::new();
    let file = lab.path().join("hraftd.toml");
    let name = file.to_str().unwrap();
    write(&file, "\u{feff}# of this node\nread-level = \"none\"\nslow = \"10s\"\nmax-value = 16\n").unwrap();
    let mut node = lab.node("n").args(&["--config", name]);
    node.start();
    node.wait_ready();
    let refused = node.post("/hraftd/key", "{\"k\": \"more than sixteen bytes\"}").unwrap();
    assert_eq!(refused.status, 413, "{}", refused.brief());

    let said = |node: &crate::support::node::Node, what: &str| {
        eventually(SETTLE, what, || check(node.log_text().contains(what), || node.log_text()));
    };
    write(&file, "log-requests = \"all\"\nslow = \"10s\"\nmax-value = 17\n").unwrap();
    kill_process(node.pid(), Signal::HUP).unwrap();
    said(&node, "settings that are read again: log-requests");
    said(&node, "these settings differ, and need a restart of this node: read-level, max-value");
    node.set("seen", "1").unwrap();
    said(&node, "path=\"/hraftd/key\" status=200");
    // One mistake, and nothing of the file counts.
    write(&file, "log-requests = \"off\"\nlog-levle = \"debug\"\n").unwrap();
    kill_process(node.pid(), Signal::HUP).unwrap();
    said(
        &node,
        &format!("{name} line 2: unknown setting log-levle: did you mean log-level?; all settings stay as they were"),
    );
    write(
        &file,
        "log-level = \"debug\"\nlog-requests = \"all\"\nmax-value = 16\nread-level = \"none\"\nslow = \"10s\"\n",
    )
    .unwrap();
    kill_process(node.pid(), Signal::HUP).unwrap();
    said(&node, "settings that are read again: log-level");
    node.set("again", "1").unwrap();
    said(&node, "DEBUG");
    assert!(!node.log_text().contains("restart of this node: log"), "{}", node.log_text());
    node.stop();
}

#[test]
fn check_config_says_what_a_start_would() {
    let lab = Lab::new();
    let at = |name: &str| lab.path().join(name).to_str().unwrap().to_owned();
    let file = at("c.toml");
    write(&file, "haddr = \"127.0.0.1:11000\"\nrmem = true\nquota = \"2G\"\n").unwrap();
    let end = check_config(lab.path(), &["--config", &file, "--slow", "2s"]);
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{end:?}");
    let has = |text: &str| assert!(end.stdout.contains(text), "{text} is not in {}", end.stdout);
    has("slow = \"2s\"");
    has("# the command line");
    has(&format!("# {file} line 3, 2 GiB"));

    let secret = finish(hraftd(lab.path()).args(["secret", &at("secret")]), Duration::from_secs(10));
    assert_eq!(secret.code, Some(0));
    write(at("plain"), "").unwrap();
    write(at("loose"), std::fs::read(at("secret")).unwrap()).unwrap();
    let secret_text = std::fs::read_to_string(at("secret")).unwrap();
    for (text, named) in [
        ("hadr = \":1\"".to_owned(), "line 1: unknown setting hadr: did you mean haddr?"),
        ("rmem = true\nrmem = true".to_owned(), "line 2: rmem is there twice"),
        ("rmem = \"yes\"".to_owned(), "line 1: rmem must be true or false"),
        (format!("cluster-secret-file = {:?}", secret_text.trim()), "line 1: cluster-secret-file has a secret in it"),
        (format!("cluster-secret-file = {:?}", at("none")), "cluster-secret-file = "),
        (format!("cluster-secret-file = {:?}", at("loose")), "its mode is 0644"),
        (format!("cluster-secret-file = {:?}\ntls-cert = {0:?}\ntls-key = {0:?}", at("secret")), "tls-cert = "),
        (format!("rdir = {:?}", at("plain/below")), "is not a directory"),
        ("haddr = \"192.0.2.1:11000\"".to_owned(), "not an address of this machine"),
    ] {
        write(&file, &text).unwrap();
        let end = check_config(lab.path(), &["--config", &file]);
        assert_eq!(end.code, Some(78), "{text}: {end:?}");
        assert_eq!(end.stderr.trim_end().lines().count(), 1, "{text}: {end:?}");
        assert!(end.stderr.contains(named), "{named}: {end:?}");
        assert!(!end.stderr.contains(secret_text.trim()) && !end.stdout.contains(secret_text.trim()), "{end:?}");
        let started = finish(hraftd(lab.path()).args(["--config", &file]), Duration::from_secs(10));
        assert!(started.code == Some(78) || text.contains("haddr = "), "{text}: {started:?}");
        assert_eq!(started.stderr.lines().filter(|line| line.starts_with("hraftd: ")).count(), 1, "{started:?}");
    }
    for file in [lab.path().to_str().unwrap(), &at("missing.toml")] {
        assert_eq!(check_config(lab.path(), &["--config", file]).code, Some(78));
    }
    assert_eq!(check_config(lab.path(), &["--nope"]).code, Some(64));
}
