use std::collections::BTreeSet;

use super::families::all;
use super::*;
use crate::http::PortNumbers;
use crate::node::Numbers;
use crate::observe::{AuthRefusal, Certificate, Handshake, SecurityNumbers};

/// The names of a blank node, which are all but those about members.
fn names() -> BTreeSet<String> {
    let page =
        all(&Numbers::default(), &RequestNumbers::default(), &PortNumbers::default(), &SecurityNumbers::default());
    page.0.iter().map(|family| family.name().to_owned()).collect()
}

/// Those that have a series only once there are other members.
const OF_PEERS: [&str; 3] =
    ["hraftd_clock_skew_seconds", "hraftd_raft_peer_lag_entries", "hraftd_raft_peer_round_trip_seconds"];

/// The names that a text mentions, without the endings of histograms' series.
fn mentioned(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("hraftd_") || word.starts_with("process_"));
    let name = |word: &str| {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        histogram.filter(|name| name.ends_with("_seconds") || name.ends_with("_flush")).unwrap_or(word).to_owned()
    };
    ours.map(name).collect()
}

fn repository(file: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn dashboard_and_alerts_use_only_series_that_there_are() {
    let known: BTreeSet<String> = names().into_iter().chain(OF_PEERS.map(str::to_owned)).collect();
    for file in ["deploy/grafana/hraftd.json", "deploy/prometheus/alerts.yml"] {
        let used = mentioned(&repository(file));
        assert!(used.len() > 5, "{file}: {used:?}");
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn every_family_is_described() {
    let known: BTreeSet<String> = names().into_iter().chain(OF_PEERS.map(str::to_owned)).collect();
    let described = mentioned(&repository("docs/observe.md"));
    let missing: Vec<_> = known.difference(&described).collect();
    assert!(missing.is_empty(), "docs/observe.md lacks {missing:?}");
}

#[test]
fn what_others_count_is_shown() {
    let security = SecurityNumbers::default();
    security.handshake(Handshake::Failed);
    security.refused(AuthRefusal::NotGranted);
    security.certificate_ends(Certificate::Server, 1);
    let page = all(&Numbers::default(), &RequestNumbers::default(), &PortNumbers::default(), &security);
    let text = TextEncoder::new().encode_to_string(&page.0).unwrap();
    for line in [
        "hraftd_tls_handshakes_total{outcome=\"failed\"} 1",
        "hraftd_tls_handshakes_total{outcome=\"ok\"} 0",
        "hraftd_auth_refused_total{kind=\"not_granted\"} 1",
        "hraftd_tls_certificate_expiry_seconds{which=\"client_ca\"} NaN",
        "hraftd_raft_state{state=\"Leader\"} 0",
        "hraftd_http_requests_total{route=\"/metrics\",method=\"GET\",code=\"200\"} 0",
        "hraftd_raft_elections_total{kind=\"takeover\",outcome=\"won\"} 0",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("hraftd_tls_certificate_expiry_seconds{which=\"server\"} -"), "{text}");
}
