//! Networks that are cut between real processes: who serves, who says no, and what happens when they heal.
//!
//! One direction is cut by a permanent neighbour entry with a hardware address that nobody has: packets leave and
//! arrive nowhere, as with a firewall that drops. The test's clients are on the bridge and reach every machine.

use std::time::{Duration, Instant};

use crate::namespace::{busy_in_own_network, say_figure};
use crate::support::history::{Recorder, StopOnDrop};
use crate::support::http::{Conn, Reply};
use crate::support::lab::Lab;
use crate::support::machine::{Machine, lan, voters};
use crate::support::shell::{Background, Shell};
use crate::support::wait::{SETTLE, check, eventually};

const NEEDS: [(&str, &str); 1] = [("nsenter", "util-linux")];
/// The default: a leader is believed this long after its last message.
const ELECTION_MAX: Duration = Duration::from_millis(800);
/// What a loaded machine may add to a timer.
const SLACK: Duration = Duration::from_millis(1500);
/// Several elections long: one that were to come would have come.
const LONG: Duration = Duration::from_secs(2);
const CLIENTS: u64 = 6;
const KEYS: u64 = 3;
/// Short, so that a client does not spend the test waiting for a node that is cut off.
const PATIENCE: Duration = Duration::from_millis(600);
const PACE: Duration = Duration::from_millis(5);

/// Three machines with a node each, and a cluster of them. Fields are dropped in order.
pub struct Lan {
    _nodes: Vec<Background>,
    pub machines: Vec<Machine>,
    outside: Shell,
    _lab: Lab,
}

impl Lan {
    pub fn start() -> Self {
        let lab = Lab::new();
        let (outside, machines) = lan(&lab);
        let list: Vec<String> = machines.iter().map(|machine| format!("{}:11000", machine.addr)).collect();
        let line = format!("hraftd --haddr :11000 --rjoin {}", list.join(","));
        let nodes = machines.iter().map(|machine| machine.start("hraftd", &line)).collect();
        let lan = Self { _nodes: nodes, machines, outside, _lab: lab };
        let ids: Vec<String> = lan.machines.iter().map(Machine::id).collect();
        for number in 0..3 {
            eventually(SETTLE, "three voters that serve", || {
                let found = voters(&lan.outside, &lan.haddr(number))?;
                check(found == ids, || format!("{found:?}"))?;
                lan.get(number, "/hraftd/raft/ready").and_then(Reply::ok)
            });
        }
        lan
    }

    fn haddr(&self, number: usize) -> String {
        format!("{}:11000", self.machines[number].addr)
    }

    pub fn haddrs(&self) -> Vec<String> {
        (0..3).map(|number| self.haddr(number)).collect()
    }

    /// What `from` sends to `to` is lost.
    fn cut(&self, from: usize, to: usize) {
        let to = &self.machines[to].addr;
        self.machines[from].run(&format!("ip neigh replace {to} lladdr 02:00:00:00:00:99 dev eth0 nud permanent"));
    }

    fn heal(&self, from: usize, to: usize) {
        let to = &self.machines[to].addr;
        self.machines[from].run(&format!("ip neigh del {to} dev eth0"));
    }

    pub fn cut_off(&self, number: usize) {
        for other in others(number) {
            self.cut(number, other);
            self.cut(other, number);
        }
    }

    pub fn heal_all(&self, number: usize) {
        for other in others(number) {
            self.heal(number, other);
            self.heal(other, number);
        }
    }

    fn plug(&self, number: usize, how: &str) {
        self.outside.run(&format!("ip link set m{} {how}", number + 1));
    }

    pub fn call(&self, number: usize, method: &str, path: &str, body: Option<&str>) -> Result<Reply, String> {
        let mut conn = Conn::open_within(&self.haddr(number), Duration::from_secs(5))?;
        conn.request(method, path, &[("Connection", "close")], body.map(str::as_bytes))
    }

    pub fn get(&self, number: usize, path: &str) -> Result<Reply, String> {
        self.call(number, "GET", path, None)
    }

    pub fn set(&self, number: usize, key: &str, value: usize, timeout: &str) -> Result<Reply, String> {
        let body = format!(r#"{{"{key}":{value}}}"#);
        self.call(number, "POST", &format!("/hraftd/key?timeout={timeout}"), Some(&body))
    }

    fn state(&self, number: usize) -> Result<String, String> {
        let reply = self.get(number, "/hraftd/raft/state")?.ok()?;
        Ok(reply.json()["msg"].as_str().unwrap_or_default().to_owned())
    }

    fn stat(&self, number: usize, name: &str) -> Result<u64, String> {
        let stats = self.get(number, "/hraftd/raft/stats")?.ok()?.json();
        stats[name].as_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("no {name}: {stats}"))
    }

    /// The one leader among these nodes, and its term, once they all know both.
    fn leader_of(&self, among: &[usize]) -> (usize, u64) {
        eventually(SETTLE, &format!("one leader of {among:?}"), || {
            let states: Result<Vec<String>, String> = among.iter().map(|&number| self.state(number)).collect();
            let states = states?;
            let leaders =
                || among.iter().zip(&states).filter(|(_, state)| *state == "Leader").map(|(&number, _)| number);
            let (1, Some(leader)) = (leaders().count(), leaders().next()) else { return Err(format!("{states:?}")) };
            let term = self.stat(leader, "term")?;
            for &number in among {
                let (its, ready) = (self.stat(number, "term")?, self.get(number, "/hraftd/raft/ready")?);
                check(its == term && ready.status == 200, || format!("{number}: term {its}, {}", ready.brief()))?;
            }
            Ok((leader, term))
        })
    }

    pub fn leader(&self) -> (usize, u64) {
        self.leader_of(&[0, 1, 2])
    }

    /// Runs `faults` under clients of all nodes; what they saw must be linearizable.
    fn recorded(&self, what: &str, faults: impl FnOnce(&Recorder)) {
        let recorder = Recorder::new(self.haddrs(), KEYS);
        std::thread::scope(|scope| {
            let stop = StopOnDrop(&recorder);
            for client in 0..CLIENTS {
                let recorder = &recorder;
                scope.spawn(move || recorder.work(client, PATIENCE, PACE));
            }
            faults(&recorder);
            self.leader();
            drop(stop);
        });
        recorder.read_all();
        say_figure(&format!("{what}: {}", recorder.counts()));
        recorder.assert_linearizable(what);
    }
}

pub fn others(number: usize) -> [usize; 2] {
    [(number + 1) % 3, (number + 2) % 3]
}

/// How long the fault lasts: nothing is waited for.
fn last(fault: Duration) {
    std::thread::sleep(fault);
}

#[test]
fn a_leader_in_the_minority() {
    busy_in_own_network("partitions::a_leader_in_the_minority", &NEEDS, || {
        let lan = &Lan::start();
        let (old, old_term) = lan.leader();
        assert_eq!(lan.set(old, "k", 1, "10s").unwrap().status, 200);
        lan.recorded("a leader in the minority", |_| {
            lan.cut_off(old);
            let cut = Instant::now();
            // From the first moment on it acknowledges nothing and confirms no read.
            std::thread::scope(|scope| {
                let write = scope.spawn(|| lan.set(old, "k", 2, "2s").unwrap());
                let read = scope.spawn(|| lan.get(old, "/hraftd/key/k?timeout=2s").unwrap());
                let waits = |what: &'static str, ask: &dyn Fn() -> Result<Reply, String>| {
                    let sent = Instant::now();
                    let reply = ask().unwrap();
                    let ms = sent.elapsed().as_millis();
                    say_figure(&format!(
                        "a leader in the minority: a {what} at a follower of it, just after the cut: {} in {ms} ms",
                        reply.status
                    ));
                };
                let passed_on = scope.spawn(move || waits("write", &|| lan.set(others(old)[1], "passed on", 1, "4s")));
                let read_there =
                    scope.spawn(move || waits("read", &|| lan.get(others(old)[1], "/hraftd/key/k?timeout=4s")));
                let elected = scope.spawn(|| {
                    let acked = eventually(SETTLE, "the majority takes writes", || {
                        lan.set(others(old)[0], "k", 3, "300ms").and_then(Reply::ok).map(|_| cut.elapsed())
                    });
                    say_figure(&format!(
                        "a leader in the minority: the majority's first write after {} ms",
                        acked.as_millis()
                    ));
                });
                let said = eventually(ELECTION_MAX + SLACK, "the old leader says that it follows", || {
                    let state = lan.state(old)?;
                    check(state == "Follower", || state).map(|()| cut.elapsed())
                });
                say_figure(&format!("a leader in the minority: it shows Follower after {said:.0?}"));
                let weak = lan.get(old, "/hraftd/key/k?level=weak&timeout=1s").unwrap();
                assert_eq!(weak.status, 503, "weak: {}", weak.brief());
                let (write, read) = (write.join().unwrap(), read.join().unwrap());
                // It was proposed, and nobody knows.
                assert_eq!(write.status, 504, "write: {}", write.brief());
                // It changes nothing: it may have waited for its quorum, or for a leader in the end.
                assert!(matches!(read.status, 503 | 504), "read: {}", read.brief());
                elected.join().unwrap();
                passed_on.join().unwrap();
                read_there.join().unwrap();
            });
            let weak = lan.get(old, "/hraftd/key/k?level=weak&timeout=1s").unwrap();
            assert_eq!(weak.status, 503, "{}", weak.brief());
            let read = lan.get(old, "/hraftd/key/k?timeout=1s").unwrap();
            // It waits for a quorum or for a leader, whatever it missed last.
            assert!(matches!(read.status, 503 | 504), "{}", read.brief());
            let none = lan.get(old, "/hraftd/key/k?level=none").unwrap();
            assert_eq!((none.status, none.json()["k"].as_u64()), (200, Some(1)), "its own copy, old as it is");
            assert_eq!(lan.get(old, "/hraftd/key/k?level=none&freshness=500ms").unwrap().status, 503);
            assert_eq!(lan.get(old, "/hraftd/raft/ready").unwrap().status, 503);
            assert_eq!(lan.stat(old, "term").unwrap(), old_term, "nobody to vote for it");

            let (leader, term) = lan.leader_of(&others(old));
            assert!(term > old_term);
            lan.heal_all(old);
            let healed = Instant::now();
            eventually(SETTLE, "the old leader has what it missed", || {
                let read = lan.get(old, "/hraftd/key/k?timeout=2s")?.ok()?;
                check(read.json()["k"] == 3, || read.brief())
            });
            say_figure(&format!("a leader in the minority: it reads again {:.0?} after healing", healed.elapsed()));
            last(LONG);
            assert_eq!(lan.leader(), (leader, term), "an election after healing");
        });
    });
}

/// Pre-vote: whoever comes back asks first, and deposes nobody.
#[test]
fn a_follower_that_was_cut_off() {
    busy_in_own_network("partitions::a_follower_that_was_cut_off", &NEEDS, || {
        let lan = Lan::start();
        // With its link down, and with its packets lost: the one is noticed by the kernel, the other is not.
        undisturbed(
            &lan,
            "a follower that was unplugged",
            |lan, number| lan.plug(number, "down"),
            |lan, number| {
                lan.plug(number, "up");
            },
        );
        undisturbed(&lan, "a follower that was cut off", Lan::cut_off, Lan::heal_all);
        // It sees the other follower, but not the leader.
        let (leader, _) = lan.leader();
        undisturbed(
            &lan,
            "a follower that does not see the leader",
            |lan, number| {
                lan.cut(number, leader);
                lan.cut(leader, number);
            },
            |lan, number| {
                lan.heal(number, leader);
                lan.heal(leader, number);
            },
        );
        undisturbed(
            &lan,
            "a follower that hears nothing from the leader",
            |lan, number| lan.cut(leader, number),
            |lan, number| lan.heal(leader, number),
        );
        undisturbed(
            &lan,
            "a follower that nobody hears",
            |lan, number| others(number).iter().for_each(|&other| lan.cut(number, other)),
            |lan, number| others(number).iter().for_each(|&other| lan.heal(number, other)),
        );
    });
}

/// A fault of a follower: the leader stays, the others write, and it reads again afterwards.
fn undisturbed(lan: &Lan, what: &str, fault: impl Fn(&Lan, usize), heal: impl Fn(&Lan, usize)) {
    lan.recorded(what, |_| {
        let before = lan.leader();
        let number = others(before.0)[0];
        let other = others(before.0)[1];
        fault(lan, number);
        let began = Instant::now();
        let (mut writes, mut slowest) = (0, Duration::ZERO);
        while began.elapsed() < LONG {
            writes += 1;
            let asked = [before.0, other][writes % 2];
            let sent = Instant::now();
            let reply = lan.set(asked, "seen", writes, "5s").unwrap();
            slowest = slowest.max(sent.elapsed());
            assert_eq!(reply.status, 200, "{what}: {}", reply.brief());
            last(Duration::from_millis(20));
        }
        heal(lan, number);
        let healed = Instant::now();
        eventually(SETTLE, &format!("{what}: it reads again"), || {
            let read = lan.get(number, "/hraftd/key/seen?timeout=2s")?.ok()?;
            check(read.json()["seen"] == writes, || read.brief())
        });
        let healed = healed.elapsed();
        last(LONG / 2);
        assert_eq!(lan.leader(), before, "{what}: an election");
        say_figure(&format!(
            "{what}: {writes} writes at the others, the slowest {slowest:.0?}; it reads {healed:.0?} after healing"
        ));
    });
}

/// One direction only: what the leader sends is lost, or what is sent to it.
#[test]
fn a_leader_cut_in_one_direction() {
    busy_in_own_network("partitions::a_leader_cut_in_one_direction", &NEEDS, || {
        let lan = Lan::start();
        for mute in [true, false] {
            let what = if mute { "a leader that nobody hears" } else { "a leader that hears nobody" };
            lan.recorded(what, |_| {
                let (old, _) = lan.leader();
                let each = |change: &dyn Fn(usize, usize)| {
                    others(old).iter().for_each(|&other| if mute { change(old, other) } else { change(other, old) });
                };
                each(&|from, to| lan.cut(from, to));
                let cut = Instant::now();
                let acked = eventually(SETTLE, &format!("{what}: the others take writes"), || {
                    lan.set(others(old)[1], "k", 1, "300ms").and_then(Reply::ok).map(|_| cut.elapsed())
                });
                say_figure(&format!("{what}: the majority's first write after {} ms", acked.as_millis()));
                eventually(ELECTION_MAX + SLACK, "the old leader says that it follows", || {
                    let state = lan.state(old)?;
                    check(state != "Leader", || state)
                });
                let weak = lan.get(old, "/hraftd/key/k?level=weak&timeout=1s").unwrap();
                assert_eq!(weak.status, 503, "{what}: {}", weak.brief());
                let read = lan.get(old, "/hraftd/key/k?timeout=1s").unwrap();
                // It waits for a quorum or for a leader, whatever it missed last.
                assert!(matches!(read.status, 503 | 504), "{what}: {}", read.brief());
                let before = lan.leader_of(&others(old));
                each(&|from, to| lan.heal(from, to));
                assert_eq!(lan.leader(), before, "{what}: an election after healing");
            });
        }
    });
}

/// A link that comes and goes: of a follower nobody notices, of the leader there is progress in between.
#[test]
fn a_flapping_link() {
    busy_in_own_network("partitions::a_flapping_link", &NEEDS, || {
        let lan = Lan::start();
        lan.recorded("a follower's flapping link", |recorder| {
            let before = lan.leader();
            flap(&lan, others(before.0)[0], recorder, "a follower's flapping link");
            assert_eq!(lan.leader(), before, "a flapping follower causes an election");
        });
        lan.recorded("the leader's flapping link", |recorder| {
            let (leader, _) = lan.leader();
            flap(&lan, leader, recorder, "the leader's flapping link");
        });
    });
}

fn flap(lan: &Lan, number: usize, recorder: &Recorder, what: &str) {
    recorder.longest_gap();
    let began = Instant::now();
    let mut flaps = 0;
    // Shorter than an election timeout, about as long, and longer.
    for down_ms in [100, 300, 500, 900, 1300].into_iter().cycle() {
        flaps += 1;
        lan.plug(number, "down");
        last(Duration::from_millis(down_ms));
        lan.plug(number, "up");
        last(Duration::from_millis(400));
        if began.elapsed() > 3 * LONG {
            break;
        }
    }
    let gap = recorder.longest_gap();
    let again = Instant::now();
    lan.leader();
    say_figure(&format!(
        "{what}: {flaps} times, longest gap {gap:.0?}; settled {:.0?} after the last",
        again.elapsed()
    ));
    assert!(gap < Duration::from_secs(10), "{what}: no write for {gap:?}");
}

/// A firewall that lets one machine's Raft port be reached from all but one: each node reaches the other by its own
/// connections, or does not, and the doctor says which.
#[test]
fn the_doctor_finds_a_link_of_one_way() {
    const TEST: &str = "partitions::the_doctor_finds_a_link_of_one_way";
    busy_in_own_network(TEST, &[NEEDS[0], ("nft", "nftables")], || {
        let lan = Lan::start();
        let (leader, _) = lan.leader();
        let [from, to] = others(leader);
        let barred = &lan.machines[from].addr;
        lan.machines[to].run(&format!(
            "nft add table inet t && nft add chain inet t in \"{{ type filter hook input priority 0; }}\" && \
         nft add rule inet t in \"ip saddr {barred} tcp dport 12000 drop\""
        ));
        for asked in 0..3 {
            eventually(SETTLE, "the link is found", || {
                let found = lan.get(asked, "/hraftd/raft/doctor")?.ok()?.json();
                let mut all = found["findings"].as_array().into_iter().flatten();
                let link = all.find(|one| one["what"].as_str().is_some_and(|what| what.contains("a link of one way")));
                let named = link.is_some_and(|one| {
                    one["node"] == lan.machines[from].id().as_str()
                        && one["what"].as_str().is_some_and(|what| what.contains(&lan.machines[to].id()))
                        && one["do"]
                            .as_str()
                            .is_some_and(|remedy| remedy.contains(&format!("{}:12000", lan.machines[to].addr)))
                });
                // The one that cannot reach it takes it for silent, too.
                check(named || asked == from, || found.to_string())
            });
        }
    });
}
