//! Several nodes that are to be one cluster.

use std::collections::BTreeSet;

use super::lab::Lab;
use super::node::Node;
use super::wait::{SETTLE, check, eventually};

/// Nodes `n0`, `n1`, …; fields are dropped in order, so the nodes end before their directory goes.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub lab: Lab,
}

impl Cluster {
    /// Starts them one after the other, all with `--rjoin` naming the first, and waits until all are voters.
    pub fn start(count: usize) -> Self {
        Self::start_with(Lab::new(), count, &[])
    }

    /// As [`Cluster::start`], with more arguments for each.
    pub fn start_with(lab: Lab, count: usize, args: &[&str]) -> Self {
        let mut cluster = Self { nodes: Vec::new(), lab };
        (0..count).for_each(|number| cluster.start_one_more(|lab| lab.node(&format!("n{number}")).args(args)));
        cluster.settled();
        cluster
    }

    /// As [`Cluster::start_with`], where each node is prepared before it is started and asked for anything.
    pub fn start_prepared(lab: Lab, count: usize, args: &[&str], prepare: impl Fn(&mut Node)) -> Self {
        let mut cluster = Self { nodes: Vec::new(), lab };
        for number in 0..count {
            cluster.start_one_more(|lab| {
                let mut node = lab.node(&format!("n{number}")).args(args);
                prepare(&mut node);
                node
            });
        }
        cluster.settled();
        cluster
    }

    /// As [`Cluster::start`], with the machine for itself; each node may open so many files.
    pub fn start_with_files(count: usize, files: usize) -> Self {
        let mut cluster = Self { nodes: Vec::new(), lab: Lab::alone() };
        (0..count).for_each(|number| cluster.start_one_more(|lab| lab.node(&format!("n{number}")).files(files)));
        cluster.settled();
        cluster
    }

    /// Starts a node with `--rjoin` naming the first, and waits until it serves.
    fn start_one_more(&mut self, node: impl FnOnce(&Lab) -> Node) {
        let node = node(&self.lab);
        let first = self.nodes.first().map_or(node.haddr.clone(), |first| first.haddr.clone());
        let mut node = node.rjoin(&[&first]);
        node.start();
        node.wait_ready();
        self.nodes.push(node);
    }

    /// Not started; all with the same `--rjoin` list of all.
    pub fn with_one_list(count: usize) -> Self {
        Self::with_one_list_in(Lab::new(), count)
    }

    /// As [`Cluster::with_one_list`].
    pub fn with_one_list_in(lab: Lab, count: usize) -> Self {
        let nodes: Vec<Node> = (0..count).map(|number| lab.node(&format!("n{number}"))).collect();
        let list: Vec<String> = nodes.iter().map(|node| node.haddr.clone()).collect();
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        Self { nodes: nodes.into_iter().map(|node| node.rjoin(&list)).collect(), lab }
    }

    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.runs())
    }

    pub fn ids(&self) -> BTreeSet<String> {
        self.nodes.iter().map(Node::id).collect()
    }

    /// Waits until these are the voters in the eyes of each of the running nodes, with one leader among them.
    pub fn voters_are(&self, wanted: &BTreeSet<String>) {
        eventually(SETTLE, &format!("one leader and the voters {wanted:?}"), || {
            self.members_agree(wanted)?;
            self.one_leader().map(drop)
        });
    }

    /// Waits until all nodes are voters, with one leader, and the running ones serve.
    pub fn settled(&self) {
        self.voters_are(&self.ids());
        self.running().for_each(Node::wait_ready);
    }

    /// Number of the leader, once the running members agree on one.
    pub fn leader(&self) -> usize {
        let leader = eventually(SETTLE, "one leader", || self.one_leader());
        self.nodes.iter().position(|node| node.id() == leader).unwrap()
    }

    /// Number of a running node that does not lead.
    pub fn follower(&self) -> usize {
        let leader = self.leader();
        (0..self.nodes.len()).find(|&number| number != leader && self.nodes[number].runs()).unwrap()
    }

    pub fn stop_all(&mut self) {
        self.nodes.iter().for_each(Node::ask_to_stop);
        self.nodes.iter_mut().for_each(Node::wait_stopped);
    }

    pub fn start_all(&mut self) {
        self.nodes.iter_mut().for_each(Node::start);
    }

    /// Waits until every running node has, by itself, the value (JSON) for the key.
    pub fn all_have(&self, key: &str, value: &str) {
        let wanted: serde_json::Value = serde_json::from_str(value).unwrap();
        for node in self.running() {
            eventually(SETTLE, &format!("{} has {key} = {value}", node.name), || {
                let found = node.local(key)?;
                check(found == wanted, || found.to_string())
            });
        }
    }

    fn members_agree(&self, wanted: &BTreeSet<String>) -> Result<(), String> {
        for node in self.running().filter(|node| wanted.contains(&node.id())) {
            let voters = node.voters().map_err(|error| format!("{}: {error}", node.name))?;
            check(voters == *wanted, || format!("{} knows the voters {voters:?}", node.name))?;
        }
        Ok(())
    }

    /// The id of the leader: one running node says it leads, and all others say so of it.
    pub fn one_leader(&self) -> Result<String, String> {
        let mut states = Vec::new();
        for node in self.running() {
            states.push((node.id(), node.state().map_err(|error| format!("{}: {error}", node.name))?));
        }
        let leaders: Vec<&String> = states.iter().filter(|(_, state)| state == "Leader").map(|(id, _)| id).collect();
        let [leader] = leaders[..] else { return Err(format!("states {states:?}")) };
        for (node, (_, state)) in self.running().zip(&states) {
            if state == "Shutdown" {
                continue;
            }
            let cluster = node.get("/hraftd/raft/cluster")?.ok()?.json();
            check(cluster["leader"]["id"] == leader.as_str(), || format!("{} sees {cluster}", node.name))?;
        }
        Ok(leader.clone())
    }

    /// Copies the directories of two of three nodes at one moment, that of the third twenty writes of `x` later, and stops all
    /// with these put back.
    pub fn put_back_different_moments(&mut self) {
        self.nodes[0].set("x", "0").unwrap();
        self.all_have("x", "0");
        let mut copies = vec![self.nodes[0].copy_beside(), self.nodes[1].copy_beside()];
        for i in 1..=20 {
            self.nodes[0].set("x", &i.to_string()).unwrap();
        }
        self.all_have("x", "20");
        copies.push(self.nodes[2].copy_beside());
        self.stop_all();
        for (node, copy) in self.nodes.iter().zip(copies) {
            node.wipe();
            std::fs::rename(copy, &node.rdir).unwrap();
        }
    }
}
