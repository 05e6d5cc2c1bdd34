//! Endpoints that are no node that serves: each verb ends, with the code that the manual has, and says what it met.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use super::moments::VERBS;
use super::{client, fails, fed, is_harmless, ok, run};
use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::node::hraftd;
use crate::support::process::{Finished, finish};
use crate::support::wait::SETTLE;

/// Runs each verb, all at a time, where the endpoints are these.
pub(super) fn each(
    home: &Path,
    endpoints: &str,
    more: &[&str],
    without: &[&str],
    check: impl Fn(&str, &Finished) + Sync,
) {
    let dir = home.join(format!("to-{}-{}", endpoints.replace(|c: char| !c.is_ascii_alphanumeric(), "-"), more.len()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("txn"), r#"{"then":[{"set":{"t/1":1}}]}"#).unwrap();
    std::fs::write(dir.join("lines"), "{\"key\":\"i/1\",\"value\":1}\n").unwrap();
    std::thread::scope(|scope| {
        // One that wants to lead waits for ever, and a change of members is given a minute.
        let rows = VERBS.iter().filter(|(verb, args)| *verb != "elect" && !args.contains(&"lead"));
        for (verb, args) in rows.filter(|(verb, _)| !without.contains(verb)) {
            let args: Vec<String> = args.iter().map(|word| word.replace("@/../", "@/")).collect();
            let args: Vec<String> = args.iter().map(|word| word.replace('@', dir.to_str().unwrap())).collect();
            let (dir, check) = (&dir, &check);
            scope.spawn(move || {
                let mut all: Vec<&str> = args.iter().map(String::as_str).collect();
                let command = all.iter().position(|word| *word == "--").unwrap_or(all.len());
                all.splice(
                    command..command,
                    ["--timeout", "1s", "--endpoints", endpoints].into_iter().chain(more.iter().copied()),
                );
                let mut asked = hraftd(home);
                asked.args(&all).env("TMPDIR", dir).env("EDITOR", "true").env_remove("VISUAL").stdin(Stdio::null());
                let end = finish(&mut asked, SETTLE);
                // The doctor tells on stdout; a bench tells of its keys, too.
                let lines = end.stderr.lines().count();
                assert!(end.code == Some(0) || lines == 1 || ["doctor", "bench"].contains(verb), "{all:?}: {end:?}");
                check(verb, &end);
            });
        }
    });
    let left = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name != "txn" && name != "lines" && name != "backup").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn nobody_is_there() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    each(Lab::new().path(), &gone, &[], &[], |verb, end| {
        assert_eq!(end.code, Some(69), "{verb}: {end:?}");
        assert!(end.stderr.contains(&gone) && end.stderr.contains("no node is reachable"), "{verb}: {end:?}");
    });
}

/// A server in a thread, until it is dropped.
struct Server {
    addr: SocketAddr,
    ends: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Answers each connection so, once; without an answer it keeps them.
    fn start(answer: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, ends) = (listener.local_addr().unwrap(), std::sync::Arc::new(AtomicBool::new(false)));
        let is_over = ends.clone();
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream.unwrap();
                if let Some(answer) = answer {
                    stream.set_read_timeout(Some(SETTLE)).unwrap();
                    let _ = stream.read(&mut [0; 4096]);
                    let _ = stream.write_all(answer.as_bytes());
                }
                kept.push(stream);
            }
        });
        Self { addr, ends, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        drop(std::net::TcpStream::connect(self.addr));
        drop(self.thread.take().map(std::thread::JoinHandle::join));
    }
}

#[test]
fn one_that_never_answers() {
    let server = Server::start(None);
    let addr = server.addr.to_string();
    each(Lab::new().path(), &addr, &[], &[], |verb, end| {
        assert_eq!(end.code, Some(75), "{verb}: {end:?}");
        assert!(end.stderr.contains("did not answer in time"), "{verb}: {end:?}");
        // It may have been received.
        let is_write = ["put", "delete", "incr", "touch", "txn", "lock", "import"].contains(&verb);
        assert!(!is_write || end.stderr.contains("unknown"), "{verb}: {end:?}");
    });
}

/// Another kind of server: nothing of what it says counts, whatever its status is.
#[test]
fn one_that_is_no_hraftd() {
    let whole: &[&str] = &[];
    for (answer, what, without) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope", 69, whole),
        ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>", 1, whole),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
            1,
            whole,
        ),
        // One that even gives itself out for a node: then any body may be a value, and an edit keeps what it has.
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Hraftd-Index: 7\r\nContent-Length: 27\r\nConnection: close\r\n\r\n\
             {\"servers\":{},\"findings\":1}",
            1,
            &["get", "edit"],
        ),
        // That there are no tokens may be.
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]",
            1,
            &["token"],
        ),
    ] {
        let server = Server::start(Some(answer));
        let addr = server.addr.to_string();
        each(Lab::new().path(), &addr, &[], without, |verb, end| {
            assert_eq!(end.code, Some(what), "{verb} at {answer}: {end:?}");
            assert_eq!(end.stdout, "", "{verb} at {answer}: {end:?}");
        });
        let lab = Lab::new();
        // What is passed on as it comes is of whoever says that it is a node.
        let passed_on: &[&[&str]] = if without.contains(&"get") { &[] } else { &[&["ls", "-o", "json"]] };
        for args in [&["backup", "-"][..], &["ls", "--keys"]].iter().chain(passed_on) {
            let end = finish(hraftd(lab.path()).args(*args).args(["--timeout", "1s", "--endpoints", &addr]), SETTLE);
            assert_eq!((end.code, end.stdout.as_str()), (Some(what), ""), "{args:?} at {answer}: {end:?}");
        }
    }
}

/// What a server says reaches no terminal as it is.
#[test]
fn one_that_steers_terminals() {
    let said = "\u{1b}[2J\u{202e}\u{9b}1m\u{2066}\u{7}";
    let body = format!(
        "{{\"ok\":false,\"code\":\"x\",\"msg\":\"{}\"}}",
        said.replace('\u{1b}', "\\u001b").replace('\u{7}', "\\nwrong")
    );
    for status in ["400 Bad Request", "403 Forbidden", "503 Service Unavailable"] {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let server = Server::start(Some((head + &body).leak()));
        each(Lab::new().path(), &server.addr.to_string(), &[], &[], |verb, end| {
            assert!(end.code != Some(0) && end.stderr.contains("\\u{202e}"), "{verb}: {end:?}");
            assert!(is_harmless(&end.stdout) && is_harmless(&end.stderr), "{verb}: {end:?}");
            assert!(!end.stderr.lines().any(|line| line.starts_with("wrong")), "{verb}: {end:?}");
        });
    }
}

/// A stream whose line does not end is left.
#[test]
fn a_line_without_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let _ = stream.read(&mut [0; 4096]);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nX-Hraftd-Index: 1\r\nConnection: close\r\n\r\n{\"a\":\"";
        stream.write_all(head.as_bytes()).unwrap();
        let piece = vec![b'a'; 1 << 20];
        (0_u32..).find(|_| stream.write_all(&piece).is_err()).unwrap()
    });
    let lab = Lab::new();
    let end = finish(hraftd(lab.path()).args(["watch", "", "--endpoints", &addr]), SETTLE);
    assert!(end.code == Some(1) && end.stderr.contains("an event is too long"), "{end:?}");
    let sent = server.join().unwrap();
    assert!((64..200).contains(&sent), "{sent} MiB were taken");
}

/// An etcd that says the same again and again, or that there is more and gives nothing.
#[test]
fn an_etcd_that_does_not_go_on() {
    let cluster = Cluster::start(1);
    let page = r#"{"header":{"revision":"5"},"kvs":[{"key":"YQ==","value":"YQ=="}],"more":true,"count":"9"}"#;
    for body in [page, r#"{"header":{"revision":"5"},"more":true}"#] {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let server = Server::start(Some((head + body).leak()));
        let said = fails(&cluster, 1, &["import", "--from", &format!("etcd://{}", server.addr)]);
        assert!(said.contains("does not go on"), "{said}");
    }
}

/// A node that has lost its majority.
#[test]
fn there_is_no_leader() {
    let mut cluster = Cluster::start(3);
    ok(&cluster, &["put", "k", "v"]);
    let left = cluster.nodes[2].haddr.clone();
    crate::support::wait::eventually(SETTLE, "the one that is left has the key", || {
        let end = run(&cluster, &["get", "k", "--level", "none", "--endpoints", &left]);
        crate::support::wait::check(end.code == Some(0), || format!("{end:?}"))
    });
    for number in [0, 1] {
        cluster.nodes[number].kill();
    }
    crate::support::wait::eventually(SETTLE, "it knows", || {
        crate::support::wait::check(
            run(&cluster, &["health", "--ready", "--endpoints", &left]).code == Some(75),
            String::new,
        )
    });
    each(cluster.lab.path(), &left, &[], &["watch"], |verb, end| {
        let wanted: &[i32] = match verb {
            "status" | "members" => &[0, 1, 75],
            // There is much to mend.
            "doctor" => &[1],
            "why" => &[0, 1, 75],
            // There is no authentication.
            "token" => &[77],
            _ => &[75],
        };
        assert!(end.code.is_some_and(|code| wanted.contains(&code)), "{verb}: {end:?}");
    });
    assert_eq!(ok(&cluster, &["get", "k", "--level", "none", "--endpoints", &left]), "v");
    assert_eq!(ok(&cluster, &["health", "--endpoints", &left]), "alive\n");
}

/// A value of 8 MB from standard input, where nodes take one.
#[test]
fn a_large_value_comes_and_goes() {
    let cluster = Cluster::start_with(Lab::new(), 1, &["--max-value", "16M", "--max-request", "16M"]);
    let mut value: Vec<u8> = (0..8_000_000_u32).map(|at| (at * 31 % 251) as u8).collect();
    value.extend_from_slice(b"\0no newline");
    let put = fed(client(&cluster, &["put", "large", "-"]), &value);
    assert_eq!((put.0, put.2.as_str()), (Some(0), ""));
    assert!(fed(client(&cluster, &["get", "large"]), b"").1 == value);
    let lines = fed(client(&cluster, &["export", "large"]), b"").1;
    ok(&cluster, &["delete", "large"]);
    assert_eq!(fed(client(&cluster, &["import"]), &lines).0, Some(0));
    assert!(fed(client(&cluster, &["get", "large"]), b"").1 == value);
    assert!(fails(&cluster, 1, &["get", "none"]).contains("none"));
}
