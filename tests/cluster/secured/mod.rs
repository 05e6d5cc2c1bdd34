//! Nodes that share a secret, and clients that speak TLS.

mod clients;
mod counted;
mod findings;
mod floods;
mod joining;
mod migration;
mod operated;
mod peers;
mod raw;
mod rotation;
mod spied;
mod tokens;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::http;
use crate::support::lab::Lab;
use crate::support::namespace::{is_there, skip};
use crate::support::node::Node;
use crate::support::process::finish;
use crate::support::secure::{secure, tool};
use crate::support::wait::{SETTLE, check, eventually};

/// A new cluster secret in a file of this name.
fn secret(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    tool(dir, &["secret", path.to_str().unwrap()]);
    path
}

/// Nodes with TLS at both ports, whose clients have the root token; and that. More arguments for each.
fn closed(lab: Lab, count: usize, more: &[&str]) -> (Cluster, String) {
    let (secret, root) = (secret(lab.path(), "secret"), lab.path().join("root"));
    tool(lab.path(), &["token", root.to_str().unwrap()]);
    let token = std::fs::read_to_string(&root).unwrap().trim().to_owned();
    let ca = tool(lab.path(), &["ca", "--cluster-secret-file", secret.to_str().unwrap()]);
    let args =
        ["--cluster-secret-file", secret.to_str().unwrap(), "--tls-auto", "--root-token-file", root.to_str().unwrap()];
    let cluster = Cluster::start_prepared(lab, count, &[&args, more].concat(), |node| {
        secure(std::slice::from_ref(&node.haddr), &ca, Some(&token));
    });
    (cluster, token)
}

/// The public fingerprint of a file's first secret.
fn id_of(file: &Path) -> String {
    let all = tool(file.parent().unwrap(), &["secret", "--id", file.to_str().unwrap()]);
    all.lines().next().unwrap().to_owned()
}

/// Has a file hold the lines of these, in one step, as an operator's tool does.
fn put_secrets(file: &Path, of: &[&Path]) {
    let text: String = of.iter().map(|one| std::fs::read_to_string(one).unwrap()).collect();
    let new = file.with_extension("new");
    let _ = std::fs::remove_file(&new);
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(&new, file).unwrap();
}

fn logs(node: &Node, text: &str) {
    eventually(SETTLE, &format!("{} logs {text:?}", node.name), || {
        check(node.log_text().contains(text), || "not yet".to_owned())
    });
}

/// False, and a note, where a program that these tests run is missing.
fn has_programs(test: &str) -> bool {
    let missing: Vec<&str> = ["curl", "openssl"].into_iter().filter(|program| !is_there(program)).collect();
    if !missing.is_empty() {
        skip(test, &format!("missing Debian packages: {}", missing.join(" ")));
    }
    missing.is_empty()
}

/// Writes by curl: its exit code, and what it printed.
fn curl(args: &[&str]) -> (i32, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "10", "-w", " %{http_code}"]).args(args);
    let end = finish(&mut command, Duration::from_secs(20));
    (end.code.unwrap_or(-1), end.stdout + &end.stderr)
}

/// Writers that go on until they are stopped.
struct Writers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Writers {
    /// One at each node: each write must succeed at the node that it was put to. With `elsewhere`, one that got no
    /// connection is put to the next node.
    fn start(nodes: &[Node], elsewhere: bool) -> Self {
        Self::start_as(nodes, elsewhere, None)
    }

    /// With this token.
    fn start_as(nodes: &[Node], elsewhere: bool, token: Option<&str>) -> Self {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let haddrs: Vec<String> = nodes.iter().map(|node| node.haddr.clone()).collect();
        let threads = (0..haddrs.len()).map(|at| {
            let (stop, done, haddrs, bearer) = (stop.clone(), done.clone(), haddrs.clone(), bearer.clone());
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return failed;
                    }
                    let places = if elsewhere { haddrs.len() } else { 1 };
                    // The same value to the same key: it may be written twice.
                    let path = format!("/hraftd/key/w{at}?timeout=10s");
                    let value = number.to_string();
                    let put = |more: usize| {
                        let header = bearer.as_deref().map(|bearer| ("Authorization", bearer));
                        let haddr = &haddrs[(at + more) % haddrs.len()];
                        http::call_with(haddr, "PUT", &path, header.as_slice(), Some(value.as_bytes()))
                    };
                    let is_done =
                        |reply: &Result<http::Reply, String>| matches!(reply, Ok(reply) if reply.status / 100 == 2);
                    let mut reply = put(0);
                    let mut tried = 1;
                    while !is_done(&reply) && tried < places {
                        reply = put(tried);
                        tried += 1;
                    }
                    match is_done(&reply) {
                        true => drop(done.fetch_add(1, Ordering::Relaxed)),
                        false => failed.push(format!("{number} at {at}: {reply:?}")),
                    }
                }
                failed
            })
        });
        let threads = threads.collect();
        Self { stop, done, threads }
    }

    /// Waits until so many more writes are done.
    fn go_on(&self, more: usize) {
        let wanted = self.done.load(Ordering::Relaxed) + more;
        eventually(SETTLE, "writes go on", || {
            let done = self.done.load(Ordering::Relaxed);
            check(done >= wanted, || format!("{done} of {wanted}"))
        });
    }

    /// Stops them; none of their writes failed.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let failed: Vec<String> = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(failed.is_empty(), "{} failed of {}: {failed:#?}", failed.len(), self.done.load(Ordering::Relaxed));
    }
}
