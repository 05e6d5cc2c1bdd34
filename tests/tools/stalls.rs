//! What stands still is told: a network that carries small packets and no large ones, and threads that get no turn.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::namespace::{busy_in_own_network, is_there, skip};
use crate::partitions::{Lan, others};
use crate::support::lab::Lab;
use crate::support::process::{Reaped, finish};
use crate::support::wait::{SETTLE, check, eventually};

/// Issue 18, D10: heartbeats arrived, entries did not. Each write was a 504 for over a minute, and all nodes called
/// themselves ready.
#[test]
fn an_mtu_hole_is_told() {
    const TEST: &str = "stalls::an_mtu_hole_is_told";
    busy_in_own_network(TEST, &[("nsenter", "util-linux"), ("nft", "nftables")], || {
        let lan = Lan::start();
        let (leader, _) = lan.leader();
        assert_eq!(lan.set(leader, "k", 1, "10s").unwrap().status, 200);
        let machine = &lan.machines[leader];
        machine.run(
            "nft add table inet t && nft add chain inet t out \"{ type filter hook output priority 0; }\" && \
             nft add rule inet t out \"tcp dport 12000 meta length > 1000 drop\"",
        );
        let body = format!(r#"{{"large":"{}"}}"#, "x".repeat(4_000));
        let written = lan.call(leader, "POST", "/hraftd/key?timeout=1s", Some(&body)).unwrap();
        assert_eq!(written.status, 504, "{}", written.brief());
        eventually(SETTLE, "the leader is not ready, and says why", || {
            let ready = lan.get(leader, "/hraftd/raft/ready")?;
            let text = ready.text();
            let peers = others(leader).iter().all(|&other| text.contains(&lan.machines[other].id()));
            check(ready.status == 503 && text.contains("MTU") && peers, || ready.brief())
        });
        for asked in 0..3 {
            let cluster = lan.get(asked, "/hraftd/raft/cluster").unwrap().ok().unwrap().text();
            assert!(cluster.contains("nothing was committed for more than 5 s"), "{asked}: {cluster}");
        }
        machine.run("nft flush chain inet t out");
        eventually(SETTLE, "writes go on", || {
            lan.set(leader, "k", 2, "1s")?.ok()?;
            lan.get(leader, "/hraftd/raft/ready")?.ok()
        });
        let read = lan.get(leader, "/hraftd/key/large").unwrap().ok().unwrap();
        assert!(read.text().len() > 4_000, "the write whose outcome was unknown: {}", read.brief());
    });
}

/// The threads that serve clients stand still, and those of Raft go on: systemd would start the process again.
#[test]
fn threads_that_stand_still_feed_no_watchdog() {
    const TEST: &str = "stalls::threads_that_stand_still_feed_no_watchdog";
    if !is_there("strace") {
        return skip(TEST, "missing Debian packages: strace");
    }
    if finish(Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]), SETTLE).code != Some(0) {
        return crate::support::say(&format!("{TEST} ... SKIPPED: this machine lets nobody trace a process"));
    }
    let lab = Lab::new();
    let (socket, log) = (lab.path().join("notify"), lab.path().join("log"));
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let node = lab.node("n");
    let mut command = node.command();
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "2000000").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let process = Reaped::spawn(&mut command);
    // What came since it was asked last.
    let fed = || {
        let (mut bytes, mut count) = ([0; 4096], 0);
        while let Ok(length) = manager.recv(&mut bytes) {
            count += usize::from(String::from_utf8_lossy(&bytes[..length]).contains("WATCHDOG=1"));
        }
        count
    };
    let is_fed = || eventually(SETTLE, "the watchdog is fed", || check(fed() > 0, || "it is not".to_owned()));
    node.wait_ready();
    is_fed();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    // One that was idle may be gone by now.
    let serves = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "clients")
    };
    let tasks: Vec<_> = tasks.map(|task| task.unwrap().path()).filter(serves).collect();
    assert!(!tasks.is_empty());
    let mut tracer = Command::new("strace");
    tracer.args(["-qq", "-o", "/dev/null", "-e", "trace=epoll_wait,epoll_pwait"]);
    tracer.args(["-e", "inject=epoll_wait,epoll_pwait:delay_exit=600000000"]);
    for task in &tasks {
        tracer.arg("-p").arg(task.file_name().unwrap());
    }
    let tracer = Reaped::spawn(tracer.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    let told = |times: usize| {
        eventually(SETTLE, "it says why it feeds nothing", || {
            let text = std::fs::read_to_string(&log).unwrap();
            let why = "the watchdog is not fed: the threads of clients have not turned";
            check(text.matches(why).count() >= times, || text.clone())
        });
    };
    told(2);
    fed();
    told(6);
    assert_eq!(fed(), 0, "by threads that stand still");
    drop(tracer);
    is_fed();
}
