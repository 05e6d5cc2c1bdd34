//! `/hraftd/auth`: authentication as a whole, and who one is.

pub(super) mod list;
pub(super) mod session;
pub(super) mod token;

use axum::body::Body;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::{self, Caller, Means};
use super::service::Service;
use super::write;
use crate::api::access::Head;
use crate::api::request::deadline::WriteParams;
use crate::api::request::idempotency;
use crate::api::request::{conditions, query};
use crate::api::response::error::ApiError;
use crate::api::response::{Answer, Done, json, text};
use crate::command::{Action, Grant, Grants, MAX_GRANTS, Reply};

/// What is granted to those who show no token.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthShape {
    /// As those of a token; without it that stays as it is.
    anonymous: Option<Vec<String>>,
}

/// Turns authentication on
///
/// For root tokens alone. From its entry on all nodes demand a token.
#[utoipa::path(
    put,
    path = "/hraftd/auth",
    tag = "auth",
    params(WriteParams),
    request_body = Option<AuthShape>,
    responses((status = 200, description = "it is on", body = Done))
)]
pub async fn on<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (time,): (WriteParams,) = query::parse(head.uri.query())?;
    let deadline = time.deadline();
    plain(head)?;
    let (body, _memory) = deadline.read_body(body, &app.body_memory).await?;
    let AuthShape { anonymous } = if body.is_empty() { AuthShape::default() } else { object(&body)? };
    let anonymous = anonymous.map(|texts| grants(&texts)).transpose()?;
    let action = Action::Authentication { on: true, anonymous, first: false };
    done(app, write::write(app, action, head, &[], &deadline).await?)
}

/// What only who means it says.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct YesParams {
    /// needed
    yes: bool,
}

/// Turns authentication off
///
/// For root tokens alone. From its entry on nobody is asked who he is.
#[utoipa::path(
    delete,
    path = "/hraftd/auth",
    tag = "auth",
    params(YesParams, WriteParams),
    responses((status = 200, description = "it is off", body = Done))
)]
pub async fn off<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (YesParams { yes }, time): (_, WriteParams) = query::parse(head.uri.query())?;
    let deadline = time.deadline();
    plain(head)?;
    deadline.no_body(body, &app.body_memory).await?;
    if !yes {
        let why = "this lets everybody do everything; add ?yes where that is what you want";
        return Err(ApiError::BadRequest(why.to_owned()));
    }
    let action = Action::Authentication { on: false, anonymous: None, first: false };
    done(app, write::write(app, action, head, &[], &deadline).await?)
}

fn done<S: Service>(app: &App<S>, outcome: write::WriteOutcome) -> Result<Answer, ApiError> {
    Ok(match outcome.reply {
        Reply::Done => {
            let body = Done::at(outcome.index).json();
            outcome.into_answer(Ok(json::response(body)))
        }
        _ => outcome.refused(app, ""),
    })
}

/// Who asks.
#[derive(Serialize, ToSchema)]
pub struct WhoAmI {
    ok: bool,
    /// The name of the token, `root` or `anonymous`.
    name: String,
    grants: Vec<String>,
    /// How it was shown.
    means: &'static str,
    /// Of a session: when its time is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends: Option<String>,
}

/// Tells who asks
#[utoipa::path(
    get,
    path = "/hraftd/auth/whoami",
    tag = "auth",
    responses((status = 200, description = "the token that was shown", body = WhoAmI))
)]
pub async fn whoami<S: Service>(app: &App<S>, head: &Head) -> Result<Answer, ApiError> {
    let (): () = query::parse(head.uri.query())?;
    let caller = Caller::of(head);
    let (means, ends_ms) = match caller.means() {
        Means::Nothing => ("nothing", None),
        Means::Token => ("token", None),
        Means::Root(_) => ("root token", None),
        Means::Session(session) => ("session", Some(session.ends_ms)),
        Means::Certificate => ("certificate", None),
        Means::Secret => ("cluster secret", None),
    };
    let ends = token::expires(ends_ms, app.service.log_time_ms());
    let name = access::name_of(caller.by()).to_owned();
    let shape = WhoAmI { ok: true, name, grants: caller.grant_texts(), means, ends };
    Ok(app.answer_here(Ok(json::response_of(StatusCode::OK, &shape))))
}

/// What these requests have none of: a lost answer to one is no matter of repeating it.
fn plain(head: &Head) -> Result<(), ApiError> {
    if idempotency::is_keyed(&head.headers) {
        return Err(ApiError::BadRequest(
            "requests about tokens take no Idempotency-Key: its outcome would have the token. After a lost answer ask for \
             another secret: ?rotate&grace=0s"
                .to_owned(),
        ));
    }
    conditions::none(head, "a token has its name")
}

fn grants(texts: &[String]) -> Result<Grants, ApiError> {
    if texts.len() > MAX_GRANTS {
        return Err(ApiError::BadRequest(format!("{} grants; a token has at most {MAX_GRANTS}", texts.len())));
    }
    let parsed: Result<Vec<Grant>, String> = texts.iter().map(|text| Grant::parse(text)).collect();
    parsed.map(Grants).map_err(ApiError::BadRequest)
}

fn object<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let sample =
            r#"{"grants":["read:app/","write:app/"],"ttl":"90d"} for a token, {"anonymous":["read:"]} for all"#;
        ApiError::BadRequest(format!("the body must be one JSON object such as {sample}: {}", text::brief(error)))
    })
}
