//! `/hraftd/auth/session`: for browsers, whose pages are not to know a token.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{plain, token};
use crate::api::App;
use crate::api::access::{self, Head, SESSION_MS, set_cookie};
use crate::api::request::deadline::WriteParams;
use crate::api::request::query;
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::{Answer, json};
use crate::api::service::Service;
use crate::command::Principal;
use crate::node::NodeError;
use crate::secret::{Session, SessionOf};

/// A session began.
#[derive(Serialize, ToSchema)]
pub struct SessionAnswer<'a> {
    ok: bool,
    msg: &'static str,
    /// The name of the token that it stands for.
    name: &'a str,
    grants: Vec<String>,
    /// When its time is up, if the token is good for so long.
    ends: Option<String>,
}

/// A session ended.
#[derive(Serialize, ToSchema)]
pub struct SessionEnd {
    ok: bool,
    msg: &'static str,
}

/// Begins a session
///
/// For pages in a browser: whoever shows a token, in a header, gets a cookie that stands for it for 12 hours, at every
/// node. It is no more than the token: its grants are looked up at each request, and it ends with it.
#[utoipa::path(
    post,
    path = "/hraftd/auth/session",
    tag = "auth",
    params(WriteParams),
    responses(
        (status = 200, description = "the cookie is set", body = SessionAnswer),
        (status = 401, description = "no token in a header, or none that is good", body = Problem),
    )
)]
pub async fn begin<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (time,): (WriteParams,) = query::parse(head.uri.query())?;
    let deadline = time.deadline();
    plain(head)?;
    let caller = access::by_header(head)?;
    deadline.no_body(body, &app.body_memory).await?;
    let of = match (caller.root_mark(), caller.by()) {
        (Some(mark), _) => SessionOf::Root(mark),
        (None, Some(Principal::Token(holder))) => SessionOf::Token { id: holder.id, generation: holder.generation },
        (None, by) => {
            let why = format!("{} is shown no session: only a token is", access::name_of(by));
            return Err(NodeError::Conflict(why).into());
        }
    };
    let log_time_ms = app.service.log_time_ms();
    let session = Session { of, ends_ms: log_time_ms.saturating_add(SESSION_MS) };
    let Some(text) = app.access.sessions.issue(&session) else {
        let why = "this node has no cluster secret, which sessions are signed with (--cluster-secret-file)";
        return Err(NodeError::Conflict(why.to_owned()).into());
    };
    let name = access::name_of(caller.by());
    let ends = token::expires(Some(session.ends_ms), log_time_ms);
    let answer = SessionAnswer { ok: true, msg: "OK", name, grants: caller.grant_texts(), ends };
    Ok(with_cookie(app, head, &answer, &text, SESSION_MS / 1000))
}

/// Ends a session
///
/// Has the browser forget the cookie. Other copies of it are good until the token is not.
#[utoipa::path(
    delete,
    path = "/hraftd/auth/session",
    tag = "auth",
    params(WriteParams),
    responses((status = 200, description = "the cookie is cleared", body = SessionEnd))
)]
pub async fn end<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (time,): (WriteParams,) = query::parse(head.uri.query())?;
    plain(head)?;
    time.deadline().no_body(body, &app.body_memory).await?;
    Ok(with_cookie(app, head, &SessionEnd { ok: true, msg: "OK" }, "", 0))
}

fn with_cookie<S: Service>(app: &App<S>, head: &Head, shape: &impl Serialize, text: &str, seconds: u64) -> Answer {
    let mut response = json::response_of(StatusCode::OK, shape);
    if let Ok(mut cookie) = HeaderValue::from_str(&set_cookie(head, text, seconds)) {
        cookie.set_sensitive(true);
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    app.answer_here(Ok(response))
}
