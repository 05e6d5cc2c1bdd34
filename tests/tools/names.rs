//! Addresses that are names, over a name server of the test's own: what a pod that comes back under another address is to
//! its cluster. Nobody does anything but the name server.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::namespace::{in_own_network_within, say_figure};
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::process::Reaped;
use crate::support::shell::{Background, Shell};
use crate::support::wait::{SETTLE, check, eventually};

const NEEDS: [(&str, &str); 3] = [("nsenter", "util-linux"), ("mount", "mount"), ("dnsmasq", "dnsmasq-base")];
/// They look for one another at `kv-1`, `kv-2` and `kv-3`.
const NODES: usize = 3;
const WITHIN: Duration = Duration::from_secs(400);

/// A place for pods: its network is made anew for each.
struct Pod {
    holder: Reaped,
    node: Option<Background>,
    addr: String,
    /// Arguments of its node beside those of all.
    args: &'static str,
}

struct Net {
    pods: Vec<Pod>,
    names: Background,
    outside: Shell,
    lab: Lab,
}

impl Net {
    fn start() -> Self {
        let lab = Lab::new();
        let outside = Shell::new(&lab.path().join("outside"));
        outside.run("ip link add lan type bridge && ip addr add 10.7.0.254/24 dev lan && ip link set lan up");
        let at = |name: &str| lab.path().join(name).display().to_string();
        std::fs::write(at("resolv.conf"), "nameserver 10.7.0.254\noptions timeout:1 attempts:1\n").unwrap();
        std::fs::write(at("hosts"), "").unwrap();
        let names = outside.start(
            "dnsmasq",
            &format!(
                "dnsmasq --keep-in-foreground --no-resolv --no-hosts --addn-hosts={} --listen-address=10.7.0.254 \
                 --bind-interfaces --local-ttl=0 --pid-file --user=root --log-facility=-",
                at("hosts")
            ),
        );
        let pods = (1..=NODES).map(|_| {
            // Its own resolv.conf, as a pod has it.
            let line = format!("mount --bind {} /etc/resolv.conf && exec sleep infinity", at("resolv.conf"));
            let mut command = Command::new("unshare");
            command.args(["--net", "--mount", "sh", "-c", &line]).stdin(Stdio::null()).stdout(Stdio::null());
            let holder = Reaped::spawn(&mut command);
            eventually(SETTLE, "the pod has what is its own", || {
                let its = std::fs::read_to_string(format!("/proc/{}/comm", holder.pid())).unwrap_or_default();
                check(its.trim() == "sleep", || its.clone())
            });
            Pod { holder, node: None, addr: String::new(), args: "" }
        });
        let pods = pods.collect();
        Self { pods, names, outside, lab }
    }

    /// A pod gets a new network, with this address; the old one is gone without a word.
    fn plug(&mut self, pod: usize, addr: &str) {
        let holder = self.pods[pod].holder.pid();
        self.outside.run(&format!(
            "(ip link del m{pod} 2>/dev/null; true) && ip link add m{pod} type veth peer name eth0 netns {holder} && \
             ip link set m{pod} master lan up && nsenter --net=/proc/{holder}/ns/net sh -c 'ip link set lo up && \
             ip addr add {addr}/24 dev eth0 && ip link set eth0 up'"
        ));
        self.pods[pod].addr = addr.to_owned();
    }

    /// The name server says this from now on: the addresses of each name.
    fn say(&self, names: &[(usize, &str)]) {
        let lines: Vec<String> = names.iter().map(|(pod, addr)| format!("{addr} kv-{}\n", pod + 1)).collect();
        std::fs::write(self.lab.path().join("hosts"), lines.concat()).unwrap();
        self.signal_names(Signal::HUP);
    }

    /// The name server says where the pods are.
    fn say_all(&self) {
        let names: Vec<(usize, &str)> = self.pods.iter().map(|pod| pod.addr.as_str()).enumerate().collect();
        self.say(&names);
    }

    fn signal_names(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.names.process.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    fn run(&mut self, pod: usize) {
        let name = format!("kv-{}", pod + 1);
        let line = format!(
            "nsenter --net=/proc/{0}/ns/net --mount=/proc/{0}/ns/mnt -- {1} --haddr :11000 --hadv {name}:11000 --radv \
             {name}:12000 --rjoin kv-1:11000,kv-2:11000,kv-3:11000 --bootstrap-expect 3 --rdir {2}/{name} {3}",
            self.pods[pod].holder.pid(),
            env!("CARGO_BIN_EXE_hraftd"),
            self.lab.path().display(),
            self.pods[pod].args
        );
        self.pods[pod].node = Some(self.outside.start(&name, &line));
    }

    /// `kill -9`.
    fn kill(&mut self, pod: usize) {
        drop(self.pods[pod].node.take().unwrap());
    }

    fn call(&self, pod: usize, method: &str, path: &str, body: Option<&str>) -> Result<serde_json::Value, String> {
        let mut conn = Conn::open_within(&format!("{}:11000", self.pods[pod].addr), Duration::from_secs(5))?;
        Ok(conn.request(method, path, &[("Connection", "close")], body.map(str::as_bytes))?.ok()?.json())
    }

    /// Waits until all that run serve, and have the same members by their names.
    fn serves(&self, what: &str) {
        let began = Instant::now();
        let running = || (0..NODES).filter(|pod| self.pods[*pod].node.is_some());
        // Each for itself: one that waits for its time to be up holds no other one up.
        std::thread::scope(|scope| {
            for pod in running() {
                scope.spawn(move || {
                    eventually(SETTLE, what, || {
                        // What is not answered in time is asked again: the node may have been called at an address that
                        // it no longer has.
                        let body = format!("{{\"{what} {pod}\": {pod}}}");
                        self.call(pod, "POST", "/hraftd/key?timeout=2s", Some(&body))?;
                        self.call(pod, "GET", "/hraftd/raft/ready", None).map(drop)
                    });
                });
            }
        });
        say_figure(&format!("names, {what}: serving after {:.1} s", began.elapsed().as_secs_f64()));
        for pod in running() {
            let cluster = self.call(pod, "GET", "/hraftd/raft/cluster", None).unwrap();
            let ids = cluster["servers"].as_array().unwrap().iter().map(|server| server["id"].as_str().unwrap());
            assert_eq!(
                ids.collect::<Vec<_>>(),
                ["kv-1:11000,kv-1:12000", "kv-2:11000,kv-2:12000", "kv-3:11000,kv-3:12000"]
            );
        }
    }
}

fn all() -> std::ops::Range<usize> {
    0..NODES
}

/// A cluster whose names lead to 10.7.0.1 and so on.
fn cluster() -> Net {
    let mut net = Net::start();
    for pod in all() {
        net.plug(pod, &format!("10.7.0.{}", pod + 1));
    }
    net.say_all();
    all().for_each(|pod| net.run(pod));
    net.serves("at first");
    net
}

#[test]
fn pods_come_back_under_new_addresses() {
    in_own_network_within("names::pods_come_back_under_new_addresses", &NEEDS, WITHIN, || {
        let mut net = cluster();
        for pod in all() {
            net.kill(pod);
            net.plug(pod, &format!("10.7.0.{}", pod + 11));
            net.say_all();
            net.run(pod);
            net.serves(&format!("pod {pod} moved"));
        }
        // All at once; then each under an address that another one had.
        for addrs in [["10.7.0.21", "10.7.0.22", "10.7.0.23"], ["10.7.0.22", "10.7.0.23", "10.7.0.21"]] {
            all().for_each(|pod| net.kill(pod));
            all().for_each(|pod| net.plug(pod, addrs[pod]));
            net.say_all();
            all().for_each(|pod| net.run(pod));
            net.serves(&format!("all moved to {}", addrs[0]));
        }
        // Under processes that go on: their connections lead nowhere, and nobody says so.
        all().for_each(|pod| net.plug(pod, &format!("10.7.0.{}", pod + 31)));
        net.say_all();
        net.serves("the network changed below");
        for pod in all() {
            assert_eq!(net.call(pod, "GET", "/hraftd/key/at%20first%201", None).unwrap()["at first 1"], 1);
        }
    });
}

#[test]
fn names_that_lead_nowhere_or_to_the_wrong_place() {
    in_own_network_within("names::names_that_lead_nowhere_or_to_the_wrong_place", &NEEDS, WITHIN, || {
        let mut net = cluster();
        // Two addresses each, of which nobody has the first.
        all().for_each(|pod| net.kill(pod));
        let (dead, live) = (["10.7.0.91", "10.7.0.92", "10.7.0.93"], ["10.7.0.1", "10.7.0.2", "10.7.0.3"]);
        net.say(&[(0, dead[0]), (0, live[0]), (1, dead[1]), (1, live[1]), (2, dead[2]), (2, live[2])]);
        all().for_each(|pod| net.run(pod));
        net.serves("a dead address first");
        // Names that nobody knows yet.
        all().for_each(|pod| net.kill(pod));
        net.say(&[]);
        all().for_each(|pod| net.run(pod));
        eventually(SETTLE, "the ports answer without a name", || {
            all().try_for_each(|pod| net.call(pod, "GET", "/livez", None).map(drop))
        });
        assert!(net.call(0, "GET", "/hraftd/raft/ready", None).is_err());
        net.say_all();
        net.serves("names that came late");
        // A name that leads nowhere any more, under processes that go on: a node that is gone, and its record too.
        net.kill(2);
        net.say(&[(0, live[0]), (1, live[1])]);
        net.serves("a name that leads nowhere");
        net.say_all();
        net.run(2);
        net.serves("it leads somewhere again");
        // A name that leads to another node for a while: it is not taken for the one that is meant.
        net.kill(2);
        net.say(&[(0, live[0]), (1, live[1]), (2, live[0])]);
        net.serves("a name that leads to another node");
        net.say_all();
        net.run(2);
        net.serves("it leads where it should again");
    });
}

/// The connection that the snapshot is on leads nowhere from a moment on, and nobody says so.
#[test]
fn a_name_that_changes_amid_the_transfer_of_a_snapshot() {
    let needs = [NEEDS[0], NEEDS[1], NEEDS[2], ("tc", "iproute2")];
    in_own_network_within("names::a_name_that_changes_amid_the_transfer_of_a_snapshot", &needs, WITHIN, || {
        let mut net = cluster();
        eventually(SETTLE, "the first leads", || {
            net.call(1, "POST", "/hraftd/raft/leader?id=kv-1:11000", None).map(drop)
        });
        net.kill(2);
        std::fs::remove_dir_all(net.lab.path().join("kv-3")).unwrap();
        // What it lacks has left the log: it needs a snapshot.
        let value = "x".repeat(500_000);
        for at in 0..24 {
            let body = format!("{{\"large {at}\": \"{value}\"}}");
            eventually(SETTLE, "a write", || net.call(0, "POST", "/hraftd/key?timeout=5s", Some(&body)).map(drop));
        }
        for pod in [0, 1] {
            net.kill(pod);
            net.pods[pod].args = "--snapshot-threshold 10";
            net.run(pod);
            net.serves(&format!("pod {pod} takes a snapshot"));
        }
        for at in 0..24 {
            let body = format!("{{\"small {at}\": 1}}");
            eventually(SETTLE, "a write", || net.call(0, "POST", "/hraftd/key?timeout=5s", Some(&body)).map(drop));
        }
        // Twelve megabytes, at half a megabyte a second.
        net.outside.run("tc qdisc add dev m2 root tbf rate 4mbit burst 64k latency 200ms");
        net.run(2);
        let received = |net: &Net| {
            let figures = net.outside.run("awk '$1 == \"m2:\" { print $10 }' /proc/net/dev");
            figures.trim().parse::<u64>().unwrap()
        };
        let before = received(&net);
        eventually(SETTLE, "the snapshot is under way", || {
            let bytes = received(&net) - before;
            check(bytes > 2_000_000, || format!("{bytes} bytes"))
        });
        assert!(net.call(2, "GET", "/hraftd/raft/ready", None).is_err(), "it has not all of it yet");
        let term = |net: &Net| net.call(0, "GET", "/hraftd/raft/stats", None).unwrap()["term"].clone();
        let before = term(&net);
        net.plug(2, "10.7.0.13");
        net.say_all();
        net.serves("amid a snapshot");
        let has = net.call(2, "GET", "/hraftd/key/large%2023?level=none", None).unwrap();
        assert_eq!(has["large 23"], value.as_str());
        // Who leads began anew by itself: the kernel needs ten seconds, since a reader has so long for a piece.
        let said: String = [0, 1].map(|pod| net.pods[pod].node.as_ref().unwrap().log_text()).concat();
        // Another leader would have begun anew anyway.
        let is_told = said.contains("one end of the connection has another address by now");
        assert!(is_told || term(&net) != before, "{said}");
    });
}

/// Issue 18, D12: each look-up blocks a thread for as long as the name server is silent.
#[test]
fn a_name_server_that_does_not_answer() {
    in_own_network_within("names::a_name_server_that_does_not_answer", &NEEDS, WITHIN, || {
        let mut net = cluster();
        // The one that is killed leads: the others must elect one of them, by connections that they do not have yet.
        eventually(SETTLE, "the third leads", || {
            net.call(0, "POST", "/hraftd/raft/leader?id=kv-3:11000", None).map(drop)
        });
        net.signal_names(Signal::STOP);
        net.kill(2);
        let until = Instant::now() + Duration::from_secs(8);
        let threads = |net: &Net, pod: usize| {
            let pid = net.pods[pod].node.as_ref().unwrap().process.pid();
            std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
        };
        let mut most = 0;
        while Instant::now() < until {
            for pod in [0, 1] {
                // Those that are connected go on, and who is silent costs each a bounded number of threads.
                most = most.max(threads(&net, pod));
                eventually(SETTLE, "a write", || net.call(pod, "POST", "/hraftd/key", Some("{\"k\": 1}")).map(drop));
            }
        }
        say_figure(&format!("names: {most} threads beside a silent name server"));
        assert!(most < 60, "{most} threads");
        net.signal_names(Signal::CONT);
        net.run(2);
        net.serves("the name server answers again");
    });
}
