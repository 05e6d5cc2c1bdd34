//! What people reach a closed cluster with, each checking what it is shown: curl, httpie, python-requests and openssl.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::namespace::{is_there, skip};
use crate::support::cluster::Cluster;
use crate::support::faketime::library;
use crate::support::http::call_with;
use crate::support::lab::Lab;
use crate::support::node::{BUILT, Node};
use crate::support::process::{Finished, finish};
use crate::support::secure::tool;
use crate::support::wait::{SETTLE, check, eventually};

/// Debian's: it has python3-requests, which httpie brings.
const PYTHON: &str = "/usr/bin/python3";

/// Python 3.13 checks certificates as RFC 5280 has them by default; older ones where they are told to.
const REQUESTS: &str = r#"
import ssl, sys, requests
from requests.adapters import HTTPAdapter

class Strict(HTTPAdapter):
    def init_poolmanager(self, *args, **kwargs):
        context = ssl.create_default_context(cafile=ca)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        super().init_poolmanager(*args, ssl_context=context, **kwargs)

url, ca, token = sys.argv[1:]
session = requests.Session()
session.trust_env = False
session.mount("https://", Strict())
session.verify = ca
assert session.get(url).status_code == 401
for shown in {"auth": ("x", token)}, {"headers": {"Authorization": "Bearer " + token}}:
    answer = session.put(url, json="by requests", **shown)
    assert answer.status_code in (200, 201), answer.text
    assert session.get(url, **shown).json() == {"r": "by requests"}
print("fine")
"#;

/// What a client port speaks (docs/security.md): the version, and openssl's names of ciphers.
const SPOKEN: [(&str, &[&str]); 2] = [
    ("tls1_3", &["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]),
    ("tls1_2", &["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"]),
];

/// What it does not.
const NOT_SPOKEN: [(&str, &str); 4] = [
    ("tls1_2", "ECDHE-ECDSA-AES256-SHA384"),
    ("tls1_2", "ECDHE-ECDSA-AES128-SHA"),
    ("tls1_1", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),
    ("tls1", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),
];

fn run(program: &str, args: &[&str], home: &Path) -> Finished {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home).env("LC_ALL", "C.UTF-8");
    finish(&mut command, Duration::from_secs(30))
}

/// A node that is closed, its CA's file, and a token that may read and write.
fn closed(lab: &Lab) -> (Node, String, String) {
    let path = |name: &str| lab.path().join(name).to_str().unwrap().to_owned();
    let (secret, root, ca) = (path("secret"), path("root"), path("ca.pem"));
    tool(lab.path(), &["secret", &secret]);
    tool(lab.path(), &["token", &root]);
    std::fs::write(&ca, tool(lab.path(), &["ca", "--cluster-secret-file", &secret])).unwrap();
    let mut node = lab.node("n").args(&["--cluster-secret-file", &secret, "--tls-auto", "--root-token-file", &root]);
    node.start();
    let url = format!("https://{}/hraftd/auth/token/web", node.haddr);
    let bearer = format!("Authorization: Bearer {}", std::fs::read_to_string(&root).unwrap().trim());
    let grants = r#"{"grants":["read:","write:"]}"#;
    let made = eventually(SETTLE, "a token", || {
        let end = run("curl", &["-sS", "--cacert", &ca, "-H", &bearer, "-X", "PUT", "-d", grants, &url], lab.path());
        check(end.stdout.contains("hrt_"), || format!("{end:?}"))?;
        Ok(end.stdout)
    });
    let token = made.split('"').find(|word| word.starts_with("hrt_")).unwrap().to_owned();
    (node, ca, token)
}

#[test]
fn curl_httpie_and_requests_check_what_they_are_shown() {
    let missing: Vec<&str> = [("curl", "curl"), ("https", "httpie"), ("openssl", "openssl")]
        .into_iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| package)
        .collect();
    if !missing.is_empty() {
        return skip(
            "closed::curl_httpie_and_requests_check_what_they_are_shown",
            &format!("missing Debian packages: {missing:?}"),
        );
    }
    let lab = Lab::new();
    let (mut node, ca, token) = closed(&lab);
    let url = |key: &str| format!("https://{}/hraftd/key/{key}", node.haddr);
    let home = lab.path();

    let (password, c) = (format!("x:{token}"), url("c"));
    let put = run("curl", &["-sS", "--cacert", &ca, "-u", &password, "-X", "PUT", "-d", "1", &c], home);
    assert!(put.stdout.contains(r#""ok":true"#), "{put:?}");
    assert_eq!(run("curl", &["-sS", &c], home).code, Some(60), "the system's authorities do not do");

    let h = url("h");
    let put = run(
        "https",
        &["--ignore-stdin", "--check-status", "--verify", &ca, "-a", &password, "PUT", &h, "by=httpie"],
        home,
    );
    assert_eq!(put.code, Some(0), "{put:?}");
    let got =
        run("https", &["--ignore-stdin", "--check-status", "--verify", &ca, "-A", "bearer", "-a", &token, &h], home);
    assert!(got.code == Some(0) && got.stdout.contains("httpie"), "{got:?}");
    assert_eq!(run("https", &["--ignore-stdin", "-a", &password, &h], home).code, Some(1), "no CA, no trust");

    let asked = run(PYTHON, &["-c", REQUESTS, &url("r").replace("127.0.0.1", "localhost"), &ca, &token], home);
    assert!(asked.code == Some(0) && asked.stdout.trim() == "fine", "{asked:?}");
    node.stop();
}

#[test]
fn the_versions_and_ciphers_are_those_of_the_docs() {
    if !is_there("openssl") {
        return skip("closed::the_versions_and_ciphers_are_those_of_the_docs", "missing Debian packages: openssl");
    }
    let docs = include_str!("../../docs/security.md");
    let lab = Lab::new();
    let (mut node, ca, _) = closed(&lab);
    let shake = |version: &str, cipher: &str| {
        let kind = if version == "tls1_3" { "-ciphersuites" } else { "-cipher" };
        let version = format!("-{version}");
        let args =
            ["s_client", "-connect", &node.haddr, "-CAfile", &ca, "-x509_strict", "-verify_return_error", &version];
        run("openssl", &[&args[..], &[kind, cipher]].concat(), lab.path())
    };
    for (version, ciphers) in SPOKEN {
        for cipher in ciphers {
            assert!(docs.contains(&format!("`{cipher}`")), "docs/security.md has {cipher}");
            let end = shake(version, cipher);
            assert!(end.code == Some(0) && end.stdout.contains(&format!("Cipher is {cipher}")), "{version} {end:?}");
        }
    }
    for (version, cipher) in NOT_SPOKEN {
        let end = shake(version, cipher);
        assert!(end.code == Some(1) && end.stdout.contains("Cipher is (NONE)"), "{version} {cipher}: {end:?}");
    }
    node.stop();
}

/// No wall clock counts between nodes, nor for tokens.
#[test]
fn a_node_whose_clock_is_at_1970_serves_and_leads() {
    const TEST: &str = "closed::a_node_whose_clock_is_at_1970_serves_and_leads";
    let library = match library() {
        Some(library) if is_there("faketime") => library,
        _ => return skip(TEST, "missing Debian packages: faketime"),
    };
    let lab = Lab::new();
    let path = |name: &str| lab.path().join(name).to_str().unwrap().to_owned();
    let (secret, root, program) = (path("secret"), path("root"), lab.path().join("of-1970"));
    tool(lab.path(), &["secret", &secret]);
    tool(lab.path(), &["token", &root]);
    let script = format!(
        "#!/bin/sh\nexport LD_PRELOAD={} FAKETIME='@1970-01-01 00:10:00' DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
         TZ=UTC\nexec {BUILT} \"$@\"\n",
        library.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let args = ["--cluster-secret-file", &secret, "--root-token-file", &root, "--anonymous", "status,members"];
    let mut cluster = Cluster::start_prepared(lab, 3, &args, |node| {
        if node.name == "n1" {
            node.program = Some(program.clone());
        }
    });
    let dated = cluster.nodes[1].get("/hraftd/raft/state").unwrap();
    assert!(dated.header("Date").unwrap().contains(" 1970 "), "{dated:?}");
    let root = format!("Bearer {}", std::fs::read_to_string(&root).unwrap().trim());
    let grants: &[u8] = br#"{"grants":["read:","write:"],"ttl":"1h"}"#;
    for round in 0..2 {
        let name = format!("/hraftd/auth/token/t{round}");
        let made = call_with(&cluster.nodes[1].haddr, "PUT", &name, &[("Authorization", &root)], Some(grants)).unwrap();
        assert_eq!(made.status, 201, "{}", made.brief());
        let bearer = format!("Bearer {}", made.json()["token"].as_str().unwrap());
        for node in &cluster.nodes {
            let put =
                call_with(&node.haddr, "PUT", "/hraftd/key/a", &[("Authorization", &bearer)], Some(b"1")).unwrap();
            assert!(put.status < 300, "{} {}", node.name, put.brief());
        }
        // And once more where it has begun anew, and leads.
        cluster.nodes[1].stop();
        cluster.nodes[1].start();
        cluster.settled();
        let body = format!(r#"{{"id":"{}"}}"#, cluster.nodes[1].id());
        eventually(SETTLE, "it leads", || {
            let _asked = cluster.nodes[1].post("/hraftd/raft/leader", &body);
            check(cluster.nodes[1].state()? == "Leader", || "it does not".to_owned())
        });
    }
}
