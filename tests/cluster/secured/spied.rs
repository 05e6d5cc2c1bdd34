//! Who is between two nodes, or between a client and a node, reads nothing.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::{secret, tool};
use crate::support::http::call;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::secure::secure;
use crate::support::wait::{SETTLE, check, eventually};

/// A proxy that keeps all that it sees.
struct Spy {
    listener: TcpListener,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Spy {
    fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap(), seen: Arc::default() }
    }

    fn addr(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// From now on whoever calls it is led there.
    fn leads_to(&self, to: &str) {
        let (listener, seen, to) = (self.listener.try_clone().unwrap(), self.seen.clone(), to.to_owned());
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&to) else { continue };
                for (mut from, mut into) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    let seen = seen.clone();
                    std::thread::spawn(move || {
                        let mut space = [0; 16 << 10];
                        while let Ok(bytes @ 1..) = from.read(&mut space) {
                            seen.lock().unwrap().extend_from_slice(&space[..bytes]);
                            if into.write_all(&space[..bytes]).is_err() {
                                return;
                            }
                        }
                        let _ = into.shutdown(Shutdown::Write);
                    });
                }
            }
        });
    }

    /// Much went through it, and none of these.
    fn saw_none_of(&self, what: &str, texts: &[&str]) {
        let seen = self.seen.lock().unwrap();
        assert!(seen.len() > 1_000, "{} bytes went through the one {what}", seen.len());
        for text in texts {
            assert!(!seen.windows(text.len()).any(|part| part == text.as_bytes()), "the one {what} saw {text}");
        }
    }
}

/// Three places of spies: at the Raft ports of two nodes, which forward and replicate, and at the client port of the one
/// that follows.
#[test]
fn nothing_goes_in_clear_between_nodes_nor_between_clients_and_nodes() {
    const KEY: &str = "a-key-that-nobody-sees";
    const VALUE: &str = "a-value-that-nobody-sees";
    let lab = Lab::new();
    let (file, root_file) = (secret(lab.path(), "secret"), lab.path().join("root"));
    tool(lab.path(), &["token", root_file.to_str().unwrap()]);
    let root = std::fs::read_to_string(&root_file).unwrap().trim().to_owned();
    let ca = tool(lab.path(), &["ca", "--cluster-secret-file", file.to_str().unwrap()]);
    let args = ["--cluster-secret-file", file.to_str().unwrap(), "--tls-auto"];
    let spies = [Spy::new(), Spy::new()];
    let start = |name: &str, spy: &Spy, more: &[&str]| {
        let mut node: Node = lab.node(name).args(&args).args(more).args(&["--radv", &spy.addr()]);
        spy.leads_to(&node.raddr);
        secure(std::slice::from_ref(&node.haddr), &ca, Some(&root));
        node.start();
        node.wait_ready();
        node
    };
    let first = start("first", &spies[0], &["--root-token-file", root_file.to_str().unwrap()]);
    let second =
        start("second", &spies[1], &["--root-token-file", root_file.to_str().unwrap(), "--rjoin", &first.haddr]);
    let client = Spy::new();
    client.leads_to(&second.haddr);
    secure(&[client.addr()], &ca, Some(&root));
    let through = client.addr();
    let ask =
        |method: &str, path: &str, body: Option<&str>| call(&through, method, path, body.map(str::as_bytes)).unwrap();
    let made = ask("PUT", "/hraftd/auth/token/app", Some(r#"{"grants":["read:","write:"]}"#));
    assert_eq!(made.status, 201, "{}", made.brief());
    let token = made.json()["token"].as_str().unwrap().to_owned();
    secure(std::slice::from_ref(&through), &ca, Some(&token));
    let set = ask("PUT", &format!("/hraftd/key/{KEY}"), Some(VALUE));
    assert!(set.status / 100 == 2, "{}", set.brief());
    assert_eq!(ask("GET", &format!("/hraftd/key/{KEY}?level=weak"), None).json()[KEY], VALUE);
    eventually(SETTLE, "the second has it", || {
        let found = second.local(KEY)?;
        check(found == VALUE, || found.to_string())
    });
    let texts = [KEY, VALUE, &root[4..], &token[4..], "POST /raft", "PUT /hraftd", "GET /hraftd"];
    spies[0].saw_none_of("at the leader's Raft port", &texts);
    spies[1].saw_none_of("at the follower's Raft port", &texts);
    client.saw_none_of("at the follower's client port", &texts);
}
