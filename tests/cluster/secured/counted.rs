//! Certificates, sessions and refusals at a real node: who is known by what, and what of it is counted and warned of.

use std::path::Path;

use serde_json::Value;

use super::clients::{certificate, started, text};
use super::{curl, has_programs, put_secrets, secret, tool};
use crate::support::lab::Lab;
use crate::support::wait::{SETTLE, check, eventually};

/// The value of a family's line, as `name{labels}`.
fn value(metrics: &str, line: &str) -> f64 {
    let found = metrics.lines().find_map(|each| each.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {line} in {metrics}")).parse().unwrap()
}

#[test]
fn a_certificate_and_a_session_stand_for_a_token_and_all_is_counted() {
    if !has_programs("secured::counted::a_certificate_and_a_session_stand_for_a_token_and_all_is_counted") {
        return;
    }
    let lab = Lab::new();
    let (file, root_file) = (secret(lab.path(), "secret"), lab.path().join("root"));
    tool(lab.path(), &["token", text(&root_file)]);
    let root = std::fs::read_to_string(&root_file).unwrap().trim().to_owned();
    let [client_ca, cert, key] = certificate(lab.path(), "client", "URI:spiffe://here/client", "20");
    let ca = lab.path().join("ca.pem");
    std::fs::write(&ca, tool(lab.path(), &["ca", "--cluster-secret-file", text(&file)])).unwrap();
    let mut node = started(lab.node("n").args(&[
        "--cluster-secret-file",
        text(&file),
        "--tls-auto",
        "--tls-client-ca",
        text(&client_ca),
        "--root-token-file",
        text(&root_file),
        "--log-level",
        "debug",
    ]));
    let at = |path: &str| format!("https://{}{path}", node.haddr);
    let with = |args: &[&str], path: &str| {
        let (code, said) = curl(&[&["--cacert", text(&ca)], args, &[&at(path)]].concat());
        assert_eq!(code, 0, "{path}: {said}");
        let (body, status) = said.rsplit_once(' ').unwrap();
        (status.parse::<u16>().unwrap(), body.to_owned())
    };
    let by_root = format!("x:{root}");
    let as_root = |args: &[&str], path: &str| with(&[&["-u", &by_root], args].concat(), path);
    eventually(SETTLE, "it knows its state", || {
        let (status, said) = as_root(&[], "/hraftd/auth/token");
        check(status == 200, || said)
    });
    let web = r#"{"grants":["read:","status"],"certificate":"URI:spiffe://here/client"}"#;
    assert_eq!(as_root(&["-X", "PUT", "-d", web], "/hraftd/auth/token/web").0, 201);
    // The client's certificate, as the port has verified it.
    let (status, who) = with(&["--cert", text(&cert), "--key", text(&key)], "/hraftd/auth/whoami");
    assert!(status == 200 && who.contains(r#""name":"web""#) && who.contains(r#""means":"certificate""#), "{who}");
    assert_eq!(with(&[], "/hraftd/auth/whoami").0, 401);
    // A session, kept as a browser keeps it.
    let jar = lab.path().join("jar");
    let (status, said) = as_root(&["-X", "POST", "-c", text(&jar)], "/hraftd/auth/session");
    assert_eq!(status, 200, "{said}");
    let kept = std::fs::read_to_string(&jar).unwrap();
    assert!(kept.contains("#HttpOnly_") && kept.contains("__Host-hraftd_session"), "{kept}");
    let (status, who) = with(&["-b", text(&jar)], "/hraftd/auth/whoami");
    assert!(status == 200 && who.contains(r#""name":"root""#) && who.contains(r#""means":"session""#), "{who}");
    let foreign = ["-b", text(&jar), "-H", "Origin: http://127.0.0.1", "-X", "PUT", "-d", "1"];
    assert_eq!(with(&foreign, "/hraftd/key/a").0, 403, "a page in plain text is of another site");
    let encoded = format!("/hraftd/key/a?token={}", root.replace('_', "%5f"));
    assert_eq!(with(&[], &encoded).0, 400, "a token in the query, whatever it is written as");
    assert_eq!(with(&[], &format!("/hraftd/key/{}", root.replace('_', "%255F"))).0, 401);
    let from_log = node.log_text();
    assert!(from_log.contains("hrt%5f") && from_log.contains("hrt%255F"), "they are logged");
    assert!(!from_log.contains(&root[16..]) && !from_log.contains(kept.rsplit('\t').next().unwrap().trim()));

    // What of it is counted: a client that does not trust the certificate has come to nothing.
    assert_eq!(curl(&[&at("/")]).0, 60);
    let metrics = eventually(SETTLE, "both outcomes are counted", || {
        let metrics = as_root(&[], "/metrics").1;
        let count = |outcome: &str| value(&metrics, &format!("hraftd_tls_handshakes_total{{outcome=\"{outcome}\"}}"));
        check(count("ok") >= 5.0 && count("failed") >= 1.0, || metrics.clone())?;
        Ok(metrics)
    });
    let days = |which: &str| {
        value(&metrics, &format!("hraftd_tls_certificate_expiry_seconds{{which=\"{which}\"}}")) / 86_400.0
    };
    assert!((28.9..29.1).contains(&days("server")), "{}", days("server"));
    assert!((29.5..30.1).contains(&days("client_ca")), "{}", days("client_ca"));
    let refused = |kind: &str| value(&metrics, &format!("hraftd_auth_refused_total{{kind=\"{kind}\"}}"));
    assert!(refused("missing") >= 1.0 && refused("cross_site") >= 1.0, "{metrics}");

    // What is wrong is told where an operator looks.
    let warnings = || {
        let (status, said) = as_root(&[], "/hraftd/raft/cluster");
        assert_eq!(status, 200, "{said}");
        let cluster: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(cluster["scheme"], "https");
        cluster["warnings"].to_string()
    };
    assert_eq!(warnings(), "null");
    let warned = |path: &Path, part: &str| {
        let good = std::fs::read(path).unwrap();
        std::fs::write(path, "hunter2\n").unwrap();
        eventually(SETTLE, part, || check(warnings().contains(part), warnings));
        assert!(value(&as_root(&[], "/metrics").1, "hraftd_raft_warnings{kind=\"security\"}") > 0.0);
        std::fs::write(path, good).unwrap();
        eventually(SETTLE, "it is well again", || check(warnings() == "null", warnings));
    };
    warned(&root_file, "the root tokens stay as they were");
    warned(&file, "the secrets stay as they were");
    warned(&client_ca, "clients are shown the certificate that was");

    // Another root token: the session of the one before is nothing from then on.
    let other = lab.path().join("other");
    tool(lab.path(), &["token", text(&other)]);
    put_secrets(&root_file, &[&other]);
    eventually(SETTLE, "the session has ended", || {
        let (status, said) = with(&["-b", text(&jar)], "/hraftd/auth/whoami");
        check(status == 401, || said)
    });
    node.stop();
}
