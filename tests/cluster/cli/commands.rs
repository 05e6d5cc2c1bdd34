//! Verbs that run a command: what the command may rely on.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::{client, fails, fed, ok, run, started, text};
use crate::support::cluster::Cluster;
use crate::support::wait::{SETTLE, check, eventually};

fn pid_in(path: &std::path::Path) -> Pid {
    let found = eventually(SETTLE, "the command tells its pid", || {
        text(path).lines().find_map(|line| line.strip_prefix("pid ")?.parse().ok()).ok_or_else(|| text(path))
    });
    Pid::from_raw(found).unwrap()
}

fn is_gone(pid: Pid) {
    eventually(SETTLE, "the command is gone", || check(test_kill_process(pid).is_err(), || "it still runs".to_owned()));
}

/// A shell that tells its pid, and is `sleep` from then on.
const SLEEP: &str = "echo pid $$; exec sleep 300";

#[test]
fn a_lock_has_one_holder_and_its_command_decides_the_exit_code() {
    let cluster = Cluster::start(3);
    assert_eq!(ok(&cluster, &["lock", "l", "--", "sh", "-c", "echo ${HRAFTD_LOCK_TOKEN:+told}"]), "told\n");
    assert_eq!(run(&cluster, &["lock", "l", "--", "sh", "-c", "exit 7"]).code, Some(7));
    assert_eq!(run(&cluster, &["lock", "l", "--", "sh", "-c", "kill -9 $$"]).code, Some(137));
    assert_eq!(run(&cluster, &["lock", "l", "--", "no-such-program"]).code, Some(127));
    let (mut holder, out) = started(&cluster, "holder", &["lock", "l", "--ttl", "2s", "--", "sh", "-c", SLEEP]);
    let command = pid_in(&out);
    let said = fails(&cluster, 1, &["lock", "l", "--", "true"]);
    assert!(said.contains("held"), "{said}");
    // It is renewed far beyond its time, through another leader.
    let (held, mut moves) = (Instant::now(), 0);
    while held.elapsed() < Duration::from_secs(6) {
        let follower = cluster.follower();
        ok(&cluster, &["members", "lead", &cluster.nodes[follower].haddr]);
        moves += 1;
    }
    assert!(moves > 0 && holder.exited().is_none(), "{}", text(&out));
    // TERM is passed on; the lock is free at once for one that waits.
    let (mut waiter, waited) = started(&cluster, "waiter", &["lock", "l", "--wait", "50s", "--", "echo", "mine"]);
    holder.signal(Signal::TERM);
    assert_eq!(holder.wait(SETTLE, "the holder ends").code(), Some(143));
    is_gone(command);
    assert!(waiter.wait(SETTLE, "the waiter ends").success(), "{}", text(&waited));
    assert_eq!(text(&waited), "mine\n");
    assert_eq!(cluster.nodes[0].get("/hraftd/lock/l").unwrap().status, 404);
}

/// The client itself is killed: the command dies, and the lock is free after its time.
#[test]
fn a_command_dies_with_its_client() {
    let cluster = Cluster::start(1);
    let (holder, out) = started(&cluster, "holder", &["lock", "l", "--ttl", "2s", "--", "sh", "-c", SLEEP]);
    let command = pid_in(&out);
    holder.signal(Signal::KILL);
    is_gone(command);
    ok(&cluster, &["lock", "l", "--wait", "30s", "--", "true"]);
}

/// A command that ignores TERM, and that has started another, when the lock is lost; and one that ends well at TERM.
#[test]
fn a_lost_lock_ends_all_of_its_command() {
    let cluster = Cluster::start(1);
    for script in [
        "trap '' TERM; sleep 300 & echo pid $!; while :; do sleep 0.1; done",
        "trap 'exit 0' TERM; sleep 300 & echo pid $!; wait",
    ] {
        ends_when_lost(&cluster, script);
    }
}

fn ends_when_lost(cluster: &Cluster, script: &str) {
    let (mut holder, out) = started(cluster, "holder", &["lock", "l", "--ttl", "3s", "--", "sh", "-c", script]);
    let inner = pid_in(&out);
    let token = cluster.nodes[0].get("/hraftd/lock/l").unwrap().json()["token"].as_u64().unwrap();
    cluster.nodes[0].delete(&format!("/hraftd/lock/l?token={token}"), None).unwrap().ok().unwrap();
    assert_eq!(holder.wait(SETTLE, "the holder ends").code(), Some(75), "{}", text(&out));
    is_gone(inner);
    assert!(text(&out).contains("is lost") && text(&out).contains(&format!("token {token}")), "{}", text(&out));
}

/// No node answers any more: TERM at two thirds of the time, before the lock can be another's.
#[test]
fn a_lock_that_cannot_be_renewed_ends_in_time() {
    let mut cluster = Cluster::start(3);
    let (mut holder, out) = started(&cluster, "holder", &["lock", "l", "--ttl", "6s", "--", "sh", "-c", SLEEP]);
    let command = pid_in(&out);
    for node in &mut cluster.nodes {
        node.kill();
    }
    let began = Instant::now();
    assert_eq!(holder.wait(SETTLE, "the holder ends").code(), Some(75), "{}", text(&out));
    let took = began.elapsed();
    is_gone(command);
    assert!(text(&out).contains("was not renewed"), "{}", text(&out));
    // It cannot have been before: the last renewal was two seconds old at most, and a while for a busy machine.
    assert!(took >= Duration::from_secs(1), "{took:?}");
    // Nor after the time of the lock, when another may have it: the last renewal was sent before the nodes were gone.
    assert!(took < Duration::from_secs(6), "{took:?}");
}

/// The client is stopped beyond the time of its lock, and another takes it meanwhile.
#[test]
fn a_holder_that_was_stopped_says_by_how_much_it_overlapped() {
    let cluster = Cluster::start(1);
    let (mut holder, out) = started(&cluster, "holder", &["lock", "l", "--ttl", "2s", "--", "sh", "-c", SLEEP]);
    let command = pid_in(&out);
    holder.signal(Signal::STOP);
    let second = ok(&cluster, &["lock", "l", "--wait", "30s", "--", "sh", "-c", "echo $HRAFTD_LOCK_TOKEN"]);
    holder.signal(Signal::CONT);
    assert_eq!(holder.wait(SETTLE, "the holder ends").code(), Some(75), "{}", text(&out));
    is_gone(command);
    let said = text(&out);
    assert!(said.contains("another may have run beside it for") && said.contains("fenced"), "{said}");
    let first: u64 = said.split("fenced by the token ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(first < second.trim().parse().unwrap(), "{first} {second}");
}

/// A client that waits is interrupted: it holds nothing for longer than the time to live.
#[test]
fn an_interrupted_waiter_leaves() {
    let cluster = Cluster::start(1);
    let (mut holder, out) = started(&cluster, "holder", &["lock", "l", "--ttl", "2s", "--", "sh", "-c", SLEEP]);
    pid_in(&out);
    let (mut waiter, _) = started(&cluster, "waiter", &["lock", "l", "--ttl", "2s", "--wait", "40s", "--", "true"]);
    eventually(SETTLE, "it waits", || {
        let lock = cluster.nodes[0].get("/hraftd/lock/l")?.ok()?.json();
        check(lock["waiting"] == 1, || lock.to_string())
    });
    waiter.signal(Signal::INT);
    assert_eq!(waiter.wait(SETTLE, "the waiter ends").code(), Some(130));
    holder.signal(Signal::INT);
    assert_eq!(holder.wait(SETTLE, "the holder ends").code(), Some(130));
    ok(&cluster, &["lock", "l", "--wait", "30s", "--", "true"]);
}

#[test]
fn whoever_is_elected_runs_and_another_follows() {
    let cluster = Cluster::start(3);
    let args = ["elect", "e", "--ttl", "2s", "--", "sh", "-c", SLEEP];
    let (mut first, out) = started(&cluster, "first", &args);
    let leads = pid_in(&out);
    let (mut second, then) = started(&cluster, "second", &args);
    kill_process(leads, Signal::KILL).unwrap();
    // Its command has ended: the other's turn, as it waits.
    let leads = pid_in(&then);
    assert!(first.exited().is_none() && text(&out).contains("another may lead"), "{}", text(&out));
    for process in [&mut first, &mut second] {
        process.signal(Signal::TERM);
        let code = process.wait(SETTLE, "it ends").code();
        assert_eq!(code, Some(143), "{} {}", text(&out), text(&then));
    }
    is_gone(leads);
}

/// Slower than the changes, in order, none left out and none twice, while each node goes away in turn.
#[test]
fn a_watch_runs_its_command_once_for_each_change() {
    let mut cluster = Cluster::start(3);
    let out = cluster.lab.path().join("seen");
    let script = format!("echo \"$HRAFTD_EVENT $HRAFTD_KEY $(cat)\" >>{}; sleep 0.01", out.display());
    ok(&cluster, &["put", "w/before", "0"]);
    let (mut watch, said) = started(&cluster, "watch", &["watch", "w/", "--initial", "--exec", &script]);
    eventually(SETTLE, "it began", || check(text(&out) == "set w/before 0\n", || text(&out)));
    let mut wanted = vec!["set w/before 0".to_owned()];
    for number in 0..90 {
        ok(&cluster, &["put", &format!("w/{}", number % 7), &number.to_string()]);
        wanted.push(format!("set w/{} {number}", number % 7));
        if number % 30 == 15 {
            let leader = cluster.leader();
            cluster.nodes[leader].kill();
            cluster.nodes[leader].start();
        }
    }
    ok(&cluster, &["delete", "w/0"]);
    wanted.push("delete w/0 ".to_owned());
    eventually(SETTLE, "all of them", || {
        let seen = text(&out);
        check(seen.lines().count() >= wanted.len(), || format!("{seen}{}", text(&said)))
    });
    assert_eq!(text(&out).lines().collect::<Vec<_>>(), wanted, "{}", text(&said));
    watch.signal(Signal::TERM);
    assert_eq!(watch.wait(SETTLE, "the watch ends").code(), Some(143));
}

#[test]
fn a_watch_says_where_history_is_too_short() {
    let lab = crate::support::lab::Lab::new();
    let mut cluster = Cluster::start_with(lab, 1, &["--watch-history", "16", "--snapshot-threshold", "20"]);
    let (watch, said) = started(&cluster, "watch", &["watch", "w/"]);
    ok(&cluster, &["put", "other", "0"]);
    eventually(SETTLE, "it watches", || {
        ok(&cluster, &["put", "w/a", "1"]);
        check(text(&said).contains("set w/a \"1\""), || text(&said))
    });
    watch.signal(Signal::STOP);
    // The connection is gone before there is more: nothing of it can have been on its way.
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    cluster.nodes[0].wait_ready();
    for number in 0..200 {
        cluster.nodes[0].set("w/b", &number.to_string()).unwrap();
    }
    watch.signal(Signal::CONT);
    eventually(SETTLE, "it says so", || {
        ok(&cluster, &["put", "w/c", "1"]);
        let said = text(&said);
        check(said.contains("no longer reaches back to") && said.contains("set w/c"), || said.clone())
    });
}

/// Whatever its command does, it ends within five seconds of TERM, and the command with it.
#[test]
fn a_watch_ends_soon_though_its_command_does_not() {
    let cluster = Cluster::start(1);
    ok(&cluster, &["put", "w/a", "1"]);
    let stubborn = "trap '' TERM; echo pid $$; while :; do sleep 0.1; done";
    let (mut watch, out) = started(&cluster, "watch", &["watch", "w/", "--initial", "--exec", stubborn]);
    let command = pid_in(&out);
    let began = Instant::now();
    watch.signal(Signal::TERM);
    assert_eq!(watch.wait(SETTLE, "the watch ends").code(), Some(143), "{}", text(&out));
    let took = began.elapsed();
    is_gone(command);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// The command gets the value byte for byte, and need not read it.
#[test]
fn a_watch_feeds_its_command() {
    let cluster = Cluster::start(1);
    assert_eq!(fed(client(&cluster, &["put", "w/b", "-"]), b"\xff\0x").0, Some(0));
    assert_eq!(fed(client(&cluster, &["put", "w/l", "-"]), &vec![b'y'; 900_000]).0, Some(0));
    let (_watch, out) =
        started(&cluster, "watch", &["watch", "w/", "--initial", "--exec", "head -c3 | od -An -tx1; exit 4"]);
    eventually(SETTLE, "both", || {
        let out = text(&out);
        check(out.contains(" ff 00 78\n") && out.contains(" 79 79 79\n"), || out.clone())?;
        check(out.matches("the command ended with 4").count() == 2, || out.clone())
    });
}
