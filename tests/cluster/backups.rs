//! Backups: taken while a cluster runs, checked, restored, and made by the leader itself.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::http;
use crate::support::lab::Lab;
use crate::support::node::{Node, hraftd};
use crate::support::process::{Finished, finish};
use crate::support::wait::{SETTLE, check, eventually};

const PATIENCE: Duration = Duration::from_secs(120);

fn tool(lab: &Lab, args: &[&str]) -> Finished {
    finish(hraftd(lab.path()).args(args), PATIENCE)
}

#[track_caller]
fn done(end: Finished) -> String {
    assert_eq!(end.code, Some(0), "{end:?}");
    end.stdout
}

#[track_caller]
fn refused(end: &Finished, code: i32, says: &str) {
    assert!(end.code == Some(code) && end.stderr.contains(says), "{code} and {says:?} are not in {end:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The number behind a label of what `verify` prints.
fn told<'a>(said: &'a str, label: &str) -> &'a str {
    let line = said.lines().find_map(|line| line.strip_prefix(label));
    line.unwrap_or_else(|| panic!("no {label} in\n{said}")).trim()
}

/// The digest of a node, and the index it is of.
fn digest(node: &Node) -> (String, u64) {
    let about = node.get("/hraftd/raft/node").unwrap().ok().unwrap().json();
    (about["digest"].as_str().unwrap().to_owned(), about["applied_index"].as_u64().unwrap())
}

fn put(node: &Node, path: &str) -> Value {
    let reply = http::call(&node.haddr, "PUT", path, Some(b"[1]")).unwrap();
    assert!(reply.status < 300, "{}", reply.brief());
    reply.json()
}

#[test]
fn a_backup_is_taken_from_any_node_and_becomes_a_new_cluster() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    for number in 0..50 {
        cluster.nodes[number % 3].set(&format!("k{number}"), &format!("{{\"n\": {number}.50}}")).unwrap();
    }
    put(&cluster.nodes[0], "/hraftd/key/short?json&ttl=1500ms");
    let lock = cluster.nodes[0].post("/hraftd/lock/l?ttl=60s", "").unwrap().json();
    let lease = cluster.nodes[0].post("/hraftd/lease?ttl=1h", "").unwrap().json();
    put(&cluster.nodes[0], &format!("/hraftd/key/leased?json&lease={}", lease["lease"]));
    let file = cluster.lab.path().join("f.backup");

    // While it is written to: what was acknowledged before it began is in it, and it is of one index.
    let haddr = cluster.nodes[cluster.follower()].haddr.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (haddr, stop) = (cluster.nodes[leader].haddr.clone(), stop.clone());
        move || {
            let mut last = 0;
            while !stop.load(Relaxed) {
                let body = format!("{{\"w/{}\": 1}}", last + 1);
                let reply = http::call(&haddr, "POST", "/hraftd/key", Some(body.as_bytes()));
                assert_eq!(reply.unwrap().status, 200);
                last += 1;
            }
            last
        }
    });
    let line = done(tool(&cluster.lab, &["backup", text(&file), "--endpoints", &haddr]));
    stop.store(true, Relaxed);
    let written: u64 = writer.join().unwrap();
    assert!(line.contains(&format!("{}: index ", file.display())), "{line}");
    let said = done(tool(&cluster.lab, &["backup", "verify", text(&file)]));
    let (index, keys) = (told(&said, "index").split(',').next().unwrap().parse::<u64>().unwrap(), told(&said, "keys"));
    let keys: u64 = keys.parse().unwrap();
    assert!((52..=52 + written).contains(&keys), "{keys} of {written}");
    assert_eq!((told(&said, "locks"), told(&said, "leases")), ("1", "1"));
    assert!(done(tool(&cluster.lab, &["inspect", text(&file)])).contains(told(&said, "digest")));

    // At rest all nodes have the digest that the backup has; and then there is nothing newer.
    eventually(SETTLE, "a backup of the state as it is", || {
        let answer = done(tool(&cluster.lab, &["backup", text(&file), "--endpoints", &haddr, "-o", "json"]));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let (digest, at) = digest(&cluster.nodes[leader]);
        check(at == answer["index"], || format!("{at}: {answer}"))?;
        check(answer["digest"] == digest.as_str(), || panic!("{digest} and {answer}"))
    });
    let before = fs::read(&file).unwrap();
    let newest = digest(&cluster.nodes[leader]).1 + 1_000_000;
    let none = tool(&cluster.lab, &["backup", text(&file), "--endpoints", &haddr, "--if-newer", &newest.to_string()]);
    assert!(none.code == Some(0) && none.stderr.contains("nothing is newer"), "{none:?}");
    assert_eq!(fs::read(&file).unwrap(), before);
    let same = cluster.nodes[0].get(&format!("/hraftd/backup?if_newer={newest}")).unwrap();
    assert_eq!((same.status, same.body.len()), (304, 0));
    let head = http::call(&cluster.nodes[0].haddr, "HEAD", "/hraftd/backup", None).unwrap();
    assert!(head.status == 200 && head.header("x-hraftd-index").is_some(), "{head:?}");
    let plain = done(tool(&cluster.lab, &["backup", "verify", text(&file)]));

    // The worst day: all nodes are gone. A longer time passes than `short` had to live.
    cluster.nodes.iter_mut().for_each(Node::kill);
    let gone = Instant::now();
    eventually(PATIENCE, "time passes", || check(gone.elapsed() > Duration::from_millis(2500), String::new));
    let rdir = cluster.lab.path().join("restored");
    let said = done(tool(&cluster.lab, &["restore", text(&file), "--rdir", text(&rdir)]));
    assert!(said.contains("a new cluster") && said.contains(told(&plain, "digest")), "{said}");
    refused(&tool(&cluster.lab, &["restore", text(&file), "--rdir", text(&rdir)]), 78, "is not empty");
    let mut alone = cluster.lab.node("restored");
    alone.start();
    alone.wait_ready();
    assert_eq!(alone.get("/hraftd/key/k7?raw").unwrap().text(), r#"{"n": 7.50}"#);
    assert_eq!(alone.value("short").unwrap(), serde_json::json!([1]), "no time has passed in it");
    assert_eq!(alone.get("/hraftd/lock/l").unwrap().json()["token"], lock["token"]);
    assert_eq!(alone.value("leased").unwrap(), serde_json::json!([1]));
    eventually(SETTLE, "it has its own addresses, and nobody else's", || {
        let voters = alone.voters()?;
        check(voters == [alone.id()].into(), || format!("{voters:?}"))
    });
    assert!(alone.set("after", "1").unwrap() > index + (1 << 20));
    let position = format!("/hraftd/watch?prefix=&after={index}");
    let accept = [("Accept", "application/x-ndjson")];
    let watch = http::call_with(&alone.haddr, "GET", &position, &accept, None).unwrap();
    assert!(watch.status == 410 && watch.text().contains("compacted"), "{}", watch.brief());
    let warnings = alone.get("/hraftd/raft/cluster").unwrap().json()["warnings"].clone();
    assert!(warnings.is_null(), "{warnings}");

    // It comes back as who it is, wherever it is started, and others join it empty.
    alone.stop();
    alone.start();
    alone.wait_ready();
    refused(&tool(&cluster.lab, &["restore", text(&file), "--rdir", text(&rdir)]), 78, "is not empty");
    let mut second = cluster.lab.node("second").rjoin(&[&alone.haddr]);
    second.start();
    second.wait_ready();
    eventually(SETTLE, "both are voters", || {
        let voters = second.voters()?;
        check(voters == [alone.id(), second.id()].into(), || format!("{voters:?}"))
    });
    assert_eq!(second.get("/hraftd/key/k49?raw&level=none").unwrap().text(), r#"{"n": 49.50}"#);

    // An old node is a stranger to it.
    cluster.nodes[0].start();
    let join = format!(r#"{{"id":"{}"}}"#, cluster.nodes[0].id());
    eventually(SETTLE, "the old node is refused", || {
        let reply = alone.post("/hraftd/raft/join", &join)?;
        check(reply.status == 409 && reply.text().contains("another cluster"), || reply.brief())
    });
}

/// With `--rjoin` as all nodes of a supervised cluster have it, the restored one leads, and the others join it.
#[test]
fn with_one_list_for_all_the_restored_one_leads_and_time_counts_where_it_is_to() {
    let mut cluster = Cluster::with_one_list(3);
    cluster.start_all();
    cluster.settled();
    cluster.nodes[0].set("k", "1").unwrap();
    put(&cluster.nodes[0], "/hraftd/key/short?json&ttl=1s");
    let file = cluster.lab.path().join("f.backup");
    done(tool(&cluster.lab, &["backup", text(&file), "--endpoints", &cluster.nodes[1].haddr]));
    cluster.nodes.iter_mut().for_each(Node::kill);
    cluster.nodes.iter().for_each(Node::wipe);
    let gone = Instant::now();
    eventually(PATIENCE, "time passes", || check(gone.elapsed() > Duration::from_millis(1500), String::new));
    done(tool(&cluster.lab, &["restore", text(&file), "--rdir", text(&cluster.nodes[2].rdir), "--expire"]));
    cluster.start_all();
    cluster.settled();
    cluster.all_have("k", "1");
    eventually(SETTLE, "what was due is gone", || {
        let reply = cluster.nodes[0].get("/hraftd/key/short")?;
        check(reply.status == 404, || reply.brief())
    });
}

/// Answers each request with these bytes, and closes.
fn answers(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(bytes);
        }
    });
    addr
}

#[test]
fn what_goes_wrong_leaves_no_file_and_no_half_of_one() {
    let lab = Lab::new();
    let mut node = lab.node("n");
    node.start();
    node.wait_ready();
    node.set("k", "1").unwrap();
    let file = lab.path().join("f.backup");
    done(tool(&lab, &["backup", text(&file), "--endpoints", &node.haddr]));
    let good = fs::read(&file).unwrap();
    let left = || {
        let names = fs::read_dir(lab.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("backup")).collect::<Vec<_>>()
    };
    let cut = answers(b"HTTP/1.1 200 OK\r\nX-Hraftd-Index: 5\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhraftdBK\r\n");
    let other = answers(
        b"HTTP/1.1 200 OK\r\nX-Hraftd-Index: 5\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhraftdBK\r\n0\r\n\r\n",
    );
    for (endpoint, code, says) in [
        (cut.as_str(), 75, "the answer broke off"),
        (other.as_str(), 75, "damaged at offset"),
        ("127.0.0.1:1", 69, "no node is reachable"),
    ] {
        refused(&tool(&lab, &["backup", text(&file), "--endpoints", endpoint]), code, says);
        assert_eq!((fs::read(&file).unwrap() == good, left()), (true, vec!["f.backup".to_owned()]), "{says}");
    }
    refused(&tool(&lab, &["backup", "-", "--endpoints", &cut]), 75, "broke off");
    refused(&tool(&lab, &["backup", text(lab.path()), "--endpoints", &node.haddr]), 64, "no regular file");
    refused(&tool(&lab, &["backup", "/dev/null", "--endpoints", &node.haddr]), 64, "no regular file");
    refused(&tool(&lab, &["backup", "-", "--if-newer", "1", "--endpoints", &node.haddr]), 64, "needs a FILE");
    let nowhere = lab.path().join("none/f.backup");
    refused(&tool(&lab, &["backup", text(&nowhere), "--endpoints", &node.haddr]), 1, "no backup was taken");
    let mut full = hraftd(lab.path());
    full.args(["backup", "-", "--endpoints", &node.haddr])
        .stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    assert_eq!(full.output().unwrap().status.code(), Some(1));
    // A running node's directory is no place to restore into.
    refused(&tool(&lab, &["restore", text(&file), "--rdir", text(&node.rdir)]), 78, "is not empty");
    let cut = lab.path().join("cut");
    fs::write(&cut, &good[..good.len() / 2]).unwrap();
    refused(&tool(&lab, &["backup", "verify", text(&cut)]), 1, "damaged at offset");
    refused(&tool(&lab, &["restore", text(&cut), "--rdir", text(&lab.path().join("new"))]), 1, "damaged at offset");
    assert!(!lab.path().join("new").exists());
    // To standard output it is the same file.
    let mut command = hraftd(lab.path());
    let piped = command.args(["backup", "-", "--endpoints", &node.haddr]).output().unwrap();
    assert!(piped.status.success() && piped.stdout.starts_with(b"hraftdBK"));
    for path in ["/hraftd/backup?if_newer=x", "/hraftd/backup?what"] {
        assert_eq!(node.get(path).unwrap().status, 400, "{path}");
    }
}

/// A client that begins to read one and takes no more: what the state was then costs memory with each write.
#[test]
fn a_client_that_takes_no_more_is_cut_off() {
    const MEGABYTE: usize = 1_000_000;
    let lab = Lab::new();
    let mut node = lab.node("n");
    node.start();
    node.wait_ready();
    let put = |key: usize, byte: u8| {
        let value = vec![byte; MEGABYTE];
        let reply = http::call(&node.haddr, "PUT", &format!("/hraftd/key/k{key}"), Some(&value)).unwrap();
        assert!(reply.status < 300, "{}", reply.brief());
    };
    // More than the buffers of two sockets.
    (0..20).for_each(|key| put(key, b'a'));
    let mut slow = TcpStream::connect(&node.haddr).unwrap();
    let head = format!("GET /hraftd/backup HTTP/1.1\r\nHost: {}\r\n\r\n", node.haddr);
    slow.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 4096];
    slow.read_exact(&mut first).unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&first));
    for round in b'b'..=b'e' {
        (0..20).for_each(|key| put(key, round));
    }
    eventually(PATIENCE, "it is said that it was cut off", || {
        check(node.log_text().contains("was not taken to its end"), || node.log_text())
    });
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    // An end of the connection, or its reset: never the end of a body.
    let _ = slow.read_to_end(&mut rest);
    assert!(rest.len() < 20 * MEGABYTE && !rest.ends_with(b"0\r\n\r\n"), "{} bytes", rest.len());
    // Nobody else is worse off.
    let file = lab.path().join("f.backup");
    done(tool(&lab, &["backup", text(&file), "--endpoints", &node.haddr]));
    assert!(fs::metadata(&file).unwrap().len() as usize > 20 * MEGABYTE);
}

/// The backups in a directory, whole.
fn backups(lab: &Lab, dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.path().display().to_string()).collect();
    names.retain(|name| name.ends_with(".backup"));
    names.sort();
    // One that is pruned meanwhile is gone.
    names.retain(|name| tool(lab, &["backup", "verify", name]).code == Some(0) || Path::new(name).exists());
    names
}

fn metric(node: &Node, name: &str) -> f64 {
    let page = node.get("/metrics").unwrap().text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

#[test]
fn the_leader_backs_up_by_itself_and_says_when_it_cannot() {
    let lab = Lab::new();
    let dir = lab.path().join("backups/of/it");
    let to = dir.display().to_string();
    let args = ["--backup-to", &to, "--backup-every", "1s", "--backup-keep", "2"];
    let mut cluster = Cluster::start_with(lab, 3, &args);
    let mut number = 0;
    let mut write = |cluster: &Cluster| {
        number += 1;
        cluster.nodes[cluster.leader()].set("k", &number.to_string()).unwrap();
    };
    let mut seen = std::collections::BTreeSet::new();
    eventually(PATIENCE, "four backups were made", || {
        write(&cluster);
        seen.extend(backups(&cluster.lab, &dir));
        check(seen.len() >= 4, || format!("{seen:?}"))
    });
    eventually(SETTLE, "two of them stay", || {
        let there = backups(&cluster.lab, &dir);
        check(there.len() <= 2 && !there.is_empty(), || format!("{there:?}"))
    });
    for name in backups(&cluster.lab, &dir) {
        done(tool(&cluster.lab, &["backup", "verify", &name]));
    }
    let leader = cluster.leader();
    assert!(metric(&cluster.nodes[leader], "hraftd_backup_last_success_timestamp_seconds") > 1e9);
    assert!(metric(&cluster.nodes[leader], "hraftd_backup_last_bytes") > 100.0);

    // Another leader goes on; nothing can be written any more: all nodes say so, and go on otherwise.
    cluster.nodes[leader].kill();
    fs::rename(cluster.lab.path().join("backups"), cluster.lab.path().join("aside")).unwrap();
    fs::write(cluster.lab.path().join("backups"), "in the way").unwrap();
    let alive: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    eventually(PATIENCE, "both that run warn", || {
        write(&cluster);
        for at in &alive {
            let shown = cluster.nodes[*at].get("/hraftd/raft/cluster")?.ok()?.json()["warnings"].to_string();
            check(shown.contains("the backup into") && shown.contains(&to), || shown.clone())?;
        }
        Ok(())
    });
    let now = cluster.leader();
    assert!(metric(&cluster.nodes[now], "hraftd_backup_failures_total") >= 1.0);
    assert!(metric(&cluster.nodes[now], "hraftd_backup_failing") == 1.0);
    assert!(metric(&cluster.nodes[now], "hraftd_raft_warnings{kind=\"backup\"}") == 1.0);
    fs::remove_file(cluster.lab.path().join("backups")).unwrap();
    eventually(PATIENCE, "backups are made again, and nobody warns", || {
        write(&cluster);
        let shown = cluster.nodes[alive[0]].get("/hraftd/raft/cluster")?.ok()?.json()["warnings"].to_string();
        check(!shown.contains("the backup into") && !backups(&cluster.lab, &dir).is_empty(), || shown)
    });
}
