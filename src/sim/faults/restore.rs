//! The end of a run with backups: all nodes are put back to copies of their directories that were taken one after another
//! while clients wrote. What came after the copies is lost, and rightly. But all must then hold the same, or say that they
//! do not. Row 3 of the table.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::node::NodeError;
use crate::sim::clients::{Ask, Client};
use crate::sim::cluster::{Cluster, Down};
use crate::sim::world;
use crate::storage::disk::MemDisk;

/// Within this all is said.
const WITHIN: Duration = Duration::from_secs(60);

/// A time in which what is different shows.
const SHOWS_WITHIN: Duration = Duration::from_secs(3);

pub type Backup = BTreeMap<u16, MemDisk>;

/// Copies the directories of the nodes that run, one after another.
pub async fn back_up(cluster: &Cluster) -> Backup {
    let mut copies = Backup::new();
    for port in cluster.ports() {
        if let Some(process) = cluster.process(port) {
            copies.insert(port, process.disk.copy());
        }
        sleep(world::ms_between((0, 1_000))).await;
    }
    copies
}

/// Puts all nodes back to these copies, and looks at what they hold then.
pub async fn restore(cluster: &mut Cluster, copies: Backup, mut client: Client) {
    for port in cluster.ports() {
        cluster.down(port, Down::Killed);
    }
    world::check(|seen| {
        seen.begin_anew();
        Ok(())
    });
    for (port, copy) in copies {
        cluster.replace_disk(port, copy);
    }
    for port in cluster.ports() {
        cluster.meddle(port);
        cluster.up(port);
    }
    for number in 0..5 {
        let port = client.any_port();
        let ask = Ask::new("PUT", format!("/hraftd/key/restored{number}"), number.to_string());
        client.ask(port, &ask, Duration::from_secs(2)).await;
        sleep(Duration::from_millis(200)).await;
    }
    let deadline = Instant::now() + WITHIN;
    let mut well_since = None;
    loop {
        cluster.note_failures();
        match said(cluster) {
            Ok(()) if well_since.get_or_insert_with(Instant::now).elapsed() >= SHOWS_WITHIN => return,
            Ok(()) => {}
            Err(why) if Instant::now() >= deadline => {
                return world::fail(format!("equal state: not within {WITHIN:?} after copies were restored: {why}"));
            }
            Err(_) => well_since = None,
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Each node serves, and all that do hold the same; the others have ended, or say that they diverged.
fn said(cluster: &Cluster) -> Result<(), String> {
    let mut digests = Vec::new();
    for port in cluster.ports() {
        if cluster.process(port).is_some_and(|process| matches!(process.end(), Some(Err(_)))) {
            continue;
        }
        let node = cluster.node(port).ok_or_else(|| format!("node {port} does not serve yet"))?;
        match node.ready() {
            Ok(()) => digests.push((port, node.digest())),
            Err(NodeError::Diverged(_)) => {}
            Err(why) => return Err(format!("node {port} is not ready: {why}")),
        }
    }
    match digests.first() {
        Some((_, first)) if digests.iter().any(|(_, digest)| digest != first) => Err(format!("{digests:?}")),
        _ => {
            let serving: Vec<u16> = digests.iter().map(|(port, _)| *port).collect();
            world::check(|seen| seen.restored.agree(&serving));
            Ok(())
        }
    }
}
