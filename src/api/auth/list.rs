//! `GET /hraftd/auth/token`: tokens, without their secrets.

use std::sync::Arc;
use std::time::SystemTime;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::token::{self, TokenPath};
use crate::api::App;
use crate::api::access::{Caller, Guard, Head};
use crate::api::admission::Pass;
use crate::api::request::query;
use crate::api::request::read::{self, ReadParams};
use crate::api::response::array::Array;
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::{Answer, json, stream, text};
use crate::api::service::Service;
use crate::command::{ANONYMOUS, Need};
use crate::kv::{AuthRecord, Token};
use crate::node::StateView;

/// A token, without its secret.
#[derive(Serialize, ToSchema)]
pub struct TokenInfo {
    name: String,
    grants: Vec<String>,
    /// The index of its last change.
    index: u64,
    /// About when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// Who made it.
    by: String,
    /// Counts its secrets, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u32>,
    /// When its time is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    /// Its time is up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    expired: bool,
    /// The name in a certificate that stands for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    /// When it was used last at this node since that started, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
}

impl TokenInfo {
    fn new(token: &Token, log_time_ms: u64, last_used: Option<SystemTime>) -> Self {
        Self {
            name: token.name.to_string(),
            grants: token.grants.texts(),
            index: token.revision,
            created: token::calendar(token.created_ms, log_time_ms),
            by: token.by.to_string(),
            generation: Some(token.generation),
            expires: token::expires(token.expires_ms, log_time_ms),
            expired: token.expires_ms.is_some_and(|expires_ms| expires_ms <= log_time_ms),
            certificate: token.certificate.as_ref().map(ToString::to_string),
            last_used: last_used.map(text::rfc3339),
        }
    }

    fn anonymous(record: &AuthRecord) -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            grants: record.anonymous.texts(),
            index: record.revision,
            created: None,
            by: record.by.to_string(),
            generation: None,
            expires: None,
            expired: false,
            certificate: None,
            last_used: None,
        }
    }
}

async fn view<S: Service>(app: &App<S>, head: &Head, pass: &mut Pass<'_>) -> Result<StateView, ApiError> {
    let (read,): (ReadParams,) = query::parse(head.uri.query())?;
    let (options, deadline) = read.resolve(app.settings.read_level)?;
    pass.read(&options, app.service.applied_index())?;
    let view = app.service.view(Caller::of(head).by(), &[Need::Admin], options, deadline.at);
    Ok(read::in_time(&deadline, view).await?)
}

/// Lists all tokens
///
/// In the order of their names, without their secrets; `anonymous`, where something is granted to all, comes first.
#[utoipa::path(
    get,
    path = "/hraftd/auth/token",
    tag = "auth",
    params(ReadParams),
    responses((status = 200, description = "without their secrets", body = Vec<TokenInfo>))
)]
pub async fn list<S: Service>(app: &Arc<App<S>>, head: &Head, pass: &mut Pass<'_>) -> Result<Answer, ApiError> {
    let StateView { kv, index, settled } = view(app, head, pass).await?;
    let log_time_ms = app.service.log_time_ms();
    let anonymous = kv.auth().record().filter(|record| !record.anonymous.0.is_empty()).map(TokenInfo::anonymous);
    let tokens: Vec<_> = kv.auth().by_name().map(|(id, token)| (app.access.used.of(id), token.clone())).collect();
    let mut all = anonymous
        .into_iter()
        .chain(tokens.into_iter().map(move |(used, token)| TokenInfo::new(&token, log_time_ms, used)));
    let goes_on = Guard::listing(app, Caller::of(head), |look| look(Need::Admin));
    let array = Array::new(u64::MAX, move |out| {
        let Some(info) = all.next() else { return false };
        out.extend_from_slice(&serde_json::to_vec(&info).unwrap_or_default());
        true
    });
    Ok(Answer::read(Ok(json::response(stream::body(array, None, Some(goes_on)))), index, settled))
}

/// Shows a token
///
/// Without its secret.
#[utoipa::path(
    get,
    path = "/hraftd/auth/token/{name}",
    tag = "auth",
    params(TokenPath, ReadParams),
    responses(
        (status = 200, description = "without its secret", body = TokenInfo),
        (status = 404, description = "there is none", body = Problem),
    )
)]
pub async fn get<S: Service>(app: &App<S>, head: &Head, pass: &mut Pass<'_>) -> Result<Answer, ApiError> {
    let TokenPath { name } = TokenPath::parse(head)?;
    let StateView { kv, index, settled } = view(app, head, pass).await?;
    let info = match kv.auth().record().filter(|_| name == ANONYMOUS) {
        Some(record) => Some(TokenInfo::anonymous(record)),
        None => kv
            .auth()
            .named(&name)
            .map(|(id, token)| TokenInfo::new(token, app.service.log_time_ms(), app.access.used.of(id))),
    };
    let result = info.map(|info| json::response_of(StatusCode::OK, &info)).ok_or_else(|| token::none(&name));
    Ok(Answer::read(result, index, settled))
}
