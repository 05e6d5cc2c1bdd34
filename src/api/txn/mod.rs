//! `POST /hraftd/txn`: conditions, what to do if they hold and what if they do not, in one log
//! entry.

pub mod parse;

use axum::body::Body;

use super::App;
use super::service::Service;
use super::write;
use crate::api::access::Head;
use crate::api::request::deadline::WriteParams;
use crate::api::request::idempotency::IdempotencyHeader;
use crate::api::request::{conditions, query};
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::memory::{MadeFrom, OnlyRead};
use crate::api::response::shapes;
use crate::api::response::stream::Pieces;
use crate::api::response::{Answer, json, stream};
use crate::command::{Action, OpResult, Reply};

/// Runs a transaction
///
/// `then` where all conditions of `if` hold, `else` otherwise; all of it in one log entry, or
/// nothing.
#[utoipa::path(
    post,
    path = "/hraftd/txn",
    tag = "txn",
    params(WriteParams, IdempotencyHeader),
    request_body = shapes::TxnShape,
    responses(
        (status = 200, description = "it was run", body = shapes::TxnAnswer),
        (status = 409, description = "an operation failed, at the place named; nothing was done", body = Problem),
        (status = 507, description = "keys and values would have more than the quota; nothing was done", body = Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = Problem),
    )
)]
pub async fn post<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (time,): (WriteParams,) = query::parse(head.uri.query())?;
    let deadline = time.deadline();
    conditions::none(head, "a transaction has its own, in \"if\"")?;
    // Values are slices of the body, so it keeps its memory until they are written.
    let (body, _memory) = deadline.read_body(body, &app.body_memory).await?;
    let most = app.settings.max_value_bytes;
    let txn = write::parsed(&body, move |body| parse::parse(body, most)).await?;
    let mut outcome = write::write(app, Action::Txn(txn), head, &body, &deadline).await?;
    let Reply::Txn { succeeded, results } = &mut outcome.reply else { return Ok(outcome.refused(app, "")) };
    let head = format!("{{\"ok\":true,\"succeeded\":{succeeded},\"index\":{},\"results\":[", outcome.index);
    let bytes = results.iter().map(bytes_of).sum();
    let only_read = results.iter().all(|result| matches!(result, OpResult::Got(..)));
    let results = Results { head: Some(head), next: std::mem::take(results).into_iter(), empty: true };
    let mut response = json::response(stream::body(results, None, None));
    response.extensions_mut().insert(MadeFrom(bytes));
    if only_read {
        response.extensions_mut().insert(OnlyRead);
    }
    Ok(outcome.into_answer(Ok(response)))
}

/// An answer that is being sent: what was read may be a thousand values.
struct Results {
    head: Option<String>,
    next: std::vec::IntoIter<OpResult>,
    empty: bool,
}

impl Pieces for Results {
    fn piece(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(head) = self.head.take() {
            out.extend_from_slice(head.as_bytes());
        }
        let Some(result) = self.next.next() else {
            out.extend_from_slice(b"]}");
            return false;
        };
        if !std::mem::replace(&mut self.empty, false) {
            out.push(b',');
        }
        write_result(out, &result);
        true
    }
}

/// The bytes of the value that was read.
fn bytes_of(result: &OpResult) -> usize {
    match result {
        OpResult::Got(_, Some(record)) => record.value().len(),
        _ => 0,
    }
}

fn write_result(out: &mut Vec<u8>, result: &OpResult) {
    match result {
        OpResult::Set(count) => json::plain(out, format_args!("{{\"set\":{count}}}")),
        OpResult::Deleted(count) => json::plain(out, format_args!("{{\"deleted\":{count}}}")),
        OpResult::Touched(count) => json::plain(out, format_args!("{{\"touched\":{count}}}")),
        OpResult::NotKept => out.extend_from_slice(b"null"),
        OpResult::Numbers(numbers) => {
            let mut object = json::Object::new(out);
            for (key, number) in numbers {
                json::plain(object.name(key), number);
            }
            object.end();
        }
        OpResult::Got(key, record) => {
            let mut object = json::Object::new(out);
            if let Some(record) = record {
                object.name(key).extend_from_slice(&record.json());
            }
            object.end();
        }
    }
}
