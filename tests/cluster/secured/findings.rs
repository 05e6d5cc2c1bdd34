//! What the doctor finds of secrets and certificates, each by its real fault.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::clients::{certificate, openssl, text};
use super::{has_programs, id_of, put_secrets, secret};
use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::process::finish;
use crate::support::wait::{SETTLE, check, eventually};

fn findings(asked: &Node) -> Result<Vec<Value>, String> {
    let found = asked.get("/hraftd/raft/doctor")?.ok()?.json();
    Ok(found["findings"].as_array().cloned().unwrap_or_default())
}

/// Waits until a node is found to be so, with something to do about it.
#[track_caller]
fn finds(asked: &Node, sick: &Node, severity: &str, parts: &[&str]) -> Value {
    eventually(SETTLE * 2, &format!("{parts:?} of {}", sick.id()), || {
        let found = findings(asked)?;
        let one = found.iter().find(|one| {
            let what = one["what"].as_str().unwrap_or_default();
            one["node"] == sick.id().as_str()
                && one["severity"] == severity
                && parts.iter().all(|part| what.contains(part))
                && one["do"].as_str().is_some_and(|remedy| !remedy.is_empty())
        });
        one.cloned().ok_or_else(|| format!("{found:#?}"))
    })
}

/// Waits until nothing is found of secrets.
#[track_caller]
fn finds_no_secret(asked: &Node) {
    eventually(SETTLE, "nothing is found of secrets", || {
        let found = findings(asked)?;
        let of_secrets = |one: &Value| one["what"].as_str().is_some_and(|what| what.contains("secret"));
        check(!found.iter().any(of_secrets), || format!("{found:#?}"))
    });
}

/// Three nodes, each with a file of its own for its secrets.
fn cluster_of(old: &Path, lab: Lab) -> Cluster {
    let mut cluster = Cluster { nodes: Vec::new(), lab };
    for number in 0..3 {
        let file = file_of(&cluster, number);
        put_secrets(&file, &[old]);
        let node = cluster.lab.node(&format!("n{number}")).args(&["--cluster-secret-file", text(&file)]);
        let first = cluster.nodes.first().map_or(node.haddr.clone(), |first: &Node| first.haddr.clone());
        cluster.nodes.push(node.rjoin(&[&first]));
        cluster.nodes[number].start();
        cluster.nodes[number].wait_ready();
    }
    cluster.settled();
    cluster
}

fn file_of(cluster: &Cluster, number: usize) -> std::path::PathBuf {
    cluster.lab.path().join(format!("secrets-of-n{number}"))
}

#[test]
fn secrets_that_differ_or_cannot_be_read() {
    let lab = Lab::new();
    let (old, new) = (secret(lab.path(), "old"), secret(lab.path(), "new"));
    let mut cluster = cluster_of(&old, lab);
    let (asked, sick) = (cluster.leader(), cluster.follower());
    let file = file_of(&cluster, sick);
    finds_no_secret(&cluster.nodes[asked]);
    // As amid a change of the secret.
    put_secrets(&file, &[&old, &new]);
    let both = format!("{} and {}", id_of(&old), id_of(&new));
    finds(&cluster.nodes[asked], &cluster.nodes[sick], "warning", &["it has the cluster secrets", &both]);
    put_secrets(&file, &[&old]);
    finds_no_secret(&cluster.nodes[asked]);
    std::fs::write(&file, "nonsense\n").unwrap();
    let parts = ["--cluster-secret-file", "the secrets stay as they were"];
    finds(&cluster.nodes[asked], &cluster.nodes[sick], "warning", &parts);
    put_secrets(&file, &[&old]);
    finds_no_secret(&cluster.nodes[asked]);
    // One that comes back with another: both sides say so.
    cluster.nodes[sick].stop();
    put_secrets(&file, &[&new]);
    cluster.nodes[sick].start();
    finds(&cluster.nodes[asked], &cluster.nodes[sick], "warning", &["no cluster secret in common"]);
    finds(&cluster.nodes[sick], &cluster.nodes[asked], "warning", &["no cluster secret in common", &id_of(&old)]);
    put_secrets(&file, &[&old]);
    cluster.settled();
    finds_no_secret(&cluster.nodes[asked]);
}

/// A moment as openssl reads it.
fn moment(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let end = finish(Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%Y%m%d%H%M%SZ"]), SETTLE);
    assert_eq!(end.code, Some(0), "{end:?}");
    end.stdout.trim().to_owned()
}

#[test]
fn certificates_that_end() {
    if !has_programs("secured::findings::certificates_that_end") {
        return;
    }
    const SOON: Duration = Duration::from_secs(30);
    const HOUR: Duration = Duration::from_secs(3_600);
    let lab = Lab::new();
    let dir = lab.path().to_owned();
    let file = secret(&dir, "secret");
    let [_, cert, key] = certificate(&dir, "node", "IP:127.0.0.1", "20");
    let [client_ca, ..] = certificate(&dir, "client", "URI:spiffe://here/client", "20");
    let mut cluster = cluster_of(&file, lab);
    let (asked, sick) = (cluster.leader(), cluster.follower());
    let args =
        ["--tls-cert", text(&cert), "--tls-key", text(&key), "--tls-optional", "--tls-client-ca", text(&client_ca)];
    let node = cluster.nodes.remove(sick).args(&args);
    cluster.nodes.insert(sick, node);
    cluster.nodes[sick].stop();
    cluster.nodes[sick].start();
    cluster.settled();
    let (asked, sick) = (&cluster.nodes[asked], &cluster.nodes[sick]);
    let mine = |one: &Value| one["what"].as_str().is_some_and(|what| what.contains("expire"));
    assert!(!findings(asked).unwrap().iter().any(mine), "all are good for more than two weeks");

    // The authority of clients' certificates, for three days more.
    let few = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout few.key -x509 -days 3 -subj /CN=few -out few.pem";
    openssl(&dir, few);
    std::fs::copy(dir.join("few.pem"), &client_ca).unwrap();
    let found = finds(asked, sick, "warning", &["--tls-client-ca", "an authority expires in 2 days"]);
    assert!(found["evidence"]["ends_in_seconds"].as_f64().is_some_and(|left| left > 2.0 * 86_400.0), "{found}");

    // One that was good for a month, and ends within the hour.
    let config = "[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=.\ndatabase=index.txt\nserial=serial\ndefault_md=sha256\npolicy=p\n\
                  copy_extensions=copy\nunique_subject=no\n[p]\ncommonName=supplied\n[authority]\nbasicConstraints=critical,CA:TRUE\n";
    std::fs::write(dir.join("ca.cnf"), config).unwrap();
    std::fs::write(dir.join("index.txt"), "").unwrap();
    std::fs::write(dir.join("serial"), "01\n").unwrap();
    let dated = |what: &str, left: Duration| {
        let now = SystemTime::now();
        let (from, to) = (moment(now - Duration::from_secs(30 * 86_400)), moment(now + left));
        openssl(&dir, &format!("ca -config ca.cnf -batch -notext -startdate {from} -enddate {to} {what}"));
    };
    let by_its_authority = "-cert node-ca.pem -keyfile node-ca.key -in node.csr -out dated.pem";
    dated(by_its_authority, HOUR);
    std::fs::copy(dir.join("dated.pem"), &cert).unwrap();
    let soon = finds(asked, sick, "warning", &["--tls-cert", "the certificate expires in 0 days"]);
    assert!(soon["evidence"]["ends_in_seconds"].as_f64().is_some_and(|left| left <= HOUR.as_secs_f64()), "{soon}");
    // They end while they are used: what has ended already would not be read. So does the authority of clients.
    dated(by_its_authority, SOON);
    openssl(&dir, "req -new -key few.key -subj /CN=few -out few.csr");
    dated("-selfsign -extensions authority -keyfile few.key -in few.csr -out dated-ca.pem", SOON);
    std::fs::copy(dir.join("dated.pem"), &cert).unwrap();
    std::fs::copy(dir.join("dated-ca.pem"), &client_ca).unwrap();
    finds(asked, sick, "critical", &["--tls-cert", "the certificate has expired"]);
    finds(asked, sick, "critical", &["--tls-client-ca", "an authority has expired"]);
    // A new one, and nothing is left of it.
    openssl(
        &dir,
        "x509 -req -in node.csr -CA node-ca.pem -CAkey node-ca.key -CAcreateserial -copy_extensions copy -days 20 -out new.pem",
    );
    std::fs::copy(dir.join("new.pem"), &cert).unwrap();
    eventually(SETTLE, "the new certificate is found to be good", || {
        let found = findings(asked)?;
        let of_it = |one: &Value| one["what"].as_str().is_some_and(|what| what.contains("--tls-cert"));
        check(!found.iter().any(of_it), || format!("{found:#?}"))
    });
}
