//! `hraftd drill`: a healthy cluster passes, one that lies does not.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{client, fails, ok, run, started, text};
use crate::support::cluster::Cluster;
use crate::support::http::{Conn, Reply};
use crate::support::node::Node;
use crate::support::process::{Finished, finish};
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

/// A drill of five seconds, its last reads and the restart of a node on a busy machine.
const WITHIN: Duration = Duration::from_secs(100);

fn drill(cluster: &Cluster, args: &[&str]) -> Finished {
    let fixed = ["drill", "--seconds", "5", "--rate", "100"];
    finish(&mut client(cluster, &[&fixed[..], args].concat()), WITHIN)
}

fn json(end: &Finished) -> Value {
    serde_json::from_str(&end.stdout).unwrap_or_else(|error| panic!("{error}: {end:?}"))
}

/// Nothing of the drill is left.
fn is_clean(cluster: &Cluster) {
    assert_eq!(ok(cluster, &["ls", "--keys", "drill/"]), "");
    let locks = cluster.nodes[0].get("/hraftd/lock?prefix=drill/").unwrap().ok().unwrap();
    assert_eq!(locks.text(), "[]");
}

#[test]
fn a_healthy_cluster_passes() {
    let cluster = Cluster::start(3);
    let end = drill(&cluster, &[]);
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{end:?}");
    assert!(end.stdout.contains("\nwrong          nothing\n"), "{end:?}");
    say(&end.stdout);
    is_clean(&cluster);
    let end = drill(&cluster, &["-o", "json", "--prefix", "other/"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let said = json(&end);
    assert_eq!((&said["ok"], &said["findings"]), (&Value::from(true), &Value::Array(Vec::new())), "{said}");
    assert_eq!(said["nodes"].as_array().unwrap().len(), 3, "{said}");
    assert!(said["answered"].as_u64() > Some(50) && said["watch"]["changes"].as_u64() > Some(10), "{said}");
    assert!(said["moves"]["count"].as_u64() > Some(0) && said["lock"]["tenures"].as_u64() > Some(0), "{said}");
    assert_eq!(ok(&cluster, &["ls", "--keys"]), "");
}

/// A command for `--stop` and one for `--start`: each leaves a file for the test, and ends when that is gone.
fn commands(dir: &Path) -> [String; 2] {
    ["stop", "start"].map(|what| {
        let file = format!("{}/{what}-$HRAFTD_NODE", dir.display());
        format!(": >\"{file}\"; while [ -e \"{file}\" ]; do sleep 0.02; done; echo {what}ped")
    })
}

/// Nodes are killed and started, one at a time, and the drill passes.
#[test]
fn a_healthy_cluster_passes_while_its_nodes_are_killed() {
    passes_while(Node::kill, Node::start);
}

/// Nodes stand still for a while, and a leader among them does not know that it is none any more.
#[test]
fn a_healthy_cluster_passes_while_its_nodes_stand_still() {
    passes_while(|node| node.pause(), |node| node.resume());
}

fn passes_while(stop_node: fn(&mut Node), start_node: fn(&mut Node)) {
    let mut cluster = Cluster::start(3);
    let dir = tempfile::tempdir().unwrap();
    let [stop, start] = commands(dir.path());
    let args = ["drill", "--seconds", "5", "--rate", "100", "-o", "json", "--stop", &stop, "--start", &start];
    let (mut process, out) = started(&cluster, "drill", &args);
    let mut kills = 0;
    let status = eventually(WITHIN, "the drill ends", || {
        for node in &mut cluster.nodes {
            let file = |what: &str| dir.path().join(format!("{what}-{}", node.haddr));
            let (stop, start) = (file("stop"), file("start"));
            if stop.exists() {
                stop_node(node);
                kills += 1;
                std::fs::remove_file(stop).unwrap();
            }
            if start.exists() {
                start_node(node);
                std::fs::remove_file(start).unwrap();
            }
        }
        assert!(cluster.running().count() >= 2, "two nodes are stopped at once");
        process.exited().ok_or_else(|| text(&out))
    });
    assert_eq!((status.code(), cluster.running().count()), (Some(0), 3), "{}", text(&out));
    // What the commands print is on stderr, which is here the same file.
    let said = text(&out);
    let said: Value = serde_json::from_str(said.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    assert!(kills > 0 && said["stops"]["count"].as_u64() == Some(kills), "{said}");
    assert!(said["stops"]["longest_gap_ms"].as_u64() > Some(0), "{said}");
    is_clean(&cluster);
}

/// How a node lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// It answers a read with what it read long ago.
    Stale,
    /// It says that a write is done, and does nothing.
    Swallow,
}

/// Before a node, and lies in its name.
struct Liar<'a> {
    node: &'a str,
    lie: Lie,
    /// Reads that were answered first, by their paths.
    old: Mutex<std::collections::BTreeMap<String, Reply>>,
    requests: AtomicUsize,
    stop: AtomicBool,
}

impl Liar<'_> {
    /// Answers one connection after another, each in a thread, until it is told to stop.
    fn serve(&self, listener: &TcpListener) {
        std::thread::scope(|scope| {
            for stream in listener.incoming() {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                scope.spawn(move || self.connection(&stream.unwrap()));
            }
        });
    }

    /// Until the client closes it, or it breaks.
    fn connection(&self, stream: &TcpStream) -> Option<()> {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut reader = BufReader::new(stream);
        let mut conn = Conn::open(self.node).ok()?;
        loop {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_owned());
            }
            let mut first = lines[0].split(' ');
            let (method, path) = (first.next()?, first.next()?);
            let headers: Vec<(&str, &str)> = lines[1..].iter().filter_map(|line| line.split_once(": ")).collect();
            let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
            reader.read_exact(&mut body).ok()?;
            let own = |name: &str| ["content-length", "host"].iter().any(|own| name.eq_ignore_ascii_case(own));
            let passed: Vec<(&str, &str)> = headers.into_iter().filter(|(name, _)| !own(name)).collect();
            let body = (method != "GET").then_some(&body[..]);
            let reply = self.answer(&mut conn, method, path, &passed, body)?;
            let head = format!(
                "HTTP/1.1 {} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                reply.status,
                reply.body.len()
            );
            (&*stream).write_all(&[head.as_bytes(), &reply.body].concat()).ok()?;
        }
    }

    fn answer(
        &self,
        conn: &mut Conn,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Option<Reply> {
        let made = |status, text: &str| Reply { status, headers: Vec::new(), body: text.as_bytes().to_vec() };
        if path.starts_with("/hraftd/watch") {
            return Some(made(503, r#"{"ok":false,"code":"overloaded","msg":"not here"}"#));
        }
        let (is_key, number) = (path.starts_with("/hraftd/key/drill/"), self.requests.fetch_add(1, Ordering::Relaxed));
        // The drill's own marks are no numbers.
        let is_load = is_key && body.is_none_or(|body| body.iter().all(u8::is_ascii_digit));
        if self.lie == Lie::Swallow && is_load && method == "PUT" && number.is_multiple_of(3) {
            return Some(made(200, r#"{"ok":true,"msg":"OK"}"#));
        }
        if self.lie == Lie::Stale
            && method == "GET"
            && let Some(old) = self.old.lock().unwrap().get(path)
        {
            return Some(old.clone());
        }
        let reply = conn.request(method, path, headers, body).ok()?;
        if is_load && method == "GET" && reply.status == 200 {
            self.old.lock().unwrap().insert(path.to_owned(), reply.clone());
        }
        Some(reply)
    }
}

/// A drill through a node that lies: what it found.
fn through_a_liar(lie: Lie) -> Value {
    let cluster = Cluster::start(3);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (old, requests, stop) = (Mutex::default(), AtomicUsize::new(0), AtomicBool::new(false));
    let liar = Liar { node: &cluster.nodes[0].haddr, lie, old, requests, stop };
    let end = std::thread::scope(|scope| {
        scope.spawn(|| liar.serve(&listener));
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // A slow machine answers few requests within one drill, and the lie may be in none of them.
            let addr = addr.to_string();
            let mut drills = (0..6).map(|_| drill(&cluster, &["-o", "json", "--endpoints", &addr]));
            drills.find(|end| end.code != Some(0)).expect("a drill that finds something")
        }));
        liar.stop.store(true, Ordering::Relaxed);
        // It looks when somebody comes.
        drop(TcpStream::connect(addr));
        end
    });
    let end = end.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(end.code, Some(1), "{end:?}");
    let said = json(&end);
    assert_eq!(said["ok"], false, "{said}");
    is_clean(&cluster);
    assert!(said["findings"][0]["proof"].to_string().contains(&addr.to_string()), "the liar is named: {said}");
    said
}

#[test]
fn a_node_that_reads_what_is_old_is_found() {
    let said = through_a_liar(Lie::Stale);
    let found = &said["findings"][0];
    assert_eq!(found["kind"], "stale_read", "{said}");
    let proof: Vec<&str> = found["proof"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert!(proof.len() == 2 && proof[1].contains(" read "), "{said}");
}

#[test]
fn a_node_that_swallows_writes_is_found() {
    let said = through_a_liar(Lie::Swallow);
    let found = |kind: &str| said["findings"].as_array().unwrap().iter().any(|finding| finding["kind"] == kind);
    assert!(found("lost_write") && found("watch_gap"), "{said}");
}

/// Ctrl-C: it ends soon, and nothing is left.
#[test]
fn an_interrupted_drill_cleans_up() {
    let cluster = Cluster::start(3);
    let (mut process, out) = started(&cluster, "drill", &["drill", "--seconds", "300"]);
    eventually(SETTLE, "it writes", || {
        let keys = ok(&cluster, &["ls", "--keys", "drill/"]);
        check(keys.lines().count() > 3, || format!("{keys}{}", text(&out)))
    });
    process.signal(Signal::INT);
    assert_eq!(process.wait(SETTLE, "it ends").code(), Some(130), "{}", text(&out));
    assert_eq!(text(&out), "");
    is_clean(&cluster);
}

#[test]
fn what_cannot_be_is_told() {
    let cluster = Cluster::start(1);
    for args in
        [&["--stop", "true"][..], &["--start", "true"], &["--seconds", "1"], &["--prefix", ""], &["--rate", "0"]]
    {
        fails(&cluster, 64, &[&["drill"][..], args].concat());
    }
    fails(&cluster, 64, &["drill", "--seconds", "3600", "--rate", "5000"]);
    // Nobody else can lead, and nobody is stopped: it passes, and says so.
    let end = run(&cluster, &["drill", "--seconds", "2", "-o", "json", "--stop", "exit 1", "--start", "exit 1"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!((&json(&end)["moves"]["count"], &json(&end)["stops"]["count"]), (&Value::from(0), &Value::from(0)));
    drop(cluster);
    let end = finish(&mut client(&Cluster::with_one_list(1), &["drill"]), WITHIN);
    assert_eq!(end.code, Some(69), "{end:?}");
}
