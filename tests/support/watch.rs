//! A client of `GET /hraftd/watch`.

use std::time::Duration;

use serde_json::Value;

use super::http::{Conn, PATIENCE, Reply};
use super::secure;

/// One event, as server-sent events or as a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    /// Of a line: without `event` and `id`.
    pub data: Value,
}

impl Event {
    /// The index of its id.
    pub fn index(&self) -> Option<u64> {
        self.id.as_ref()?.split('.').next()?.parse().ok()
    }
}

/// An open stream.
#[derive(Debug)]
pub struct Watch {
    conn: Conn,
    pub head: Reply,
    /// Came, and is not read yet.
    text: Vec<u8>,
    /// So much of it has no end of an event.
    searched: usize,
    /// As a browser keeps it.
    pub last_id: Option<String>,
    lines: bool,
}

/// Why there is no stream.
#[derive(Debug)]
pub enum NotOpen {
    Refused(Reply),
    Failed(String),
}

impl Watch {
    pub fn open(addr: &str, query: &str) -> Self {
        Self::open_with(addr, query, &[], PATIENCE).unwrap()
    }

    /// Goes on as a browser does.
    pub fn resume(addr: &str, query: &str, last_id: &str) -> Self {
        Self::open_with(addr, query, &[("Last-Event-ID", last_id)], PATIENCE).unwrap()
    }

    /// Waits at most `patience` for each piece.
    pub fn open_with(addr: &str, query: &str, headers: &[(&str, &str)], patience: Duration) -> Result<Self, NotOpen> {
        let mut request = format!("GET /hraftd/watch?{query} HTTP/1.1\r\nHost: {addr}\r\n");
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        if let Some(token) = secure::token_of(addr) {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        let open = || {
            let mut conn = Conn::open_within(addr, patience)?;
            conn.send(format!("{request}\r\n").as_bytes())?;
            let head = conn.head()?;
            Ok((conn, head))
        };
        let (mut conn, head) = open().map_err(NotOpen::Failed)?;
        if matches!(head.status, 401 | 403) && secure::token_of(addr).is_some() {
            secure::note_refused(format!("a watch at {addr}: {}", head.status));
        }
        if head.status != 200 {
            return Err(conn.rest_of(head).map_or_else(NotOpen::Failed, NotOpen::Refused));
        }
        let lines = head.header("Content-Type") == Some("application/x-ndjson");
        Ok(Self { conn, head, text: Vec::new(), searched: 0, last_id: None, lines })
    }

    /// The next event that would be dispatched; `None` at the end of the stream.
    pub fn next(&mut self) -> Result<Option<Event>, String> {
        loop {
            let end: &[u8] = if self.lines { b"\n" } else { b"\n\n" };
            let found = self.text[self.searched..].windows(end.len()).position(|window| window == end);
            if let Some(at) = found.map(|at| self.searched + at) {
                let block: Vec<u8> = self.text.drain(..at + end.len()).collect();
                self.searched = 0;
                let block = String::from_utf8(block).unwrap();
                let event = if self.lines { self.line(&block) } else { self.block(&block) };
                match event {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            }
            self.searched = (self.text.len() + 1).saturating_sub(end.len());
            match self.conn.chunk()? {
                Some(chunk) => self.text.extend(chunk),
                None => {
                    assert!(self.text.is_empty(), "it ended amid an event: {:?}", String::from_utf8_lossy(&self.text));
                    return Ok(None);
                }
            }
        }
    }

    /// The next event, which must come.
    pub fn event(&mut self) -> Event {
        self.next().unwrap().expect("the stream goes on")
    }

    /// Asserts that the stream ends now, and cleanly.
    pub fn assert_ends(&mut self) {
        assert_eq!(self.next(), Ok(None));
    }

    fn block(&mut self, block: &str) -> Option<Event> {
        let (mut name, mut id, mut data) = (String::new(), None, None);
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}")) {
                ("", _comment) => {}
                ("event", value) => name = value.trim_start().to_owned(),
                ("id", value) => id = Some(value.trim_start().to_owned()),
                ("data", value) => assert!(data.replace(value.to_owned()).is_none(), "two lines: {block:?}"),
                _ => panic!("unknown field: {line:?}"),
            }
        }
        self.last_id = id.clone().or(self.last_id.take());
        let data = data?;
        let data = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data:?}"));
        Some(Event { name, id, data })
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        let mut data: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let members = data.as_object_mut().unwrap();
        let mut take = |name: &str| members.remove(name).map(|value| value.as_str().unwrap().to_owned());
        let (name, id) = (take("event").unwrap(), take("id"));
        self.last_id = id.clone().or(self.last_id.take());
        (name != "position").then_some(Event { name, id, data })
    }
}
