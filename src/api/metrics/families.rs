//! All families of `GET /metrics`: the registry of names.
//!
//! Labels whose values are fixed are there from the first scrape, with 0. `NaN` is what is not known.

use std::time::{SystemTime, UNIX_EPOCH};

use super::page::{Labels, Page};
use super::requests::{REFUSALS, RequestNumbers};
use crate::http::PortNumbers;
use crate::node::{
    DiskNumbers, ELECTION_KINDS, ELECTION_OUTCOMES, Numbers, PROPOSAL_OUTCOMES, PeerNumbers, READ_INDEX_OUTCOMES,
    RaftNumbers, State, StateNumbers, WARNING_KINDS,
};
use crate::observe::{
    AUTH_REFUSALS, BackupsSeen, CERTIFICATES, HANDSHAKE_OUTCOMES, Histogram, PLAIN_PORTS, Scale, SecurityNumbers, Seen,
};
use crate::platform;

/// The version of the compiler that made this binary, by `build.rs`.
const RUSTC: &str = env!("HRAFTD_RUSTC");

const STATES: [State; 5] = [State::Leader, State::Follower, State::Candidate, State::Learner, State::Shutdown];

fn nothing(scale: Scale) -> Seen {
    Histogram::new(scale).seen()
}

/// Pairs each value of a label with its number.
fn by<'a, const N: usize>(
    name: &'a str,
    values: &[&'a str; N],
    numbers: [f64; N],
) -> Vec<(Vec<(&'a str, &'a str)>, f64)> {
    values.iter().zip(numbers).map(|(value, number)| (vec![(name, *value)], number)).collect()
}

fn borrowed<'a, T: Clone>(series: &'a [(Vec<(&'a str, &'a str)>, T)]) -> impl Iterator<Item = (Labels<'a>, T)> {
    series.iter().map(|(labels, value)| (&labels[..], value.clone()))
}

/// The numbers of Raft.
pub fn raft(page: &mut Page, numbers: &RaftNumbers) {
    let states = STATES.map(State::as_str);
    let is = STATES.map(|state| f64::from(u8::from(numbers.state == Some(state))));
    page.gauges("raft_state", "1 for the role that this node has", borrowed(&by("state", &states, is)));
    let has_leader = f64::from(u8::from(numbers.has_leader));
    page.gauge("raft_has_leader", "1 while this node hears a leader, or is one with a quorum", has_leader);
    page.gauge("raft_term", "The current term", numbers.term as f64);
    page.gauge("raft_last_log_index", "Index of the last entry of the log", numbers.last_log_index as f64);
    page.gauge("raft_commit_index", "Index of the last committed entry that is known", numbers.commit_index as f64);
    page.gauge("raft_applied_index", "Index of the last entry that is applied", numbers.applied_index as f64);
    page.counter("raft_leader_changes_total", "Leaders that were seen", numbers.leader_changes as f64);
    let mut elections = Vec::new();
    for (kind, counts) in ELECTION_KINDS.iter().zip(numbers.elections) {
        for (outcome, count) in ELECTION_OUTCOMES.iter().zip(counts) {
            elections.push((vec![("kind", *kind), ("outcome", *outcome)], count as f64));
        }
    }
    page.counters("raft_elections_total", "Elections of this node", borrowed(&elections));
    page.gauge(
        "raft_quorum_age_seconds",
        "At the leader how long ago a quorum answered, elsewhere how long ago a leader was heard; NaN for never",
        numbers.quorum_age.map_or(f64::NAN, |age| age.as_secs_f64()),
    );
    peers(page, &numbers.peers);
    let proposals = by("outcome", &PROPOSAL_OUTCOMES, numbers.proposals.map(|count| count as f64));
    page.counters("raft_proposals_total", "Commands that were to be proposed here", borrowed(&proposals));
    let read_indexes = by("outcome", &READ_INDEX_OUTCOMES, numbers.read_indexes.map(|count| count as f64));
    page.counters("raft_read_index_total", "Rounds that confirm a read index", borrowed(&read_indexes));
    let members = by("suffrage", &["voter", "nonvoter"], numbers.members.map(|count| count as f64));
    page.gauges("raft_members", "Members of the latest configuration", borrowed(&members));
    let warnings = by("kind", &WARNING_KINDS, numbers.warnings.map(|count| count as f64));
    page.gauges("raft_warnings", "What an operator should mend", borrowed(&warnings));
}

fn peers(page: &mut Page, peers: &[PeerNumbers]) {
    let lag: Vec<_> =
        peers.iter().filter_map(|peer| Some((vec![("peer", peer.id.as_str())], peer.lag? as f64))).collect();
    page.gauges("raft_peer_lag_entries", "At the leader: entries that a member lacks", borrowed(&lag));
    let round_trips: Vec<_> =
        peers.iter().filter_map(|peer| Some((vec![("peer", peer.id.as_str())], peer.round_trip.clone()?))).collect();
    let help = "From when a leader sends something until a member has answered, its flush included";
    page.histograms("raft_peer_round_trip_seconds", help, borrowed(&round_trips));
    let skew: Vec<_> =
        peers.iter().map(|peer| (vec![("peer", peer.id.as_str())], peer.skew.unwrap_or(f64::NAN))).collect();
    let help = "By how much a member's wall clock is ahead of this node's; NaN where that is not known yet";
    page.gauges("clock_skew_seconds", help, borrowed(&skew));
}

/// The numbers of the disk.
pub fn disk(page: &mut Page, numbers: &DiskNumbers) {
    let DiskNumbers { flush, entries, snapshot, .. } = numbers.clone();
    let one = |seen: Option<Seen>, scale| [(&[][..], seen.unwrap_or_else(|| nothing(scale)))];
    page.histograms("log_flush_seconds", "Flushes of the log", one(flush, Scale::SECONDS));
    page.histograms("log_entries_per_flush", "Entries that a flush made durable", one(entries, Scale::COUNTS));
    page.gauge("log_bytes", "Bytes of the log after its purge point", numbers.log_bytes as f64);
    page.counter("log_written_bytes_total", "Bytes written to the log", numbers.written_bytes as f64);
    page.histograms("snapshot_seconds", "Snapshots that were written", one(snapshot, Scale::SECONDS));
    page.gauge("snapshot_bytes", "Bytes of the newest snapshot", numbers.snapshot_bytes as f64);
    page.counter("snapshot_failures_total", "Snapshots that were not written", numbers.snapshot_failures as f64);
    let free = numbers.free_bytes.map_or(f64::NAN, |bytes| bytes as f64);
    page.gauge("disk_free_bytes", "Free on the disk of the data directory; NaN where there is none", free);
}

/// The numbers of the client port.
pub fn http(page: &mut Page, requests: &RequestNumbers, port: &PortNumbers) {
    let counts = requests.counts();
    let series: Vec<_> = counts
        .iter()
        .map(|(route, method, code, count)| {
            (vec![("route", *route), ("method", *method), ("code", code.as_str())], *count as f64)
        })
        .collect();
    page.counters("http_requests_total", "Requests that were answered", borrowed(&series));
    let times: Vec<_> = requests.times().map(|(route, seen)| (vec![("route", route)], seen)).collect();
    page.histograms("http_request_seconds", "From the head of a request to that of its answer", borrowed(&times));
    page.gauge("http_in_flight", "Requests that are being answered", requests.in_flight() as f64);
    page.gauge("http_connections", "Connections of clients", port.connections() as f64);
    let help = "Connections on which nobody was known yet that were closed to make room for others";
    page.counter("http_made_room_total", help, port.made_room.get() as f64);
    let help = "Requests that were refused because long heads had no room left";
    page.counter("http_long_heads_refused_total", help, port.long_heads_refused.get() as f64);
    let help = "Connections of clients that speak HTTP/2; the others speak HTTP/1.1";
    page.gauge("http2_connections", help, port.http2_connections() as f64);
    page.gauge("http2_streams", "Requests of HTTP/2 that are open", port.streams() as f64);
    page.counter("http2_streams_total", "Requests of HTTP/2", port.streams_begun.get() as f64);
    let help = "Answers of HTTP/2 that were cut because their clients took nothing";
    page.counter("http2_streams_cut_total", help, port.streams_cut.get() as f64);
    let help = "Connections of HTTP/2 that were ended because of floods or heads without end";
    page.counter("http2_floods_total", help, port.calmed.get() as f64);
    let reasons = by("reason", &REFUSALS, requests.refusals().map(|count| count as f64));
    let excess = (vec![("reason", "connections")], port.excess.get() as f64);
    let reasons: Vec<_> = reasons.into_iter().chain([excess]).collect();
    page.counters("http_refused_total", "Requests and connections that were refused", borrowed(&reasons));
    page.counter("http_request_bytes_total", "Bytes from clients", port.received.get() as f64);
    page.counter("http_response_bytes_total", "Bytes to clients", port.sent.get() as f64);
}

/// The numbers of the state.
pub fn state(page: &mut Page, numbers: &StateNumbers) {
    let (sizes, watching) = (numbers.sizes, numbers.watching);
    page.gauge("keys", "Keys", sizes.keys as f64);
    page.gauge("state_bytes", "Bytes of keys and values, and of what leases and locks show", sizes.bytes as f64);
    page.gauge("quota_bytes", "The most of these bytes; 0 for any number", numbers.quota as f64);
    page.gauge("locks", "Locks that are held", sizes.locks as f64);
    page.gauge("lock_waiters", "Places in the queues of locks", sizes.lock_waiters as f64);
    page.gauge("idempotency_outcomes", "Outcomes kept for repeated requests", sizes.outcomes as f64);
    let expired = by("kind", &["key", "lock"], numbers.expired.map(|count| count as f64));
    page.counters("expired_total", "What expired, since this process began", borrowed(&expired));
    let kinds = [watching.keys, watching.prefixes, watching.locks].map(|count| count as f64);
    page.gauges("watchers", "Watchers at this node", borrowed(&by("kind", &["key", "prefix", "lock"], kinds)));
    page.gauge("watch_lag_entries_max", "Entries that the slowest watcher is behind", watching.lag as f64);
    let help = "Watchers that asked for more than the history has";
    page.counter("watch_compacted_total", help, watching.compacted as f64);
    page.gauge("log_time_seconds", "Log time, by which keys expire", numbers.log_time_ms as f64 / 1e3);
}

/// The numbers of the process.
pub fn process(page: &mut Page) {
    let build = [("version", env!("CARGO_PKG_VERSION")), ("rustc", RUSTC)];
    page.gauges("build_info", "1; the version, and that of the compiler", [(&build[..], 1.0)]);
    let numbers = platform::process_numbers();
    let max = platform::open_file_limit().map_or(f64::INFINITY, |limit| limit as f64);
    page.counter("process_cpu_seconds_total", "Processor time", numbers.cpu_seconds);
    page.gauge("process_open_fds", "Open files", numbers.open_files as f64);
    page.gauge("process_max_fds", "The limit of open files", max);
    page.gauge("process_resident_memory_bytes", "Memory in use", numbers.resident_bytes as f64);
    page.gauge("process_virtual_memory_bytes", "Address space in use", numbers.virtual_bytes as f64);
    page.gauge("process_start_time_seconds", "When it was started, in seconds since 1970", numbers.start_time_seconds);
    page.gauge("process_threads", "Threads", numbers.threads as f64);
}

/// The numbers of certificates and tokens.
pub fn security(page: &mut Page, numbers: &SecurityNumbers) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let left = numbers.ends().map(|end| if end == 0 { f64::NAN } else { end as f64 - now });
    let help = "How long certificates are valid; NaN where there is none";
    page.gauges("tls_certificate_expiry_seconds", help, borrowed(&by("which", &CERTIFICATES, left)));
    let handshakes = by("outcome", &HANDSHAKE_OUTCOMES, numbers.handshakes().map(|count| count as f64));
    page.counters("tls_handshakes_total", "Handshakes at both ports", borrowed(&handshakes));
    let plain = by("port", &PLAIN_PORTS, numbers.plain_open().map(|count| count as f64));
    page.gauges("plain_connections", "Connections in plain text at a port with TLS", borrowed(&plain));
    let refused = by("kind", &AUTH_REFUSALS, numbers.refusals().map(|count| count as f64));
    page.counters("auth_refused_total", "Requests that were not permitted", borrowed(&refused));
}

/// The numbers of the backups that a node makes by itself.
pub fn backups(page: &mut Page, numbers: &BackupsSeen) {
    let made = numbers.made_ms as f64 / 1e3;
    let help = "When the state of the newest own backup was read, in seconds since 1970; 0 for never";
    page.gauge("backup_last_success_timestamp_seconds", help, made);
    page.gauge("backup_last_bytes", "Bytes of the newest own backup", numbers.bytes as f64);
    page.gauge("backup_last_seconds", "How long the newest own backup took", numbers.took.as_secs_f64());
    page.counter("backup_successes_total", "Own backups that were made", numbers.successes as f64);
    page.counter("backup_failures_total", "Own backups that failed", numbers.failures as f64);
    page.gauge("backup_failing", "1 where the last own backup failed", f64::from(u8::from(numbers.is_failing)));
}

/// All of them.
pub fn all(
    numbers: &Numbers,
    requests: &RequestNumbers,
    port: &PortNumbers,
    security_numbers: &SecurityNumbers,
) -> Page {
    let mut page = Page::default();
    raft(&mut page, &numbers.raft);
    disk(&mut page, &numbers.disk);
    http(&mut page, requests, port);
    state(&mut page, &numbers.state);
    backups(&mut page, &numbers.backups);
    process(&mut page);
    security(&mut page, security_numbers);
    // A family without a series has no place on the page.
    page.0.retain(|family| !family.get_metric().is_empty());
    page
}
