//! The page over TLS, with tokens: as it is meant to be used.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use serde_json::Value;

use super::{Browser, PROGRAMS, WITHIN};
use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::namespace::in_own_network_within;
use crate::support::node::{Node, hraftd};
use crate::support::process::finish;
use crate::support::wait::{SETTLE, check, eventually};

/// A new secret or token in a file.
fn file(dir: &Path, kind: &str) -> String {
    let path = dir.join(kind).display().to_string();
    let made = finish(hraftd(dir).args([kind, &path]), SETTLE);
    assert_eq!(made.code, Some(0), "{made:?}");
    path
}

/// A request by curl, which trusts the CA of the cluster; the answer's JSON.
fn curl(dir: &Path, args: &[&str]) -> Result<Value, String> {
    let mut command = Command::new("curl");
    command.args(["-sSf", "--max-time", "10", "--cacert"]).arg(dir.join("ca.pem")).args(args);
    let end = finish(&mut command, SETTLE);
    check(end.code == Some(0), || format!("{args:?}: {end:?}"))?;
    serde_json::from_str(&end.stdout).map_err(|error| format!("{error}: {}", end.stdout))
}

/// The hash of the key in the certificate that a node shows, by which a browser may be told to trust it.
fn pin(dir: &Path, node: &Node) -> String {
    let line = format!(
        "openssl s_client -connect {} -CAfile {}/ca.pem -verify_return_error </dev/null 2>/dev/null | \
         openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64",
        node.haddr,
        dir.display()
    );
    let end = finish(Command::new("sh").args(["-c", &line]), SETTLE);
    let pin = end.stdout.trim().to_owned();
    let is_hash = base64::engine::general_purpose::STANDARD.decode(&pin).is_ok_and(|hash| hash.len() == 32);
    assert!(is_hash, "{end:?}");
    pin
}

#[test]
fn tls_and_tokens() {
    let needs = [PROGRAMS, &[("openssl", "openssl"), ("curl", "curl")]].concat();
    in_own_network_within("page::secure::tls_and_tokens", &needs, WITHIN, || {
        let lab = Lab::new();
        let dir = lab.path().to_owned();
        let (secret, token) = (file(&dir, "secret"), file(&dir, "token"));
        let ca = finish(hraftd(&dir).args(["ca", "--cluster-secret-file", &secret]), SETTLE);
        std::fs::write(dir.join("ca.pem"), ca.stdout).unwrap();
        let args = ["--cluster-secret-file", &secret, "--root-token-file", &token, "--tls-auto"];
        let nodes: Vec<Node> = (0..3).map(|number| lab.node(&format!("n{number}")).args(&args)).collect();
        let list: Vec<String> = nodes.iter().map(|node| node.haddr.clone()).collect();
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let mut cluster = Cluster { nodes: nodes.into_iter().map(|node| node.rjoin(&list)).collect(), lab };
        cluster.start_all();
        let root = std::fs::read_to_string(&token).unwrap().trim().to_owned();
        let bearer = format!("Authorization: Bearer {root}");
        let as_root = |node: &Node, path: &str, more: &[&str]| {
            let url = format!("https://{}{path}", node.haddr);
            curl(&dir, &[&["-H", &bearer, &url], more].concat())
        };
        // Another may be elected meanwhile.
        let changes = |node: &Node, path: &str, more: &[&str]| eventually(SETTLE, path, || as_root(node, path, more));
        for node in &cluster.nodes {
            eventually(SETTLE, "all three serve", || {
                as_root(node, "/hraftd/raft/ready", &[])?;
                let found = as_root(node, "/hraftd/raft/cluster", &[])?;
                check(found["servers"].as_array().map(Vec::len) == Some(3), || found.to_string())
            });
        }
        changes(&cluster.nodes[0], "/hraftd/key", &["-d", r#"{"app/motd":"over TLS"}"#]);
        let grants = r#"{"grants":["read:app/","write:app/","status"]}"#;
        let made = changes(&cluster.nodes[0], "/hraftd/auth/token/web", &["-X", "PUT", "-d", grants]);
        let web = made["token"].as_str().unwrap();
        // The keys of certificates by the cluster secret differ by node.
        let pins: Vec<String> = cluster.nodes.iter().map(|node| pin(&dir, node)).collect();
        let trusted = format!("--ignore-certificate-errors-spki-list={}", pins.join(","));
        let profile = format!("--user-data-dir={}", dir.join("profile").display());
        let browser = Browser::open_with(&dir, 1280, 1000, &[&trusted, &profile]);
        browser.set_dark(false);
        let view = |node: &Node, view: &str| browser.go(&format!("https://{}/ui/#{view}", node.haddr));

        view(&cluster.nodes[0], "cluster");
        browser.sees("main", &["Sign in"]);
        browser.fill("#token", web);
        browser.click("Sign in");
        browser.sees("main", &["leads in term", "All 3 voters answer", "this page asks it"]);
        eventually(SETTLE, "it is examined", || {
            let said = browser.text("main")?;
            check(!said.contains("Examining"), || said)
        });
        browser.shoot("tls-cluster");
        // Links to other members are of the same kind.
        let links =
            browser.run("return [...document.querySelectorAll('.addr')].map((one) => one.href)", &[]).to_string();
        for node in &cluster.nodes {
            assert!(links.contains(&format!("https://{}/ui/#cluster", node.haddr)), "{links}");
        }
        view(&cluster.nodes[0], "keys/app%2Fmotd");
        browser.sees(".detail", &["over TLS"]);
        // What is streamed comes: a change, and what Raft does.
        changes(&cluster.nodes[1], "/hraftd/key", &["-d", r#"{"app/motd":"changed"}"#]);
        browser.sees(".detail", &["changed"]);
        view(&cluster.nodes[0], "write");
        browser.sees("main", &["Write it"]);
        browser.fill("#w-key", "app/written");
        browser.click("Write it");
        browser.sees("main", &["The request", "quorum", "committed"]);
        view(&cluster.nodes[0], "live");
        browser.sees("main", &["leads in term", "In order"]);
        browser.sees(".events", &["entries"]);
        // No script has the session, and it goes over TLS alone.
        assert_eq!(browser.run("return document.cookie", &[]), "");
        let cookies = browser.cookies();
        let session: Vec<&Value> = cookies.as_array().unwrap().iter().collect();
        assert!(session.len() == 1 && session[0]["secure"] == true && session[0]["httpOnly"] == true, "{cookies}");

        // Another member knows the session too: a secret of the cluster made it. To the browser that is the same host.
        view(&cluster.nodes[1], "cluster");
        browser.sees("main", &["leads in term", "this page asks it"]);
        // HTTP/2 has no reasons beside its codes. With a profile of its own the browser begins with a page of its own.
        let complaints = browser.complaints(&["status of 401", "status of 403", "chrome://"]);
        assert_eq!(complaints, Vec::<String>::new());
        let origins: Vec<String> = cluster.nodes[..2].iter().map(|node| format!("https://{}", node.haddr)).collect();
        assert!(browser.origins().iter().all(|origin| origins.contains(origin)), "{:?}", browser.origins());

        // Without that trust it is no page at all.
        drop(browser);
        let other = Browser::open(&dir, 800, 600);
        let gone = other.try_go(&format!("https://{}/ui/", cluster.nodes[0].haddr));
        let said = other.body();
        assert!(!said.contains("Sign in") && (gone.is_err() || said.contains("ERR_CERT")), "{gone:?}: {said}");
    });
}
