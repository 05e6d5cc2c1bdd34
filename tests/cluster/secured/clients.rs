//! TLS for clients: who is shown what, and who is asked for what.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{curl, has_programs, logs, secret, tool};
use crate::support::http;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::process::finish;
use crate::support::wait::{SETTLE, check, eventually};

/// Runs openssl in a directory.
pub(super) fn openssl(dir: &Path, line: &str) -> String {
    let end = finish(Command::new("openssl").args(line.split(' ')).current_dir(dir), Duration::from_secs(20));
    assert_eq!(end.code, Some(0), "openssl {line}: {end:?}");
    end.stdout
}

/// A certificate of a new authority, for these names: `NAME-ca.pem`, `NAME.pem`, `NAME.key`.
pub(super) fn certificate(dir: &Path, name: &str, san: &str, days: &str) -> [PathBuf; 3] {
    let key = |what: &str| format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {what}.key");
    openssl(dir, &format!("{} -x509 -days 30 -subj /CN={name}-ca -out {name}-ca.pem", key(&format!("{name}-ca"))));
    openssl(dir, &format!("{} -subj /CN={name} -addext subjectAltName={san} -out {name}.csr", key(name)));
    openssl(
        dir,
        &format!(
            "x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca.key -CAcreateserial -copy_extensions copy -days \
             {days} -out {name}.pem"
        ),
    );
    [format!("{name}-ca.pem"), format!("{name}.pem"), format!("{name}.key")].map(|file| dir.join(file))
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Waits until this curl gets the status.
pub(super) fn gets(args: &[&str], status: &str) {
    eventually(SETTLE, &format!("curl {args:?} gets {status}"), || {
        let (code, said) = curl(args);
        check(said.ends_with(&format!(" {status}")), || format!("{code} {said}"))
    });
}

pub(super) fn started(mut node: Node) -> Node {
    node.start();
    node
}

#[test]
fn a_certificate_of_the_cluster_secret_is_trusted_by_its_ca() {
    if !has_programs("secured::clients::a_certificate_of_the_cluster_secret_is_trusted_by_its_ca") {
        return;
    }
    let lab = Lab::new();
    let (file, other) = (secret(lab.path(), "secret"), secret(lab.path(), "other"));
    let ca_of = |file: &Path, name: &str| {
        let ca = lab.path().join(name);
        std::fs::write(&ca, tool(lab.path(), &["ca", "--cluster-secret-file", text(file)])).unwrap();
        ca
    };
    let (ca, other_ca) = (ca_of(&file, "ca.pem"), ca_of(&other, "other.pem"));
    let mut node = started(lab.node("n").args(&[
        "--cluster-secret-file",
        text(&file),
        "--tls-auto",
        "--tls-names",
        "kv.example.com",
    ]));
    let url = format!("https://{}/hraftd/key/a", node.haddr);
    gets(&["--cacert", text(&ca), "-X", "PUT", "-d", "1", &url], "201");
    for version in ["--tlsv1.2", "--tlsv1.3"] {
        gets(&["--cacert", text(&ca), version, "--tls-max", &version[6..], &url], "200");
    }
    let by_name = format!("https://kv.example.com:{}/hraftd/raft/health", node.haddr.split_once(':').unwrap().1);
    let to = format!("kv.example.com:{}:127.0.0.1", node.haddr.split_once(':').unwrap().1);
    gets(&["--cacert", text(&ca), "--resolve", &to, &by_name], "200");
    assert_eq!(curl(&["--cacert", text(&other_ca), &url]).0, 60, "another cluster's CA");
    assert_eq!(curl(&[&url]).0, 60, "no CA");
    // Plain HTTP is told what to do.
    let plain = http::call(&node.haddr, "GET", "/hraftd/key/a", None).unwrap();
    assert!(plain.status == 400 && plain.text().starts_with("use https://"), "{}", plain.brief());
    assert!(node.log_text().contains("https://"));
    // What openssl finds, as strictly as it can.
    let verified = openssl(
        lab.path(),
        &format!("s_client -connect {} -CAfile ca.pem -x509_strict -verify_return_error -tls1_3", node.haddr),
    );
    assert!(verified.contains("Verify return code: 0 (ok)") || verified.contains("Verification: OK"), "{verified}");
    node.stop();
}

#[test]
fn the_operators_certificate_is_shown_and_read_again() {
    if !has_programs("secured::clients::the_operators_certificate_is_shown_and_read_again") {
        return;
    }
    let lab = Lab::new();
    let file = secret(lab.path(), "secret");
    let [ca, cert, key] = certificate(lab.path(), "one", "IP:127.0.0.1", "20");
    let [ca2, cert2, key2] = certificate(lab.path(), "two", "IP:127.0.0.1", "20");
    let [_, expired, expired_key] = certificate(lab.path(), "expired", "IP:127.0.0.1", "0");
    let args = ["--cluster-secret-file", text(&file), "--tls-cert", text(&cert), "--tls-key", text(&key)];
    let node = started(lab.node("n").args(&args));
    let url = format!("https://{}/hraftd/raft/health", node.haddr);
    gets(&["--cacert", text(&ca), &url], "200");
    // A key that is not its certificate's: the old pair stays.
    std::fs::copy(&cert2, &cert).unwrap();
    logs(&node, "the key is not the certificate's");
    gets(&["--cacert", text(&ca), &url], "200");
    std::fs::copy(&key2, &key).unwrap();
    gets(&["--cacert", text(&ca2), &url], "200");
    assert_eq!(curl(&["--cacert", text(&ca), &url]).0, 60);
    // One that has expired: likewise.
    std::fs::copy(&expired_key, &key).unwrap();
    std::fs::copy(&expired, &cert).unwrap();
    logs(&node, "the certificate has expired");
    gets(&["--cacert", text(&ca2), &url], "200");
    drop(node);
    // At the start they must be good, and private.
    let refused =
        |args: &[&str]| lab.node("refused").args(&["--cluster-secret-file", text(&file)]).args(args).start_refused();
    std::fs::copy(&cert2, &cert).unwrap();
    let end = refused(&["--tls-cert", text(&cert), "--tls-key", text(&key)]);
    assert!(end.code == Some(78) && end.stderr.contains("the key is not the certificate's"), "{end:?}");
    std::fs::set_permissions(&key2, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let end = refused(&["--tls-cert", text(&cert2), "--tls-key", text(&key2)]);
    assert!(end.code == Some(78) && end.stderr.contains("its mode is 0644"), "{end:?}");
}

#[test]
fn clients_are_asked_for_a_certificate() {
    if !has_programs("secured::clients::clients_are_asked_for_a_certificate") {
        return;
    }
    let lab = Lab::new();
    let file = secret(lab.path(), "secret");
    let [client_ca, cert, key] = certificate(lab.path(), "client", "URI:spiffe://here/client", "20");
    let [other_ca, other_cert, other_key] = certificate(lab.path(), "stranger", "URI:spiffe://there/client", "20");
    let ca = lab.path().join("ca.pem");
    std::fs::write(&ca, tool(lab.path(), &["ca", "--cluster-secret-file", text(&file)])).unwrap();
    let args = ["--cluster-secret-file", text(&file), "--tls-auto", "--tls-client-ca", text(&client_ca)];
    let mut node = started(lab.node("n").args(&args));
    let url = format!("https://{}/hraftd/raft/health", node.haddr);
    let with = |cert: &Path, key: &Path| curl(&["--cacert", text(&ca), "--cert", text(cert), "--key", text(key), &url]);
    gets(&["--cacert", text(&ca), &url], "200");
    assert!(with(&cert, &key).1.ends_with(" 200"));
    assert_ne!(with(&other_cert, &other_key).0, 0, "of another authority");
    node.stop();
    node.set_args(&[&args[..], &["--tls-client-required"]].concat());
    node.start();
    eventually(SETTLE, "it serves who has a certificate", || {
        let said = with(&cert, &key);
        check(said.1.ends_with(" 200"), || format!("{said:?}"))
    });
    assert_ne!(curl(&["--cacert", text(&ca), &url]).0, 0, "none");
    // Other authorities from now on.
    std::fs::copy(&other_ca, &client_ca).unwrap();
    eventually(SETTLE, "it serves the others", || {
        let said = with(&other_cert, &other_key);
        check(said.1.ends_with(" 200"), || format!("{said:?}"))
    });
    assert_ne!(with(&cert, &key).0, 0);
}
