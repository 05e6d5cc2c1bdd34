//! Nodes that are down, silent or closed, and a stdout that is.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use super::endpoints::each;
use super::{WITHIN, client, endpoints, fails, fed, ok, run};
use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::node::hraftd;
use crate::support::process::{Finished, finish};

/// What was told as done is done, once, while leaders are killed under it.
#[test]
fn each_write_counts_once_through_kills_of_leaders() {
    let mut cluster = Cluster::start(3);
    let mut unknown = 0;
    let mut told = 0;
    for number in 0..60 {
        if number % 20 == 10 {
            let leader = cluster.leader();
            cluster.nodes[leader].kill();
        }
        let end = run(&cluster, &["incr", "n"]);
        match end.code {
            Some(0) => told += 1,
            Some(75) => unknown += 1,
            _ => panic!("{end:?}"),
        }
        if number % 20 == 15 {
            for node in cluster.nodes.iter_mut().filter(|node| !node.runs()) {
                node.start();
            }
        }
    }
    cluster.settled();
    let sum: u64 = ok(&cluster, &["get", "n"]).parse().unwrap();
    assert!(sum >= told && sum <= told + unknown, "{sum} after {told} and {unknown} of unknown outcome");
    assert!(told > 50, "{told}");
}

#[test]
fn endpoints_that_are_down_or_silent_are_passed_over() {
    let mut cluster = Cluster::start(3);
    // It takes connections and never answers; nothing listens at the other.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (silent, gone) =
        (silent.local_addr().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let list = format!("{gone},{silent},{}", endpoints(&cluster.nodes));
    ok(&cluster, &["put", "k", "v", "--endpoints", &list]);
    assert_eq!(ok(&cluster, &["get", "k", "--endpoints", &list]), "v");
    let said = fails(&cluster, 69, &["put", "k", "v", "--endpoints", &gone.to_string()]);
    assert!(said.contains(&gone.to_string()), "{said}");
    // No majority: 75, and of a write whose outcome is known not to be it says no more than that.
    for number in [0, 1] {
        cluster.nodes[number].kill();
    }
    let end = run(&cluster, &["put", "k", "w", "--timeout", "3s"]);
    assert_eq!(end.code, Some(75), "{end:?}");
    let left = cluster.nodes[2].haddr.clone();
    assert_eq!(ok(&cluster, &["get", "k", "--level", "none", "--endpoints", &left]), "v");
    cluster.nodes[2].pause();
    let end = run(&cluster, &["put", "k", "x", "--timeout", "1s", "--endpoints", &left]);
    assert!(end.code == Some(75) && end.stderr.contains("outcome of this write is unknown"), "{end:?}");
    cluster.nodes[2].resume();
}

/// `| head`: it ends, and says nothing.
#[test]
fn a_closed_stdout_ends_it_quietly() {
    let cluster = Cluster::start(1);
    for number in 0..400 {
        cluster.nodes[0].set(&format!("k{number}"), &format!("\"{}\"", "x".repeat(2_000))).unwrap();
    }
    for verb in ["export", "ls", "ls -o json"] {
        let line = format!("\"$0\" {verb} | head -c 10; echo \" ${{PIPESTATUS[0]}}\"");
        let mut command = Command::new("bash");
        command.args(["-c", &line]).arg(env!("CARGO_BIN_EXE_hraftd"));
        command.env("HRAFTD_ENDPOINTS", endpoints(&cluster.nodes));
        let end = finish(&mut command, WITHIN);
        assert!(end.stdout.ends_with(" 0\n") && end.stderr.is_empty(), "{verb}: {end:?}");
    }
    let (code, _, said) = fed(client(&cluster, &["get", "k1", "--endpoints", "127.0.0.1:x"]), b"");
    assert!(code == Some(64) && said.lines().count() == 1, "{said}");
}

/// A cluster that is closed: TLS, tokens, and what is told where one of them is missing.
#[test]
fn a_closed_cluster_over_tls() {
    let lab = Lab::new();
    let home = lab.path().to_owned();
    let file = |name: &str| home.join(name).display().to_string();
    let tool = |args: &[&str]| -> Finished { finish(hraftd(&home).args(args), Duration::from_secs(20)) };
    assert_eq!(tool(&["secret", &file("secret")]).code, Some(0));
    assert_eq!(tool(&["secret", &file("other")]).code, Some(0));
    assert_eq!(tool(&["token", &file("root")]).code, Some(0));
    for name in ["secret", "other"] {
        std::fs::write(file(&format!("{name}.ca")), tool(&["ca", "--cluster-secret-file", &file(name)]).stdout)
            .unwrap();
    }
    let (secret, root) = (file("secret"), file("root"));
    let mut nodes = vec![lab.node("a"), lab.node("b"), lab.node("c")];
    let first = nodes[0].haddr.clone();
    for node in &mut nodes {
        let args = ["--cluster-secret-file", &secret, "--root-token-file", &root, "--tls-auto", "--rjoin", &first];
        node.set_args(&args);
        node.start();
    }
    let list = endpoints(&nodes);
    let ca = file("secret.ca");
    let ask = |args: &[&str]| {
        let mut command = hraftd(&home);
        finish(command.args(args).env("HRAFTD_ENDPOINTS", &list).env("HRAFTD_CACERT", &ca), WITHIN)
    };
    crate::support::wait::eventually(crate::support::wait::SETTLE, "three members", || {
        let end = ask(&["status", "--token-file", &root]);
        let members = end.stdout.lines().filter(|line| line.contains("Voter")).count();
        crate::support::wait::check(members == 3 && end.stdout.contains("Leader"), || format!("{end:?}"))
    });
    let with_root = ["--token-file", &root];
    let made = ask(&[&["token", "put", "web", "read:app/", "write:app/"][..], &with_root].concat());
    assert_eq!(made.code, Some(0), "{made:?}");
    std::fs::write(file("web"), &made.stdout).unwrap();
    let web = file("web");
    assert_eq!(ask(&["put", "app/a", "1", "--token-file", &web]).code, Some(0));
    assert_eq!(ask(&["get", "app/a", "--token-file", &web]).stdout, "1");
    // The grant is named.
    let refused = ask(&["put", "other", "1", "--token-file", &web]);
    assert!(refused.code == Some(77) && refused.stderr.contains("write:other"), "{refused:?}");
    let refused = ask(&["lock", "app/l", "--token-file", &web, "--", "true"]);
    assert!(refused.code == Some(77) && refused.stderr.contains("lock:"), "{refused:?}");
    assert_eq!(ask(&["watch", "other", "--token-file", &web]).code, Some(77));
    let without = ask(&["get", "app/a"]);
    assert!(without.code == Some(77) && without.stderr.contains("give --token-file FILE"), "{without:?}");
    assert!(ask(&[&["token", "ls"][..], &with_root].concat()).stdout.contains("read:app/ write:app/"));
    let rotated = ask(&[&["token", "rotate", "web", "--grace", "1s"][..], &with_root].concat());
    assert!(rotated.stdout.starts_with("hrt_") && rotated.stdout != made.stdout, "{rotated:?}");
    assert_eq!(ask(&[&["token", "rm", "web"][..], &with_root].concat()).code, Some(0));
    assert_eq!(ask(&[&["token", "rm", "web"][..], &with_root].concat()).code, Some(1));
    // A drill and a bench need no more than this; what is missing is named.
    let token = |name: &str, grants: &[&str]| {
        let made = ask(&[&["token", "put", name], grants, &with_root[..]].concat());
        assert_eq!(made.code, Some(0), "{made:?}");
        std::fs::write(file(name), &made.stdout).unwrap();
        file(name)
    };
    let grants = ["status", "members", "read:drill/", "write:drill/", "lock:drill/"];
    let proves = token("proves", &grants);
    let drilled = ask(&["drill", "--seconds", "3", "--rate", "50", "--token-file", &proves]);
    assert!(drilled.code == Some(0) && drilled.stdout.contains("wrong          nothing"), "{drilled:?}");
    for (number, missing) in grants.iter().enumerate() {
        let less: Vec<&str> = grants.iter().copied().filter(|grant| grant != missing).collect();
        let end = ask(&["drill", "--seconds", "3", "--token-file", &token(&format!("less{number}"), &less)]);
        let named = end.stderr.contains(&format!("grant {}", missing.split('/').next().unwrap()));
        assert!(end.code == Some(77) && named, "without {missing}: {end:?}");
    }
    let measures = token("measures", &["status", "read:bench/", "write:bench/"]);
    assert_eq!(ask(&["bench", "--seconds", "1", "--keys", "5", "--token-file", &measures]).code, Some(0));
    // One that may nothing of what a verb does.
    let none = token("nothing", &["read:nothing/"]);
    let https = format!("https://{first}");
    each(&home, &https, &["--cacert", &ca, "--token-file", &none], &[], |verb, end| match verb {
        "health" => assert_eq!(end.code, Some(0), "{end:?}"),
        _ => assert!(end.code == Some(77) && end.stderr.contains("grant"), "{verb}: {end:?}"),
    });
    let other_ca = file("other.ca");
    each(&home, &https, &["--cacert", &other_ca], &[], |verb, end| {
        assert!(end.code == Some(69) && end.stderr.contains("not trusted"), "{verb}: {end:?}");
    });
    // Another authority, no TLS where there is some, and a token that is none.
    let other = ask(&["status", "--cacert", &file("other.ca")]);
    assert!(other.code == Some(69) && other.stderr.contains("not trusted"), "{other:?}");
    let plain = finish(hraftd(&home).args(["status", "--endpoints", &first]), WITHIN);
    assert!(plain.code == Some(69) || plain.code == Some(1), "{plain:?}");
    assert!(plain.stderr.contains("TLS"), "{plain:?}");
    assert_eq!(ask(&["status", "--token-file", &file("none")]).code, Some(64));
    assert_eq!(ask(&["status", "--cacert", &root]).code, Some(64));
}
