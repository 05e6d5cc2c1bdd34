//! History and watchers without a node.

mod random;

use std::time::Duration;

use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn set(index: u64, n: u32, key: &str) -> Event {
    Event { index, n, change: Change::Set { key: key.into(), record: "1".into() }, by: None }
}

fn limits(events: usize) -> HistoryLimits {
    HistoryLimits { events, ..HistoryLimits::default() }
}

/// With the task that wakes.
fn start(events: usize) -> Watches {
    let watches = Watches::new(limits(events), 0);
    tokio::spawn(watches.clone().wake());
    watches
}

fn append(watches: &Watches, events: impl IntoIterator<Item = Event>) {
    watches.append(&mut events.into_iter().collect());
}

fn key(key: &str) -> Filter {
    Filter::Key(key.into())
}

fn prefix(prefix: &str) -> Filter {
    Filter::Prefix(prefix.into())
}

fn position(text: &str) -> Position {
    Position::parse(text).unwrap()
}

async fn next(watcher: &mut Watcher) -> Result<Vec<String>, Missed> {
    let events = timeout(SOON, watcher.next()).await.expect("an event")?;
    Ok(events.iter().map(|event| Position::of_event(event).to_string()).collect())
}

async fn is_idle(watcher: &mut Watcher) -> bool {
    timeout(Duration::from_millis(20), watcher.next()).await.is_err()
}

/// Until all marks are set.
async fn all_marked(watches: &Watches) {
    let marked = async {
        while watches.shared.marked.load(Ordering::Acquire) < watches.shared.ring().end() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, marked).await.unwrap();
}

#[test]
fn positions() {
    for text in ["0", "17", "17.1", "18446744073709551615.4294967294"] {
        assert_eq!(position(text).to_string(), text);
    }
    assert_eq!(position("17.4294967295"), Position::whole(17));
    for text in ["", ".", "17.", ".1", "17.0", "+17", "17.+1", "-1", "17.1.1", " 17", "1x", "18446744073709551616"] {
        assert_eq!(Position::parse(text), None, "{text}");
    }
    assert!(position("17.2") < position("17") && position("17") < position("18.1"));
}

#[test]
fn filters() {
    let takes = |filter: Filter, change: Change| filter.takes(&Event { index: 1, n: 1, change, by: None });
    let gone = |key: &str| Change::Deleted { key: key.into() };
    let released = |lock: &str| Change::Released { lock: lock.into(), token: 1 };
    assert!(takes(key("a"), gone("a")) && !takes(key("a"), gone("ab")) && !takes(key("a"), released("a")));
    assert!(takes(prefix("a"), gone("a")) && takes(prefix("a"), gone("ab")) && !takes(prefix("ab"), gone("a")));
    assert!(takes(prefix(""), gone("é")) && !takes(prefix(""), released("a")));
    let lock = || Filter::Lock("a".into());
    assert!(takes(lock(), released("a")) && !takes(lock(), released("b")) && !takes(lock(), gone("a")));
}

#[tokio::test]
async fn what_comes_after_a_position() {
    let watches = start(100);
    append(&watches, [set(5, 1, "a"), set(5, 2, "b"), set(5, 3, "a"), set(7, 1, "a")]);
    for (after, wanted) in [
        ("0", vec!["5.1", "5.3", "7.1"]),
        ("5.1", vec!["5.3", "7.1"]),
        ("5.2", vec!["5.3", "7.1"]),
        ("5", vec!["7.1"]),
        ("6", vec!["7.1"]),
    ] {
        let mut watcher = watches.watch(key("a"), position(after)).unwrap();
        assert_eq!(next(&mut watcher).await.unwrap(), wanted, "after {after}");
        assert!(is_idle(&mut watcher).await);
    }
    // From the future: what others have already given.
    let mut watcher = watches.watch(key("a"), position("8.1")).unwrap();
    assert!(is_idle(&mut watcher).await);
    append(&watches, [set(8, 1, "a"), set(8, 2, "a")]);
    assert_eq!(next(&mut watcher).await.unwrap(), ["8.2"]);
}

#[tokio::test]
async fn history_is_bounded_and_says_so() {
    let watches = Watches::new(limits(3), 10);
    tokio::spawn(watches.clone().wake());
    assert_eq!(watches.watch(key("a"), position("9")).unwrap_err(), Missed { known_after: position("10") });
    assert!(watches.shared.subscribers.is_empty(), "a watcher that never was is kept");
    append(&watches, (11..=15).map(|index| set(index, 1, "a")));
    assert_eq!(watches.watch(key("a"), position("11.1")).unwrap_err(), Missed { known_after: position("12.1") });
    let mut watcher = watches.watch(key("a"), position("12.1")).unwrap();
    assert_eq!(next(&mut watcher).await.unwrap(), ["13.1", "14.1", "15.1"]);
    let mut watcher = watches.watch_on(key("a"), position("10"));
    assert_eq!(watcher.position(), position("12.1"));
    assert_eq!(next(&mut watcher).await.unwrap(), ["13.1", "14.1", "15.1"]);
    // By bytes, too; one event that is larger than all of it leaves nothing.
    let watches = Watches::new(HistoryLimits { bytes: 1000, ..limits(100) }, 0);
    append(&watches, (1..=100).map(|index| set(index, 1, "a")));
    assert!((5..=10).contains(&(watches.shared.ring().end() - watches.shared.ring().first())));
    append(&watches, [set(101, 1, &"a".repeat(2000))]);
    assert_eq!(watches.watch(key("a"), position("100")).unwrap_err(), Missed { known_after: position("101.1") });
}

/// Issue 18: one POST of more keys than the history has places ended all watches.
#[tokio::test]
async fn an_entry_of_more_events_than_the_limit_is_kept_whole() {
    let watches = start(3);
    append(&watches, (1..=3).map(|index| set(index, 1, "a")));
    let mut follows = watches.watch(key("a"), position("3.1")).unwrap();
    append(&watches, (1..=500).map(|n| set(4, n, "a")));
    append(&watches, [set(5, 1, "a"), set(6, 1, "a")]);
    let mut given = Vec::new();
    while given.len() < 502 {
        given.extend(next(&mut follows).await.unwrap());
    }
    assert_eq!((&*given[0], &*given[499], &*given[501]), ("4.1", "4.500", "6.1"));
    // It goes as a whole, once what came after it is enough.
    assert!(watches.watch(key("a"), position("4.7")).is_ok());
    append(&watches, [set(7, 1, "a")]);
    assert_eq!(watches.watch(key("a"), position("4.7")).unwrap_err(), Missed { known_after: position("4.500") });
    assert_eq!(watches.shared.ring().end() - watches.shared.ring().first(), 3);
    // Bytes bound that, too.
    let watches = Watches::new(HistoryLimits { bytes: 10_000, ..limits(3) }, 0);
    append(&watches, (1..=500).map(|n| set(4, n, "a")));
    let kept = watches.shared.ring().end() - watches.shared.ring().first();
    assert!((50..=105).contains(&kept), "{kept}");
}

/// Its marks are of events that it has not looked at: none that was before them may be jumped over.
#[tokio::test]
async fn marks_that_come_while_there_is_more_to_look_at() {
    let watches = Watches::new(limits(10_000), 0);
    let mut watcher = watches.watch(key("a"), position("0")).unwrap();
    append(&watches, (1..=200).map(|index| set(index, 1, "a")));
    let mut given = next(&mut watcher).await.unwrap();
    assert!(given.len() < 200);
    // As if the waking task were as far as this only.
    let subject = Subject::Key(Key::from("a"));
    watches.shared.subscribers.mark(&[subject], 150, &mut std::collections::VecDeque::new());
    while given.len() < 200 {
        given.extend(next(&mut watcher).await.unwrap());
    }
    let wanted: Vec<String> = (1..=200).map(|index| format!("{index}.1")).collect();
    assert_eq!(given, wanted);
}

/// However much of others goes by, it is woken for its own, and knows where it is.
#[tokio::test]
async fn an_idle_watcher_misses_nothing() {
    let watches = start(10);
    let mut watchers: Vec<Watcher> = [key("mine"), prefix("min"), Filter::Lock("mine".into())]
        .into_iter()
        .map(|filter| watches.watch(filter, position("0")).unwrap())
        .collect();
    for watcher in &mut watchers {
        assert!(is_idle(watcher).await);
    }
    for round in 0..20 {
        for at in 1..=50 {
            append(&watches, [set(round * 100 + at, 1, "other")]);
            if at % 5 == 0 {
                all_marked(&watches).await;
            }
        }
        for watcher in &mut watchers {
            assert!(is_idle(watcher).await);
            // Not in each round: it works without, too.
            if round % 3 == 0 {
                let here = watcher.position();
                assert_eq!(here, Position { index: round * 100 + 50, n: 1 });
                assert!(watches.watch(key("mine"), here).is_ok());
            }
        }
        let lock = Change::Acquired { lock: "mine".into(), token: 1, body: None };
        let index = round * 100 + 60;
        append(&watches, [set(index, 1, "mine"), Event { index, n: 2, change: lock, by: None }]);
        for (nth, watcher) in watchers.iter_mut().enumerate() {
            let wanted = if nth == 2 { format!("{index}.2") } else { format!("{index}.1") };
            assert_eq!(next(watcher).await.unwrap(), [wanted]);
        }
    }
}

/// It has looked at what it was woken for before the waking task came to it, and is then not asked for long.
#[tokio::test]
async fn no_mark_of_what_was_looked_at_already() {
    let watches = Watches::new(limits(10), 0);
    let mut watcher = watches.watch(key("mine"), position("0")).unwrap();
    append(&watches, [set(1, 1, "mine"), set(1, 2, "mine")]);
    assert_eq!(next(&mut watcher).await.unwrap(), ["1.1", "1.2"]);
    tokio::spawn(watches.clone().wake());
    for index in 2..100 {
        append(&watches, [set(index, 1, "other")]);
        all_marked(&watches).await;
    }
    assert!(is_idle(&mut watcher).await, "woken, or told that it missed something");
    append(&watches, [set(100, 1, "mine")]);
    assert_eq!(next(&mut watcher).await.unwrap(), ["100.1"]);
}

#[tokio::test]
async fn one_that_is_too_slow_is_told() {
    let watches = start(10);
    let mut watcher = watches.watch(prefix(""), position("0")).unwrap();
    append(&watches, [set(1, 1, "a")]);
    assert_eq!(next(&mut watcher).await.unwrap(), ["1.1"]);
    append(&watches, (2..=12).map(|index| set(index, 1, "a")));
    assert_eq!(next(&mut watcher).await, Err(Missed { known_after: position("2.1") }));
}

/// A snapshot took the place of the state: even one that had seen all must learn of the gap.
#[tokio::test]
async fn a_reset_is_a_gap_for_everybody() {
    let watches = start(100);
    append(&watches, [set(1, 1, "a"), set(2, 1, "b")]);
    let mut caught_up = watches.watch(key("a"), position("0")).unwrap();
    assert_eq!(next(&mut caught_up).await.unwrap(), ["1.1"]);
    all_marked(&watches).await;
    assert!(is_idle(&mut caught_up).await);
    let mut behind = watches.watch(key("a"), position("0")).unwrap();
    // It saw the new state before the history knew of it.
    let mut ahead = watches.watch(key("a"), position("50")).unwrap();
    let mut asks = watches.watch(key("a"), position("2")).unwrap();
    assert!(is_idle(&mut asks).await);
    watches.reset(50);
    let known = position("50");
    assert!(asks.position() < known, "it claims to know what is not known");
    for watcher in [&mut caught_up, &mut behind, &mut asks] {
        assert_eq!(next(watcher).await, Err(Missed { known_after: known }));
    }
    assert!(is_idle(&mut ahead).await);
    assert_eq!(watches.watch(key("a"), position("49")).unwrap_err(), Missed { known_after: known });
    let mut after = watches.watch(key("a"), known).unwrap();
    append(&watches, [set(51, 1, "a")]);
    for watcher in [&mut ahead, &mut after] {
        assert_eq!(next(watcher).await.unwrap(), ["51.1"]);
    }
}

#[tokio::test]
async fn closing_ends_all() {
    let watches = start(100);
    let mut early = watches.watch(key("a"), position("0")).unwrap();
    let waits = tokio::spawn(async move { early.next().await });
    let mut woken = watches.wait_for(key("a"));
    tokio::task::yield_now().await;
    watches.close();
    assert_eq!(timeout(SOON, waits).await.unwrap().unwrap(), Ok(Vec::new()));
    timeout(SOON, woken.changed()).await.unwrap();
    assert!(watches.is_closed());
    let mut late = watches.watch(key("a"), position("0")).unwrap();
    assert_eq!(next(&mut late).await.unwrap(), Vec::<String>::new());
    timeout(SOON, watches.wait_for(key("a")).changed()).await.unwrap();
}

#[tokio::test]
async fn who_only_waits_is_woken_once_for_what_comes() {
    let watches = start(100);
    append(&watches, [set(1, 1, "a")]);
    let mut watcher = watches.wait_for(key("a"));
    all_marked(&watches).await;
    let woken = async |watcher: &mut Watcher| timeout(Duration::from_millis(20), watcher.changed()).await.is_ok();
    assert!(!woken(&mut watcher).await, "for what was before");
    append(&watches, [set(2, 1, "b"), set(3, 1, "a"), set(4, 1, "a")]);
    timeout(SOON, watcher.changed()).await.unwrap();
    all_marked(&watches).await;
    assert!(!woken(&mut watcher).await);
    append(&watches, [set(5, 1, "a")]);
    timeout(SOON, watcher.changed()).await.unwrap();
}

/// Ten thousand watchers of one key that nobody asks: an append does not see them, and nothing of them is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watchers() {
    const WATCHERS: usize = 10_000;
    let watches = start(65_536);
    let mut watchers: Vec<Watcher> = (0..WATCHERS).map(|_| watches.watch(key("a"), position("0")).unwrap()).collect();
    for index in 1..=20_000 {
        append(&watches, [set(index, 1, "a")]);
    }
    all_marked(&watches).await;
    for watcher in watchers.iter_mut().step_by(1000) {
        assert_eq!(next(watcher).await.unwrap()[0], "1.1");
    }
    // Those who wait are all woken in the end.
    let mut waiting: Vec<Watcher> = (0..200).map(|_| watches.wait_for(key("a"))).collect();
    append(&watches, [set(30_000, 1, "a")]);
    for watcher in &mut waiting {
        assert_eq!(next(watcher).await.unwrap(), ["30000.1"]);
    }
    drop((watchers, waiting));
    assert!(watches.shared.subscribers.is_empty());
}
