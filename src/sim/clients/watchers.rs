//! A watcher that continues its stream at another node.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{timeout, timeout_at};

use super::Client;
use crate::sim::net::{Server, serve_client};
use crate::sim::world;
use crate::watch::{Filter, Position};

/// A watcher's filter, and all that it has seen.
#[derive(Debug)]
pub struct Watcher {
    pub filter: Filter,
    /// Up to here it knows everything; `None` before the first answer.
    known: Option<Position>,
}

fn query(filter: &Filter) -> String {
    match filter {
        Filter::Key(key) => format!("key={key}"),
        Filter::Prefix(prefix) => format!("prefix={prefix}"),
        Filter::Lock(lock) => format!("lock={lock}"),
    }
}

/// Passes a body on, piece by piece.
async fn pump(server: Server, request: Request<Vec<u8>>, pieces: mpsc::UnboundedSender<Vec<u8>>) -> u16 {
    let response = serve_client(&server, request).await;
    let status = response.status().as_u16();
    if status == 200 {
        let mut body: axum::body::BodyDataStream = Body::into_data_stream(response.into_body());
        loop {
            tokio::select! {
                biased;
                () = pieces.closed() => break,
                piece = body.next() => match piece {
                    Some(Ok(piece)) if pieces.send(piece.to_vec()).is_ok() => {}
                    _ => break,
                }
            }
        }
    }
    status
}

impl Watcher {
    pub fn new(filter: Filter) -> Self {
        Self { filter, known: None }
    }

    /// True once it has seen every change that passes its filter.
    pub fn is_done(&self) -> bool {
        let last = world::check(|seen| Ok(seen.watches.last(&self.filter)));
        self.known.is_some() && last <= self.known
    }

    /// A line of the stream; whether the stream can go on.
    fn line(&mut self, line: &str) -> bool {
        let Ok(json) = serde_json::from_str::<Value>(line) else {
            world::fail(format!("watches: {line:?} is no JSON"));
            return false;
        };
        let at = json["id"].as_str().and_then(Position::parse);
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let (event, lock) = (text("event"), text("lock"));
        match (event.as_str(), at) {
            ("compacted", _) => {
                self.known = None;
                return false;
            }
            ("position", None) => return true,
            ("position", Some(at)) => {
                if let Some(known) = self.known {
                    world::check(|seen| seen.watches.knows(&self.filter, known, at));
                }
                self.known = self.known.max(Some(at));
            }
            (event, Some(at)) => {
                let known = self.known.unwrap_or(Position::whole(0));
                let what = match event {
                    "set" => format!("set {} {}", text("key"), json["value"]),
                    "delete" | "expire" => format!("{event} {}", text("key")),
                    _ => format!("{event} {lock} {}", json["token"]),
                };
                world::check(|seen| seen.watches.told(&self.filter, known, at, &what));
                self.known = Some(at);
            }
            (_, None) => world::fail(format!("watches: {line:?} has no id")),
        }
        true
    }
}

impl Client {
    /// Watches, with ever new connections, until it is stopped and has seen everything.
    pub async fn watch(mut self, mut watcher: Watcher) {
        while self.goes_on() || !watcher.is_done() {
            let port = self.any_port();
            let Some(server) = self.shared.net.server(port) else {
                self.pause(50).await;
                continue;
            };
            let after = watcher.known.map_or_else(String::new, |known| format!("&after={known}"));
            let level = if self.below(2) == 0 { "none" } else { "linearizable" };
            let uri = format!("/hraftd/watch?{}{after}&level={level}&timeout=2s", query(&watcher.filter));
            let request =
                Request::builder().uri(uri).header("host", "127.0.0.1").header("accept", "application/x-ndjson");
            let request = match self.authorization(None) {
                Some(header) => request.header("authorization", header),
                None => request,
            };
            let (sender, mut pieces) = mpsc::unbounded_channel();
            let served = server.host.spawn(pump(server.clone(), request.body(Vec::new()).unwrap(), sender));
            let ends = tokio::time::Instant::now() + Duration::from_millis(500 + self.below(8_000));
            let mut text = Vec::new();
            'stream: while let Ok(Some(piece)) = timeout_at(ends, pieces.recv()).await {
                text.extend_from_slice(&piece);
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    world::note("line", &[port.into(), line.len() as u64]);
                    if !watcher.line(&String::from_utf8_lossy(&line)) {
                        break 'stream;
                    }
                }
            }
            drop(pieces);
            // A stalled host does not even say what became of it.
            if let Ok(Ok(410)) = timeout(Duration::from_millis(500), served).await {
                watcher.known = None;
            }
            self.pause(30).await;
        }
    }
}
