//! `hraftd bench`: what it tells, and that it leaves nothing behind.

use rustix::process::Signal;
use serde_json::Value;

use super::{fails, ok, run, started, text};
use crate::support::cluster::Cluster;
use crate::support::wait::{SETTLE, check, eventually};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_bench_tells_what_was_answered_and_cleans_up() {
    let cluster = Cluster::start(3);
    let args = ["bench", "--seconds", "4", "--connections", "4", "--keys", "20", "--value-size", "300"];
    let said = json(&ok(&cluster, &[&args[..], &["-o", "json"]].concat()));
    assert_eq!(
        (&said["ok"], &said["nodes"], &said["connections"]),
        (&Value::from(true), &3.into(), &4.into()),
        "{said}"
    );
    for kind in ["puts", "reads"] {
        let of = &said[kind];
        assert!(of["answered"].as_u64() > Some(0) && of["p50_ms"].as_f64() > Some(0.0), "{said}");
        assert!(
            of["p50_ms"].as_f64() <= of["p99_ms"].as_f64() && of["p99_ms"].as_f64() <= of["max_ms"].as_f64(),
            "{said}"
        );
    }
    assert_eq!(said["errors"], Value::Object(serde_json::Map::new()), "{said}");
    assert_eq!(ok(&cluster, &["ls", "--keys"]), "");
    // Only one of both, and no more in a second than was asked for.
    let only = |fraction: &str| {
        let args = ["bench", "--seconds", "2", "--rate", "20", "--put-fraction", fraction, "-o", "json"];
        let said = json(&ok(&cluster, &args));
        (said["puts"]["answered"].as_u64().unwrap(), said["reads"]["answered"].as_u64().unwrap())
    };
    let (puts, reads) = only("1");
    assert!((1..=60).contains(&puts) && reads == 0, "{puts} {reads}");
    let (puts, reads) = only("0");
    assert!((1..=60).contains(&reads) && puts == 0, "{puts} {reads}");
    assert_eq!(ok(&cluster, &["ls", "--keys"]), "");
    let bad: [&[&str]; 6] = [
        &["--put-fraction", "1.1"],
        &["--put-fraction", "x"],
        &["--connections", "0"],
        &["--value-size", "0"],
        &["--rate", "0"],
        &["--prefix", ""],
    ];
    for args in bad {
        fails(&cluster, 64, &[&["bench"][..], args].concat());
    }
    drop(cluster);
    assert_eq!(run(&Cluster::with_one_list(1), &["bench"]).code, Some(69));
}

/// The leader is killed amid it: what failed is told by its kind, and the rest goes on.
#[test]
fn a_bench_goes_on_while_its_leader_is_killed() {
    let mut cluster = Cluster::start(3);
    let args = ["bench", "--seconds", "6", "--connections", "8", "--rate", "200", "-o", "json"];
    let (mut process, out) = started(&cluster, "bench", &args);
    eventually(SETTLE, "it writes", || {
        let keys = ok(&cluster, &["ls", "--keys", "bench/"]);
        check(keys.lines().count() > 100, || format!("{}{}", keys.lines().count(), text(&out)))
    });
    let leader = cluster.leader();
    cluster.nodes[leader].kill();
    assert!(process.wait(SETTLE, "it ends").success(), "{}", text(&out));
    let said = json(&text(&out));
    assert!(said["errors"].as_object().is_some_and(|kinds| !kinds.is_empty()), "{said}");
    assert!(said["puts"]["answered"].as_u64() > Some(0), "{said}");
    assert_eq!(ok(&cluster, &["ls", "--keys", "bench/"]), "");
}

#[test]
fn an_interrupted_bench_tells_what_it_has_and_cleans_up() {
    let cluster = Cluster::start(1);
    let (mut process, out) = started(&cluster, "bench", &["bench", "--seconds", "300", "--rate", "50"]);
    eventually(SETTLE, "it writes", || {
        let keys = ok(&cluster, &["ls", "--keys", "bench/"]);
        check(keys.lines().count() >= 1000, || format!("{}{}", keys.lines().count(), text(&out)))
    });
    process.signal(Signal::INT);
    assert_eq!(process.wait(SETTLE, "it ends").code(), Some(130), "{}", text(&out));
    assert!(text(&out).contains("requests/s") && text(&out).contains("errors: none"), "{}", text(&out));
    assert_eq!(ok(&cluster, &["ls", "--keys"]), "");
}
