//! Reads at a node that is stopped, of what others write elsewhere meanwhile.
//!
//! A node that stands still, or is cut off, does not know of it when it goes on. Each of these reads was sent after its
//! write had been acknowledged, so it must see that, whenever it is answered.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::Drill;
use super::load::{Ask, once};
use crate::exit::Exit;

/// How many reads of one client wait at a time.
const MOST: usize = 64;

/// Reads at this node what was written last, once a `period`, until it is back.
///
/// # Errors
/// It is not permitted: 77.
pub(super) async fn visit(drill: &Drill<'_>, client: usize, node: usize, period: Duration) -> Result<(), Exit> {
    let mut reads = FuturesUnordered::new();
    let mut next = Instant::now();
    while drill.stopped.get() == Some(node) && !drill.is_over() {
        tokio::select! {
            () = drill.over() => {}
            () = sleep_until(next) => {
                next = (next + period).max(Instant::now());
                if reads.len() < MOST && let Some(key) = drill.last.get() {
                    reads.push(once(drill, client, node, key, Ask::Get));
                }
            }
            Some(read) = reads.next() => {
                read?;
            }
        }
    }
    while let Some(read) = reads.next().await {
        read?;
    }
    Ok(())
}
