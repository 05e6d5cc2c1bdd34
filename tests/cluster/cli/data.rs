//! `export` and `import`.

use std::time::Duration;

use super::{client, fails, fed, ok, run, started, text};
use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::wait::{SETTLE, check, eventually};

const KEYS: usize = 3_000;

/// All that there is comes back as it was, through kills of the leader: equal lines, byte for byte.
#[test]
fn what_was_exported_is_imported_as_it_was() {
    let mut cluster = Cluster::start(3);
    let mut lines: Vec<String> = (0..KEYS).map(|at| format!(r#"{{"key":"d/{at:05}","value":{at}.50}}"#)).collect();
    lines.push(r#"{"key":"d/b","base64":"/wD/"}"#.to_owned());
    lines.push(r#"{"key":"d/h","value":"<p>","content_type":"text/html"}"#.to_owned());
    lines.push(r#"{"key":"d/j","json":"[1,\n 2]"}"#.to_owned());
    lines.push(r#"{"key":"d/n","value":null}"#.to_owned());
    lines.push(r#"{"key":"d/o","value":{"base64":"/w=="}}"#.to_owned());
    lines.push(r#"{"key":"d/u","value":"a\u00e9\ud800"}"#.to_owned());
    let text_of = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let file = cluster.lab.path().join("lines");
    std::fs::write(&file, text_of(&lines)).unwrap();
    let (mut import, said) = started(&cluster, "import", &["import", file.to_str().unwrap()]);
    let leader = cluster.leader();
    cluster.nodes[leader].kill();
    assert!(import.wait(SETTLE, "the import ends").success(), "{}", text(&said));
    assert!(text(&said).contains(&format!("{} keys were written", lines.len())), "{}", text(&said));
    cluster.nodes[leader].start();
    assert_eq!(ok(&cluster, &["export", "d/"]), text_of(&lines));
    let rest = ok(&cluster, &["export", "d/", "--after", "d/h"]);
    assert_eq!(rest, text_of(&lines[KEYS + 2..]));
    // What is there stays, with --if-absent.
    let (code, _, said) = fed(
        client(&cluster, &["import", "--if-absent"]),
        b"{\"key\":\"d/n\",\"value\":1}\n{\"key\":\"new\",\"value\":1}\n",
    );
    assert!(code == Some(0) && said.contains("1 keys were written, 1 were there"), "{said}");
    assert_eq!(ok(&cluster, &["get", "d/n"]), "null");
}

/// The lease is not made anew, but what it leaves its keys of life is.
#[test]
fn a_key_of_a_lease_keeps_its_time() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    let lease = node.post("/hraftd/lease?ttl=1h", "").unwrap().json()["lease"].as_u64().unwrap();
    let put = node.post(&format!("/hraftd/key?lease={lease}"), r#"{"leased":1,"other":2}"#).unwrap();
    assert_eq!(put.status, 200, "{}", put.brief());
    let lines = ok(&cluster, &["export"]);
    ok(&cluster, &["delete", "--prefix", ""]);
    let (code, _, said) = fed(client(&cluster, &["import"]), lines.as_bytes());
    assert!(code == Some(0) && said.contains("2 keys were written"), "{said} {lines}");
    let meta: serde_json::Value = serde_json::from_str(&ok(&cluster, &["get", "leased", "--meta"])).unwrap();
    let left = meta["ttl_ms"].as_u64().unwrap_or_else(|| panic!("{meta} of {lines}"));
    assert!((3_000_000..=3_600_000).contains(&left), "{meta}");
}

/// An import that is broken off by a bad line says where to go on, and goes on there.
#[test]
fn an_import_goes_on_where_it_broke_off() {
    let cluster = Cluster::start(1);
    let bad = b"{\"key\":\"a\",\"value\":1}\n\n{\"key\":\"b\",\"value\":2,\"ttl_ms\":100000}\n{\"key\":\"c\"}\n{\"key\":\"d\",\"value\":4}\n";
    let (code, _, said) = fed(client(&cluster, &["import"]), bad);
    assert!(code == Some(1) && said.contains("line 4: ") && said.contains("--skip 3"), "{said}");
    assert_eq!(ok(&cluster, &["ls", "--keys"]), "a\nb\n");
    assert!(ok(&cluster, &["get", "b", "--meta"]).contains("\"ttl_ms\":"));
    let mended = String::from_utf8_lossy(bad).replace("{\"key\":\"c\"}", "{\"key\":\"c\",\"value\":3}");
    let (code, _, said) = fed(client(&cluster, &["import", "--skip", "3"]), mended.as_bytes());
    assert!(code == Some(0) && said.contains("2 keys were written"), "{said}");
    assert_eq!(ok(&cluster, &["ls", "--keys"]), "a\nb\nc\nd\n");
    let end = run(&cluster, &["import", "--from", "etcd://127.0.0.1:1"]);
    assert_eq!(end.code, Some(69), "{end:?}");
    assert_eq!(run(&cluster, &["import", "--from", "127.0.0.1:1"]).code, Some(64));
}

/// Many keys go in and out while a leader is killed, in each direction: the lines are equal, and with them any digest.
fn many(keys: usize, within: Duration) {
    let mut cluster = Cluster::start_with(Lab::busy(), 3, &[]);
    let line = |at: usize| format!("{{\"key\":\"many/{at:07}\",\"value\":\"{:0>90}\"}}\n", at * 7_919 % 1_000_003);
    let lines: String = (0..keys).map(line).collect();
    let file = cluster.lab.path().join("lines");
    std::fs::write(&file, &lines).unwrap();
    let kill = |cluster: &mut Cluster| {
        let leader = cluster.leader();
        cluster.nodes[leader].kill();
        leader
    };
    let (mut import, said) = started(&cluster, "import", &["import", file.to_str().unwrap()]);
    eventually(within, "a quarter is there", || {
        let count = cluster.nodes[0].get("/hraftd/key?prefix=many/&count")?.ok()?.json();
        check(count["count"].as_u64() > Some(keys as u64 / 4), || count.to_string())
    });
    assert!(import.exited().is_none(), "it was too soon done: {}", text(&said));
    let killed = kill(&mut cluster);
    assert!(import.wait(within, "the import ends").success(), "{}", text(&said));
    cluster.nodes[killed].start();
    cluster.settled();
    let (mut export, out) = started(&cluster, "export", &["export", "many/"]);
    eventually(SETTLE, "it writes", || check(std::fs::metadata(&out).unwrap().len() > 0, String::new));
    let killed = kill(&mut cluster);
    assert!(export.wait(within, "the export ends").success(), "{}", text(&out));
    assert!(std::fs::read(&out).unwrap() == lines.as_bytes(), "the lines are not those that were imported");
    cluster.nodes[killed].start();
}

#[test]
fn many_keys_go_in_and_out_while_a_leader_is_killed() {
    many(50_000, SETTLE * 4);
}

/// Keys and values that others wrote, to steer the terminal of whoever looks.
#[test]
fn what_others_wrote_steers_no_terminal() {
    let cluster = Cluster::start(1);
    let evil = ["t/\u{1b}]0;x\u{7}", "t/a\nother", "t/c\u{202e}cba", "t/d\u{9b}31m", "t/e\u{2066}x", "t/f"];
    for key in evil {
        ok(&cluster, &["put", key, "\u{1b}[31m\u{202e}\u{9b}1m"]);
    }
    let json = "[\"\u{202e}\",\t\"\u{9b}\"]";
    ok(&cluster, &["put", "--json", "t/json", json]);
    let watched = {
        let (mut process, path) = started(&cluster, "watched", &["watch", "t/", "--initial"]);
        eventually(SETTLE, "all is told", || check(text(&path).lines().count() >= 7, || text(&path)));
        process.signal(rustix::process::Signal::INT);
        process.wait(SETTLE, "it ends");
        text(&path)
    };
    let shown = [&["ls", "t/"][..], &["ls", "--keys", "t/"], &["ls", "--tree", "t/"], &["export", "t/"]];
    let shown = shown.iter().map(|args| ok(&cluster, args)).chain([watched]).collect::<Vec<_>>();
    for text in &shown {
        assert!(super::is_harmless(text) && text.contains("u{202e}") | text.contains("u202e"), "{text:?}");
    }
    assert!(fails(&cluster, 1, &["get", "none\u{202e}"]).contains("\\u{202e}"));
    // What is exported so is what was there, to the byte.
    let was: Vec<String> = evil.iter().chain(&["t/json"]).map(|key| ok(&cluster, &["get", key])).collect();
    assert!(was[0] == "\u{1b}[31m\u{202e}\u{9b}1m" && was[6] == json, "{was:?}");
    ok(&cluster, &["delete", "--prefix", "t/"]);
    assert_eq!(fed(client(&cluster, &["import"]), shown[3].as_bytes()).0, Some(0));
    let is: Vec<String> = evil.iter().chain(&["t/json"]).map(|key| ok(&cluster, &["get", key])).collect();
    assert_eq!(is, was);
    assert_eq!(ok(&cluster, &["export", "t/"]), shown[3]);
}

#[test]
#[ignore = "a million keys: minutes; .ci/night runs it"]
fn a_million_keys_go_in_and_out_while_a_leader_is_killed() {
    many(1_000_000, Duration::from_secs(1_200));
}
