//! What supervisors, terminals and readers of logs do to a node.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::cluster::Cluster;
use crate::support::http::{self, Conn};
use crate::support::lab::Lab;
use crate::support::process::Reaped;
use crate::support::wait::{SETTLE, check, eventually};

/// Issue 18, D7: a closed terminal, or a tool that rotates logs, ended a node without a line.
#[test]
fn sighup_is_no_end_and_said() {
    let mut cluster = Cluster::start(1);
    let node = &mut cluster.nodes[0];
    rustix::process::kill_process(node.pid(), Signal::HUP).unwrap();
    eventually(SETTLE, "SIGHUP is logged", || {
        check(node.log_text().contains("SIGHUP: configuration"), || node.log_text())
    });
    node.assert_alive();
    node.set("k", "1").unwrap();
    node.stop();
}

/// Issue 18, D8: a reader of the log that stalled stopped the whole node.
#[test]
fn a_full_pipe_at_stderr_costs_log_lines_only() {
    let lab = Lab::new();
    let node = lab.node("n0").args(&["--log-level", "trace"]);
    let mut child = node.command();
    child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let mut process = Reaped::from(child);
    eventually(SETTLE, "it serves", || node.ready());
    // A pipe has pages, and a line that does not fit into the last one waits: no count of bytes says
    // that it is full. It is full once more lines do not make it fuller.
    let mut before = 0;
    eventually(SETTLE, "the pipe is full", || {
        node.set("k", "1").unwrap();
        let waiting = rustix::io::ioctl_fionread(&stderr).unwrap();
        let is_full = waiting > 32 << 10 && waiting == std::mem::replace(&mut before, waiting);
        check(is_full, || format!("{waiting} bytes"))
    });
    // Far more lines than wait to be written.
    let mut conn = Conn::open(&node.haddr).unwrap();
    for _ in 0..2_000 {
        let began = Instant::now();
        let reply = conn.request("GET", "/hraftd/raft/health", &[], None).unwrap();
        assert_eq!(reply.status, 200);
        assert!(began.elapsed() < Duration::from_secs(10), "health took {:?}", began.elapsed());
        node.set("k", "1").unwrap();
    }
    // A reader that comes back is told what it missed.
    let (told, tell) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let _ = told.send(lines.any(|line| line.contains("log lines were dropped")));
    });
    assert!(tell.recv_timeout(Duration::from_secs(30)).unwrap(), "nothing was told of dropped lines");
    // Nobody reads again: a stop does not wait for that.
    process.signal(Signal::TERM);
    let ended = process.wait(Duration::from_secs(12), "a stop without a reader of the log");
    assert_eq!(ended.code(), Some(0));
}

/// Issue 18, B2: a web page could post to the Raft port, whatever its `Origin`.
#[test]
fn the_raft_port_takes_nothing_of_a_web_page() {
    let cluster = Cluster::start(1);
    let raddr = &cluster.nodes[0].raddr;
    let post = |headers: &[(&str, &str)]| {
        http::call_with(raddr, "POST", "/raft/v1/call", headers, Some(b"\x02")).unwrap().status
    };
    assert_eq!(post(&[("Origin", "http://evil.example"), ("Content-Type", "text/plain")]), 403);
    assert_eq!(post(&[("Sec-Fetch-Mode", "no-cors")]), 403);
    assert_eq!(post(&[("Content-Type", "text/plain")]), 415);
    assert_eq!(post(&[("Content-Type", "application/vnd.hraftd.raft")]), 200);
}
