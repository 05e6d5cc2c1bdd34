//! HTTP/2 at the client port of a cluster: attackers that send frames by hand. See `src/http/http2/tests.rs` for the limits
//! one by one.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::http::PATIENCE;

/// A node takes no more than this beyond what it had, whatever is sent.
const MOST_KIB: u64 = 64 << 10;

/// A flood gives up after so many bytes.
const MOST_BYTES: usize = 256 << 20;

const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [.., a, b, c] = payload.len().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// The head of a request.
fn head(method: &str, path: &str) -> Vec<u8> {
    let mut head = vec![0x86];
    let mut literal = |index: u8, text: &str| {
        head.extend([index, text.len() as u8]);
        head.extend(text.as_bytes());
    };
    literal(0x02, method);
    literal(0x04, path);
    literal(0x01, "127.0.0.1");
    head
}

/// Sends `next` pieces until the node closes; the reason of its GOAWAY.
fn flood(addr: &str, mut next: impl FnMut(u32) -> Vec<u8> + Send) -> Option<u32> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).unwrap();
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let mut writer = stream.try_clone().unwrap();
        scope.spawn(move || {
            let (mut number, mut sent) = (0, 0);
            while sent < MOST_BYTES {
                let mut piece = Vec::new();
                while piece.len() < 16 << 10 {
                    piece.extend(next(number));
                    number += 1;
                }
                sent += piece.len();
                if writer.write_all(&piece).is_err() {
                    return;
                }
            }
        });
        let _ = stream.read_to_end(&mut all);
    });
    let mut frames = &all[..];
    while let Some((head, rest)) = frames.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        if head[3] == 7 {
            return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        frames = rest;
    }
    None
}

/// Rapid reset, continuations without end, and the others that were found in servers of HTTP/2.
#[test]
fn floods_end_with_their_connection() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let addr = cluster.nodes[leader].haddr.clone();
    cluster.nodes[leader].set("k", "1").unwrap();
    let (term, before) = (cluster.nodes[leader].stat("term").unwrap(), cluster.nodes[leader].memory_kib("VmRSS"));
    let get = || head("GET", "/hraftd/key/k?level=none");
    let wait = || head("GET", "/hraftd/key/none?wait=60s");
    let put = || head("PUT", "/hraftd/key/k");
    let id = |number: u32| number * 2 + 1;
    type Next = Box<dyn FnMut(u32) -> Vec<u8> + Send>;
    let (g, w, p) = (get(), wait(), put());
    let floods: Vec<(&str, Option<u32>, Next)> = vec![
        ("rapid reset", Some(ENHANCE_YOUR_CALM), {
            let wait = w.clone();
            Box::new(move |n| [frame(1, 5, id(n), &wait), frame(3, 0, id(n), &[0, 0, 0, 8])].concat())
        }),
        ("continuations", Some(ENHANCE_YOUR_CALM), {
            let get = g.clone();
            Box::new(move |n| if n == 0 { frame(1, 1, 1, &get) } else { frame(9, 0, 1, &[]) })
        }),
        // The library ends it at the head of four times the limit.
        ("a head without end", None, {
            let get = g.clone();
            let field = [&[0, 1, b'x', 127, 0x81, 0x01][..], &[b'y'; 256]].concat();
            Box::new(move |n| if n == 0 { frame(1, 1, 1, &get) } else { frame(9, 0, 1, &field.repeat(16)) })
        }),
        ("pings", Some(ENHANCE_YOUR_CALM), Box::new(|_| frame(6, 0, 0, &[0; 8]))),
        ("settings", Some(ENHANCE_YOUR_CALM), Box::new(|_| frame(4, 0, 0, &[0, 4, 0, 0, 0, 1]))),
        ("empty data", Some(ENHANCE_YOUR_CALM), {
            let put = p.clone();
            Box::new(move |n| if n == 0 { frame(1, 4, 1, &put) } else { frame(0, 0, 1, &[]) })
        }),
        ("streams beyond the limit", Some(ENHANCE_YOUR_CALM), {
            let wait = w.clone();
            Box::new(move |n| frame(1, 5, id(n), &wait))
        }),
        // A header in upper case: the first ends the connection.
        ("malformed requests", Some(PROTOCOL_ERROR), {
            let bad = [&g[..], &[0, 1, b'X', 1, b'y']].concat();
            Box::new(move |n| frame(1, 5, id(n), &bad))
        }),
        ("windows", Some(ENHANCE_YOUR_CALM), {
            let wait = w.clone();
            Box::new(move |n| if n == 0 { frame(1, 5, 1, &wait) } else { frame(8, 0, 1, &[0, 0, 0, 1]) })
        }),
    ];
    for (what, reason, next) in floods {
        let told = flood(&addr, next);
        if reason.is_some() {
            assert_eq!(told, reason, "{what}");
        }
        assert_eq!(cluster.nodes[leader].get("/hraftd/key/k").unwrap().status, 200, "after {what}");
    }
    let now = cluster.nodes[leader].memory_kib("VmRSS");
    assert!(now < before + MOST_KIB, "{before} KiB, then {now}");
    cluster.nodes[leader].assert_alive();
    assert_eq!(cluster.nodes[leader].stat("term").unwrap(), term, "an election");
    // Nothing of it is left.
    let metrics = cluster.nodes[leader].get("/metrics").unwrap().text();
    assert!(metrics.contains("\nhraftd_http2_streams 0\n"), "{metrics}");
}

/// Answers that are not taken take nothing from others: clients that open no window.
#[test]
fn windows_that_stay_shut_hold_nobody() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    node.set("k", &format!("\"{}\"", "x".repeat(60_000))).unwrap();
    let before = node.memory_kib("VmRSS");
    let get = head("GET", "/hraftd/key/k?level=none");
    let shut: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = TcpStream::connect(&node.haddr).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            // SETTINGS_INITIAL_WINDOW_SIZE = 0.
            all.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
            (0..128).for_each(|number| all.extend(frame(1, 5, number * 2 + 1, &get)));
            stream.write_all(&all).unwrap();
            stream
        })
        .collect();
    let streams = || {
        let metrics = node.get("/metrics").unwrap().text();
        metrics.lines().find_map(|line| line.strip_prefix("hraftd_http2_streams ")?.parse::<u64>().ok()).unwrap()
    };
    crate::support::wait::eventually(PATIENCE, "all wait", || {
        let open = streams();
        if open == 16 * 128 { Ok(()) } else { Err(open.to_string()) }
    });
    for _ in 0..100 {
        assert_eq!(node.get("/hraftd/key/k").unwrap().status, 200);
    }
    let now = node.memory_kib("VmRSS");
    assert!(now < before + (256 << 10), "{before} KiB, then {now}");
    drop(shut);
    crate::support::wait::eventually(PATIENCE, "they are gone", || {
        let open = streams();
        if open == 0 { Ok(()) } else { Err(open.to_string()) }
    });
}
