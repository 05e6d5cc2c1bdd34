//! What a node tells systemd, by a stand-in for its socket.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::http;
use crate::support::lab::Lab;
use crate::support::process::Reaped;
use crate::support::wait::SETTLE;

/// The socket, and all that it was told.
struct Manager {
    socket: UnixDatagram,
    told: Vec<String>,
}

impl Manager {
    /// Waits for a message with this line; the whole of it.
    fn hears(&mut self, line: &str) -> String {
        let until = Instant::now() + SETTLE;
        let mut bytes = [0; 4096];
        while Instant::now() < until {
            let Ok(length) = self.socket.recv(&mut bytes) else { continue };
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            self.told.push(message.clone());
            if message.lines().any(|one| one.starts_with(line)) {
                return message;
            }
        }
        panic!("{line} was not told: {:?}", self.told);
    }
}

#[test]
fn systemd_is_told_all_along() {
    let lab = Lab::new();
    let path = lab.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut manager = Manager { socket, told: Vec::new() };
    // It waits for others, which never come: to be ready for systemd takes no quorum.
    let node = lab.node("n").args(&["--bootstrap-expect", "2", "--rjoin", "127.0.0.1:1"]);
    let mut command = node.command();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(std::fs::File::create(lab.path().join("log")).unwrap());
    let mut process = Reaped::spawn(&mut command);
    manager.hears("READY=1");
    assert!(manager.told[0].starts_with("STATUS=loading"), "{:?}", manager.told);
    assert_eq!(http::call(&node.haddr, "GET", "/livez", None).unwrap().status, 200, "the port answers by then");
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");

    process.signal(Signal::HUP);
    let reloading = manager.hears("RELOADING=1");
    let stamp = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
    assert!(stamp.parse::<u64>().unwrap() > 0, "{reloading}");
    manager.hears("READY=1");

    process.signal(Signal::TERM);
    let stopping = manager.hears("STOPPING=1");
    assert!(stopping.contains("STATUS=stopping"), "{stopping}");
    let status = process.wait(Duration::from_secs(8), "it stops");
    assert_eq!(status.code(), Some(0));
    assert!(manager.told.iter().any(|message| message.starts_with("STATUS=") && message.contains(", term ")));
}

/// A process that stands still feeds nothing; and a socket that nobody reads holds nobody up.
#[test]
fn a_socket_that_is_full_or_gone_costs_nothing() {
    let lab = Lab::new();
    let path = lab.path().join("notify");
    let silent = UnixDatagram::bind(&path).unwrap();
    for socket in [path.as_path(), &lab.path().join("none")] {
        let mut node = lab.node(if socket == path { "full" } else { "gone" });
        let mut command = node.command();
        command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "2000").stdin(Stdio::null());
        let log = lab.path().join(format!("{}.err", node.name));
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let mut process = Reaped::spawn(&mut command);
        node.wait_ready();
        for key in 0..20 {
            node.set(&format!("k{key}"), "1").unwrap();
        }
        let text = std::fs::read_to_string(&log).unwrap();
        let lines = text.lines().filter(|line| line.contains("NOTIFY_SOCKET")).count();
        assert_eq!(lines, usize::from(socket != path), "{text}");
        process.signal(Signal::TERM);
        assert_eq!(process.wait(Duration::from_secs(8), "it stops").code(), Some(0));
        node.forget_args();
    }
    drop(silent);
}
