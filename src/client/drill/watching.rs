//! The watch of a drill: resumed at another node when a stream ends, and now and then when it does not.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Drill;
use super::history::Event;
use crate::client::link::{MAX_BYTES, Request, Stream, encoded, query};
use crate::exit::{EX_NOPERM, Exit};

/// A node says something every 15 s.
const IDLE: Duration = Duration::from_secs(20);

/// A stream is left for another node after this time.
const STAY: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(100);

/// How many streams are opened to read all of it again.
const ATTEMPTS: usize = 10;

/// Why a stream is not read on.
enum Over {
    Broken,
    /// The last write was told.
    Whole,
    /// History does not reach back so far.
    Gap,
}

/// Watches until the last write of the drill is told.
///
/// # Errors
/// It is not permitted: 77.
pub(super) async fn watch(drill: &Drill<'_>, first: u64) -> Result<(), Exit> {
    let mut after = Some((first, u64::MAX));
    let mut gap_from = None;
    loop {
        let request = request(drill, after);
        let over = match drill.cluster.open_or_refused(&request.once()).await {
            Ok(Ok(stream)) => {
                drill.history.borrow_mut().watches += 1;
                let tell = |event| drill.history.borrow_mut().events.push(event);
                follow(drill, stream, &mut after, &mut gap_from, tell).await?
            }
            Ok(Err(answer)) if answer.code() == "compacted" => Over::Gap,
            Ok(Err(_)) => Over::Broken,
            Err(exit) if exit.code == EX_NOPERM => return Err(exit),
            Err(_) => Over::Broken,
        };
        match over {
            Over::Whole => {
                drill.history.borrow_mut().watch_is_whole = true;
                return Ok(());
            }
            Over::Gap => gap_from = gap_from.or(after.take().map(|(index, _)| index)),
            Over::Broken => {}
        }
        drill.cluster.next_endpoint();
        sleep(PAUSE).await;
    }
}

/// Reads all changes once more, as one who comes late does: many at a time.
///
/// # Errors
/// It is not permitted: 77.
pub(super) async fn watch_again(drill: &Drill<'_>, first: u64) -> Result<(), Exit> {
    let (mut after, mut events) = (Some((first, u64::MAX)), Vec::new());
    for _ in 0..ATTEMPTS {
        let request = request(drill, after).once();
        if let Ok(Ok(stream)) = drill.cluster.open_or_refused(&request).await {
            match follow(drill, stream, &mut after, &mut None, |event| events.push(event)).await? {
                Over::Whole => {
                    drill.history.borrow_mut().again = Some(events);
                    return Ok(());
                }
                // History has been dropped by now: there is nothing to compare.
                Over::Gap => return Ok(()),
                Over::Broken => {}
            }
        }
        drill.cluster.next_endpoint();
        sleep(PAUSE).await;
    }
    Ok(())
}

fn request(drill: &Drill<'_>, after: Option<(u64, u64)>) -> Request {
    let position = after.map(|(index, number)| match number {
        u64::MAX => index.to_string(),
        _ => format!("{index}.{number}"),
    });
    let path = format!("/hraftd/watch?prefix={}", encoded(&drill.prefix));
    Request::get(query(&path, &[("after", position)])).header("accept", "application/x-ndjson")
}

async fn follow(
    drill: &Drill<'_>,
    mut stream: Stream,
    after: &mut Option<(u64, u64)>,
    gap_from: &mut Option<u64>,
    mut tell: impl FnMut(Event),
) -> Result<Over, Exit> {
    let (node, began) = (stream.endpoint.to_string(), Instant::now());
    let mut text = BytesMut::new();
    loop {
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line = text.split_to(end);
            text.advance(1);
            let Ok(said) = serde_json::from_slice::<Value>(&line) else { continue };
            let name = said["event"].as_str().unwrap_or_default();
            if name == "compacted" {
                return Ok(Over::Gap);
            }
            if name == "unauthorized" {
                return Err(Exit::error(EX_NOPERM, format!("watch: {}", said["msg"].as_str().unwrap_or_default())));
            }
            let Some(id) = said["id"].as_str().and_then(position) else { continue };
            if let Some(from) = gap_from.take() {
                drill.history.borrow_mut().holes.push((from, id.0));
            }
            *after = Some(id);
            let Some(key) = said["key"].as_str().and_then(|key| key.strip_prefix(&drill.prefix)) else { continue };
            match key {
                super::END => return Ok(Over::Whole),
                super::BEGIN => {}
                _ if name == "set" => {
                    let (key, value) = (key.to_owned(), Some(said["value"].as_u64().unwrap_or_default()));
                    tell(Event { key, value, id, node: node.clone() });
                }
                _ => {}
            }
        }
        let left = STAY.saturating_sub(began.elapsed()).min(IDLE);
        match stream.next(left.max(PAUSE)).await {
            Ok(Some(more)) if text.len() < MAX_BYTES => text.extend_from_slice(&more),
            Ok(Some(_)) => return Ok(Over::Broken),
            Ok(None) | Err(_) => return Ok(Over::Broken),
        }
        if began.elapsed() >= STAY + PAUSE {
            return Ok(Over::Broken);
        }
    }
}

/// An id: a bare index means all of it.
fn position(id: &str) -> Option<(u64, u64)> {
    match id.split_once('.') {
        Some((index, number)) => Some((index.parse().ok()?, number.parse().ok()?)),
        None => Some((id.parse().ok()?, u64::MAX)),
    }
}
