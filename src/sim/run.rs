//! One run: a seed's cluster, clients and faults, from the first start to the last look.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use super::clients::access::{APPS, SLOTS};
use super::clients::fillers::QUOTA_BYTES;
use super::clients::watchers::Watcher;
use super::clients::{Client, Shared, counters, locks, ttls};
use super::cluster::Cluster;
use super::faults::addresses::NAME;
use super::faults::joining::join;
use super::faults::restore::{back_up, restore};
use super::faults::{self, Faults, KINDS};
use super::host;
use super::invariants::starts::End;
use super::net::Net;
use super::process::{ROOT, Settings};
use super::world::{self, Trace, World};
use crate::kv::KvStore;
use crate::node::{Node, RaftOptions, ReadLevel};
use crate::raft_types::Role;
use crate::watch::{Filter, HistoryLimits};

/// The most that clients take to end, and that what they left takes to expire, once all is well.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// The result of a run that found nothing wrong.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    pub trace: Trace,
    /// How often each thing happened: it shows that something did.
    pub counts: Vec<(&'static str, u64)>,
}

/// Runs a seed, in one of the orders of what happens at one moment: each third with nodes of two versions.
///
/// # Errors
/// A text that says what was found to be wrong.
pub fn run(seed: u64, order: u64) -> Result<Summary, String> {
    simulate((seed, order), life(seed % 3 == 1))
}

/// Runs something in a world of its own: of this seed, in this order.
///
/// # Errors
/// A text that says what was found to be wrong.
pub fn simulate<T: Default>((seed, order): (u64, u64), life: impl Future<Output = T>) -> Result<T, String> {
    let done = catch_unwind(AssertUnwindSafe(|| {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        // Tokio's own randomness: the order of `select!`, and in which those that wait for one thing are woken.
        // The first order is of the run's seed alone.
        let tokio_seed = [seed.to_le_bytes(), order.to_le_bytes()].concat();
        let tokio_seed = &tokio_seed[..if order == 0 { 8 } else { 16 }];
        #[cfg(tokio_unstable)]
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(tokio_seed));
        #[cfg(not(tokio_unstable))]
        let _ = tokio_seed;
        let runtime = builder.build().map_err(|error| error.to_string())?;
        let result = runtime.block_on(async {
            World::begin(seed);
            let failed = world::failed();
            let done = tokio::select! {
                biased;
                () = failed.notified() => T::default(),
                done = life => done,
            };
            world::failure().map_or(Ok(done), Err)
        });
        // Tasks may yet look at what is theirs.
        drop(runtime);
        World::end();
        result
    }));
    done.unwrap_or_else(|panic| {
        World::end();
        Err(format!("a panic: {}", host::message_of(&*panic)))
    })
}

fn settings(mixed: bool) -> Settings {
    // Far more than any machine's, as runs are far shorter than its life.
    let drift_ppm = if world::chance(500) { 50_000 } else { 0 };
    world::check(|seen| {
        seen.expiry.allow(drift_ppm);
        Ok(())
    });
    let history = if world::chance(300) { 40 } else { 10_000 };
    Settings {
        raft: RaftOptions {
            heartbeat_ms: 50,
            election_min_ms: 200,
            election_max_ms: 400,
            snapshot_threshold: 20 + world::below(200),
            snapshot_bytes: 1 << 20,
        },
        segment_bytes: 4_096 << world::below(6),
        cache_bytes: 1_024 << world::below(12),
        history: HistoryLimits { events: history, bytes: 1 << 20 },
        streams: world::chance(800),
        mixed,
        drift_ppm,
        // Where all understand it.
        quota: if !mixed && world::chance(400) { QUOTA_BYTES } else { 0 },
        // Those of the first version know no tokens.
        closed: !mixed && world::chance(400),
    }
}

async fn life(mixed: bool) -> Summary {
    let net = Net::default();
    let settings = settings(mixed);
    let closed = settings.closed;
    let mut cluster = Cluster::new(net.clone(), settings);
    let size = [3, 3, 3, 3, 5, 1][world::below(6) as usize];
    let ports: Vec<u16> = (1..=size).collect();
    let by_name = size > 1 && faults::is_on("shared name") && world::chance(500);
    let list = if by_name { vec![NAME] } else { ports.clone() };
    net.set_name(NAME, ports.clone());
    cluster.expect = by_name.then_some(ports.len());
    for port in &ports {
        cluster.add(*port, &list, Role::Voter);
    }
    let shared = Shared::new(net.clone(), (1..=size.max(3)).collect(), closed);
    let mut joined_early = false;
    let client = |name: String| Client::new(&shared, name);
    let app = |name: String| client(name).with_token(APPS[world::below(APPS.len() as u64) as usize]);
    // By name it would be one too many, and nobody forms.
    if size == 3 && !by_name && faults::is_on("joins during formation") && world::chance(500) {
        // Asked for by an operator, at a node that may have no cluster yet, and by itself.
        cluster.add(4, &list, Role::Voter);
        let mut operator = client("early".to_owned());
        sleep(world::ms_between((0, 1_500))).await;
        // Counted where it is asked for while none of them knows of a cluster.
        let has_none = |port: &u16| net.server(*port).is_none_or(|it| it.slot.stats().latest_configuration.is_empty());
        joined_early = ports.iter().all(has_none);
        let asked = operator.any_port();
        // A node that has not heard yet that authentication is on passes it on as nobody's.
        operator.ask(asked, &join(4).showing(ROOT), Duration::from_secs(2)).await;
    }
    // Some begin while the cluster forms.
    if world::chance(800) {
        cluster.settle().await;
    }
    if closed {
        client("keeper".to_owned()).make_tokens().await;
    }
    let mut tasks = Vec::new();
    for number in 0..4_u64 {
        let mut made = 0;
        let values = move || {
            made += 1;
            number * 1_000_000 + made
        };
        tasks.push(tokio::spawn(app(format!("register-{number}")).use_registers(values)));
    }
    for number in 0..2 {
        tasks.push(tokio::spawn(app(format!("ttl-{number}")).use_ttls()));
    }
    for number in 0..3 {
        tasks.push(tokio::spawn(app(format!("lock-{number}")).use_locks()));
    }
    for number in 0..2 {
        tasks.push(tokio::spawn(app(format!("lease-{number}")).use_leases()));
    }
    let counting: Vec<_> = (0..2).map(|number| tokio::spawn(app(format!("counter-{number}")).count())).collect();
    for number in 0..2 {
        tasks.push(tokio::spawn(app(format!("transfer-{number}")).transfer()));
        tasks.push(tokio::spawn(app(format!("poll-{number}")).poll()));
    }
    tasks.push(tokio::spawn(app("listing".to_owned()).list()));
    if closed {
        tasks.push(tokio::spawn(client("keeper-of-apps".to_owned()).keep()));
        for slot in SLOTS {
            tasks.push(tokio::spawn(client(format!("keeper-{slot}")).keep_guests(slot)));
            for number in 0..2 {
                tasks.push(tokio::spawn(client(format!("guest-{slot}-{number}")).be_guest(slot)));
            }
        }
    }
    let filling = (settings.quota > 0).then(|| tokio::spawn(app("filler".to_owned()).fill()));
    let filters = [Filter::Prefix("".into()), Filter::Prefix("reg".into()), Filter::Lock(locks::NAMES[0].into())];
    for filter in filters {
        tasks.push(tokio::spawn(app(format!("{filter:?}")).watch(Watcher::new(filter))));
    }

    let mut faults =
        Faults { cluster, operator: client("operator".to_owned()), list, next_port: 10, counts: [].into() };
    faults.run(4 + world::below(5)).await;
    let Faults { mut cluster, counts, .. } = faults;
    if mixed && world::chance(700) {
        cluster.upgrade_all();
    }
    cluster.settle().await;
    let backup = if faults::is_on("restore") && world::chance(500) { Some(back_up(&cluster).await) } else { None };
    sleep(Duration::from_millis(500)).await;
    shared.stop();

    let deadline = tokio::time::Instant::now() + ENDS_WITHIN;
    for task in tasks {
        if tokio::time::timeout_at(deadline, task).await.is_err() {
            world::fail(format!("available: a client is not done within {ENDS_WITHIN:?}"));
        }
    }
    let mut counted = 0;
    for task in counting {
        match tokio::time::timeout_at(deadline, task).await {
            Ok(done) => counted += done.unwrap_or(0),
            Err(_) => world::fail(format!("available: a counter is not done within {ENDS_WITHIN:?}")),
        }
    }
    let mut full = 0;
    if let Some(filling) = filling {
        match tokio::time::timeout_at(deadline, filling).await {
            Ok(done) => full = done.unwrap_or(0),
            Err(_) => world::fail(format!("quota: what fills the state is not deleted within {ENDS_WITHIN:?}")),
        }
    }
    cluster.settle().await;
    client("last".to_owned()).read_all(cluster.ports()).await;
    // One that was sent a snapshot in vain has yet to catch up.
    cluster.agree().await;
    client("last-poll".to_owned()).poll_all(client("last-write".to_owned()), cluster.ports()).await;
    all_expired(&cluster).await;
    cluster.agree().await;
    world::check(|seen| seen.linearizable.check_all());
    for (port, node) in cluster.nodes() {
        let kv = held(&node).await;
        let number = kv.get(counters::KEY).map_or(b"0".to_vec(), |record| record.value().to_vec());
        if number != counted.to_string().into_bytes() {
            world::fail(format!("exactly once: {counted} were counted, and node {port} has {number:?}"));
        }
    }
    let mut summary = summary(&counts, counted);
    summary.counts.extend(cluster.versions_seen());
    if joined_early {
        summary.counts.push(("joins during formation", 1));
    }
    summary.counts.push(("refused by a quota", full));
    if let Some(copies) = backup {
        summary.counts.push(("restore", 1));
        restore(&mut cluster, copies, client("restored".to_owned())).await;
        summary.trace = world::trace();
    }
    summary
}

async fn held(node: &Node) -> KvStore {
    let deadline = tokio::time::Instant::now() + ENDS_WITHIN;
    match node.view(ReadLevel::None.into(), deadline).await {
        Ok(view) => view.kv,
        Err(error) => {
            world::fail(format!("available: {node:?} shows no state: {error}"));
            KvStore::new()
        }
    }
}

/// Everything that has a deadline is gone within what it may take, and a little.
async fn all_expired(cluster: &Cluster) {
    let within = Duration::from_millis(ttls::MOST_MS) + Duration::from_secs(5);
    let gone = async {
        for (_, node) in cluster.nodes() {
            while held(&node).await.range("ttl", None).next().is_some() {
                sleep(Duration::from_millis(100)).await;
            }
        }
    };
    if timeout(within, gone).await.is_err() {
        world::fail(format!("expiry: not everything that is due is gone within {within:?}"));
    }
}

fn summary(faults: &BTreeMap<&'static str, u64>, counted: u64) -> Summary {
    let trace = world::trace();
    world::check(|seen| {
        let (reads, writes) = seen.linearizable.counts();
        let mut counts = vec![
            ("terms", seen.leaders.terms() as u64),
            ("entries", seen.committed.newest()),
            ("register reads", reads),
            ("register writes", writes as u64),
            ("ages checked", seen.linearizable.ages()),
            ("values stored", seen.acknowledged.count() as u64),
            ("increments", counted),
            ("holds of locks", seen.locks.count() as u64),
            ("expired", seen.expiry.expired()),
            ("leases ended", seen.leases.ended()),
            ("told to watchers", seen.watches.count()),
            ("keys listed", seen.listings.keys()),
            ("moves between accounts", seen.sums.moves()),
            ("refused when applied", seen.access.counts().0),
            ("writes without a right", seen.access.counts().1),
        ];
        let kinds = KINDS.iter().chain(faults::new_kinds());
        counts.extend(kinds.map(|kind| (*kind, faults.get(kind).copied().unwrap_or(0))));
        let ends = [(End::AsBefore, "as before"), (End::NewMember, "new members"), (End::Stopped, "stopped")];
        counts.extend(ends.map(|(end, name)| (name, seen.starts.count(end))));
        Ok(Summary { trace, counts })
    })
}
