//! `GET /hraftd/backup`: the whole state at one index, see [`crate::storage::backup`].
//!
//! * A thread of its own makes it from a clone of the state, a block at a time, as the client takes it: writes go on.
//! * A client that takes nothing, or so little that the old state costs too much, loses it: [`super::response::held`].
//! * A transfer that is cut has no last chunk; and the file itself tells that its end is missing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use utoipa::IntoParams;

use super::App;
use super::access::{self, Caller, Guard};
use super::admission::Pass;
use super::request::query;
use super::request::read::{self, ReadParams};
use super::response::Answer;
use super::response::error::ApiError;
use super::response::held::Held;
use super::response::stream::GoesOn;
use super::service::Service;
use crate::command::Need;
use crate::kv::KvStore;
use crate::node::StateCopy;
use crate::storage::backup::{self, Head};
use crate::task;

/// So many are made at a time: each has a thread.
const MAX_AT_A_TIME: usize = 4;

/// How often it is looked whether a client that takes nothing still has its backup.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The backups that are made at the moment.
#[derive(Debug, Clone)]
pub struct Backups(Arc<Semaphore>);

impl Default for Backups {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_AT_A_TIME)))
    }
}

impl Backups {
    fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let none = |_| {
            let why = format!("this node makes {MAX_AT_A_TIME} backups already; try again later, or ask another node");
            ApiError::Overloaded(why)
        };
        self.0.clone().try_acquire_owned().map_err(none)
    }
}

/// The parameters of this request alone.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct BackupParams {
    /// 304 where the state is of no later index
    #[serde(deserialize_with = "query::index")]
    #[param(minimum = 0)]
    if_newer: Option<u64>,
}

/// Makes a backup
///
/// The whole state at one index, in a format of its own: `hraftd backup verify` checks it, `hraftd restore` makes a new
/// cluster of it. It is whole only with its last chunk.
#[utoipa::path(
    get,
    path = "/hraftd/backup",
    tag = "backup",
    params(BackupParams, ReadParams),
    responses(
        (status = 200, description = "the backup", body = String, content_type = "application/octet-stream"),
        (status = 304, description = "nothing is newer than if_newer"),
    )
)]
pub async fn get<S: Service>(app: &Arc<App<S>>, head: &access::Head, pass: &mut Pass<'_>) -> Result<Answer, ApiError> {
    let (BackupParams { if_newer }, read): (_, ReadParams) = query::parse(head.uri.query())?;
    let (options, deadline) = read.resolve(app.settings.read_level)?;
    let caller = Caller::of(head);
    caller.demand(Need::Backup)?;
    pass.read(&options, app.service.applied_index())?;
    let place = app.backups.place()?;

    let copy = read::in_time(&deadline, app.service.backup(caller.by(), options, deadline.at)).await?;
    let StateCopy { kv, head: of, settled } = copy;
    let index = of.index;
    let mut response = Response::new(Body::empty());
    if if_newer.is_some_and(|known| index <= known) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(Answer::read(Ok(response), index, settled));
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let file = HeaderValue::try_from(format!("attachment; filename=\"hraftd-{index}.backup\""));
    headers.extend(file.ok().map(|file| (CONTENT_DISPOSITION, file)));
    if head.method != Method::HEAD {
        let goes_on = Guard::listing(app, caller, |look| look(Need::Backup));
        *response.body_mut() = body(of, kv, place, goes_on);
    }
    Ok(Answer::read(Ok(response), index, settled))
}

/// A part of a backup on its way.
enum Part {
    Bytes(Bytes),
    End,
}

fn body(head: Head, kv: KvStore, place: OwnedSemaphorePermit, mut goes_on: GoesOn) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    let giver = Giver { runtime: Handle::current(), sender, held: Held::new((), Some(kv.gone())) };
    task::spawn_blocking(move || {
        let _place = place;
        let index = head.index;
        let made = backup::write(&head, &kv, |bytes| {
            if !goes_on() {
                return Err(io::Error::other("its client may not have the rest any more"));
            }
            giver.give(Part::Bytes(Bytes::copy_from_slice(bytes)))
        });
        // Without its end the client is told that it was cut.
        match made.and_then(|()| giver.give(Part::End)) {
            Ok(()) => tracing::info!("a backup was taken, of index {index}"),
            Err(error) => tracing::warn!("a backup of index {index} was not taken to its end: {error}"),
        }
    });
    body_of(receiver)
}

/// A body of these parts: without its end it is an error.
fn body_of(receiver: mpsc::Receiver<Part>) -> Body {
    Body::from_stream(stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Part::Bytes(bytes)) => Some((Ok(bytes), Some(receiver))),
            Some(Part::End) => None,
            None => Some((Err(io::Error::other("the client took too long to read it")), None)),
        }
    }))
}

/// Hands parts to a client, as fast as it takes them.
struct Giver {
    runtime: Handle,
    sender: mpsc::Sender<Part>,
    held: Held<()>,
}

impl Giver {
    /// Blocks until the client has taken what came before.
    fn give(&self, part: Part) -> io::Result<()> {
        loop {
            let room = self.runtime.block_on(async { timeout(LOOK_EVERY, self.sender.reserve()).await });
            match room {
                Ok(Ok(room)) => {
                    room.send(part);
                    return match self.held.using(|()| ((), true)) {
                        Some(()) => Ok(()),
                        None => Err(io::ErrorKind::TimedOut.into()),
                    };
                }
                Ok(Err(_)) => return Err(io::Error::other("the client is gone")),
                Err(_) if self.held.is_gone() => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn bytes() -> Part {
        Part::Bytes(Bytes::from_static(b"some"))
    }

    #[tokio::test]
    async fn only_one_with_its_end_ends_well() {
        for is_whole in [true, false] {
            let (sender, receiver) = mpsc::channel(3);
            sender.send(bytes()).await.ok().unwrap();
            if is_whole {
                sender.send(Part::End).await.ok().unwrap();
            }
            drop(sender);
            let all = body_of(receiver).collect().await.map(|all| all.to_bytes());
            assert_eq!(all.ok(), is_whole.then(|| Bytes::from_static(b"some")));
        }
    }

    /// Nobody takes anything: whoever makes the backup notices that it was taken from the client, and that the client is gone.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_takes_nothing_does_not_keep_the_state() {
        for is_gone in [false, true] {
            let (sender, receiver) = mpsc::channel(1);
            let giver = Giver { runtime: Handle::current(), sender, held: Held::new((), None) };
            giver.sender.send(bytes()).await.ok().unwrap();
            // As the one that looks after it does once the client has stalled, or costs too much.
            giver.held.using(|()| ((), is_gone));
            if is_gone {
                drop(receiver);
            }
            let given = task::spawn_blocking(move || giver.give(bytes())).await.unwrap();
            let wanted = if is_gone { io::ErrorKind::Other } else { io::ErrorKind::TimedOut };
            assert_eq!(given.unwrap_err().kind(), wanted);
        }
    }

    #[test]
    fn so_many_at_a_time() {
        let backups = Backups::default();
        let taken: Vec<_> = (0..MAX_AT_A_TIME).map(|_| backups.place().unwrap()).collect();
        assert!(matches!(backups.place(), Err(ApiError::Overloaded(_))));
        drop(taken);
        drop(backups.place().unwrap());
    }
}
