//! `GET /hraftd/lease`: all leases.

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
use crate::api::response::lease::LeaseShape;
use crate::api::response::{Answer, json, stream};
use crate::api::service::Service;
use crate::command::Need;
use crate::kv::KvStore;
use crate::node::StateView;

/// Which leases to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct LeasesParams {
    /// a page of so many
    #[serde(deserialize_with = "number_of_leases")]
    #[param(minimum = 1)]
    limit: Option<u64>,
    /// only those with a greater id
    #[serde(deserialize_with = "id")]
    #[param(minimum = 0)]
    after: Option<u64>,
}

fn number_of_leases<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    query::number(value, "a number of leases")
}

fn id<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    query::number(value, "the id of a lease")
}

/// Lists all leases
///
/// At one index, in the order of their ids. Without `limit` all of them; with it a page, and where there is more, the
/// header Link tells the next.
#[utoipa::path(
    get,
    path = "/hraftd/lease",
    tag = "leases",
    params(LeasesParams, ReadParams),
    responses((
        status = 200,
        description = "those that are alive",
        body = Vec<LeaseShape>,
        headers(("Link" = String, description = "the next page, with a limit and where there is more"))
    ))
)]
pub async fn list<S: Service>(app: &Arc<App<S>>, head: &Head, pass: &mut Pass<'_>) -> Result<Answer, ApiError> {
    let query = Query::parse::<(LeasesParams, ReadParams)>(head.uri.query())?;
    let (LeasesParams { limit, after }, read): (_, ReadParams) = query.read()?;
    if limit == Some(0) {
        return Err(ApiError::BadRequest("limit=0 would list nothing; give at least 1".to_owned()));
    }
    let (options, deadline) = read.resolve(app.settings.read_level)?;
    // They show what their makers wrote, whoever these are.
    let (caller, need) = (Caller::of(head), Need::ReadAll(""));
    caller.demand(need)?;
    pass.read(&options, app.service.applied_index())?;
    let view = read::in_time(&deadline, app.service.view(caller.by(), &[need], options, deadline.at)).await?;
    let StateView { kv, index, settled } = view;
    let gone = kv.gone();
    let goes_on = Guard::listing(app, caller, |look| look(Need::ReadAll("")));
    let mut alive = Alive { kv, from: after.map_or(Bound::Unbounded, Bound::Excluded) };
    let next = query::next_page(head, &query, limit, alive.clone().map(|id| id.to_string())).await;
    let log_time_ms = app.service.log_time_ms();
    let array = Array::new(limit.unwrap_or(u64::MAX), move |out| {
        let Some(id) = alive.next() else { return false };
        let Some(lease) = alive.kv.lease(id) else { return false };
        LeaseShape::new(&alive.kv, id, lease, log_time_ms).write(out);
        true
    });
    let mut response = json::response(stream::body(array, Some(gone), Some(goes_on)));
    response.headers_mut().extend(next.map(|next| (LINK, next)));
    Ok(Answer::read(Ok(response), index, settled))
}

/// The ids of the leases of a state, one after another.
#[derive(Clone)]
struct Alive {
    kv: KvStore,
    from: Bound<u64>,
}

impl Iterator for Alive {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let (id, _) = self.kv.leases(self.from).next()?;
        self.from = Bound::Excluded(id);
        Some(id)
    }
}
