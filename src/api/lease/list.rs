//! `GET /hraftd/lease`: all leases.

use std::ops::Bound;

use axum::http::header::LINK;
use axum::http::request::Parts;
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use crate::api::App;
use crate::api::admission::Pass;
use crate::api::request::query::{self, Query};
use crate::api::request::read::{self, ReadParams};
use crate::api::response::array::Array;
use crate::api::response::error::ApiError;
use crate::api::response::lease::{Keys, LeaseShape};
use crate::api::response::{Answer, json, stream};
use crate::api::service::Service;
use crate::node::StateView;

/// How many of a page are counted before other tasks get a turn.
const A_TURN: usize = 4096;

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
pub async fn list<S: Service>(app: &App<S>, head: &Parts, pass: &mut Pass<'_>) -> Result<Answer, ApiError> {
    let query = Query::parse::<(LeasesParams, ReadParams)>(head.uri.query())?;
    let (LeasesParams { limit, after }, read): (_, ReadParams) = query.read()?;
    if limit == Some(0) {
        return Err(ApiError::BadRequest("limit=0 would list nothing; give at least 1".to_owned()));
    }
    let (options, deadline) = read.resolve(app.settings.read_level)?;
    pass.read(&options, app.service.applied_index())?;
    let view = read::in_time(&deadline, app.service.view(options, deadline.at)).await?;
    let StateView { kv, index, settled } = view;
    let mut from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut next = None;
    if let Some(limit) = limit {
        // The last of the page, where one comes after it.
        let (mut left, mut at) = (limit, from);
        while left > 0 {
            let turn = usize::try_from(left).unwrap_or(usize::MAX).min(A_TURN);
            let ids: Vec<u64> = kv.leases(at).take(turn).map(|(id, _)| id).collect();
            let Some(last) = ids.last() else { break };
            (left, at) = (left - ids.len() as u64, Bound::Excluded(*last));
            if left == 0 && kv.leases(at).next().is_some() {
                next = query::next_page(head, &query, &last.to_string());
            }
            tokio::task::yield_now().await;
        }
    }
    let log_time_ms = app.service.log_time_ms();
    let array = Array::new(limit.unwrap_or(u64::MAX), move |out| {
        let Some((id, lease)) = kv.leases(from).next() else { return false };
        from = Bound::Excluded(id);
        LeaseShape::new(&kv, id, lease, Keys::Count, log_time_ms).write(out);
        true
    });
    let mut response = json::response(stream::body(array));
    response.headers_mut().extend(next.map(|next| (LINK, next)));
    Ok(Answer::read(Ok(response), index, settled))
}
