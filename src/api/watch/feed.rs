//! The body of a watch: made piece by piece, as the connection takes it.
//!
//! A watcher whose client does not read costs one piece here, and what the connection has taken
//! ahead.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::large::LargeValues;
use super::render::{Format, Text};
use crate::api::access::Guard;
use crate::api::response::held::Held;
use crate::command::{Denied, Key};
use crate::kv::{Event, KvStore};
use crate::watch::{Filter, Missed, Position, Watcher};

/// A sign of life is sent this often.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Nothing is added to a piece beyond this; with its last event it may have twice as much, and a
/// long key.
const PIECE_BYTES: usize = 2 << 10;

/// The beginning of a body.
#[derive(Debug)]
pub struct Begin {
    pub watcher: Watcher,
    /// A position was asked for that history does not reach: this is told first.
    pub missed: Option<Missed>,
    /// The state to send first.
    pub initial: Option<Held<Initial>>,
}

/// The state to send first. Writes cost more while it lives.
#[derive(Debug)]
pub struct Initial {
    pub kv: KvStore,
    pub index: u64,
    pub filter: Filter,
    /// The last key that was sent.
    pub sent: Option<Key>,
}

/// The pieces of a body.
#[derive(Debug)]
pub struct Feed {
    begin: Begin,
    text: Text,
    /// Was given by the watcher, and is not text yet.
    events: VecDeque<Event>,
    /// Is text, and not sent yet.
    ready: VecDeque<Bytes>,
    /// The position that the client knows.
    told: Option<Position>,
    alive_at: Instant,
    ended: bool,
    guard: Guard,
}

impl Feed {
    pub fn new(begin: Begin, format: Format, large: LargeValues, guard: Guard) -> Self {
        Self {
            begin,
            text: Text::new(format, large),
            events: VecDeque::new(),
            ready: VecDeque::new(),
            told: None,
            alive_at: Instant::now() + ALIVE_EVERY,
            ended: false,
            guard,
        }
    }

    /// The next piece, as soon as there is one; `None` at the end.
    pub async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            if self.ended {
                return None;
            }
            self.fill().await;
            self.ready.extend(self.text.take());
        }
    }

    async fn fill(&mut self) {
        if let Err(denied) = self.guard.check() {
            return self.end_for(&denied);
        }
        if let Some(missed) = self.begin.missed.take() {
            return self.text.compacted(missed);
        }
        if let Some(initial) = &self.begin.initial {
            // Others have their turn between two pieces, as with a listing.
            tokio::task::yield_now().await;
            let text = &mut self.text;
            let filled = initial.using(|initial| {
                let more = initial.fill(text);
                ((more, initial.index), more)
            });
            match filled {
                Some((true, _)) => {}
                Some((false, index)) => {
                    self.told = Some(Position::whole(index));
                    self.begin.initial = None;
                }
                // It was let go of: the client took too long to read.
                None => self.ended = true,
            }
            return;
        }
        if self.told.is_none() {
            // Who loses the connection before the first event can go on from here.
            return self.tell_position();
        }
        if self.events.is_empty() {
            tokio::select! {
                biased;
                next = self.begin.watcher.next() => match next {
                    Ok(events) => {
                        self.ended = events.is_empty();
                        self.events = events.into();
                    }
                    Err(missed) => self.end(missed),
                },
                denied = self.guard.ended() => return self.end_for(&denied),
                () = sleep_until(self.alive_at) => {
                    self.alive_at = Instant::now() + ALIVE_EVERY;
                    let position = self.begin.watcher.position();
                    let news = (Some(position) > self.told).then_some(position);
                    self.told = self.told.max(news);
                    self.text.alive(news);
                }
            }
        }
        // What comes now may be of after the end of what its client may see.
        if let Err(denied) = self.guard.check() {
            return self.end_for(&denied);
        }
        while self.text.len() < PIECE_BYTES
            && !self.text.has_large()
            && let Some(event) = self.events.pop_front()
        {
            self.text.event(&event);
            self.told = Some(Position::of_event(&event));
        }
    }

    fn tell_position(&mut self) {
        let position = self.begin.watcher.position();
        self.told = Some(position);
        self.text.position(position);
    }

    fn end_for(&mut self, denied: &Denied) {
        self.text.unauthorized(denied);
        self.ended = true;
    }

    fn end(&mut self, missed: Missed) {
        self.text.compacted(missed);
        self.ended = true;
    }
}

impl Initial {
    /// All that there is of what is watched, until it costs too much.
    pub fn held(kv: KvStore, index: u64, filter: Filter) -> Held<Self> {
        let gone = kv.gone();
        Held::new(Self { kv, index, filter, sent: None }, Some(gone))
    }

    /// Writes another piece; returns whether there is more.
    fn fill(&mut self, text: &mut Text) -> bool {
        let more = match &self.filter {
            Filter::Key(key) => {
                if let Some(record) = self.kv.get(key) {
                    text.present(key, record);
                }
                false
            }
            Filter::Lock(name) => {
                if let Some(lock) = self.kv.lock(name) {
                    text.holder(name, &lock);
                }
                false
            }
            Filter::Prefix(prefix) => {
                let mut last = None;
                let mut more = false;
                for (key, record) in self.kv.range(prefix, self.sent.as_deref()) {
                    if text.len() >= PIECE_BYTES || text.has_large() {
                        more = true;
                        break;
                    }
                    text.present(key, record);
                    last = Some(key);
                }
                if let Some(last) = last.cloned() {
                    self.sent = Some(last);
                }
                more
            }
        };
        if !more {
            text.synced(self.index);
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Change;
    use crate::watch::{HistoryLimits, Watches};

    fn append(watches: &Watches, events: impl IntoIterator<Item = (u64, Change)>) {
        watches
            .append(&mut events.into_iter().map(|(index, change)| Event { index, n: 1, change, by: None }).collect());
    }

    fn set(index: u64, key: &str, value: &str) -> (u64, Change) {
        (index, Change::Set { key: key.into(), record: value.into() })
    }

    fn feed(format: Format) -> (Watches, Feed) {
        let watches = Watches::new(HistoryLimits::default(), 10);
        tokio::spawn(watches.clone().wake());
        let watcher = watches.watch(Filter::Prefix("a".into()), Position::whole(10)).unwrap();
        (
            watches,
            Feed::new(Begin { watcher, missed: None, initial: None }, format, LargeValues::default(), Guard::none()),
        )
    }

    async fn text(feed: &mut Feed) -> String {
        String::from_utf8(feed.frame().await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_tell_how_far_it_is() {
        for (format, first, quiet, moved) in [
            (Format::Sse, "id: 10\n\n", ":\n\n", ":\nid: 12.1\n\n"),
            (
                Format::Lines,
                "{\"event\":\"position\",\"id\":\"10\"}\n",
                "{\"event\":\"position\"}\n",
                "{\"event\":\"position\",\"id\":\"12.1\"}\n",
            ),
        ] {
            let (watches, mut feed) = feed(format);
            let began = Instant::now();
            assert_eq!(text(&mut feed).await, first);
            assert_eq!(text(&mut feed).await, quiet);
            assert_eq!(began.elapsed().as_secs(), 15);
            append(&watches, [set(11, "b", "1"), set(12, "b", "1")]);
            assert_eq!(text(&mut feed).await, moved);
            assert_eq!(text(&mut feed).await, quiet);
            assert_eq!(began.elapsed().as_secs(), 45);
            append(&watches, [set(13, "a", "1")]);
            assert!(text(&mut feed).await.contains("13.1"));
            assert_eq!(text(&mut feed).await, quiet);
            assert_eq!(began.elapsed().as_secs(), 60);
            watches.close();
            assert_eq!(feed.frame().await, None);
        }
    }

    /// Whatever waits, one piece of it is made at a time.
    #[tokio::test]
    async fn pieces_are_small() {
        let (watches, mut feed) = feed(Format::Sse);
        let value = format!("\"{}\"", "v".repeat(2_000));
        append(&watches, (11..500).map(|index| set(index, "a", if index % 2 == 0 { &value } else { "1" })));
        watches.append(&mut vec![Event { index: 500, n: 1, change: set(0, "a", &"1".repeat(100_000)).1, by: None }]);
        let mut all = String::new();
        while !all.contains("id: 500.1") {
            let piece = text(&mut feed).await;
            assert!(piece.len() <= 4 << 10, "{}", piece.len());
            all.push_str(&piece);
        }
        assert_eq!(text(&mut feed).await.len(), 100_000);
        assert_eq!(text(&mut feed).await, ",\"index\":500}\n\n");
        assert_eq!(all.matches("event: set").count(), 490);
    }
}
