//! Who follows the events of all members, where one of these lies and another does not answer.

use std::sync::Arc;

use tokio::time::timeout;

use super::net::{Net, Told};
use super::{in_secs, leader, three};
use crate::node::rpc::{Cursor, Event, EventKind, MAX_TEXT_BYTES, PAGE_EVENTS, Page};

/// Issue 22: one invents as many events as it can as fast as it can, one stalls. What the third does is told all the same.
#[tokio::test(start_paused = true)]
async fn a_liar_and_one_that_stalls_take_no_event_from_others() {
    const SECONDS: u64 = 10;
    let net: Arc<Net> = Arc::default();
    let nodes = three(&net).await;
    let leads = leader(&nodes);
    let (liar, stalls) = (&nodes[(leads + 1) % 3], &nodes[(leads + 2) % 3]);
    let mut forged = Event::new(EventKind::Elected, 9, 9, "x".repeat(4 * MAX_TEXT_BYTES));
    forged.peer = Some("y".repeat(4 * MAX_TEXT_BYTES));
    let page = Page { next: Cursor { boot: 1, id: 1 }, events: vec![forged; PAGE_EVENTS], missed: false };
    net.tells(liar.port, Told::This(page));
    net.tells(stalls.port, Told::Nothing);
    let own_id = nodes[leads].node.id().to_string();
    let (liars_id, stalls_id) = (liar.node.id().to_string(), stalls.node.id().to_string());
    let mut events = nodes[leads].node.follow_all();
    let (mut forged, mut commits, mut is_lost) = (0_u64, 0, false);
    let end = in_secs(SECONDS);
    while tokio::time::Instant::now() < end {
        nodes[leads].set("k", "1").await.unwrap();
        let next = in_secs(1);
        while let Ok(Some(event)) = timeout(next - tokio::time::Instant::now(), events.next()).await {
            let told = event.expect("who reads is not too slow");
            if told.node == liars_id {
                let texts = [told.event.text.len(), told.event.peer.as_ref().map_or(0, String::len)];
                assert!(texts.iter().all(|length| *length <= MAX_TEXT_BYTES), "{texts:?}");
                forged += 1;
                continue;
            }
            assert_eq!(told.node, own_id, "nobody speaks for another");
            commits += u64::from(told.event.kind == EventKind::Commit);
            let is_of_it = told.event.peer.as_ref() == Some(&stalls_id);
            is_lost |= is_of_it && told.event.text.contains("cannot be followed");
        }
    }
    assert!(commits >= SECONDS && is_lost, "{commits} commits; that one does not answer was told: {is_lost}");
    let asked = net.asked_for_events(liar.port);
    assert!((2..=SECONDS * 25).contains(&asked), "the liar was asked {asked} times");
    assert!((1..=asked * PAGE_EVENTS as u64).contains(&forged), "{forged} of {asked} pages");
    assert_eq!(leader(&nodes), leads, "nobody is elected for it");
}
