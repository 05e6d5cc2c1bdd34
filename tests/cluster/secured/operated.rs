//! What operators do with a cluster that is closed: secret, TLS at both ports, and nothing for who shows no token. What nodes
//! ask of each other meanwhile, and what the tools ask of nodes, goes by TLS and in a name.

use std::path::{Path, PathBuf};

use rustix::process::{Signal, kill_process};

use super::{closed, tool};
use crate::support::cluster::Cluster;
use crate::support::http::{Conn, Reply, call, call_with};
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::secure::secure;
use crate::support::wait::{SETTLE, check, eventually};
use crate::support::watch::Watch;

/// A closed cluster, and what its nodes are started with, for others that come later.
struct Closed {
    cluster: Cluster,
    root: String,
    /// It may read and write keys that begin with `app/`, no more.
    app: String,
}

impl Closed {
    fn start(lab: Lab, count: usize, more: &[&str]) -> Self {
        let (cluster, root) = closed(lab, count, more);
        let body = r#"{"grants":["read:app/","write:app/"]}"#;
        let made = call(&cluster.nodes[0].haddr, "PUT", "/hraftd/auth/token/app", Some(body.as_bytes())).unwrap();
        assert_eq!(made.status, 201, "{}", made.brief());
        let app = made.json()["token"].as_str().unwrap().to_owned();
        Self { cluster, root, app }
    }

    fn file(&self, name: &str) -> String {
        self.cluster.lab.path().join(name).display().to_string()
    }

    /// Another node with the secret, TLS and the root token; not started.
    fn node(&self, name: &str, rjoin: &[&Node]) -> Node {
        let ca = tool(self.cluster.lab.path(), &["ca", "--cluster-secret-file", &self.file("secret")]);
        let node = self.cluster.lab.node(name);
        secure(std::slice::from_ref(&node.haddr), &ca, Some(&self.root));
        let node = node.args(&[
            "--cluster-secret-file",
            &self.file("secret"),
            "--tls-auto",
            "--root-token-file",
            &self.file("root"),
        ]);
        let rjoin: Vec<&str> = rjoin.iter().map(|node| node.haddr.as_str()).collect();
        if rjoin.is_empty() { node } else { node.rjoin(&rjoin) }
    }

    /// A request with the narrow token.
    fn app(&self, node: &Node, method: &str, key: &str, body: Option<&[u8]>) -> Result<Reply, String> {
        let bearer = format!("Bearer {}", self.app);
        let path = format!("/hraftd/key/{key}");
        call_with(&node.haddr, method, &path, &[("Authorization", bearer.as_str())], body)
    }

    /// The narrow token does at this node what it may, and nothing else; who shows none does nothing.
    fn is_closed(&self, node: &Node) {
        eventually(SETTLE, &format!("{} serves the token", node.name), || {
            let put = self.app(node, "PUT", "app/k", Some(b"1"))?;
            check(put.status / 100 == 2, || put.brief())?;
            let got = self.app(node, "GET", "app/k", None)?;
            check(got.status == 200, || got.brief())
        });
        assert_eq!(self.app(node, "PUT", "other", Some(b"1")).unwrap().status, 403);
        let mut conn = Conn::open(&node.haddr).unwrap();
        conn.send(format!("GET /hraftd/key/app/k HTTP/1.1\r\nHost: {}\r\n\r\n", node.haddr).as_bytes()).unwrap();
        assert_eq!(conn.reply(false).unwrap().status, 401);
    }

    fn all_are_closed(&self) {
        self.cluster.settled();
        self.cluster.running().for_each(|node| self.is_closed(node));
    }

    fn all_are_closed_and_have_the_key(&self) {
        self.all_are_closed();
        self.cluster.all_have("app/k", r#""1""#);
    }

    /// Starts one that is to be of the cluster.
    fn comes(&mut self, mut node: Node) {
        node.start();
        node.wait_ready();
        self.cluster.nodes.push(node);
    }
}

#[test]
fn a_quota_is_told_to_who_may_write_and_clears_itself() {
    let closed = Closed::start(Lab::new(), 3, &["--quota", "64K"]);
    let nodes = &closed.cluster.nodes;
    let value = vec![b'x'; 40_000];
    // Whoever is asked: what it passes on is refused by the leader, or by its own state.
    for (number, node) in nodes.iter().enumerate() {
        let key = format!("app/{number}");
        eventually(SETTLE, "the quota is known", || {
            let page = node.get("/metrics")?.ok()?.text();
            check(page.contains("hraftd_quota_bytes 65536"), || "not yet".to_owned())
        });
        closed.app(node, "PUT", "app/first", Some(&value)).unwrap();
        let full = closed.app(node, "PUT", &key, Some(&value)).unwrap();
        assert_eq!((full.status, full.json()["code"].as_str()), (507, Some("quota")), "{}", full.brief());
        // Who may not write is told that, full or not.
        assert_eq!(closed.app(node, "PUT", "other", Some(&value)).unwrap().status, 403);
        assert_eq!(closed.app(node, "DELETE", "app/first", None).unwrap().status, 200);
        let fits = closed.app(node, "PUT", &key, Some(&value)).unwrap();
        assert!(fits.status / 100 == 2, "{}", fits.brief());
        assert_eq!(closed.app(node, "DELETE", &key, None).unwrap().status, 200);
    }
    eventually(SETTLE, "nobody warns", || {
        let told = nodes[0].get("/hraftd/raft/cluster")?.ok()?.json()["warnings"].to_string();
        check(!told.contains("quota"), || told)
    });
}

/// The first lists nobody but itself: it learns of the others by a call of their leader alone. Under TLS none came, as it was
/// meant for the Raft id that was there before, and so it formed a cluster beside theirs.
#[test]
fn a_wiped_node_comes_back_and_another_takes_the_place_of_one_that_is_gone() {
    let mut closed = Closed::start(Lab::new(), 3, &[]);
    closed.all_are_closed();
    // The first, which the others were told to join, and whoever leads.
    for number in [0, closed.cluster.leader()] {
        closed.cluster.nodes[number].kill();
        closed.cluster.nodes[number].wipe();
        let other = &closed.cluster.nodes[(number + 1) % 3];
        eventually(SETTLE, "the others have a leader", || other.set("app/meanwhile", "1"));
        closed.cluster.nodes[number].start();
        closed.all_are_closed_and_have_the_key();
    }
    let mut gone = closed.cluster.nodes.remove(closed.cluster.follower());
    gone.kill();
    let [first, second] = &closed.cluster.nodes[..] else { panic!("two are left") };
    let new = closed.node("new", &[first, second]);
    closed.comes(new);
    let removed = closed.cluster.nodes[0].delete(&format!("/hraftd/raft/remove?id={}", gone.id()), None).unwrap();
    assert_eq!(removed.status, 200, "{}", removed.brief());
    closed.all_are_closed_and_have_the_key();
}

#[test]
fn a_lost_majority_is_recovered_and_others_join_what_is_left() {
    let mut closed = Closed::start(Lab::new(), 3, &[]);
    closed.all_are_closed();
    let survivor = closed.cluster.follower();
    closed.cluster.all_have("app/k", r#""1""#);
    closed.cluster.nodes.iter_mut().for_each(Node::kill);
    let left = closed.cluster.nodes.remove(survivor);
    closed.cluster.nodes.clear();
    let rdir = left.rdir.display().to_string();
    let said = tool(closed.cluster.lab.path(), &["recover", "--rdir", &rdir, "--yes"]);
    assert!(said.contains("is a cluster of its own") && said.contains("app"), "{said}");
    closed.comes(left);
    closed.all_are_closed();
    let new = closed.node("new", &[&closed.cluster.nodes[0]]);
    closed.comes(new);
    closed.all_are_closed_and_have_the_key();
}

/// The newest backup of a folder.
fn newest(dir: &Path) -> Option<PathBuf> {
    let found = std::fs::read_dir(dir).ok()?.map(|entry| entry.unwrap().path());
    found.filter(|path| path.extension().is_some_and(|extension| extension == "backup")).max()
}

#[test]
fn leaders_back_up_by_themselves_and_a_new_closed_cluster_comes_of_it() {
    let lab = Lab::new();
    let to = lab.path().join("backups");
    std::fs::create_dir(&to).unwrap();
    let args = ["--backup-to", to.to_str().unwrap(), "--backup-every", "1s", "--backup-keep", "3"];
    let mut closed = Closed::start(lab, 3, &args);
    // Each leader does: the first one goes after its first.
    for _ in 0..2 {
        closed.all_are_closed();
        let before = newest(&to);
        closed.cluster.running().next().unwrap().set("app/more", "2").unwrap();
        eventually(SETTLE, "a newer backup", || {
            let now = newest(&to);
            check(now.is_some() && now != before, || format!("{now:?}"))
        });
        let leader = closed.cluster.leader();
        let metrics = closed.cluster.nodes[leader].get("/metrics").unwrap().ok().unwrap().text();
        assert!(metrics.contains("hraftd_backup_failing 0"), "{metrics}");
        closed.cluster.nodes[leader].stop();
        closed.cluster.nodes[leader].start();
    }
    closed.all_are_closed();
    closed.cluster.stop_all();
    closed.cluster.nodes.clear();
    let backup = newest(&to).unwrap().display().to_string();
    let restored = closed.node("restored", &[]);
    let rdir = restored.rdir.display().to_string();
    let said = tool(closed.cluster.lab.path(), &["restore", &backup, "--rdir", &rdir]);
    assert!(said.contains("are valid again") && said.contains("app"), "{said}");
    closed.comes(restored);
    let joins = closed.node("joins", &[&closed.cluster.nodes[0]]);
    closed.comes(joins);
    closed.all_are_closed_and_have_the_key();
}

#[test]
fn connections_under_tls_live_through_a_reload_and_end_whole_at_a_stop() {
    let mut closed = Closed::start(Lab::new(), 3, &[]);
    closed.all_are_closed();
    let leader = closed.cluster.leader();
    let node = &closed.cluster.nodes[leader];
    let mut idle = Conn::open(&node.haddr).unwrap();
    idle.request("GET", "/hraftd/key/app/k", &[], None).unwrap().ok().unwrap();
    let mut watch = Watch::open(&node.haddr, "prefix=app/");
    let mut poll = Conn::open(&node.haddr).unwrap();
    let head = format!(
        "GET /hraftd/key/app/none?wait=60s HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        node.haddr, closed.root
    );
    poll.send(head.as_bytes()).unwrap();

    let before = node.log_text().len();
    kill_process(node.pid(), Signal::HUP).unwrap();
    eventually(SETTLE, "it has heard", || {
        check(node.log_text()[before..].contains("are read again"), || "not yet".to_owned())
    });
    idle.request("GET", "/hraftd/key/app/k", &[], None).unwrap().ok().unwrap();
    node.set("app/k", "3").unwrap();
    assert_eq!(watch.event().name, "set");

    closed.cluster.nodes[leader].stop();
    // Each got an end that nobody on the way could have made: without it, reading fails.
    assert_eq!(idle.rest(), Ok(Vec::new()));
    watch.assert_ends();
    let told = poll.reply(false).unwrap();
    assert!(told.status == 404 || told.status == 503, "{}", told.brief());
    assert_eq!(poll.rest(), Ok(Vec::new()));
    // What was acknowledged is there, and the next leader serves.
    let other = &closed.cluster.nodes[(leader + 1) % 3];
    eventually(SETTLE, "another leads", || {
        let value = other.value("app/k")?;
        check(value == 3, || value.to_string())
    });
    closed.cluster.nodes[leader].start();
    closed.all_are_closed();
}
