//! Many keys and transactions through every node.

use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::http::Reply;
use crate::support::lab::Lab;
use crate::support::node::Node;

fn txn(node: &Node, body: &Value) -> Reply {
    node.post("/hraftd/txn", &body.to_string()).unwrap()
}

#[test]
fn listings_and_deletions() {
    let cluster = Cluster::start(3);
    let body: Vec<String> = (0..3000).map(|number| format!(r#""app/{}/{number:04}":{number}"#, number % 3)).collect();
    cluster.nodes[0].post("/hraftd/key", &format!("{{{}}}", body.join(","))).unwrap().ok().unwrap();
    let whole = cluster.nodes[0].get("/hraftd/key?prefix=").unwrap();
    assert_eq!(whole.json().as_object().unwrap().len(), 3000);
    for node in &cluster.nodes {
        assert_eq!(node.get("/hraftd/key?prefix=").unwrap().body, whole.body, "{}", node.name);
        let folders = node.get("/hraftd/key?prefix=app/&keys&separator=/").unwrap();
        assert_eq!(folders.text(), r#"["app/0/","app/1/","app/2/"]"#);
        let some = node.get("/hraftd/key?key=app/1/0001&key=no&key=app/0/0000&level=weak").unwrap();
        assert_eq!(some.text(), r#"{"app/0/0000":0,"app/1/0001":1}"#);
    }
    // Each page from another node.
    let (mut target, mut pages, mut paged) = ("/hraftd/key?prefix=app/1/&limit=300".to_owned(), 0, 0);
    loop {
        let page = cluster.nodes[pages % 3].get(&target).unwrap().ok().unwrap();
        paged += page.json().as_object().unwrap().len();
        pages += 1;
        let Some(link) = page.header("Link") else { break };
        target = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    assert_eq!((pages, paged), (4, 1000));

    let deleted = cluster.nodes[1].delete("/hraftd/key?prefix=app/1/", None).unwrap().ok().unwrap();
    assert_eq!(deleted.json()["deleted"], 1000);
    for node in &cluster.nodes {
        assert_eq!(node.get("/hraftd/key?prefix=app/1/").unwrap().text(), "{}");
    }
    assert_eq!(cluster.nodes[2].delete("/hraftd/key?prefix=", None).unwrap().status, 400);
    let deleted = cluster.nodes[2].delete("/hraftd/key?prefix=&all", None).unwrap().ok().unwrap();
    assert_eq!(deleted.json()["deleted"], 2000);
}

#[test]
fn one_clusters_listing_is_anothers_request() {
    let lab = Lab::new();
    let mut nodes = [lab.node("from"), lab.node("to")];
    for node in &mut nodes {
        node.start();
        node.wait_ready();
    }
    let [from, to] = &nodes;
    for (key, value) in [("a b", "1.0"), ("é/\"", r#"{"x":[ 1,2 ],"y":"\u00e9"}"#), ("n", "null"), ("t", "\"text\"")] {
        from.set(key, value).unwrap();
    }
    let long = format!("\"{}\"", "v".repeat(1 << 19));
    from.set("long", &long).unwrap();
    let listed = from.get("/hraftd/key?prefix=").unwrap();
    to.post("/hraftd/key", &listed.text()).unwrap().ok().unwrap();
    assert_eq!(to.get("/hraftd/key?prefix=").unwrap().body, listed.body);
}

#[test]
fn transactions() {
    let cluster = Cluster::start(3);
    let (leader, follower) = (&cluster.nodes[cluster.leader()], &cluster.nodes[cluster.follower()]);
    let index = follower.set("cfg", r#"{"a":1.0}"#).unwrap();
    let take = json!({
        "if": [{"key": "lock", "exists": false}, {"key": "cfg", "modify_index": index}],
        "then": [{"set": {"lock": "me"}}, {"incr": {"n": 1}}, {"get": "cfg"}],
        "else": [{"get": "lock"}],
    });
    let taken = txn(follower, &take).ok().unwrap();
    let index = taken.json()["index"].as_u64().unwrap();
    let wanted = format!(
        r#"{{"ok":true,"succeeded":true,"index":{index},"results":[{{"set":1}},{{"n":1}},{{"cfg":{{"a":1.0}}}}]}}"#
    );
    assert_eq!(taken.text(), wanted);
    let refused = txn(leader, &take).ok().unwrap().json();
    assert_eq!((&refused["succeeded"], &refused["results"]), (&json!(false), &json!([{"lock": "me"}])));

    let failed = txn(follower, &json!({"then": [{"delete": "cfg"}, {"incr": {"n": 1, "lock": 1}}]}));
    assert_eq!(failed.status, 409, "{}", failed.brief());
    assert!(failed.json()["msg"].as_str().unwrap().starts_with("then[1].incr: "), "{}", failed.brief());
    for node in &cluster.nodes {
        assert_eq!((node.value("n").unwrap(), node.value("cfg").unwrap()), (json!(1), json!({"a": 1.0})));
    }
}

/// Many clients add to one number over conditions, through all nodes: none is lost.
#[test]
fn compare_and_set_by_many() {
    let cluster = Cluster::start(3);
    cluster.nodes[0].set("n", "0").unwrap();
    std::thread::scope(|scope| {
        for client in 0..6 {
            let node = &cluster.nodes[client % 3];
            scope.spawn(move || {
                let mut done = 0;
                while done < 10 {
                    let n = node.value("n").unwrap().as_u64().unwrap();
                    let body = json!({"if": [{"key": "n", "value": n}], "then": [{"set": {"n": n + 1}}]});
                    done += u64::from(txn(node, &body).ok().unwrap().json()["succeeded"] == true);
                }
            });
        }
    });
    assert_eq!(cluster.nodes[1].value("n").unwrap(), 60);
}
