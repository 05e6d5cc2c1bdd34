//! `hraftd import --from etcd://…`, from Debian's etcd, while somebody writes there.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::namespace::in_own_network;
use crate::support::cluster::Cluster;
use crate::support::http::call;
use crate::support::node::hraftd;
use crate::support::process::{Reaped, finish};
use crate::support::wait::{SETTLE, check, eventually};

const ADDR: &str = "127.0.0.1:2379";

/// More than one page of the import.
const KEYS: usize = 1_200;

fn ask(path: &str, body: &Value) -> Result<Value, String> {
    Ok(call(ADDR, "POST", path, Some(body.to_string().as_bytes()))?.ok()?.json())
}

fn put(key: &[u8], value: &[u8]) -> Value {
    json!({"key": BASE64.encode(key), "value": BASE64.encode(value)})
}

#[test]
fn keys_of_an_etcd_are_those_of_one_revision() {
    in_own_network("etcd::keys_of_an_etcd_are_those_of_one_revision", &[("etcd", "etcd-server")], || {
        let cluster = Cluster::start(3);
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir").arg(cluster.lab.path().join("etcd")).args(["--log-level", "error"]);
        let _etcd = Reaped::spawn(etcd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        eventually(SETTLE, "etcd answers", || ask("/v3/kv/put", &put(b"app/first", b"a \"text\"\n")).map(drop));
        for number in 0..KEYS {
            ask("/v3/kv/put", &put(format!("app/{number:04}").as_bytes(), number.to_string().as_bytes())).unwrap();
        }
        ask("/v3/kv/put", &put(b"app/bytes", b"\xff\0\x01")).unwrap();
        ask("/v3/kv/put", &put(b"other", b"1")).unwrap();
        let lease = ask("/v3/lease/grant", &json!({"TTL": "3000"})).unwrap()["ID"].as_str().unwrap().to_owned();
        let mut leased = put(b"app/leased", b"1");
        leased["lease"] = json!(lease);
        ask("/v3/kv/put", &leased).unwrap();
        // The first and the last key are always equal, and change all the time.
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writer = std::thread::spawn({
            let (stop, written) = (stop.clone(), written.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let value = written.fetch_add(1, Ordering::Relaxed).to_string();
                    let puts = [&b"app/!"[..], b"app/~"].map(|key| json!({"requestPut": put(key, value.as_bytes())}));
                    ask("/v3/kv/txn", &json!({"success": puts})).unwrap();
                }
            }
        });
        eventually(SETTLE, "somebody writes", || check(written.load(Ordering::Relaxed) > 5, || "not yet".to_owned()));
        let run = |args: &[&str]| {
            let mut command = hraftd(cluster.lab.path());
            let end =
                finish(command.args(args).args(["--endpoints", &cluster.nodes[0].haddr]), Duration::from_secs(60));
            assert_eq!(end.code, Some(0), "{args:?}: {end:?}");
            end
        };
        let (before, end) =
            (written.load(Ordering::Relaxed), run(&["import", "--from", &format!("etcd://{ADDR}/app/")]));
        assert!(written.load(Ordering::Relaxed) > before, "it was written to meanwhile");
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        // A prefix begins after the port's slash; keys of etcd seldom begin with one.
        assert!(end.stderr.contains(&format!("{} keys were written", KEYS + 5)), "{end:?}");
        assert_eq!(run(&["get", "app/!"]).stdout, run(&["get", "app/~"]).stdout);
        assert_eq!(run(&["get", "app/first"]).stdout, "a \"text\"\n");
        assert_eq!(run(&["get", "app/1199"]).stdout, "1199");
        let bytes = run(&["export", "app/bytes"]).stdout;
        assert_eq!(bytes, "{\"key\":\"app/bytes\",\"base64\":\"/wAB\"}\n");
        let meta: Value = serde_json::from_str(&run(&["get", "app/leased", "--meta"]).stdout).unwrap();
        assert!(meta["ttl_ms"].as_u64().is_some_and(|left| left > 2_000_000 && left <= 3_000_000), "{meta}");
        assert_eq!(run(&["ls", "--keys", "other"]).stdout, "");
        // All of it, but for what is there.
        let end = run(&["import", "--if-absent", "--from", &format!("etcd://{ADDR}")]);
        assert!(end.stderr.contains(&format!("1 keys were written, {} were there", KEYS + 5)), "{end:?}");
        // A key that none here can be.
        ask("/v3/kv/put", &put(b"app/\xff", b"1")).unwrap();
        let mut command = hraftd(cluster.lab.path());
        command.args(["import", "--from", &format!("etcd://{ADDR}"), "--endpoints", &cluster.nodes[0].haddr]);
        let end = finish(&mut command, Duration::from_secs(60));
        assert!(end.code == Some(1) && end.stderr.contains(r#""app/\xff" is no UTF-8"#), "{end:?}");
    });
}
