//! `GET /hraftd/watch`.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::ApiError;
use super::service::Service;

pub(super) async fn respond<S: Service>(_app: &Arc<App<S>>, head: &Parts, allowed: Result<(), ApiError>) -> Response {
    allowed.err().unwrap_or_else(|| ApiError::no_route(head.uri.path())).into_response()
}
