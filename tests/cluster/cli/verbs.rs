//! What each verb does, and what it says of bad input.

use serde_json::Value;

use super::{client, fails, fed, ok, run};
use crate::support::cluster::Cluster;

#[test]
fn values_come_byte_for_byte() {
    let cluster = Cluster::start(3);
    for (number, value) in
        [&b"a\0b"[..], b"no newline", b"two\n\n", b"", b"\xff\0\n", "\u{e9}\u{1f600}".as_bytes(), b"-5", b"@"]
            .into_iter()
            .enumerate()
    {
        let key = format!("bytes/{number} \u{e9}%?");
        let put = fed(client(&cluster, &["put", &key, "-"]), value);
        assert_eq!((put.0, put.1), (Some(0), Vec::new()), "{}", put.2);
        let got = fed(client(&cluster, &["get", &key]), b"");
        assert_eq!((got.0, got.1.as_slice()), (Some(0), value), "{}", got.2);
    }
    // The largest that a node takes unasked, and more than it takes.
    let mib = vec![b'x'; (1 << 20) - 2];
    assert_eq!(fed(client(&cluster, &["put", "large", "-"]), &mib).0, Some(0));
    assert!(fed(client(&cluster, &["get", "large"]), b"").1 == mib);
    let (code, _, said) = fed(client(&cluster, &["put", "large", "-"]), &vec![b'x'; 8 << 20]);
    assert!(code == Some(1) && said.contains("--max-"), "{code:?} {said}");
    let file = cluster.lab.path().join("file");
    std::fs::write(&file, b"from a file").unwrap();
    ok(&cluster, &["put", "f", &format!("@{}", file.display())]);
    assert_eq!(ok(&cluster, &["get", "f"]), "from a file");
    assert!(fails(&cluster, 1, &["put", "f", "@/nowhere"]).contains("/nowhere"));
    ok(&cluster, &["put", "j", "{\"a\": 1.50}", "--json"]);
    assert_eq!(ok(&cluster, &["get", "j"]), "{\"a\": 1.50}");
    let said = fails(&cluster, 1, &["put", "j", "{", "--json"]);
    assert!(said.contains(": the input must be one JSON value: "), "{said}");
    let meta: Value = serde_json::from_str(&ok(&cluster, &["get", "j", "--meta"])).unwrap();
    let index = meta["modify_index"].as_u64().unwrap().to_string();
    ok(&cluster, &["put", "j", "2", "--cas", &index]);
    fails(&cluster, 1, &["put", "j", "3", "--cas", &index]);
    fails(&cluster, 1, &["put", "j", "3", "--cas", "0"]);
    ok(&cluster, &["put", "short", "1", "--ttl", "1h"]);
    assert!(ok(&cluster, &["get", "short", "--meta"]).contains("\"ttl_ms\":3"));
    assert!(fails(&cluster, 1, &["get", "none"]).contains("\"none\""));
}

#[test]
fn keys_are_listed_counted_and_deleted() {
    let cluster = Cluster::start(3);
    for number in 0..250 {
        cluster.nodes[number % 3].set(&format!("many/{number:03}"), "1").unwrap();
    }
    ok(&cluster, &["put", "odd\nkey", "a\nb"]);
    let keys = ok(&cluster, &["ls", "--keys"]);
    assert_eq!((keys.lines().count(), keys.lines().last()), (251, Some("\"odd\\nkey\"")));
    assert_eq!(ok(&cluster, &["ls", "many/24"]).lines().next(), Some("many/240\t1"));
    assert!(ok(&cluster, &["ls", "--tree"]).starts_with("many/\n  000\n  001\n"));
    assert_eq!(ok(&cluster, &["export", "--after", ""]).lines().count(), 251, "no key is empty");
    let json: Value = serde_json::from_str(&ok(&cluster, &["ls", "many/", "-o", "json"])).unwrap();
    assert_eq!(json.as_object().unwrap().len(), 250);
    assert_eq!(ok(&cluster, &["delete", "many/", "--prefix"]), "250\n");
    assert_eq!(ok(&cluster, &["delete", "many/", "--prefix"]), "0\n");
    assert_eq!(run(&cluster, &["delete", "many/000"]).code, Some(1));
    assert_eq!(ok(&cluster, &["incr", "n"]), "1\n");
    assert_eq!(ok(&cluster, &["incr", "n", "--by", "-3"]), "-2\n");
    assert!(fails(&cluster, 1, &["incr", "odd\nkey"]).contains("not an integer"));
    ok(&cluster, &["touch", "n", "--ttl", "1h"]);
    assert!(ok(&cluster, &["get", "n", "--meta"]).contains("\"ttl_ms\":3"));
    fails(&cluster, 1, &["touch", "none", "--ttl", "1h"]);
    let txn = br#"{"if":[{"key":"n","value":-2}],"then":[{"incr":{"n":2}}],"else":[{"get":"n"}]}"#;
    let (code, out, _) = fed(client(&cluster, &["txn", "-"]), txn);
    assert!(code == Some(0) && String::from_utf8_lossy(&out).contains("[{\"n\":0}]"), "{out:?}");
    assert_eq!(fed(client(&cluster, &["txn", "-"]), txn).0, Some(1));
    let (code, _, said) = fed(client(&cluster, &["txn", "-"]), br#"{"then":[{"nonsense":1}]}"#);
    assert!(code == Some(1) && said.contains("then[0]"), "{said}");
}

#[test]
fn an_edit_is_written_back_where_nobody_else_wrote() {
    let cluster = Cluster::start(3);
    ok(&cluster, &["put", "e", "{\"a\": 1}", "--json"]);
    let edit = |editor: &str| {
        let mut command = client(&cluster, &["edit", "e"]);
        command.env("EDITOR", editor).env_remove("VISUAL").env("TMPDIR", cluster.lab.path());
        fed(command, b"")
    };
    assert_eq!(edit("sed -i s/1/2/").0, Some(0));
    assert_eq!(ok(&cluster, &["get", "e"]), "{\"a\": 2}");
    let (code, _, said) = edit("true");
    assert!(code == Some(0) && said.contains("unchanged"), "{said}");
    let (code, _, said) = edit("sh -c 'echo broken >\"$0\"; exit 3'");
    assert!(code == Some(1) && said.contains("exit status: 3") && said.contains("nothing was changed"), "{said}");
    // What is no JSON any more is refused, and kept.
    let (code, _, said) = edit("sed -i s/}//");
    let kept = said.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(code == Some(1) && std::fs::read_to_string(&kept).unwrap().starts_with("{\"a\": 2"), "{said}");
    // Another writes while the editor is open: both are kept.
    let url = format!("http://{}/hraftd/key/e?json", cluster.nodes[0].haddr);
    let (code, _, said) = edit(&format!("sh -c 'curl -s -XPUT \"{url}\" -d 7; sed -i s/2/3/ \"$0\"'"));
    assert!(code == Some(1) && said.contains("theirs"), "{said}");
    let (yours, theirs) = said.split_once("yours is ").unwrap().1.split_once(", theirs ").unwrap();
    assert!(std::fs::read_to_string(yours).unwrap().contains('3'));
    assert_eq!(std::fs::read_to_string(theirs.trim()).unwrap(), "7");
    assert_eq!(ok(&cluster, &["get", "e"]), "7");
    let left: Vec<_> = std::fs::read_dir(cluster.lab.path()).unwrap().flatten().collect();
    let left = left.iter().filter(|entry| entry.file_name().to_string_lossy().starts_with("hraftd-edit")).count();
    assert_eq!(left, 2, "those that were told alone");
}

#[test]
fn members_are_shown_led_and_removed() {
    let cluster = Cluster::start(3);
    let follower = cluster.follower();
    let id = cluster.nodes[follower].haddr.clone();
    ok(&cluster, &["members", "lead", &id]);
    assert_eq!(cluster.leader(), follower);
    assert_eq!(ok(&cluster, &["members"]), ok(&cluster, &["status"]));
    assert!(fails(&cluster, 1, &["members", "lead", "127.0.0.1:1"]).contains("127.0.0.1:1"));
    let other = cluster.nodes[cluster.follower()].haddr.clone();
    ok(&cluster, &["members", "remove", &other]);
    // The one that was removed goes by what it knew.
    let told = ok(&cluster, &["members", "--endpoints", &id]);
    assert!(!told.contains(&format!("{other} ")), "{told}");
}
