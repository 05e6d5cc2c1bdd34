//! Who has the secret is a node; nobody else is.

use std::os::unix::fs::PermissionsExt;

use super::{curl, has_programs, id_of, logs, put_secrets, secret, tool};
use crate::support::cluster::Cluster;
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::wait::{SETTLE, check, eventually};

#[test]
fn a_cluster_with_a_secret_forms_serves_and_lives_on() {
    let lab = Lab::new();
    let file = secret(lab.path(), "secret");
    let mut cluster = Cluster::start_with(lab, 3, &["--cluster-secret-file", file.to_str().unwrap()]);
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.set(&format!("k{number}"), "1").unwrap();
    }
    for node in &cluster.nodes {
        (0..3).for_each(|number| assert_eq!(node.value(&format!("k{number}")).unwrap(), 1));
    }
    let leads = cluster.leader();
    cluster.nodes[leads].kill();
    let other = (leads + 1) % 3;
    eventually(SETTLE, "another node leads", || cluster.nodes[other].set("after", "2").map(drop));
    cluster.nodes[leads].start();
    cluster.settled();
    cluster.all_have("after", "2");
    // A restart of all, and one that comes back empty. (The first forms a cluster where it remembers none.)
    cluster.stop_all();
    cluster.nodes[1].wipe();
    cluster.start_all();
    cluster.settled();
    cluster.all_have("after", "2");
}

#[test]
fn who_has_no_secret_or_another_neither_joins_nor_forms() {
    let lab = Lab::new();
    let (ours, others) = (secret(lab.path(), "ours"), secret(lab.path(), "others"));
    let mut first = lab.node("first").args(&["--cluster-secret-file", ours.to_str().unwrap()]);
    let mut plain = lab.node("plain").rjoin(&[&first.haddr]);
    let mut stranger =
        lab.node("stranger").rjoin(&[&first.haddr]).args(&["--cluster-secret-file", others.to_str().unwrap()]);
    first.start();
    first.wait_ready();
    plain.start();
    stranger.start();
    // Both sides say whose secret is whose.
    logs(&stranger, &format!("it has a certificate of the cluster secret {}", id_of(&ours)));
    logs(&stranger, &id_of(&others));
    logs(&first, "was refused as a node: it does not trust this node's certificate");
    for node in [&plain, &stranger] {
        assert!(
            node.get("/hraftd/raft/ready").is_ok_and(|reply| reply.status == 503),
            "{} is no node of a cluster",
            node.name
        );
    }
    assert_eq!(first.voters().unwrap(), [first.id()].into());
    // With the secret it is let in, and the file is read again without a restart.
    put_secrets(&others, &[&ours]);
    eventually(SETTLE, "the stranger has joined", || {
        let voters = first.voters()?;
        check(voters == [first.id(), stranger.id()].into(), || format!("{voters:?}"))
    });
    assert_ne!(plain.state().unwrap(), "Leader");
}

#[test]
fn the_raft_port_answers_no_plain_text_and_no_client() {
    if !has_programs("secured::peers::the_raft_port_answers_no_plain_text_and_no_client") {
        return;
    }
    let lab = Lab::new();
    let file = secret(lab.path(), "secret");
    let cluster = Cluster::start_with(lab, 1, &["--cluster-secret-file", file.to_str().unwrap()]);
    let node = &cluster.nodes[0];
    let mut conn = Conn::open(&node.raddr).unwrap();
    let reply = conn.request("POST", "/raft/v1/call", &[], Some(b"x")).unwrap();
    assert!(reply.status == 400 && reply.text().contains("speaks TLS"), "{}", reply.brief());
    // TLS as a client speaks it, and without a certificate.
    let (code, said) = curl(&["-k", &format!("https://{}/raft/v1/call", node.raddr)]);
    assert!(code != 0, "{code} {said}");
    // At a client port in plain text, TLS as clients speak it is closed.
    assert_ne!(curl(&["-k", &format!("https://{}/hraftd/key/a", node.haddr)]).0, 0);
    node.set("a", "1").unwrap();
}

#[test]
fn a_bad_secret_file_is_the_end_with_78_and_a_reason() {
    let lab = Lab::new();
    let good = secret(lab.path(), "good");
    let text = std::fs::read_to_string(&good).unwrap();
    let line = text.trim_end();
    let cases: [(&str, String, u32, &str); 8] = [
        ("empty", String::new(), 0o600, "it is empty; hraftd secret makes what belongs there"),
        ("short", line[..40].to_owned(), 0o600, "line 1: it was cut off: it has 40 of 62 characters"),
        (
            "phrase",
            "correct horse".to_owned(),
            0o600,
            "line 1: it does not begin with hrs_: make one with hraftd secret",
        ),
        ("crlf", format!("{line}\r\n"), 0o600, "line 1: it ends with CR LF"),
        ("twice", format!("{text}{text}"), 0o600, "line 2: it is the same as line 1"),
        ("binary", "\0\u{1}\u{2}".to_owned(), 0o600, "it is not text"),
        ("open", text.clone(), 0o644, "its mode is 0644"),
        ("group", text.clone(), 0o660, "its mode is 0660"),
    ];
    for (name, text, mode, wanted) in cases {
        let file = lab.path().join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        let end = lab.node(name).args(&["--cluster-secret-file", file.to_str().unwrap()]).start_refused();
        assert_eq!(end.code, Some(78), "{name}: {end:?}");
        assert!(end.stderr.contains(wanted) && end.stderr.contains("--cluster-secret-file"), "{name}: {end:?}");
        assert!(!end.stderr.contains(&line[12..]), "{name} shows the secret");
    }
    // Kubernetes' fsGroup.
    std::fs::set_permissions(&good, PermissionsExt::from_mode(0o440)).unwrap();
    let mut node = lab.node("good-440").args(&["--cluster-secret-file", good.to_str().unwrap()]);
    node.start();
    node.wait_ready();
    // A bad one later is warned of, and what was is kept.
    std::fs::set_permissions(&good, PermissionsExt::from_mode(0o644)).unwrap();
    logs(&node, "its mode is 0644");
    logs(
        &node,
        &format!("the cluster secrets are still {}", {
            std::fs::set_permissions(&good, PermissionsExt::from_mode(0o600)).unwrap();
            id_of(&good)
        }),
    );
    node.set("a", "1").unwrap();
    assert!(tool(lab.path(), &["token"]).starts_with("hrt_"));
}
