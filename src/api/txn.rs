//! `POST /hraftd/txn`.

use axum::body::Body;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::ApiError;
use super::service::Service;

pub(super) async fn respond<S: Service>(
    _app: &App<S>,
    head: &Parts,
    _body: Body,
    allowed: Result<(), ApiError>,
) -> Response {
    allowed.err().unwrap_or_else(|| ApiError::no_route(head.uri.path())).into_response()
}
