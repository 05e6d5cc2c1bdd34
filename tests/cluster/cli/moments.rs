//! Ctrl-C in each verb, at each moment: it ends at once, and leaves no process, no lock and no half of a file behind.
//!
//! A moment is a piece of traffic, of either direction, that a gate before the node holds.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, test_kill_process};

use super::{ok, run, text};
use crate::support::cluster::Cluster;
use crate::support::extent::extent;
use crate::support::gate::Gate;
use crate::support::process::Reaped;
use crate::support::wait::{SETTLE, check, eventually};

/// A shell that tells its pid, and is `sleep` from then on.
pub(super) const SLEEP: &str = "echo pid $$; exec sleep 300";

/// Verbs of a cluster, each with what it is given; `@` stands for the folder of the moment.
pub(super) const VERBS: &[(&str, &[&str])] = &[
    ("get", &["get", "k"]),
    ("put", &["put", "m", "new value"]),
    ("delete", &["delete", "gone"]),
    ("ls", &["ls"]),
    ("incr", &["incr", "n"]),
    ("touch", &["touch", "k", "--ttl", "1h"]),
    ("txn", &["txn", "@/../txn"]),
    ("edit", &["edit", "e"]),
    ("watch", &["watch", "", "--initial"]),
    ("watch", &["watch", "", "--initial", "--exec", SLEEP]),
    ("lock", &["lock", "locks@", "--ttl", "10s", "--", "sh", "-c", SLEEP]),
    ("elect", &["elect", "locks@", "--ttl", "10s", "--", "sh", "-c", SLEEP]),
    ("members", &["members"]),
    ("members", &["members", "lead"]),
    ("token", &["token", "ls"]),
    ("export", &["export"]),
    ("import", &["import", "@/../lines"]),
    ("status", &["status"]),
    ("doctor", &["doctor"]),
    ("why", &["why", "1"]),
    ("health", &["health", "--ready"]),
    ("backup", &["backup", "@/backup"]),
    ("drill", &["drill", "--seconds", "2", "--rate", "20"]),
    ("bench", &["bench", "--seconds", "2", "--rate", "20", "--keys", "5"]),
];

/// These ask no cluster: their files are written whole by tests of their own (`cluster/{backups,offline}.rs`).
const LOCAL: &[&str] = &["inspect", "recover", "restore", "secret", "ca", "completions", "man"];

/// The verbs that there is a row of.
pub(super) fn verbs() -> BTreeSet<&'static str> {
    VERBS.iter().map(|(verb, _)| *verb).collect()
}

/// The client of a cluster, which gives nothing up by itself as long as a test waits for it: what ends it is the signal.
fn client(cluster: &Cluster, args: &[&str]) -> Command {
    // `token` alone makes one, and asks nobody.
    let (verb, rest) = args.split_at(if args[0] == "token" { 2 } else { 1 });
    super::client(cluster, &[verb, &["--timeout", "5m"], rest].concat())
}

/// The commands that there are, as the manual page lists them.
#[test]
fn each_verb_has_a_row() {
    let lab = crate::support::lab::Lab::new();
    let page = crate::support::process::finish(crate::support::node::hraftd(lab.path()).arg("man"), SETTLE).stdout;
    let named = page.split("hraftd\\-").skip(1).filter_map(|rest| rest.split_once("(1)"));
    let named: BTreeSet<&str> =
        named.map(|(name, _)| name).filter(|name| !name.contains(char::is_whitespace)).collect();
    let rows: BTreeSet<&str> = VERBS.iter().map(|(verb, _)| *verb).chain(LOCAL.iter().copied()).collect();
    assert_eq!(named, rows, "a verb without a row, here and in killed.rs");
}

/// One moment of a verb: false where it ended before that.
fn moment(cluster: &Cluster, row: usize, pieces: usize) -> bool {
    let given = VERBS[row].1;
    let dir = cluster.lab.path().join(format!("moment-{row}-{pieces}"));
    std::fs::create_dir(&dir).unwrap();
    let gate = Gate::new(&cluster.nodes[0].haddr, pieces);
    let given: Vec<String> = given.iter().map(|word| word.replace('@', dir.to_str().unwrap())).collect();
    let args: Vec<&str> = given.iter().map(String::as_str).collect();
    let mut command = client(cluster, &args);
    let (path, addr) = (dir.join("said"), gate.addr.to_string());
    let file = std::fs::File::create(&path).unwrap();
    command.env("HRAFTD_ENDPOINTS", addr).env("TMPDIR", &dir).env("EDITOR", "sed -i s/edit/Edit/").current_dir(&dir);
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let mut process = Reaped::spawn(&mut command);
    let what = format!("{} after {pieces} pieces", given.join(" "));
    let mut ended = None;
    eventually(SETTLE, &format!("{what}: a moment"), || {
        ended = process.exited();
        // One that goes on by itself runs.
        let runs = text(&path).lines().any(|line| line.starts_with("pid ") || line.contains(" set k "));
        check(ended.is_some() || gate.holds() || runs, || text(&path))
    });
    let is_held = ended.is_none();
    if is_held {
        process.signal(Signal::INT);
        let status = process.wait(SETTLE, &format!("{what}: it ends"));
        assert!(status.code() == Some(130) || status.signal() == Some(2), "{what}: {status}: {}", text(&path));
    }
    drop(gate);
    let said = text(&path);
    for pid in said.lines().filter_map(|line| line.strip_prefix("pid ")?.parse().ok()).filter_map(Pid::from_raw) {
        eventually(SETTLE, &format!("{what}: its command is gone"), || {
            check(test_kill_process(pid).is_err(), || said.clone())
        });
    }
    for left in std::fs::read_dir(&dir).unwrap().map(|left| left.unwrap().file_name()) {
        let left = left.to_str().unwrap();
        match left {
            "said" => {}
            "backup" => drop(ok(cluster, &["backup", "verify", dir.join(left).to_str().unwrap()])),
            // What was edited and may not have been written is told.
            _ if left.starts_with("hraftd-edit") && said.contains("What was edited is in") => {}
            _ => panic!("{what} left {left}: {said}"),
        }
    }
    is_held
}

fn moments(cluster: &Cluster, row: usize) {
    let verb = VERBS[row].0;
    let most = if ["drill", "bench"].contains(&verb) { extent(2, 6) } else { extent(5, 12) };
    (0..most).find(|&pieces| !moment(cluster, row, pieces));
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let cluster = Cluster::start(1);
    for (key, value) in [("k", "v"), ("m", "old value"), ("gone", "x"), ("e", "edit me"), ("n", "1")] {
        ok(&cluster, &["put", key, value]);
    }
    let file = |name: &str, text: &str| std::fs::write(cluster.lab.path().join(name), text).unwrap();
    file("txn", r#"{"then":[{"set":{"t/1":1}},{"set":{"t/2":1}}]}"#);
    file("lines", &(0..2_500).map(|at| format!("{{\"key\":\"i/{at}\",\"value\":1}}\n")).collect::<String>());
    std::thread::scope(|scope| {
        let cluster = &cluster;
        (0..VERBS.len()).for_each(|row| drop(scope.spawn(move || moments(cluster, row))));
    });
    // Writes are whole or were not done, and may be done late.
    assert!(["old value", "new value"].contains(&ok(&cluster, &["get", "m"]).as_str()));
    assert!(["edit me", "Edit me"].contains(&ok(&cluster, &["get", "e"]).as_str()));
    assert!([0, 2].contains(&ok(&cluster, &["ls", "t/", "--keys"]).lines().count()));
    // None is held longer than for its time.
    eventually(SETTLE, "no lock is left", || {
        let locks = cluster.nodes[0].get("/hraftd/lock?prefix=locks")?.ok()?.text();
        check(locks == "[]", || locks.clone())
    });
    for prefix in ["drill/", "bench/"] {
        assert_eq!(ok(&cluster, &["ls", "--keys", prefix]), "");
    }
}

/// While it waits for its standard input, which does not end.
#[test]
fn ctrl_c_while_nothing_comes() {
    let cluster = Cluster::start(1);
    for args in [&["put", "k", "-"][..], &["txn", "-"], &["import"]] {
        let path = cluster.lab.path().join(args[0]);
        let file = std::fs::File::create(&path).unwrap();
        let mut command = client(&cluster, args);
        command.stdin(Stdio::piped()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let mut process = Reaped::from(child);
        // It reads once it sleeps; to be told before is no harm.
        let state = format!("/proc/{}/stat", process.pid());
        eventually(SETTLE, "it waits", || {
            let stat = text(Path::new(&state));
            check(stat.contains(") S "), || stat.clone())
        });
        process.signal(Signal::INT);
        let status = process.wait(SETTLE, "it ends");
        assert!(status.code() == Some(130) || status.signal() == Some(2), "{args:?}: {status}: {}", text(&path));
        drop(input);
    }
    assert_eq!(run(&cluster, &["get", "k"]).code, Some(1));
}

/// While the editor is open: it is told to end, too. What was edited by then is kept, and told.
#[test]
fn ctrl_c_while_the_editor_is_open() {
    let cluster = Cluster::start(1);
    ok(&cluster, &["put", "e", "as it was"]);
    for change in ["", "echo other >\"$0\"; "] {
        let dir = cluster.lab.path().join(format!("edit{}", change.len()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("said");
        let file = std::fs::File::create(&path).unwrap();
        let mut command = client(&cluster, &["edit", "e"]);
        command.env("EDITOR", format!("sh -c '{change}{SLEEP}'")).env_remove("VISUAL").env("TMPDIR", &dir);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut process = Reaped::spawn(&mut command);
        let pid = eventually(SETTLE, "the editor is open", || {
            text(&path).lines().find_map(|line| line.strip_prefix("pid ")?.parse().ok()).ok_or_else(|| text(&path))
        });
        process.signal(Signal::INT);
        assert_eq!(process.wait(SETTLE, "it ends").code(), Some(130), "{}", text(&path));
        let pid = Pid::from_raw(pid).unwrap();
        eventually(SETTLE, "the editor is gone", || check(test_kill_process(pid).is_err(), || text(&path)));
        let said = text(&path);
        let kept = said.trim().split_once("what was edited is in ").map(|(_, file)| file.to_owned());
        assert_eq!(kept.is_some(), !change.is_empty(), "{said}");
        let left = std::fs::read_dir(&dir).unwrap().count();
        assert_eq!(left, 1 + usize::from(kept.is_some()), "{said}");
        assert_eq!(kept.map(|file| text(Path::new(&file))), (!change.is_empty()).then(|| "other\n".to_owned()));
    }
    assert_eq!(ok(&cluster, &["get", "e"]), "as it was");
}

/// What was exported and imported until then counts, and it is told how to go on.
#[test]
fn an_interrupted_export_and_import_go_on() {
    let cluster = Cluster::start(1);
    let lines: String = (0..9_000).map(|at| format!("{{\"key\":\"i/{at:05}\",\"value\":{at}}}\n")).collect();
    let told = |said: &str, flag: &str| {
        let rest = said.split_once(flag).unwrap_or_else(|| panic!("{flag} is not told: {said}")).1;
        rest.split(' ').next().unwrap().trim_matches('"').to_owned()
    };
    // The input stays open after some whole chunks, so that the import waits.
    let mut command = client(&cluster, &["import"]);
    let (path, out) = (cluster.lab.path().join("said"), cluster.lab.path().join("out"));
    let said = |path: &Path| Stdio::from(std::fs::File::create(path).unwrap());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(said(&path)).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut process = Reaped::from(child);
    let half = lines.match_indices('\n').nth(4_999).unwrap().0 + 1;
    std::io::Write::write_all(&mut input, &lines.as_bytes()[..half]).unwrap();
    eventually(SETTLE, "two chunks are there", || {
        let count = ok(&cluster, &["ls", "--keys", "i/"]).lines().count();
        check(count >= 4_000, || count.to_string())
    });
    process.signal(Signal::INT);
    assert_eq!(process.wait(SETTLE, "it ends").code(), Some(130), "{}", text(&path));
    let skip = told(&text(&path), "--skip ");
    assert!(skip.parse::<u64>().unwrap() >= 2_000, "{}", text(&path));
    let file = cluster.lab.path().join("lines");
    std::fs::write(&file, &lines).unwrap();
    ok(&cluster, &["import", "--skip", &skip, file.to_str().unwrap()]);
    assert_eq!(ok(&cluster, &["export", "i/"]), lines);
    // Nobody reads it: it is told before which line it goes on, and the lines that came are whole up to there.
    let mut command = client(&cluster, &["export", "i/"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said(&path)).spawn().unwrap();
    let mut from = child.stdout.take().unwrap();
    let mut process = Reaped::from(child);
    let mut first = [0; 1];
    std::io::Read::read_exact(&mut from, &mut first).unwrap();
    process.signal(Signal::INT);
    // It may have come further by now, and then ends by itself.
    assert_eq!(process.wait(SETTLE, "it ends").code(), Some(130), "{}", text(&path));
    let mut came = first.to_vec();
    std::io::Read::read_to_end(&mut from, &mut came).unwrap();
    let came = String::from_utf8(came).unwrap();
    let said_of_it = text(&path);
    if said_of_it.contains("--after") {
        let after = told(&said_of_it, "--after ");
        let whole = came.lines().take_while(|line| !line.contains(&format!("\"{after}\""))).count() + 1;
        let rest = ok(&cluster, &["export", "i/", "--after", &after]);
        let begin: String = came.lines().take(whole).map(|line| format!("{line}\n")).collect();
        assert_eq!(begin + &rest, lines, "{said_of_it}");
    }
    std::fs::write(out, came).unwrap();
}
