//! `X-Hraftd-Cluster`: the cluster that a request is for.

use super::*;
use crate::api::tests::fake::{CLUSTER, Orders};

fn named(id: u128) -> String {
    format!("X-Hraftd-Cluster: {id:032x}")
}

const ASKS: &str = "X-Hraftd-Cluster: ?";

/// What its answer tells.
fn told(answer: &Answer) -> Option<&str> {
    answer.header("x-hraftd-cluster")
}

#[tokio::test]
async fn the_answer_tells_the_cluster_to_whoever_asks() {
    let server = Server::start().await;
    let own = format!("{CLUSTER:032x}");
    for (method, target) in [
        ("GET", "/hraftd/key/a"),
        ("PUT", "/hraftd/key/a"),
        ("GET", "/hraftd/raft/state"),
        ("GET", "/hraftd/lock"),
        ("POST", "/hraftd/txn"),
        ("GET", "/nowhere"),
    ] {
        for header in [ASKS, &named(CLUSTER), &named(CLUSTER).to_uppercase()] {
            let answer = server.ask_with(method, target, &[header], b"1").await;
            assert_eq!(told(&answer), Some(own.as_str()), "{method} {target} {header}: {answer:?}");
            assert_ne!(answer.status, 421, "{answer:?}");
        }
        let answer = server.ask(method, target, "1").await;
        assert_eq!(told(&answer), None, "{answer:?}");
    }
    // What is public tells nobody, and asks nobody.
    let probe = server.ask_with("GET", "/livez", &[&named(7)], b"").await;
    assert_eq!((probe.status, told(&probe)), (200, None), "{probe:?}");
}

/// Each route, by its list: nothing is asked of the node.
#[tokio::test]
async fn what_is_for_another_cluster_is_refused_before_anything_is_done() {
    let server = Server::start().await;
    let (own, other) = (format!("{CLUSTER:032x}"), named(CLUSTER + 1));
    for (line, needs) in ROUTES.iter().filter(|(_, needs)| *needs != Needs::Public && !needs.is_about_tokens()) {
        let (method, path) = line.split_once(' ').unwrap();
        let target = path.replace(['{', '}'], "");
        let answer = server.ask_with(method, &target, &[&other], b"{\"a\":1}").await;
        answer.is_error(421, "other_cluster", &own);
        assert!(answer.body.contains(&format!("{:032x}", CLUSTER + 1)), "{line} {needs:?}: {answer:?}");
        assert_eq!(told(&answer), Some(own.as_str()), "{line}");
    }
    assert_eq!(server.fake.calls(), Vec::<String>::new());
    assert!(server.fake.keys().is_empty());
}

#[tokio::test]
async fn a_header_that_makes_no_sense_is_a_400() {
    let server = Server::start().await;
    let plus = format!("X-Hraftd-Cluster: +{CLUSTER:031x}");
    for header in ["X-Hraftd-Cluster: ", "X-Hraftd-Cluster: c1", "X-Hraftd-Cluster: *", &plus] {
        server.ask_with("PUT", "/hraftd/key/a", &[header], b"1").await.is_error(400, "bad_request", "X-Hraftd-Cluster");
    }
    let twice = [ASKS, ASKS];
    server.ask_with("PUT", "/hraftd/key/a", &twice, b"1").await.is_error(400, "bad_request", "repeated");
    assert!(server.fake.keys().is_empty());
}

/// It may belong anywhere, so it does nothing.
#[tokio::test]
async fn a_node_without_a_cluster_does_nothing_for_one() {
    let server = Server::start().await;
    server.fake.order(Orders { homeless: true, ..Orders::default() });
    let refused = server.ask_with("PUT", "/hraftd/key/a", &[&named(CLUSTER)], b"1").await;
    refused.is_error(503, "not_ready", "belongs to no cluster yet");
    assert_eq!((told(&refused), server.fake.keys().len()), (None, 0));
    let asked = server.ask_with("PUT", "/hraftd/key/a", &[ASKS], b"1").await;
    assert_eq!((asked.status, told(&asked)), (201, None), "{asked:?}");
}

/// Whoever has no token learns no id.
#[tokio::test]
async fn strangers_are_told_no_cluster() {
    let (right, wrong) = (named(CLUSTER), named(CLUSTER + 1));
    let own = format!("{CLUSTER:032x}");
    let bad = "Authorization: Bearer hrt_x";
    let closed = Closed::with(&["read:free/"]).await;
    for (closed, is_free) in [(&closed, true), (&Closed::with(&[]).await, false)] {
        for target in ["/hraftd/key/a", "/hraftd/key/free/a", "/hraftd/raft/state", "/nowhere", "/readyz"] {
            for header in [ASKS, &right, &wrong] {
                for who in [&[header][..], &[header, bad]] {
                    let answer = closed.ask("GET", target, who, "").await;
                    assert_eq!(told(&answer), None, "{target} {who:?}: {answer:?}");
                    assert!(!answer.body.contains(&own), "{target} {who:?}: {answer:?}");
                    // Where nothing is granted to all, it is not even told whether an id is right.
                    let is_known = is_free && who.len() == 1 || target == "/readyz";
                    assert!(is_known || answer.status == 401, "{target} {who:?}: {answer:?}");
                }
            }
        }
    }
    let free = closed.ask("GET", "/hraftd/key/free/a", &[&wrong], "").await;
    free.is_error(421, "other_cluster", "is not of the cluster");
    // Whoever is known is told, also where he may not do that.
    let token = closed.token("web", &["read:app/"], None);
    for (target, status) in [("/hraftd/key/app/a", 404), ("/hraftd/key/other", 403), ("/hraftd/raft/state", 403)] {
        let answer = closed.ask("GET", target, &[&bearer(&token), ASKS], "").await;
        assert_eq!((answer.status, told(&answer)), (status, Some(own.as_str())), "{answer:?}");
        let refused = closed.ask("GET", target, &[&bearer(&token), &wrong], "").await;
        refused.is_error(421, "other_cluster", &own);
    }
}
