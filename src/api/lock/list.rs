//! `GET /hraftd/lock?prefix=`: the locks that are held.

use std::ops::Bound;
use std::sync::Arc;

use axum::http::header::LINK;
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use crate::api::App;
use crate::api::access::{Caller, Guard, Head};
use crate::api::admission::Pass;
use crate::api::request::query::{self, Query};
use crate::api::request::read::{self, ReadParams};
use crate::api::response::array::Array;
use crate::api::response::error::ApiError;
use crate::api::response::lock::LockShape;
use crate::api::response::{Answer, json, stream};
use crate::api::service::Service;
use crate::command::{Key, LockView, Need};
use crate::kv::KvStore;
use crate::node::StateView;

/// Which locks to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct LocksParams {
    /// how their names begin; may be empty
    #[param(required = true, value_type = String)]
    prefix: Option<String>,
    /// a page of so many
    #[serde(deserialize_with = "number_of_locks")]
    #[param(minimum = 1)]
    limit: Option<u64>,
    /// only what comes after this name
    after: Option<String>,
}

fn number_of_locks<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    query::number(value, "a number of locks")
}

/// Lists the locks that are held
///
/// At one index, in the order of their names. Without `limit` all of them; with it a page, and where there is more, the
/// header Link tells the next.
#[utoipa::path(
    get,
    path = "/hraftd/lock",
    tag = "locks",
    params(LocksParams, ReadParams),
    responses((
        status = 200,
        description = "those that are held",
        body = Vec<LockShape>,
        headers(("Link" = String, description = "the next page, with a limit and where there is more"))
    ))
)]
pub async fn list<S: Service>(app: &Arc<App<S>>, head: &Head, pass: &mut Pass<'_>) -> Result<Answer, ApiError> {
    let query = Query::parse::<(LocksParams, ReadParams)>(head.uri.query())?;
    let (LocksParams { prefix, limit, after }, read): (_, ReadParams) = query.read()?;
    let bad = |what: &str| Err(ApiError::BadRequest(what.to_owned()));
    let Some(prefix) = prefix else {
        return bad("say which locks: prefix=app/ (an empty prefix= is all of them); one is GET /hraftd/lock/{name}");
    };
    if limit == Some(0) {
        return bad("limit=0 would list nothing; give at least 1");
    }
    let (options, deadline) = read.resolve(app.settings.read_level)?;
    let (caller, need) = (Caller::of(head), Need::LockAll(&prefix));
    caller.demand(need)?;
    pass.read(&options, app.service.applied_index())?;
    let view = read::in_time(&deadline, app.service.view(caller.by(), &[need], options, deadline.at)).await?;
    let StateView { kv, index, settled } = view;
    let gone = kv.gone();
    let followed = prefix.clone();
    let goes_on = Guard::listing(app, caller, move |look| look(Need::LockAll(&followed)));
    let mut held = Held::new(kv, prefix, after);
    let next = query::next_page(head, &query, limit, held.clone().map(|(name, _)| name)).await;
    let log_time_ms = app.service.log_time_ms();
    let array = Array::new(limit.unwrap_or(u64::MAX), move |out| {
        let Some((name, lock)) = held.next() else { return false };
        out.extend_from_slice(
            LockShape::new(&name, &lock, log_time_ms).under(held.kv.lease_of_lock(&name)).json().get().as_bytes(),
        );
        true
    });
    let mut response = json::response(stream::body(array, Some(gone), Some(goes_on)));
    response.headers_mut().extend(next.map(|next| (LINK, next)));
    Ok(Answer::read(Ok(response), index, settled))
}

/// The locks of a state, one after another.
#[derive(Clone)]
struct Held {
    kv: KvStore,
    prefix: String,
    from: Bound<Key>,
}

impl Held {
    fn new(kv: KvStore, prefix: String, after: Option<String>) -> Self {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.into()),
            _ => Bound::Included(prefix.as_str().into()),
        };
        Self { kv, prefix, from }
    }
}

impl Iterator for Held {
    type Item = (Key, LockView);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, lock) = self.kv.next_lock(&self.prefix, self.from.as_ref().map(Key::as_str))?;
        self.from = Bound::Excluded(name.clone());
        Some((name.clone(), lock))
    }
}
