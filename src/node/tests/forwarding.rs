//! Writes that travel to the leader together: each has its own deadline and its own outcome.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::net::{Net, in_secs};
use super::{leader, three};
use crate::command::Command;
use crate::node::NodeError;

fn set(key: &str) -> Command {
    Command::Set(vec![(key.into(), bytes::Bytes::from_static(b"1"))])
}

/// The first to give up does not take the others with it, whichever comes first.
#[tokio::test(start_paused = true)]
async fn a_batch_waits_as_long_as_its_most_patient() {
    for short_first in [true, false] {
        let net: Arc<Net> = Arc::default();
        let nodes = three(&net).await;
        let leads = leader(&nodes);
        let follower = &nodes[(leads + 1) % 3].node;
        // Nothing is committed for a while, which is shorter than an election.
        let others = [nodes[(leads + 1) % 3].port, nodes[(leads + 2) % 3].port];
        others.iter().for_each(|port| net.set_starved(*port, true));
        let (soon, late) = (Instant::now() + Duration::from_millis(50), in_secs(10));
        let heal = async {
            sleep(Duration::from_millis(120)).await;
            others.iter().for_each(|port| net.set_starved(*port, false));
        };
        let (short, long) = if short_first {
            let (short, long, ()) = tokio::join!(follower.write(set("a"), soon), follower.write(set("b"), late), heal);
            (short, long)
        } else {
            let (long, short, ()) = tokio::join!(follower.write(set("b"), late), follower.write(set("a"), soon), heal);
            (short, long)
        };
        assert!(matches!(short, Err(NodeError::Timeout(_))), "short first {short_first}: {short:?}");
        assert!(long.is_ok(), "short first {short_first}: {long:?}");
    }
}

/// One that gave up before its batch left is not passed on: its outcome is certain.
#[tokio::test(start_paused = true)]
async fn every_write_of_a_batch_has_its_own_outcome() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let follower = &nodes[(leader(&nodes) + 1) % 3].node;
    let writes = (0..600).map(|number| follower.write(set(&format!("k{number}")), in_secs(10)));
    let done = futures_util::future::join_all(writes).await;
    let mut indexes: Vec<u64> = done.into_iter().map(|written| written.unwrap().index).collect();
    indexes.sort_unstable();
    indexes.dedup();
    assert_eq!(indexes.len(), 600, "an entry each");
}

/// Issue 18, A1: batches that are full were sent without end, whatever was under way.
#[tokio::test(start_paused = true)]
async fn full_batches_take_turns_too() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let follower = &nodes[(leader(&nodes) + 1) % 3].node;
    let large = |n: usize| Command::Set(vec![(format!("k{n}").as_str().into(), vec![b'1'; 600_000].into())]);
    let writes = (0..20).map(|n| follower.write(large(n), in_secs(60)));
    let done = futures_util::future::join_all(writes).await;
    assert!(done.iter().all(Result::is_ok));
    assert!((2..=4).contains(&net.most_forwarding()), "{} at a time", net.most_forwarding());
}

/// Issue 18, A2: what costs much to apply waits for its turn, and is refused where that does not come; the rest goes on.
#[tokio::test(start_paused = true)]
async fn a_command_that_costs_much_waits_its_turn() {
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let leads = leader(&nodes);
    let others = [&nodes[(leads + 1) % 3], &nodes[(leads + 2) % 3]];
    let many = || Command::Set((0..300_000_u32).map(|n| (format!("{n:06}").as_str().into(), "1".into())).collect());
    others.iter().for_each(|node| net.set_starved(node.port, true));
    let first = nodes[leads].node.write(many(), in_secs(10));
    let later = async {
        sleep(Duration::from_millis(20)).await;
        // Nothing is committed meanwhile, which is shorter than an election.
        let soon = Instant::now() + Duration::from_millis(60);
        let refused = [nodes[leads].node.write(many(), soon).await, others[0].node.write(many(), soon).await];
        assert!(matches!(&refused[0], Err(NodeError::Overloaded(_))), "{refused:?}");
        assert!(refused[1].is_err(), "{refused:?}");
        others.iter().for_each(|node| net.set_starved(node.port, false));
        nodes[leads].node.write(set("light"), in_secs(10)).await
    };
    let (first, light) = tokio::join!(first, later);
    assert!(first.is_ok() && light.is_ok(), "{first:?} {light:?}");
    assert!(nodes[leads].node.write(many(), in_secs(10)).await.is_ok(), "its room is free again");
}
