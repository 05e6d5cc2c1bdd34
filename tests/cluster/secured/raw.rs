//! Raw bytes at the Raft port of a node with a secret: all of them end at the handshake, whatever they say.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{Writers, secret};
use crate::support::cluster::Cluster;
use crate::support::lab::Lab;

const LONG: Duration = Duration::from_secs(20);

/// A request as nodes without a secret send it.
fn request(path: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nOrigin: http://evil.example\r\n{more}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Sends bytes, and reads until the other side ends the connection.
fn told(addr: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    // It may be gone before it has taken all.
    let _ = stream.write_all(bytes);
    let mut told = Vec::new();
    let ended = stream.read_to_end(&mut told);
    assert!(ended.is_ok() || ended.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset);
    told
}

#[test]
fn what_strangers_send_to_the_raft_port_ends_at_the_handshake() {
    let lab = Lab::new();
    let file = secret(lab.path(), "secret");
    let cluster = Cluster::start_with(lab, 3, &["--cluster-secret-file", file.to_str().unwrap()]);
    cluster.nodes[0].set("k", "1").unwrap();
    cluster.all_have("k", "1");
    let seen = || {
        let of = |name: &str| cluster.nodes.iter().map(|node| node.stat(name).unwrap()).collect::<Vec<_>>();
        let members: Vec<_> = cluster.nodes.iter().map(|node| node.voters().unwrap()).collect();
        (of("term"), of("last_log_index"), members)
    };
    let before = seen();
    // An envelope of cluster 1 by Raft id 1, as `foreign.sh` has it, and of a known version: a vote of the highest term.
    let vote = [&b"\x02\x01"[..], b"\x15127.0.0.1:1,127.0.0.1:2", b"\x01\x00\x00\x00", &[0xff; 10]].concat();
    let frame = |length: u32, bytes: &[u8]| [&length.to_le_bytes()[..], bytes].concat();
    let upgrade = "Connection: upgrade\r\nUpgrade: hraftd-appends\r\n";
    let join = br#"{"id":"127.0.0.1:1,127.0.0.1:2"}"#;
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("call", request("/raft/v1/call", "", &vote)),
        ("call of another version", request("/raft/v1/call", "", &[9; 64])),
        ("appends", [request("/raft/v1/appends", upgrade, b""), frame(80 << 20, &[0; 4096])].concat()),
        ("snapshot", request("/raft/v1/snapshot", "", &frame(32, &vote))),
        ("join", request("/hraftd/raft/join", "Content-Type: application/json\r\n", join)),
        ("identify", request("/raft/v1/identify", "", b"")),
        ("zeros", vec![0; 1024]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ];
    for node in &cluster.nodes {
        for (name, bytes) in &attacks {
            let answer = String::from_utf8_lossy(&told(&node.raddr, bytes)).into_owned();
            assert!(
                answer.is_empty() || (answer.starts_with("HTTP/1.1 400") && answer.contains("speaks TLS")),
                "{name}: {answer}"
            );
            // The same behind what looks like a handshake: no answer but an alert.
            let hello =
                [&[0x16, 0x03, 0x01][..], &u16::try_from(bytes.len().min(16_000)).unwrap().to_be_bytes(), bytes];
            let answer = told(&node.raddr, &hello.concat());
            assert!(answer.is_empty() || answer[0] == 0x15, "{name} behind 0x16: {answer:?}");
        }
        // A half handshake has its time, and then no more.
        assert!(told(&node.raddr, &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).len() < 100);
    }
    // Neither do clients speak for nodes: what joins at the client port is a node, which shows that.
    cluster.nodes[0].set("k", "2").unwrap();
    cluster.all_have("k", "2");
    let after = seen();
    assert_eq!((&after.0, &after.2), (&before.0, &before.2), "no election, no member");
    let entries = after.1.iter().max().unwrap() - before.1.iter().min().unwrap();
    assert!(entries <= 3, "{before:?} {after:?}");
    for node in &cluster.nodes {
        assert!(node.log_text().contains("it speaks plain text"), "{}", node.name);
    }
}

/// Half handshakes by the hundred, at every Raft port, keep nobody from anything: no election, and writes go on.
#[test]
fn half_handshakes_disturb_nobody() {
    let lab = Lab::new();
    let file = secret(lab.path(), "secret");
    let cluster = Cluster::start_with(lab, 3, &["--cluster-secret-file", file.to_str().unwrap()]);
    let writers = Writers::start(&cluster.nodes, true);
    writers.go_on(30);
    let term = cluster.nodes[0].stat("term").unwrap();
    let mut half: Vec<TcpStream> = Vec::new();
    for node in &cluster.nodes {
        for _ in 0..200 {
            let mut stream = TcpStream::connect(&node.raddr).unwrap();
            stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).unwrap();
            half.push(stream);
        }
    }
    writers.go_on(100);
    // Each had its time, the wait for its turn included.
    for stream in &mut half {
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset);
    }
    writers.go_on(30);
    writers.end();
    assert_eq!(cluster.nodes[0].stat("term").unwrap(), term, "an election");
}
