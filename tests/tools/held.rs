//! `hraftd lock` on two hosts: one holder at a time, whatever the network does; and what is told where that cannot be.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::namespace::{in_own_network, say_figure};
use crate::partitions::{Lan, others};
use crate::shell::Background;
use crate::support::wait::{SETTLE, check, eventually};

const NEEDS: [(&str, &str); 1] = [("nsenter", "util-linux")];

/// A command that ignores TERM, and writes down the time as long as it runs.
const BEAT: &str = "trap '' TERM\nwhile :; do date +%s%N >\"$1.new\"; mv \"$1.new\" \"$1\"; sleep 0.05; done\n";

/// Nanoseconds, as a command wrote them into a file.
fn time_in(path: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(|error| format!("{error}: {text}"))
}

struct Hosts {
    lan: Lan,
    dir: tempfile::TempDir,
}

impl Hosts {
    fn start() -> Self {
        let (lan, dir) = (Lan::start(), tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("beat"), BEAT).unwrap();
        std::fs::write(dir.path().join("once"), "date +%s%N >\"$1\"; echo token $HRAFTD_LOCK_TOKEN\n").unwrap();
        Self { lan, dir }
    }

    /// A client on this host, whose command is one of the two.
    fn lock(&self, host: usize, log: &str, flags: &str, command: &str, told: &Path) -> Background {
        let (list, folder) = (self.lan.haddrs().join(","), self.dir.path().display());
        let line = format!("hraftd lock job {flags} --endpoints {list} -- sh {folder}/{command} {}", told.display());
        self.lan.machines[host].start(log, &line)
    }

    fn began(&self, told: &Path, client: &Background) -> u64 {
        eventually(SETTLE, "the command runs", || {
            time_in(told).map_err(|error| format!("{error}{}", client.log_text()))
        })
    }
}

/// The host of the holder is cut off, and its node with it. Its command, which ignores TERM, has ended before another
/// host's begins.
#[test]
fn a_holder_that_is_cut_off_has_ended_before_another_runs() {
    in_own_network("held::a_holder_that_is_cut_off_has_ended_before_another_runs", &NEEDS, || {
        let hosts = Hosts::start();
        let (beat, once) = (hosts.dir.path().join("beats"), hosts.dir.path().join("began"));
        let (host, _) = hosts.lan.leader();
        let mut holder = hosts.lock(host, "holder", "--ttl 10s", "beat", &beat);
        hosts.began(&beat, &holder);
        hosts.lan.cut_off(host);
        let mut waiter = hosts.lock(others(host)[0], "waiter", "--ttl 10s --wait 60s", "once", &once);
        let status = holder.process.wait(SETTLE, "the holder ends");
        assert_eq!(status.code(), Some(75), "{}", holder.log_text());
        assert!(holder.log_text().contains("was not renewed"), "{}", holder.log_text());
        assert!(waiter.process.wait(SETTLE * 2, "the waiter ends").success(), "{}", waiter.log_text());
        let (last, next) = (time_in(&beat).unwrap(), time_in(&once).unwrap());
        assert!(last < next, "the first ran until {last}, the second from {next}: {}", holder.log_text());
        // Whoever says that it ran beside another for no time at all has not overlapped.
        assert!(!holder.log_text().contains("another may have run beside it"), "{}", holder.log_text());
        say_figure(&format!("the second began {} ms after the first had ended", (next - last) / 1_000_000));
        // Healed, it is the lock that it was.
        hosts.lan.heal_all(host);
        hosts.lan.leader();
        let mut again = hosts.lock(host, "again", "--ttl 10s --wait 60s", "once", &once);
        assert!(again.process.wait(SETTLE * 2, "it ends").success(), "{}", again.log_text());
    });
}

/// The client is stopped for longer than its time, and its command goes on: that cannot be helped, so it is told by how
/// much it overlapped, and the token of the other is higher.
#[test]
fn a_holder_that_was_stopped_tells_by_how_much_it_overlapped() {
    in_own_network("held::a_holder_that_was_stopped_tells_by_how_much_it_overlapped", &NEEDS, || {
        let hosts = Hosts::start();
        let (beat, once) = (hosts.dir.path().join("beats"), hosts.dir.path().join("began"));
        let mut holder = hosts.lock(0, "holder", "--ttl 3s", "beat", &beat);
        hosts.began(&beat, &holder);
        holder.process.signal(Signal::STOP);
        let mut waiter = hosts.lock(1, "waiter", "--ttl 3s --wait 60s", "once", &once);
        assert!(waiter.process.wait(SETTLE, "the waiter ends").success(), "{}", waiter.log_text());
        let next = time_in(&once).unwrap();
        eventually(SETTLE, "the first runs beside the second", || {
            time_in(&beat).and_then(|last| check(last > next + 200_000_000, || last.to_string()))
        });
        holder.process.signal(Signal::CONT);
        assert_eq!(holder.process.wait(SETTLE, "the holder ends").code(), Some(75), "{}", holder.log_text());
        let ended = time_in(&beat).unwrap();
        let said = holder.log_text();
        let overlap = said.split_once("another may have run beside it for ").unwrap_or_else(|| panic!("{said}")).1;
        let told: f64 = overlap.split_once("s at most").unwrap().0.trim_end_matches('m').parse().unwrap();
        let told = if overlap.starts_with(&format!("{told}ms")) { told / 1e3 } else { told };
        let really = (ended - next) as f64 / 1e9;
        // It is told to a tenth of a second.
        assert!(told + 0.1 >= really, "it overlapped by {really} s, and says {told} s: {said}");
        let first: u64 = said.split("fenced by the token ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let second: u64 = waiter.log_text().trim().strip_prefix("token ").unwrap().parse().unwrap();
        assert!(first < second, "{first} {second}");
        say_figure(&format!("it overlapped by {really:.1} s, and says {told} s at most; tokens {first} and {second}"));
        // Whatever it has started is gone.
        let now = time_in(&beat).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(time_in(&beat).unwrap(), now, "the command still runs");
    });
}
