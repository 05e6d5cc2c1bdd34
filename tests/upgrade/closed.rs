//! From a plain cluster of the version before to a closed one of this, and back again: the steps of docs/security.md, under load.

use std::path::Path;

use rustix::process::{Signal, kill_process};

use crate::support::cluster::Cluster;
use crate::support::http::{Conn, Reply, call_with};
use crate::support::node::Node;
use crate::support::secure::{refused, secure, tool, unsecure};
use crate::support::wait::{SETTLE, check, eventually};
use crate::{Upgrade, old_binary, old_binary_is_refused, upgrade};

const GRANTS: &str = "read:,write:,lock:,status";

/// What nodes are started with, one step after the other; the way back is the same from the end. `SECRET` and `ROOT` are files.
const STEPS: [&str; 5] = [
    "--cluster-secret-file SECRET --cluster-secret-optional",
    "--cluster-secret-file SECRET",
    "--cluster-secret-file SECRET --tls-auto --tls-optional",
    "--cluster-secret-file SECRET --tls-auto",
    "--cluster-secret-file SECRET --tls-auto --root-token-file ROOT --anonymous read:,write:,lock:,status",
];

/// A number of `hraftd_plain_connections`.
fn plain(node: &Node, port: &str) -> Result<u64, String> {
    let metrics = node.get("/metrics")?.ok()?.text();
    let line = format!("hraftd_plain_connections{{port=\"{port}\"}} ");
    let found = metrics.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok());
    found.ok_or(metrics)
}

fn none_is_plain(cluster: &Cluster, port: &str) {
    for node in &cluster.nodes {
        eventually(SETTLE, &format!("{} has no plain connection at its {port} port", node.name), || {
            let count = plain(node, port)?;
            check(count == 0, || count.to_string())
        });
    }
}

struct Walk<'u, 'a> {
    upgrade: &'u mut Upgrade<'a>,
    haddrs: Vec<String>,
    secret: String,
    root: String,
    ca: String,
}

impl<'u, 'a> Walk<'u, 'a> {
    fn new(upgrade: &'u mut Upgrade<'a>) -> Self {
        let dir = upgrade.cluster.lab.path().to_owned();
        let [secret, root] = ["secret", "root"].map(|name| dir.join(name).display().to_string());
        tool(&dir, &["secret", &secret]);
        tool(&dir, &["token", &root]);
        let ca = tool(&dir, &["ca", "--cluster-secret-file", &secret]);
        let haddrs = upgrade.cluster.nodes.iter().map(|node| node.haddr.clone()).collect();
        Self { upgrade, haddrs, secret, root, ca }
    }

    /// Starts all nodes anew with other flags, one after the other.
    fn roll(&mut self, what: &str, flags: &str, each_started: impl Fn(&Cluster, usize)) {
        let flags = flags.replace("SECRET", &self.secret).replace("ROOT", &self.root);
        let first = self.haddrs[0].clone();
        let args: Vec<&str> = ["--rjoin", &first].into_iter().chain(flags.split_whitespace()).collect();
        for number in 0..self.haddrs.len() {
            self.upgrade.restart(number, what, |node| node.set_args(&args), |cluster| each_started(cluster, number));
        }
    }

    fn step(&mut self, at: usize) {
        self.roll(&format!("at step {}", STEPS[at]), STEPS[at], |_, _| ());
    }

    /// As the operator, at any node.
    fn as_root(&self, node: usize, method: &str, path: &str, body: Option<&str>) -> Reply {
        let bearer = format!("Bearer {}", std::fs::read_to_string(&self.root).unwrap().trim());
        let headers = [("Authorization", bearer.as_str())];
        call_with(&self.haddrs[node], method, path, &headers, body.map(str::as_bytes)).unwrap()
    }

    /// What who shows no token gets of each node, once it is this.
    fn nobody_gets(&self, status: u16) {
        for haddr in &self.haddrs {
            eventually(SETTLE, &format!("{haddr} answers {status} where no token is shown"), || {
                let mut conn = Conn::open(haddr)?;
                conn.send(format!("GET /hraftd/key/w0-1 HTTP/1.1\r\nHost: {haddr}\r\n\r\n").as_bytes())?;
                let reply = conn.reply(false)?;
                check(reply.status == status, || reply.brief())
            });
        }
    }

    /// Clients connect by TLS from now on, and show this token.
    fn move_to_tls(&self, token: Option<&str>) {
        secure(&self.haddrs, &self.ca, token);
        self.upgrade.load.move_clients();
    }

    fn there(&mut self) {
        self.step(0);
        none_is_plain(self.upgrade.cluster, "raft");
        self.step(1);
        self.step(2);
        self.move_to_tls(None);
        none_is_plain(self.upgrade.cluster, "client");
        self.step(3);
        self.step(4);
        self.nobody_gets(200);
        let grants: Vec<&str> = GRANTS.split(',').collect();
        let body = serde_json::json!({ "grants": grants }).to_string();
        let made = self.as_root(1, "PUT", "/hraftd/auth/token/app", Some(&body));
        assert_eq!(made.status, 201, "{}", made.brief());
        self.move_to_tls(made.json()["token"].as_str());
        let gone = self.as_root(2, "DELETE", "/hraftd/auth/token/anonymous", None);
        assert_eq!(gone.status, 200, "{}", gone.brief());
        self.nobody_gets(401);
        self.upgrade.some_load();
    }

    fn back(&mut self) {
        let off = self.as_root(0, "DELETE", "/hraftd/auth?yes", None);
        assert_eq!(off.status, 200, "{}", off.brief());
        self.nobody_gets(200);
        self.move_to_tls(None);
        self.step(3);
        self.step(2);
        unsecure(&self.haddrs);
        self.upgrade.load.move_clients();
        self.step(1);
        self.step(0);
        // The operator tells the others that this one has no secret any more.
        self.roll("plain", "", |cluster, number| {
            let others = cluster.nodes.iter().enumerate().filter(|(other, _)| *other != number);
            others.for_each(|(_, node)| kill_process(node.pid(), Signal::HUP).unwrap());
        });
    }
}

#[test]
fn a_plain_cluster_of_the_version_before_is_closed_and_opened_again() {
    let name = "closed and opened again";
    let Some(old) = old_binary(name) else { return };
    let mut cluster = upgrade(name, 3, &old, |upgrade| {
        (0..3).for_each(|number| upgrade.replace(number, false));
        upgrade.is_raised();
        let mut walk = Walk::new(upgrade);
        walk.there();
        walk.back();
    });
    // Nobody was refused for who they were, and a way back to the version before there is not.
    let refused = refused();
    assert!(refused.is_empty(), "{refused:#?}");
    old_binary_is_refused(&mut cluster, &old, 0);
}

/// An operator does what is tested, and in that order.
#[test]
fn the_docs_have_these_steps() {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md")).unwrap();
    let section = docs.split("\n## ").find(|section| section.starts_with("Close a cluster")).unwrap();
    let (forth, back) = section.split_once("\n### And back\n").unwrap();
    let steps = STEPS.map(|step| step.replace("SECRET", "FILE").replace("ROOT", "FILE"));
    for (way, text, steps) in
        [("there", forth, steps.iter().collect::<Vec<_>>()), ("back", back, steps.iter().rev().skip(1).collect())]
    {
        // Each step is a line of a console, in this order.
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("hraftd "));
        assert_eq!(lines.collect::<Vec<_>>(), steps, "{way}");
    }
}
