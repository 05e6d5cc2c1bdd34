//! What nodes tell of themselves under faults (`GET /hraftd/raft/events`): of a process nothing is missing as long as it
//! lives, and what one node tells of another that one tells, too, unless its process ended before it could.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::faults::WITNESS;
use crate::support::events::position;

/// What the processes of a node told, one after the other.
struct Node<'a> {
    id: &'a str,
    processes: Vec<Vec<&'a Value>>,
}

fn text<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_default()
}

fn term(event: &Value) -> u64 {
    event["term"].as_u64().unwrap()
}

impl<'a> Node<'a> {
    fn of(id: &'a str, all: &'a [Value]) -> Self {
        let mut processes: Vec<Vec<&Value>> = Vec::new();
        for event in all {
            assert_eq!(text(event, "node"), id);
            match processes.last_mut().filter(|last| position(last[0]).0 == position(event).0) {
                Some(process) => process.push(event),
                None => processes.push(vec![event]),
            }
        }
        Self { id, processes }
    }

    fn events(&self) -> impl Iterator<Item = &'a Value> {
        self.processes.iter().flatten().copied()
    }

    /// A process of it ended that may have told of this term, had there been time.
    fn may_lack(&self, of: u64) -> bool {
        let terms = |events: &[&Value]| events.iter().map(|event| term(event)).collect::<Vec<_>>();
        let begins_in = |events: &[&Value]| terms(events).into_iter().find(|term| *term > 0).unwrap_or(0);
        let ends_in = |events: &[&Value]| terms(events).into_iter().max().unwrap_or(0);
        // The last is still there. It may have refused who was far behind, and been asked about a term that nobody is in yet.
        self.processes.windows(2).any(|two| of <= begins_in(&two[1]).max(ends_in(&two[0])) + 1)
    }
}

/// The kind of a vote, its term, and what became of it.
type Answer<'a> = (&'a str, u64, &'a str);

fn answer(event: &Value) -> Answer<'_> {
    (text(event, "event"), term(event), text(event, "action"))
}

fn votes<'a>(node: &Node<'a>) -> Vec<&'a Value> {
    node.events().filter(|event| matches!(text(event, "event"), "vote" | "pre_vote")).collect()
}

/// Checks what the nodes of these ids told. What there was of it.
pub fn check(ids: &[String], logs: &[Vec<Value>]) -> String {
    let nodes: Vec<Node> = ids.iter().zip(logs).map(|(id, log)| Node::of(id, log)).collect();
    assert_eq!(nodes[WITNESS].processes.len(), 1, "it never ended");
    let by_id: BTreeMap<&str, &Node> = nodes.iter().map(|node| (node.id, node)).collect();
    let mut leaders: BTreeMap<u64, &str> = BTreeMap::new();
    for node in &nodes {
        for process in &node.processes {
            for (at, event) in process.iter().enumerate().filter(|(_, event)| text(event, "event") == "elected") {
                let other = leaders.insert(term(event), node.id);
                assert!(other.is_none(), "two leaders of a term: {other:?} and {event}");
                // Itself and one more of three, but for the one who began alone.
                let voted = process[..at].iter().any(|vote| {
                    answer(vote) == ("vote", term(event), "granted") && !text(vote, "text").starts_with(node.id)
                });
                assert!(voted || event["index"] == 1, "elected by nobody: {event}");
            }
            let commits = process.iter().filter(|event| text(event, "event") == "commit");
            let commits: Vec<u64> = commits.map(|event| event["index"].as_u64().unwrap()).collect();
            assert!(commits.is_sorted(), "{}: {commits:?}", node.id);
        }
    }
    let (mut compared, mut refused, mut unheard) = (0, 0, 0);
    for node in &nodes {
        for vote in votes(node) {
            // Before a node knows the others' addresses it calls them by number.
            let Some(peer) = by_id.get(text(vote, "peer")) else { continue };
            let is_own = text(vote, "text").starts_with(node.id);
            let (kind, of, action) = answer(vote);
            refused += usize::from(action == "refused");
            let counterpart = |wanted: Answer, own: bool| {
                votes(peer).iter().any(|other| {
                    answer(other) == wanted
                        && text(other, "peer") == node.id
                        && text(other, "text").starts_with(peer.id) == own
                })
            };
            let is_there = match (action, is_own) {
                // Who is asked may be out of reach.
                ("asked", _) => continue,
                (_, true) => counterpart((kind, of, "asked"), true),
                (_, false) => counterpart((kind, of, action), true),
            };
            compared += 1;
            if !is_there {
                assert!(peer.may_lack(of), "{} tells nothing of {vote}", peer.id);
                unheard += 1;
            }
        }
        for event in node.events().filter(|event| text(event, "event") == "term") {
            if let Some(leader) = text(event, "reason").strip_suffix(" leads in it")
                && let Some(leader) = by_id.get(leader)
                && leaders.get(&term(event)) != Some(&leader.id)
            {
                assert!(leader.may_lack(term(event)), "{} was never elected: {event}", leader.id);
            }
        }
    }
    assert!(unheard * 2 < compared, "{unheard} of {compared}");
    let kinds: BTreeSet<&str> = nodes.iter().flat_map(Node::events).map(|event| text(event, "event")).collect();
    let events: usize = nodes.iter().map(|node| node.events().count()).sum();
    assert!(leaders.len() > 1 && compared > 4, "hardly anything happened: {leaders:?}, {compared}");
    format!(
        "{events} events of {} kinds, {} elections, {compared} answers to votes compared ({refused} refused), \
         {unheard} of which a process that ended did not tell",
        kinds.len(),
        leaders.len()
    )
}
