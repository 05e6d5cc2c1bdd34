//! `/hraftd/auth/token/{name}`: makes, changes, rotates and revokes a token.

use axum::body::Body;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{grants, object, plain};
use crate::api::App;
use crate::api::access::{Caller, Head};
use crate::api::request::deadline::{Deadline, WriteParams};
use crate::api::request::query;
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::{Answer, Deleted, json};
use crate::api::service::{self, Service};
use crate::api::write;
use crate::command::{Action, MAX_TOKEN_NAME_BYTES, MAX_TTL, Need, ROOT, Reply};
use crate::duration::{as_ms, parse_with_days};
use crate::node::{NodeError, ReadLevel};
use crate::secret::{Generated, Token, TokenId};

/// How long the secret before is good where nothing is said.
const GRACE_MS: u64 = 10 * 60 * 1000;

/// The most bytes of a name in a certificate.
const MAX_CERTIFICATE_BYTES: usize = 512;

/// The name in a path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct TokenPath {
    /// letters, digits and ._-, at most 64
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pub name: String,
}

impl TokenPath {
    pub(super) fn parse(head: &Head) -> Result<Self, ApiError> {
        let name = head.uri.path().strip_prefix("/hraftd/auth/token/").unwrap_or_default();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > MAX_TOKEN_NAME_BYTES || !name.bytes().all(fits) || name == ROOT {
            return Err(ApiError::BadRequest(
                "the name of a token has letters, digits and ._-, at most 64 of them, and is not root".to_owned(),
            ));
        }
        Ok(Self { name: name.to_owned() })
    }
}

/// What a token allows, and for how long.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenShape {
    /// `read:PREFIX`, `write:PREFIX`, `lock:PREFIX`, `read:=KEY`, `status`, `members`, `backup`, `admin`.
    grants: Vec<String>,
    /// Such as `90d` or `12h`; without it the token does not end by itself.
    ttl: Option<String>,
    /// A client whose certificate has this name needs no token: `URI:spiffe://…` or `DNS:…`.
    certificate: Option<String>,
}

/// Another secret for a token.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct RotateParams {
    /// another secret, and nothing else
    rotate: bool,
    /// how long the old one is good, at most 10 years; 10m where it is not given
    #[serde(deserialize_with = "query::non_empty")]
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s|m|h|d)$")]
    grace: Option<String>,
}

/// A token was made or changed.
#[derive(Serialize, ToSchema)]
pub struct TokenAnswer<'a> {
    ok: bool,
    msg: &'static str,
    index: u64,
    name: &'a str,
    /// The token: this is the only time that it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

/// Makes a token, or changes one
///
/// A new one is shown here and never again. Of one that exists grants and ttl are replaced. With `rotate` it gets another
/// secret, which is shown; the old one is good for `grace`. The name `anonymous` stands for those who show no token.
#[utoipa::path(
    put,
    path = "/hraftd/auth/token/{name}",
    tag = "auth",
    params(TokenPath, RotateParams, WriteParams),
    request_body = Option<TokenShape>,
    responses(
        (status = 200, description = "changed, or it has another secret", body = TokenAnswer),
        (status = 201, description = "made", body = TokenAnswer),
        (status = 404, description = "there is none to rotate", body = Problem),
    )
)]
pub async fn put<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (RotateParams { rotate, grace }, time): (_, WriteParams) = query::parse(head.uri.query())?;
    let deadline = time.deadline();
    let TokenPath { name } = TokenPath::parse(head)?;
    plain(head)?;
    let bad = |what: &str| Err(ApiError::BadRequest(what.to_owned()));
    let (body, _memory) = deadline.read_body(body, &app.body_memory).await?;
    if rotate {
        if !body.is_empty() {
            return bad("rotate gives another secret and changes nothing else: send no body");
        }
        let grace_ms = grace.map_or(Ok(GRACE_MS), |grace| duration("grace", &grace))?;
        return self::rotate(app, head, &name, grace_ms, &deadline).await;
    }
    if grace.is_some() {
        return bad("grace= goes with rotate");
    }
    let TokenShape { grants: texts, ttl, certificate } = object(&body)?;
    if let Some(certificate) = &certificate {
        let name = certificate.strip_prefix("URI:").or_else(|| certificate.strip_prefix("DNS:"));
        if name.is_none_or(str::is_empty) || certificate.len() > MAX_CERTIFICATE_BYTES {
            return bad("certificate is one name that a certificate has, as URI:spiffe://... or DNS:...");
        }
    }
    let grants = grants(&texts)?;
    let ttl_ms = ttl.map(|ttl| duration("ttl", &ttl)).transpose()?;
    if ttl_ms == Some(0) {
        return bad("ttl is how long the token is good; 0 is never");
    }
    let token = generate(Token::generate())?;
    let (id, hash) = service::parts_of(&token);
    let certificate = certificate.map(Into::into);
    let action = Action::PutToken { name: name.as_str().into(), id, hash, grants, ttl_ms, certificate };
    let outcome = write::write(app, action, head, &[], &deadline).await?;
    Ok(match outcome.reply {
        Reply::Token { fresh } => {
            let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
            let response = shown(status, outcome.index, &name, fresh.then_some(&token));
            outcome.into_answer(Ok(response))
        }
        _ => outcome.refused(app, ""),
    })
}

async fn rotate<S: Service>(
    app: &App<S>,
    head: &Head,
    name: &str,
    grace_ms: u64,
    deadline: &Deadline,
) -> Result<Answer, ApiError> {
    let caller = Caller::of(head);
    let view = app.service.view(caller.by(), &[Need::Admin], ReadLevel::Linearizable.into(), deadline.at).await?;
    let Some((id, _)) = view.kv.auth().named(name) else { return Err(none(name)) };
    drop(view.kv);
    // The id stays: who made what with it goes on.
    let token = generate(Token::generate_for(TokenId(id)))?;
    let action = Action::RotateToken { name: name.into(), id, hash: token.digest(), grace_ms };
    let outcome = write::write(app, action, head, &[], deadline).await?;
    Ok(match outcome.reply {
        Reply::Token { .. } => {
            let response = shown(StatusCode::OK, outcome.index, name, Some(&token));
            outcome.into_answer(Ok(response))
        }
        _ => outcome.refused(app, ""),
    })
}

fn shown(status: StatusCode, index: u64, name: &str, token: Option<&Token>) -> axum::response::Response {
    let text = token.map(Generated::text);
    let answer = TokenAnswer { ok: true, msg: "OK", index, name, token: text.as_deref().map(String::as_str) };
    let mut response = json::response_of(status, &answer);
    let no_store = axum::http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(axum::http::header::CACHE_CONTROL, no_store);
    response
}

/// Revokes a token
///
/// Once this is answered, no write of it takes effect anywhere.
#[utoipa::path(
    delete,
    path = "/hraftd/auth/token/{name}",
    tag = "auth",
    params(TokenPath, WriteParams),
    responses(
        (status = 200, description = "it is revoked", body = Deleted),
        (status = 404, description = "there is none", body = Problem),
    )
)]
pub async fn delete<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (time,): (WriteParams,) = query::parse(head.uri.query())?;
    let deadline = time.deadline();
    let TokenPath { name } = TokenPath::parse(head)?;
    plain(head)?;
    deadline.no_body(body, &app.body_memory).await?;
    let action = Action::DeleteToken { name: name.as_str().into() };
    let outcome = write::write(app, action, head, &[], &deadline).await?;
    Ok(match outcome.reply {
        Reply::Deleted(count) => {
            let body = Deleted::json(outcome.index, count);
            outcome.into_answer(Ok(json::response(body)))
        }
        _ => outcome.refused(app, ""),
    })
}

pub(super) fn none(name: &str) -> ApiError {
    NodeError::NotFound(format!("there is no token {name}")).into()
}

fn generate(made: std::io::Result<Token>) -> Result<Token, ApiError> {
    made.map_err(|error| NodeError::Internal(format!("the system has no randomness to give: {error}")).into())
}

/// As others, and in days.
fn duration(what: &str, text: &str) -> Result<u64, ApiError> {
    match parse_with_days(text) {
        Ok(ttl) if ttl <= MAX_TTL => Ok(as_ms(ttl)),
        Ok(_) => Err(ApiError::BadRequest(format!("{what}: {text} is more than ten years"))),
        Err(why) => Err(ApiError::BadRequest(format!("{what}: {why}; days, as 90d, are fine, too"))),
    }
}

/// Until when a deadline in log time is, as a time of the calendar; `None` where it has none.
pub(super) fn expires(expires_ms: Option<u64>, log_time_ms: u64) -> Option<String> {
    calendar(expires_ms?.max(log_time_ms), log_time_ms)
}

/// A moment of log time, as a time of the calendar: about, as log time stands still where there is no leader.
pub(super) fn calendar(at_ms: u64, log_time_ms: u64) -> Option<String> {
    let left = i64::try_from(at_ms).ok()?.checked_sub(i64::try_from(log_time_ms).ok()?)?;
    let at = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_millis(left));
    at.ok().map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
