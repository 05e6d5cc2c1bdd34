//! Each verb against three nodes whose leaders are killed: what was told as done is done, exit codes are as written, and
//! nothing is left of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::{client, ok, started, text};
use crate::support::cluster::Cluster;
use crate::support::process::{Finished, Reaped, finish};
use crate::support::wait::{SETTLE, check, eventually};

/// A command that is tried for 15 s, on a busy machine.
const WITHIN: Duration = Duration::from_secs(90);

/// Verbs that end soon, again and again: `{}` stands for the number of the turn, `@` for a folder. With what they may end
/// beside 0 and 75.
const VERBS: &[(&str, &[&str], &[i32])] = &[
    ("get", &["get", "read"], &[]),
    ("put", &["put", "put/{}", "v{}"], &[]),
    ("delete", &["delete", "delete/{}"], &[]),
    ("ls", &["ls", "delete/x"], &[]),
    ("incr", &["incr", "sum"], &[]),
    // One that was told to be unknown may have been the last.
    ("touch", &["touch", "read", "--ttl", "1h"], &[]),
    ("txn", &["txn", "@/txn-{}"], &[]),
    // The one before may be done late.
    ("edit", &["edit", "edited"], &[1]),
    ("lock", &["lock", "l", "--wait", "20s", "--", "sh", "-c", "echo $HRAFTD_LOCK_TOKEN"], &[]),
    ("members", &["members"], &[]),
    // No other voter may be there to lead.
    ("members", &["members", "lead"], &[1]),
    // There is no authentication.
    ("token", &["token", "ls"], &[77]),
    ("export", &["export", "read"], &[]),
    ("import", &["import", "@/lines-{}"], &[]),
    ("status", &["status"], &[]),
    // There is something to mend, or a node of which it knows nothing yet.
    ("doctor", &["doctor"], &[1]),
    // The leader may have no such entry any more.
    ("why", &["why", "5"], &[1]),
    ("health", &["health", "--ready"], &[]),
    ("backup", &["backup", "@/backup-{}"], &[]),
];

/// And those that go on: they are started once, and see all of it.
const LONG: &[&str] = &["watch", "elect", "drill", "bench"];

/// How a verb ended, each time.
struct Turns {
    verb: &'static str,
    ends: Vec<Finished>,
}

impl Turns {
    fn done(&self) -> impl Iterator<Item = usize> {
        self.ends.iter().enumerate().filter(|(_, end)| end.code == Some(0)).map(|(turn, _)| turn)
    }

    fn unknown(&self) -> usize {
        self.ends.iter().filter(|end| end.code == Some(75)).count()
    }
}

fn turns(ask: &dyn Fn(&[&str]) -> Finished, dir: &Path, row: usize, stop: &AtomicBool) -> Turns {
    let (verb, args, others) = VERBS[row];
    let mut ends = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let turn = ends.len();
        let write = |name: &str, text: String| std::fs::write(dir.join(format!("{name}-{turn}")), text).unwrap();
        match verb {
            "txn" => {
                write("txn", format!(r#"{{"then":[{{"set":{{"txn/{turn}/a":1}}}},{{"set":{{"txn/{turn}/b":1}}}}]}}"#))
            }
            "import" => {
                write("lines", (0..20).map(|at| format!("{{\"key\":\"import/{turn}/{at}\",\"value\":1}}\n")).collect());
            }
            _ => {}
        }
        let args: Vec<String> =
            args.iter().map(|word| word.replace("{}", &turn.to_string()).replace('@', dir.to_str().unwrap())).collect();
        let end = ask(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let code = end.code.unwrap_or_else(|| panic!("{args:?}: {end:?}"));
        assert!(code == 0 || code == 75 || others.contains(&code), "{args:?}: {end:?}");
        assert!(code == 0 || end.stderr.lines().count() >= usize::from(verb != "doctor"), "{args:?}: {end:?}");
        ends.push(end);
        std::thread::sleep(Duration::from_millis(150));
    }
    Turns { verb, ends }
}

/// Children of a process that have ended, and that it has not waited for.
fn zombies(of: u32) -> usize {
    let stats = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let fields: Vec<String> = stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect();
        Some((fields.first()? == "Z", fields.get(1)?.parse::<u32>().ok()?))
    });
    stats.filter(|(is_zombie, parent)| *is_zombie && *parent == of).count()
}

fn files(process: &Reaped) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap().count()
}

fn resident_kib(process: &Reaped) -> u64 {
    let status = text(Path::new(&format!("/proc/{}/status", process.pid())));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default().to_owned();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn each_verb_keeps_its_word_while_leaders_are_killed() {
    let mut cluster = Cluster::start_with(crate::support::lab::Lab::busy(), 3, &[]);
    let dir = cluster.lab.path().join("each");
    std::fs::create_dir(&dir).unwrap();
    ok(&cluster, &["put", "read", "as it is"]);
    ok(&cluster, &["put", "edited", "0"]);
    let many: String = (0..400).map(|at| format!("{{\"key\":\"delete/{at}\",\"value\":1}}\n")).collect();
    assert_eq!(super::fed(client(&cluster, &["import"]), many.as_bytes()).0, Some(0));
    let (mut watch, told) = started(&cluster, "watch", &["watch", "put/"]);
    let exec = format!("cat >>{0}/exec; echo >>{0}/exec", dir.display());
    let (mut exec, exec_said) = started(&cluster, "exec", &["watch", "put/", "--exec", &exec]);
    let (mut elect, led) = started(&cluster, "elect", &["elect", "e", "--ttl", "20s", "--", "sh", "-c", "sleep 600"]);
    eventually(SETTLE, "they began", || {
        ok(&cluster, &["put", "put/first", "first"]);
        check(text(&told).contains("first") && text(&dir.join("exec")).contains("first"), || text(&told))?;
        check(text(&led).contains("is led from here"), || text(&led))
    });
    let (mut drill, drilled) = started(&cluster, "drill", &["drill", "--seconds", "12", "--rate", "20"]);
    let (mut bench, benched) =
        started(&cluster, "bench", &["bench", "--seconds", "12", "--rate", "20", "--keys", "10"]);
    let before = (files(&watch), resident_kib(&watch), files(&elect), resident_kib(&elect));
    let (endpoints, home) = (super::endpoints(&cluster.nodes), cluster.lab.path().to_owned());
    let ask = move |args: &[&str]| {
        let mut command = crate::support::node::hraftd(&home);
        command.args(args).env("HRAFTD_ENDPOINTS", &endpoints).env("TMPDIR", &home).env_remove("VISUAL");
        finish(command.env("EDITOR", "sh -c 'expr $(cat \"$0\") + 1 >\"$0.new\"; mv \"$0.new\" \"$0\"'"), WITHIN)
    };
    let stop = AtomicBool::new(false);
    let all: Vec<Turns> = std::thread::scope(|scope| {
        let (ask, dir, stop) = (&ask, &dir, &stop);
        let turn = |row| scope.spawn(move || turns(ask, dir, row, stop));
        let threads: Vec<_> = (0..VERBS.len()).map(turn).collect();
        for _ in 0..3 {
            let leader = cluster.leader();
            cluster.nodes[leader].kill();
            // Without it for as long as a new one needs.
            cluster.leader();
            std::thread::sleep(Duration::from_secs(1));
            cluster.nodes[leader].start();
            cluster.settled();
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let of = |verb: &str| all.iter().find(|turns| turns.verb == verb).unwrap();
    for turns in &all {
        let (done, count) = (turns.done().count(), turns.ends.len());
        crate::support::say(&format!("{}: {done} of {count} done, {} to be tried again", turns.verb, turns.unknown()));
        // It has something to say wherever the disk is nearly full.
        let is_told =
            turns.verb == "doctor" && turns.ends.iter().any(|end| end.code == Some(1) && !end.stdout.is_empty());
        assert!(turns.verb == "token" || is_told || done > 0, "{}: {:?}", turns.verb, turns.ends.last());
    }
    let keys = |prefix: &str| -> BTreeSet<String> {
        ok(&cluster, &["ls", "--keys", prefix]).lines().map(str::to_owned).collect()
    };
    let there = keys("put/");
    of("put").done().for_each(|turn| assert!(there.contains(&format!("put/{turn}")), "put/{turn} of {there:?}"));
    let there = keys("delete/");
    of("delete").done().for_each(|turn| assert!(!there.contains(&format!("delete/{turn}")), "delete/{turn}"));
    let there = keys("txn/");
    for turn in 0..of("txn").ends.len() {
        let [a, b] = ["a", "b"].map(|end| there.contains(&format!("txn/{turn}/{end}")));
        assert!(a == b && (a || of("txn").ends[turn].code == Some(75)), "txn/{turn}");
    }
    let there = keys("import/");
    for (turn, at) in of("import").done().flat_map(|turn| (0..20).map(move |at| (turn, at))) {
        assert!(there.contains(&format!("import/{turn}/{at}")), "import/{turn}/{at}");
    }
    for (verb, key) in [("incr", "sum"), ("edit", "edited")] {
        let sum: usize = ok(&cluster, &["get", key]).trim().parse().unwrap();
        let (done, unknown) = (of(verb).done().count(), of(verb).unknown());
        assert!((done..=done + unknown).contains(&sum), "{verb}: {sum} after {done} and {unknown}");
    }
    let tokens: Vec<u64> = of("lock").done().map(|turn| of("lock").ends[turn].stdout.trim().parse().unwrap()).collect();
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
    for turn in of("get").done() {
        assert_eq!(of("get").ends[turn].stdout, "as it is");
    }
    let meta = ok(&cluster, &["get", "read", "--meta"]);
    assert!(meta.contains("\"ttl_ms\":3"), "{meta}");
    for turn in of("backup").done() {
        ok(&cluster, &["backup", "verify", dir.join(format!("backup-{turn}")).to_str().unwrap()]);
    }
    // The long ones: nothing is wrong, nobody lost the lead, each change was told once and in order.
    for (process, said, code) in [(&mut drill, &drilled, 0), (&mut bench, &benched, 0)] {
        assert_eq!(process.wait(WITHIN, "it ends").code(), Some(code), "{}", text(said));
    }
    ok(&cluster, &["put", "put/last", "last"]);
    eventually(SETTLE, "all was told", || {
        check(text(&told).contains("put/last") && text(&dir.join("exec")).ends_with("last\n"), || text(&exec_said))
    });
    let values: Vec<String> =
        text(&told).lines().filter_map(|line| Some(line.split_once(" set ")?.1.to_owned())).collect();
    let from = values.iter().rposition(|value| value.contains("put/first")).unwrap();
    let (told_of, mut twice) = (&values[from + 1..values.len() - 1], BTreeSet::new());
    assert!(told_of.iter().all(|value| twice.insert(value.clone())), "{told_of:?}");
    for turn in of("put").done() {
        assert!(twice.contains(&format!("put/{turn} \"v{turn}\"")), "put/{turn} of {told_of:?}");
    }
    let seen = text(&dir.join("exec"));
    let seen: Vec<&str> = seen.lines().filter(|value| value.starts_with('v')).collect();
    let wanted: Vec<&str> = told_of.iter().map(|value| value.rsplit('"').nth(1).unwrap()).collect();
    assert_eq!(seen, wanted, "{}", text(&exec_said));
    let after = (files(&watch), resident_kib(&watch), files(&elect), resident_kib(&elect));
    crate::support::say(&format!("files and KiB of a watch and an elect: {before:?} before, {after:?} after"));
    assert!(after.0 <= before.0 + 4 && after.2 <= before.2 + 8, "{before:?} {after:?}");
    assert!(after.1 < before.1 + 8_192 && after.3 < before.3 + 8_192, "{before:?} {after:?}");
    assert!(!text(&led).contains("another may lead"), "{}", text(&led));
    for process in [&watch, &exec, &elect] {
        eventually(SETTLE, "no zombie", || check(zombies(process.pid()) == 0, || "one is there".to_owned()));
    }
    for process in [&mut watch, &mut exec, &mut elect] {
        process.signal(Signal::TERM);
        assert_eq!(process.wait(SETTLE, "it ends").code(), Some(143));
    }
    for prefix in ["drill/", "bench/"] {
        assert_eq!(ok(&cluster, &["ls", "--keys", prefix]), "");
    }
}

#[test]
fn each_verb_has_a_row() {
    let rows: BTreeSet<&str> = VERBS.iter().map(|(verb, _, _)| *verb).chain(LONG.iter().copied()).collect();
    assert_eq!(rows, super::moments::verbs(), "a verb of moments.rs without a row here");
}
