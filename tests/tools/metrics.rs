//! Debian's Prometheus really scrapes a cluster; its tools find nothing wrong with the metrics, the alerts and the dashboard.

use std::path::Path;

use serde_json::Value;

use crate::namespace::in_own_network;
use crate::shell::Shell;
use crate::support::lab::Lab;
use crate::support::wait::{SETTLE, check, eventually};

const PROGRAMS: [(&str, &str); 2] = [("prometheus", "prometheus"), ("promtool", "prometheus")];

fn deploy(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file).display().to_string()
}

/// The answer of Prometheus to a query: the value of each series, by its label `instance`.
fn ask(shell: &Shell, query: &str) -> Result<Vec<(String, String)>, String> {
    let line = format!("curl -sfG localhost:9090/api/v1/query --data-urlencode 'query={query}'");
    let answer: Value = serde_json::from_str(&shell.try_run(&line)?).map_err(|error| error.to_string())?;
    let series = answer["data"]["result"].as_array().ok_or_else(|| answer.to_string())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(series.iter().map(|one| (text(&one["metric"]["instance"]), text(&one["value"][1]))).collect())
}

#[test]
fn prometheus_scrapes_a_cluster() {
    in_own_network("metrics::prometheus_scrapes_a_cluster", &PROGRAMS, || {
        let lab = Lab::new();
        let shell = Shell::new(lab.path());
        let rules = deploy("prometheus/alerts.yml");
        shell.run(&format!("promtool check rules {rules}"));
        shell.run(&format!("promtool test rules {}", deploy("prometheus/alerts.test.yml")));
        let _nodes: Vec<_> = [
            "hraftd --heartbeat-interval 100ms",
            "hraftd --haddr localhost:11001 --rjoin :11000",
            "hraftd --haddr localhost:11002 --rjoin :11000",
        ]
        .iter()
        .zip(["0", "1", "2"])
        .map(|(line, log)| shell.start(log, line))
        .collect();
        eventually(SETTLE, "three voters", || {
            let ready = shell.try_run("curl -sf 'localhost:11002/readyz?verbose'")?;
            check(ready.lines().all(|line| line.starts_with("[+]")), || ready)?;
            let stats = shell.try_run("curl -sf localhost:11000/hraftd/raft/stats")?;
            check(stats.matches(r#""Voter""#).count() == 3, || stats)
        });
        // Clean by its own tool, while the node has something to tell.
        shell.run(r#"curl -sf localhost:11001/key -d '{"a": 1, "b": "xyz"}' >metrics.out"#);
        shell.run("curl -s localhost:11001/evil localhost:11001/key/nothing >metrics.out");
        for port in 11000..=11002 {
            let said = shell.run(&format!("curl -sf localhost:{port}/metrics | promtool check metrics 2>&1"));
            assert_eq!(said, "");
        }
        let config = format!(
            "global: {{scrape_interval: 200ms, evaluation_interval: 1s}}\nrule_files: [{rules}]\nscrape_configs:\n  - \
             job_name: hraftd\n    static_configs: [{{targets: [localhost:11000, localhost:11001, localhost:11002]}}]\n"
        );
        std::fs::write(lab.path().join("prometheus.yml"), config).unwrap();
        shell.run("promtool check config prometheus.yml");
        let _prometheus = shell.start(
            "prometheus",
            "prometheus --config.file=prometheus.yml --storage.tsdb.path=tsdb --web.listen-address=127.0.0.1:9090",
        );
        eventually(SETTLE, "three are scraped", || {
            let up = ask(&shell, "up")?;
            check(up.len() == 3 && up.iter().all(|(_, value)| value == "1"), || format!("{up:?}"))?;
            let leaders = ask(&shell, "hraftd_raft_state{state=\"Leader\"} == 1")?;
            check(leaders.len() == 1, || format!("{leaders:?}"))?;
            let keys = ask(&shell, "hraftd_keys")?;
            check(keys.len() == 3 && keys.iter().all(|(_, value)| value == "2"), || format!("{keys:?}"))?;
            let bytes = ask(&shell, "hraftd_state_bytes == 8")?;
            check(bytes.len() == 3, || format!("{bytes:?}"))?;
            let posts =
                ask(&shell, "hraftd_http_requests_total{route=\"/hraftd/key\",method=\"POST\",code=\"200\"} == 1")?;
            check(posts.len() == 1 && posts[0].0 == "localhost:11001", || format!("{posts:?}"))?;
            let other = ask(&shell, "hraftd_http_requests_total{route=\"other\",code=\"404\"} == 1")?;
            check(other.len() == 1, || format!("{other:?}"))?;
            let peers = ask(&shell, "hraftd_raft_peer_round_trip_seconds_count > 0")?;
            check(peers.len() == 2, || format!("{peers:?}"))
        });
        let alerts = ask(&shell, "ALERTS{alertstate=\"firing\"}").unwrap();
        assert!(alerts.is_empty(), "{alerts:?}");
    });
}
