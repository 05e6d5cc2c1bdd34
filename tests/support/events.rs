//! A client of `GET /hraftd/raft/events`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::http::{Conn, PATIENCE};
use super::wait::SETTLE;

/// How long a follower waits for an event before it looks whether it is to end.
const LOOK: Duration = Duration::from_secs(1);

/// An open stream of events, as JSON lines.
#[derive(Debug)]
pub struct Events {
    conn: Conn,
    text: Vec<u8>,
}

impl Events {
    pub fn open(haddr: &str, query: &str, headers: &[(&str, &str)]) -> Self {
        Self::open_within(haddr, query, headers, PATIENCE).unwrap()
    }

    /// Waits at most `patience` for each piece.
    pub fn open_within(haddr: &str, query: &str, headers: &[(&str, &str)], patience: Duration) -> Result<Self, String> {
        let mut conn = Conn::open_within(haddr, patience)?;
        let mut request = format!("GET /hraftd/raft/events{query} HTTP/1.1\r\nHost: {haddr}\r\n");
        request.push_str("Accept: application/x-ndjson\r\n");
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        let shows = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        if let Some(token) = super::secure::token_of(haddr).filter(|_| !shows) {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        conn.send(format!("{request}\r\n").as_bytes())?;
        let head = conn.head()?;
        if head.status != 200 {
            return Err(format!("status {}", head.status));
        }
        let mut events = Self { conn, text: Vec::new() };
        let first = events.try_next()?;
        if first["event"] == "alive" { Ok(events) } else { Err(format!("it begins with {first}")) }
    }

    /// The next event; an error where none comes in time, or none any more.
    pub fn try_next(&mut self) -> Result<Value, String> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|error| error.to_string());
            }
            let piece = self.conn.chunk()?.ok_or("it has ended")?;
            self.text.extend(piece);
        }
    }

    pub fn next(&mut self) -> Value {
        self.try_next().unwrap()
    }

    /// All up to the first that is wanted, which is the last.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let (began, mut seen) = (Instant::now(), Vec::new());
        loop {
            assert!(began.elapsed() < SETTLE, "{what}: {seen:#?}");
            seen.push(self.next());
            if seen.last().is_some_and(&wanted) {
                return seen;
            }
        }
    }
}

/// The process that an event is of, and its number there.
pub fn position(event: &Value) -> (&str, u64) {
    let (boot, number) = event["id"].as_str().and_then(|id| id.split_once('.')).unwrap_or_else(|| panic!("{event}"));
    (boot, number.parse().unwrap())
}

/// Collects all events of the node at an address, from the first of each of its processes, across broken connections and
/// restarts, until it is to stop and hears nothing more. Panics where one is missing, or comes twice.
pub fn follow(haddr: &str, stop: &AtomicBool, all: &Mutex<Vec<Value>>) {
    let mut last: Option<(String, u64)> = None;
    loop {
        let id = last.as_ref().map(|(boot, number)| format!("{boot}.{number}"));
        let headers: Vec<(&str, &str)> = id.iter().map(|id| ("Last-Event-ID", id.as_str())).collect();
        let query = if headers.is_empty() { "?history" } else { "" };
        if let Ok(mut events) = Events::open_within(haddr, query, &headers, LOOK) {
            while let Ok(event) = events.try_next() {
                if event["event"] == "alive" || event["event"] == "missed" {
                    continue;
                }
                let (boot, number) = position(&event);
                let expected = last.as_ref().filter(|(of, _)| of == boot).map_or(1, |(_, last)| last + 1);
                assert_eq!(number, expected, "after {last:?}: {event}");
                last = Some((boot.to_owned(), number));
                all.lock().unwrap().push(event);
            }
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// A time as the API tells it, such as `2026-11-30T07:00:00.123Z`.
pub fn time(told: &Value) -> SystemTime {
    let numbers: Vec<u64> = told
        .as_str()
        .unwrap_or_else(|| panic!("{told}"))
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    let [year, month, day, hour, minute, second, millis] = numbers[..] else { panic!("{told}") };
    // Years begin in March, so that the leap day is the last (Howard Hinnant's days_from_civil, after 1970).
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469;
    let secs = days * 86_400 + hour * 3_600 + minute * 60 + second;
    SystemTime::UNIX_EPOCH + Duration::from_millis(secs * 1_000 + millis)
}
