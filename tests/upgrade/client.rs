//! The client of this version against nodes of the one before: what those know works, of the rest it says what is missing.

use std::process::Stdio;

use rustix::process::Signal;

use crate::support::node::hraftd;
use crate::support::process::{Reaped, finish};
use crate::support::wait::{SETTLE, check, eventually};
use crate::{old_binary, old_cluster};

/// What is asked, and the exit code. `@` stands for a folder.
const ASKED: &[(&str, i32)] = &[
    ("status", 0),
    ("members", 0),
    ("put k v", 0),
    ("get k", 0),
    ("edit k", 0),
    ("ls --keys", 0),
    ("incr n", 0),
    ("touch k --ttl 1h", 0),
    ("txn @/txn", 0),
    ("lock l --ttl 3s -- true", 0),
    ("import @/lines", 0),
    ("export", 0),
    ("drill --seconds 2 --rate 20", 0),
    ("bench --seconds 1 --rate 20 --keys 5", 0),
    ("members lead", 0),
    ("get k --meta", 0),
    ("put c v --cas 0", 0),
    ("put j {} --json", 0),
    ("put t v --ttl 30s", 0),
    ("ls --tree", 0),
    ("ls -o json", 0),
    ("export --after i", 0),
    ("import @/lines --if-absent", 0),
    ("delete --prefix t", 0),
    ("delete k", 0),
    // It has none of these yet.
    ("doctor", 1),
    ("why 3", 1),
    ("health", 1),
    ("backup @/backup", 1),
    ("health --ready", 1),
    ("backup -", 1),
    ("backup @/backup --if-newer 1", 1),
    ("token ls", 1),
    ("token put a read:", 1),
    ("token rotate a", 1),
    ("token rm a", 1),
];

/// What goes on until it is ended, and what it prints by then.
const ENDLESS: &[(&str, &str)] = &[
    ("watch c --initial", "set c \"v\""),
    ("watch c --initial --exec cat", "v"),
    ("elect e --ttl 3s -- echo leads", "leads"),
];

#[test]
fn the_client_of_this_version_at_nodes_of_the_one_before() {
    let Some(old) = old_binary("the client at old nodes") else { return };
    let cluster = old_cluster(3, &old);
    let dir = cluster.lab.path().join("asked");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("txn"), r#"{"then":[{"set":{"t":1}}]}"#).unwrap();
    std::fs::write(dir.join("lines"), "{\"key\":\"i\",\"value\":1}\n").unwrap();
    let endpoints: Vec<&str> = cluster.nodes.iter().map(|node| node.haddr.as_str()).collect();
    for (line, code) in ASKED {
        let mut command = hraftd(cluster.lab.path());
        command.args(line.replace('@', dir.to_str().unwrap()).split(' ')).env("HRAFTD_ENDPOINTS", endpoints.join(","));
        command.env("EDITOR", "sed -i s/v/w/").env_remove("VISUAL").env("TMPDIR", &dir).stdin(Stdio::null());
        let end = finish(&mut command, SETTLE);
        assert_eq!(end.code, Some(*code), "{line}: {end:?}");
        assert!(*code == 0 || end.stderr.contains("there is no "), "{line}: {end:?}");
        assert!(*line != "get k" || end.stdout == "v", "{line}: {end:?}");
        assert!(*line != "export" || end.stdout.contains("{\"key\":\"k\",\"value\":\"w\""), "{line}: {end:?}");
    }
    for (number, (line, told)) in ENDLESS.iter().enumerate() {
        let path = cluster.lab.path().join(format!("endless-{number}"));
        let mut command = hraftd(cluster.lab.path());
        command.args(line.split(' ')).env("HRAFTD_ENDPOINTS", endpoints.join(",")).stdin(Stdio::null());
        command.stdout(std::fs::File::create(&path).unwrap());
        let mut process = Reaped::spawn(&mut command);
        eventually(SETTLE, line, || {
            let said = std::fs::read_to_string(&path).unwrap();
            check(said.contains(told), || said.clone())
        });
        process.signal(Signal::TERM);
        assert_eq!(process.wait(SETTLE, line).code(), Some(143), "{line}");
    }
    let left = std::fs::read_dir(&dir).unwrap().count();
    assert_eq!(left, 2, "no backup and no edited file is left");
}
