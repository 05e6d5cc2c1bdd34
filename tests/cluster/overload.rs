//! More than a cluster can do: it refuses the rest, keeps its leader and its memory within bounds, and is as before afterwards.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::support::cluster::Cluster;
use crate::support::crowd::{Client, Tally, allow_files, open_many, request};
use crate::support::extent::extent;
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::process::Reaped;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

const CONNECTIONS: usize = 10_000;
/// So long all of them ask, each again as soon as it is answered, in the plain run and in the full one.
const LOAD_SECS: (u64, u64) = (2, 5);
const STUCK: usize = 1_000;
const FOLLOWERS: usize = 1_000;
const BIG: usize = 1_000_000;

pub const MIB: u64 = 1 << 10;
/// Of a connection: its buffers, its task, the request it has under way.
const KIB_A_CONNECTION: u64 = 48;
/// Answers that are not taken (256 MiB), bodies (64), watch history (64), the log's cache and what the allocator wastes of all that.
const TOGETHER: u64 = 768 * MIB;

/// Numbers of the leader and, in the full run, of a follower too.
fn targets(cluster: &Cluster) -> Vec<usize> {
    let both = [cluster.leader(), cluster.follower()];
    both[..extent(1, 2)].to_vec()
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The terms that a node has seen, and the most memory each node took, until it is stopped.
fn watch_cluster<'scope>(
    scope: &'scope Scope<'scope, '_>,
    nodes: &'scope [Node],
    stop: &'scope AtomicBool,
) -> std::thread::ScopedJoinHandle<'scope, (Vec<u64>, u64)> {
    scope.spawn(move || {
        let (mut terms, mut most) = (Vec::new(), 0);
        while !stop.load(Ordering::Relaxed) {
            for node in nodes {
                most = most.max(node.memory_kib("VmRSS"));
                // Under any load: what an operator asks for is answered.
                let term = node.stat("term").unwrap();
                if !terms.contains(&term) {
                    terms.push(term);
                }
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        (terms, most)
    })
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `load`; asserts that nobody was elected meanwhile, and that no node took more memory than this.
pub fn under(what: &str, nodes: &[Node], most_kib: u64, load: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let (terms, most) = std::thread::scope(|scope| {
        let seen = watch_cluster(scope, nodes, &stop);
        let stop = StopOnDrop(&stop);
        load();
        drop(stop);
        seen.join().unwrap()
    });
    say(&format!("overload: {what}: at most {} MiB in one node", most / MIB));
    assert_eq!(terms.len(), 1, "{what}: an election under load: terms {terms:?}");
    assert!(most < most_kib, "{what}: {} MiB in one node, more than {}", most / MIB, most_kib / MIB);
}

/// Every one of them asks, again and again; what they were answered.
async fn ask_all(addr: &str, clients: Vec<Client>, length: Duration) -> (Vec<Client>, Arc<Tally>) {
    let (tally, until) = (Arc::new(Tally::default()), Instant::now() + length);
    let tasks = clients.into_iter().enumerate().map(|(number, mut client)| {
        let (tally, key) = (tally.clone(), format!("/hraftd/key/c{number}"));
        let requests = [request(addr, "PUT", &key, "some value"), request(addr, "GET", &key, "")];
        tokio::spawn(async move {
            for request in requests.iter().cycle() {
                let answer = client.ask(request).await;
                tally.answer(&answer);
                if answer.is_err() || Instant::now() > until {
                    break;
                }
            }
            client
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await.unwrap());
    }
    (clients, tally)
}

/// As one client sees it that comes when all is over.
pub fn serves_as_ever(cluster: &Cluster, value: &str) {
    for node in &cluster.nodes {
        let mut conn = Conn::open(&node.haddr).unwrap();
        for _ in 0..100 {
            let body = format!(r#"{{"afterwards":"{value}"}}"#);
            conn.request("POST", "/hraftd/key", &[], Some(body.as_bytes())).unwrap().ok().unwrap();
            let read = conn.request("GET", "/hraftd/key/afterwards", &[], None).unwrap().ok().unwrap();
            assert_eq!(read.json()["afterwards"], value);
        }
    }
    cluster.all_have("afterwards", &format!("{value:?}"));
}

#[test]
fn ten_thousand_connections_and_a_thousand_that_stop_reading() {
    // Our own side needs some files as well; a node gives more than half of them to clients.
    let count = CONNECTIONS.min(allow_files() / 2 - 300);
    say(&format!("overload: {count} connections"));
    let length = Duration::from_secs(extent(LOAD_SECS.0, LOAD_SECS.1));
    let mut cluster = Cluster::start_with(Lab::alone(), 3, &[]);
    let term = cluster.nodes[0].stat("term").unwrap();
    let runtime = runtime();
    for at in targets(&cluster) {
        let addr = cluster.nodes[at].haddr.clone();
        let who = if at == cluster.leader() { "the leader" } else { "a follower" };
        let most = TOGETHER + KIB_A_CONNECTION * count as u64;
        under(&format!("{count} connections to {who}"), &cluster.nodes, most, || {
            let clients = runtime.block_on(open_many(&addr, count));
            let began = Instant::now();
            let (mut clients, mut tally) = runtime.block_on(ask_all(&addr, clients, length));
            // Where the load gets little of the processors it may not be more than the node can do.
            while tally.of("503") == 0 && began.elapsed() < SETTLE {
                (clients, tally) = runtime.block_on(ask_all(&addr, clients, length));
            }
            say(&format!("overload: {count} connections to {who}: {tally}"));
            // 404: it reads what was not written, as that was refused.
            assert_eq!(tally.others(&["200", "201", "404", "503"]), [], "{tally}");
            assert!(tally.of("201") > 0 && tally.of("503") > 0, "{tally}");
            assert_eq!(clients.len(), count);
        });
        serves_as_ever(&cluster, who);
    }
    stop_reading(&cluster, &runtime);
    serves_as_ever(&cluster, "in the end");
    assert_eq!(cluster.nodes[0].stat("term").unwrap(), term, "an election because of load");
    cluster.nodes.iter_mut().for_each(Node::assert_alive);
}

/// Clients that ask for large values, listings and changes, and read none of it, while others write.
fn stop_reading(cluster: &Cluster, runtime: &Runtime) {
    let node = &cluster.nodes[cluster.leader()];
    let big = format!("\"{}\"", "b".repeat(BIG - 2));
    for number in 0..4 {
        node.set(&format!("big/{number}"), &big).unwrap();
    }
    let most = TOGETHER + KIB_A_CONNECTION * CONNECTIONS as u64;
    under(&format!("{STUCK} clients that do not read"), &cluster.nodes, most, || {
        let mut clients = runtime.block_on(open_many(&node.haddr, STUCK));
        runtime.block_on(async {
            for (number, client) in clients.iter_mut().enumerate() {
                let target = match number % 4 {
                    0 | 1 => "/hraftd/key/big/1",
                    2 => "/hraftd/key?prefix=big/",
                    _ => "/hraftd/watch?prefix=big/",
                };
                // Also those that ask on without reading.
                let requests = request(&node.haddr, "GET", target, "").repeat(1 + number % 8);
                client.stream.write_all(&requests).await.unwrap();
            }
        });
        // The watchers, and whatever holds old values: each of these is another.
        let mut conn = Conn::open(&node.haddr).unwrap();
        for number in 0..40 {
            let body = format!(r#"{{"big/{}":{big}}}"#, number % 4);
            conn.request("POST", "/hraftd/key", &[], Some(body.as_bytes())).unwrap().ok().unwrap();
            conn.request("POST", "/hraftd/key", &[], Some(br#"{"small":1}"#)).unwrap().ok().unwrap();
            conn.request("GET", "/hraftd/key/small", &[], None).unwrap().ok().unwrap();
        }
        drop(clients);
    });
    // The room of those that are gone is free again.
    eventually(SETTLE, "large values are read again", || {
        let read = node.get("/hraftd/key/big/1")?.ok()?;
        check(read.body.len() > BIG, || format!("{} bytes", read.body.len()))
    });
}

/// Issue 22: a thousand follow the events, of one node or of all, and half of them read nothing.
#[test]
fn a_thousand_followers_of_events() {
    allow_files();
    let cluster = Cluster::start_with(Lab::alone(), 3, &[]);
    let node = &cluster.nodes[cluster.follower()];
    let runtime = runtime();
    under("a thousand followers of events", &cluster.nodes, 384 * MIB, || {
        let mut clients = runtime.block_on(open_many(&node.haddr, FOLLOWERS));
        let heard = Arc::new(AtomicUsize::new(0));
        for (number, client) in clients.iter_mut().enumerate() {
            let target = if number % 4 < 2 { "/hraftd/raft/events?all" } else { "/hraftd/raft/events" };
            let asked = request(&node.haddr, "GET", target, "");
            runtime.block_on(client.stream.write_all(&asked)).unwrap();
        }
        let (readers, silent): (Vec<_>, Vec<_>) =
            clients.into_iter().enumerate().partition(|(number, _)| number % 2 == 0);
        for (_, mut client) in readers {
            let heard = heard.clone();
            runtime.spawn(async move {
                let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
                // The first entry that is told is of a write that came after it.
                while !seen.windows(7).any(|part| part == b"commit\"") {
                    match client.stream.read(&mut buffer).await.unwrap() {
                        0 => panic!("the stream ends: {}", String::from_utf8_lossy(&seen)),
                        length => seen.extend_from_slice(&buffer[..length]),
                    }
                }
                heard.fetch_add(1, Ordering::Relaxed);
                // It goes on to read.
                while client.stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
            });
        }
        let mut conn = Conn::open(&node.haddr).unwrap();
        eventually(SETTLE, "each reader is told of a write", || {
            for _ in 0..20 {
                conn.request("POST", "/hraftd/key", &[], Some(br#"{"small":1}"#)).unwrap().ok().unwrap();
            }
            let heard = heard.load(Ordering::Relaxed);
            check(heard == FOLLOWERS / 2, || format!("{heard} of them"))
        });
        drop(silent);
    });
    drop(runtime);
    serves_as_ever(&cluster, "after the followers");
}

/// Starts a node that may open so many files.
fn with_few_files(lab: &Lab, node: &Node, files: usize) -> Reaped {
    let command = node.command();
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args()).env("HOME", lab.path());
    limited.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Reaped::spawn(&mut limited);
    node.wait_ready();
    process
}

/// File descriptors run out for clients only, and an operator gets in all the same.
#[test]
fn a_node_with_few_files() {
    const FILES: usize = 256;
    allow_files();
    let lab = Lab::new();
    let node = lab.node("only");
    let mut process = with_few_files(&lab, &node, FILES);
    node.set("k", "1").unwrap();
    // The others are for the node itself, the Raft port, and those beyond the limit.
    let served = 66;
    let runtime = runtime();
    let ask = request(&node.haddr, "GET", "/hraftd/key/k", "");
    let mut clients = runtime.block_on(open_many(&node.haddr, served));
    let mut asked = Vec::new();
    for client in &mut clients {
        asked.push(runtime.block_on(client.ask(&ask)).unwrap().0.status);
    }
    // Connections of ours from before may not have ended yet.
    let refused = asked.iter().filter(|&&status| status == 503).count();
    assert!(refused < 5 && asked.iter().all(|status| [200, 503].contains(status)), "{asked:?}");
    let tally = Tally::default();
    let more = runtime.block_on(open_many(&node.haddr, FILES));
    for mut client in more {
        let answer = runtime.block_on(client.ask(&ask));
        if let Ok((head, _)) = &answer {
            assert_eq!(head.header("connection"), Some("close"), "{}", head.text);
        }
        tally.answer(&answer);
    }
    assert_eq!(tally.of("503"), FILES as u64, "{tally}");
    assert_eq!(node.get("/hraftd/raft/health").unwrap().status, 200);
    assert_eq!(node.ready(), Ok(()));
    // Those that have their place keep it.
    let placed = asked.iter().rposition(|&status| status == 200).unwrap();
    let last = runtime.block_on(clients[placed].ask(&ask)).unwrap();
    assert_eq!(last.0.status, 200);
    drop(clients);
    eventually(SETTLE, "there is room again", || node.set("k", "2"));
    assert_eq!(process.exited(), None);
}

/// Messages to the Raft port that stop in their midst, streams of appends that say nothing, and connections that do not
/// even ask: memory stays bounded, and nobody is elected.
#[test]
fn what_comes_to_the_raft_port_is_bounded() {
    const BEGUN: usize = 1_000;
    const PART: usize = 1_000_000;
    /// What is on its way (256 MiB), buffers of 2,000 connections, what a node takes anyway, and as much again that was freed
    /// within the last seconds: the allocator gives it back later.
    const MOST: u64 = 832 * MIB;
    allow_files();
    let cluster = Cluster::start_with(Lab::alone(), 3, &[]);
    let runtime = runtime();
    for at in targets(&cluster) {
        let raddr = cluster.nodes[at].raddr.clone();
        let head = |rest: &str| format!("POST /raft/v1/{rest}\r\n\r\n").into_bytes();
        let mut begun = head(&format!("call HTTP/1.1\r\nHost: x\r\nContent-Length: {}", 2 * PART));
        begun.resize(begun.len() + PART, b'x');
        let stream = head("appends HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: hraftd-appends");
        under(&format!("messages that stop, to node {at}"), &cluster.nodes, MOST, || {
            let mut held = Vec::new();
            runtime.block_on(async {
                for number in 0..BEGUN * 2 {
                    let mut client = Client::open(&raddr).await.unwrap();
                    if number % 2 == 0 {
                        // One that has to go takes no more of it.
                        let _ = client.stream.write_all(&begun).await;
                    } else {
                        client.stream.write_all(&stream).await.unwrap();
                    }
                    held.push(client);
                }
            });
            serves_as_ever(&cluster, &format!("beside messages that stop, to node {at}"));
            drop(held);
        });
    }
}

/// The Raft port of a node with few files is full of connections that say nothing: a message is answered all the same.
#[test]
fn a_raft_port_that_is_full_answers_all_the_same() {
    const FILES: usize = 256;
    allow_files();
    let lab = Lab::new();
    let node = lab.node("only");
    let mut process = with_few_files(&lab, &node, FILES);
    let runtime = runtime();
    // `Identify`, from x:1,x:2 to the same: what anybody may ask.
    let identify = "\x04\0\x07x:1,x:2\x07\x01\x01\x07x:1,x:2\0\0\0\0\0\0\x09";
    let [message, unreadable] = [identify, "?"].map(|body| request(&node.raddr, "POST", "/raft/v1/call", body));
    let ask = |client: &mut Client| {
        let (head, body) = runtime.block_on(client.ask(&message)).unwrap();
        assert!(head.status == 200 && !body.is_empty(), "{}", head.text);
        assert_eq!(head.header("connection"), None, "it may stay");
    };
    let mut kept = runtime.block_on(open_many(&node.raddr, FILES / 32));
    kept.iter_mut().for_each(ask);
    // Those that say nothing make room for one another, and in the end for one that asks.
    let silent = runtime.block_on(open_many(&node.raddr, 4 * FILES));
    runtime.block_on(open_many(&node.raddr, 4)).iter_mut().for_each(ask);
    drop(silent);
    // One that sends what nobody takes gives up its place.
    let mut stranger = runtime.block_on(Client::open(&node.raddr)).unwrap();
    let (head, _) = runtime.block_on(stranger.ask(&unreadable)).unwrap();
    assert_eq!((head.status, head.header("connection")), (200, Some("close")));
    node.set("k", "1").unwrap();
    assert_eq!(process.exited(), None);
}
