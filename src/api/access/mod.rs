//! Who asks, and whether he may: before anything of a request is done.
//!
//! Contract:
//! * Every route has its [`Needs`](super::methods::Needs) in the list of routes. What those do not decide, the handler
//!   demands of its [`Caller`], by path, query and body alone; and the node checks it once more in the state that answers.
//! * The order of refusals: 400 of the head, 401 before any body is read, 421, 403 before the state is looked at, then the rest.
//! * A bad credential never falls through to the next kind.
//! * Where authentication is off nothing here is looked at.
//!
//! [`credentials`] reads what a request shows, [`root`] has this node's root tokens, [`sessions`] what browsers hold,
//! [`cluster`] refuses what is for another cluster, [`guard`] ends what lasts, [`refusals`] counts and logs.

mod caller;
pub(super) mod cluster;
mod credentials;
mod guard;
mod refusals;
mod root;
mod sessions;
mod used;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::App;
use super::methods::{self, Needs};
use super::service::Service;
use crate::api::request::query;
use crate::api::response::error::ApiError;
use crate::command::{Denied, Need, Principal};
use crate::http::Newcomer;
use crate::kv::AuthRecord;
use crate::node::{Gate, NodeError, ReadLevel};
use crate::observe::SecurityNumbers;
use crate::secret::{Session, SessionOf};
use crate::tls::PeerIdentity;

pub use caller::{Caller, Head, Means};
pub use guard::{Guard, need_of};
pub use refusals::Refusals;
pub use root::RootTokens;
pub use sessions::{SESSION_MS, Sessions, set_cookie};

use credentials::Shown;
use used::LastUsed;

/// Requests that wait at a time because a token is not known here.
const MAX_LOOKING_AGAIN: usize = 256;

/// How long one of them waits.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// How long a request waits until it is known whom to serve.
const SHUT_WAIT: Duration = Duration::from_secs(5);

/// The part of the application that is about access.
#[derive(Debug)]
pub struct Access {
    /// This node's root tokens.
    pub root: RootTokens,
    /// What signs sessions.
    pub sessions: Sessions,
    /// Which tokens are used.
    pub used: LastUsed,
    /// What was refused.
    pub refusals: Refusals,
    looking_again: Semaphore,
}

impl Access {
    pub fn new(root: RootTokens, sessions: Sessions, numbers: Arc<SecurityNumbers>) -> Self {
        Self {
            root,
            sessions,
            used: LastUsed::default(),
            refusals: Refusals::new(numbers),
            looking_again: Semaphore::new(MAX_LOOKING_AGAIN),
        }
    }
}

/// Finds out who asks, and notes it with the request. Refuses what is for another cluster, and whom the route alone refuses.
///
/// # Errors
/// 400, 401, 403, 421 or 503.
pub async fn authenticate<S: Service>(app: &App<S>, head: &mut Head) -> Result<(), ApiError> {
    // Its lines of checks are no public word.
    let says_more = head.uri.path() == "/readyz" && query::names(head.uri.query(), "verbose");
    let needs = if says_more { Needs::Status } else { methods::needs(&head.method, head.uri.path()) };
    let gate = app.service.gate();
    let is_open = matches!(gate, Gate::Open);
    if needs == Needs::Public || is_open && !needs.is_about_tokens() {
        if is_open {
            keep_connection(head);
        }
        return if needs == Needs::Public { Ok(()) } else { cluster::check(app, head) };
    }
    // The cluster's secret says who that is; `nodes` says what it may ask.
    if head.extensions.get::<PeerIdentity>().is_some() {
        head.caller = Some(Caller::node());
        keep_connection(head);
        return Ok(());
    }
    let shown = credentials::of(head, &app.access.sessions)?;
    // Who is known here waits for nothing, and costs nothing but the look.
    let caller = match at_once(app, shown.as_ref(), &gate) {
        Some(caller) => caller,
        None => Box::pin(find(app, head, needs, gate, shown)).await?,
    };
    // He may not do this, and something else.
    keep_connection(head);
    if let Some(Principal::Token(holder)) = caller.by() {
        app.access.used.note(holder.id, SystemTime::now());
    }
    head.caller = Some(caller);
    cluster::check(app, head)?;
    let caller = Caller::of(head);
    match needs {
        Needs::Status => caller.demand(Need::Status)?,
        Needs::Members => caller.demand(Need::Members)?,
        Needs::Tokens => caller.demand(Need::Admin)?,
        Needs::Root => caller.must_be_root()?,
        // Its handler demands more.
        Needs::Data | Needs::Known | Needs::Public => {}
    }
    Ok(())
}

/// True where it is asked who sends a request, and that is not known of this one: it is told nothing of the cluster.
pub fn is_strange<S: Service>(app: &App<S>, head: &Head) -> bool {
    head.caller.is_none() && !matches!(app.service.gate(), Gate::Open)
}

/// Keeps the connection from making room for others: its client is known, or nobody is asked who he is.
fn keep_connection(head: &Parts) {
    if let Some(newcomer) = head.extensions.get::<Newcomer>() {
        newcomer.stays();
    }
}

fn at_once<S: Service>(app: &App<S>, shown: Option<&Shown>, gate: &Gate) -> Option<Caller> {
    match (by_root(app, shown), gate, shown) {
        (Some(by_root), _, _) => by_root.ok(),
        (None, Gate::Asks(_), Some(shown)) => known(app, shown).ok(),
        _ => None,
    }
}

async fn find<S: Service>(
    app: &App<S>,
    head: &Head,
    needs: Needs,
    gate: Gate,
    shown: Option<Shown>,
) -> Result<Caller, ApiError> {
    if let Some(by_root) = by_root(app, shown.as_ref()) {
        return by_root;
    }
    let gate = match gate {
        Gate::Shut => {
            app.service.gate_opens(Instant::now() + SHUT_WAIT).await;
            app.service.gate()
        }
        gate => gate,
    };
    match gate {
        Gate::Asks(record) => identify(app, head, shown, record).await,
        Gate::Shut => Err(NodeError::NotReady(
            "this node does not know yet whom it may serve: it is starting, or authentication is being turned on; only root \
             tokens are served until then"
                .to_owned(),
        )
        .into()),
        // Nobody but who has a root token can be known.
        Gate::Open if needs.is_about_tokens() => Err(shown.map_or(Denied::Missing, |_| Denied::Unknown).into()),
        Gate::Open => Ok(Caller::of(head).clone()),
    }
}

/// Whoever shows a root token of this node, or a session of one.
fn by_root<S: Service>(app: &App<S>, shown: Option<&Shown>) -> Option<Result<Caller, ApiError>> {
    match shown? {
        Shown::Token(token) if app.access.root.has(token) => Some(Ok(Caller::root(Means::Root(token.mark())))),
        Shown::Session(session @ Session { of: SessionOf::Root(_), .. }) => {
            let caller = Caller::root(Means::Session(*session));
            Some(app.still_known(&caller).map(|_| caller).map_err(ApiError::from))
        }
        _ => None,
    }
}

/// Who begins a session: whoever shows a token in a header, and nobody else.
///
/// # Errors
/// 401.
pub fn by_header(head: &Head) -> Result<&Caller, ApiError> {
    match head.headers.contains_key(AUTHORIZATION) {
        true => Ok(Caller::of(head)),
        false => Err(Denied::Missing.into()),
    }
}

impl<S: Service> App<S> {
    /// Ok where what this node alone knows of a client still holds, and for how long it does: its root token is in the
    /// file, and its session is not over.
    fn still_known(&self, caller: &Caller) -> Result<Option<Duration>, Denied> {
        if caller.root_mark().is_some_and(|mark| !self.access.root.has_mark(&mark)) {
            return Err(Denied::Unknown);
        }
        if caller.certificate_over().is_some_and(CancellationToken::is_cancelled) {
            return Err(Denied::Unknown);
        }
        let Some(ends_ms) = caller.session_ends_ms() else { return Ok(None) };
        match ends_ms.saturating_sub(self.service.log_time_ms()) {
            0 => Err(Denied::Expired),
            left_ms => Ok(Some(Duration::from_millis(left_ms))),
        }
    }
}

async fn identify<S: Service>(
    app: &App<S>,
    head: &Parts,
    shown: Option<Shown>,
    record: Arc<AuthRecord>,
) -> Result<Caller, ApiError> {
    match shown {
        None => Caller::anonymous(record).ok_or_else(|| Denied::Missing.into()),
        Some(Shown::Garbage) => Err(Denied::Unknown.into()),
        Some(Shown::Certificate(names)) => {
            let found = names.names.iter().find_map(|name| app.service.has_certificate(name));
            let known =
                found.map(|known| Caller::token(known, Means::Certificate).with_certificate(names.over.clone()));
            known.ok_or_else(|| Denied::Unknown.into())
        }
        Some(shown @ (Shown::Token(_) | Shown::Session(_))) => {
            let refused = match known(app, &shown) {
                Ok(caller) => return Ok(caller),
                Err(refused) => refused,
            };
            if reads_here(head, app.settings.read_level) {
                return Err(refused.into());
            }
            // It may have been made, changed or given another secret elsewhere, just now.
            look_again(app).await?;
            Ok(known(app, &shown)?)
        }
    }
}

/// Who shows a token of the cluster, or a session of one, by the state of this node.
fn known<S: Service>(app: &App<S>, shown: &Shown) -> Result<Caller, Denied> {
    match shown {
        Shown::Token(token) => Ok(Caller::token(app.service.who_shows(token)?, Means::Token)),
        Shown::Session(session @ Session { of: SessionOf::Token { id, generation }, .. }) => {
            let caller = Caller::token(app.service.who_holds(*id, *generation)?, Means::Session(*session));
            app.still_known(&caller).map(|_| caller)
        }
        _ => Err(Denied::Unknown),
    }
}

/// Waits once until this node has all that was acknowledged anywhere.
async fn look_again<S: Service>(app: &App<S>) -> Result<(), ApiError> {
    let Ok(_place) = app.access.looking_again.try_acquire() else { return Ok(()) };
    match app.service.settle(ReadLevel::Linearizable.into(), Instant::now() + LOOK_AGAIN).await {
        Ok(_) => Ok(()),
        Err(NodeError::Timeout(why)) => {
            Err(NodeError::NotReady(format!("{why}; so the token cannot be looked up")).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a request asks for this node's own state, however old.
fn reads_here(head: &Parts, default: ReadLevel) -> bool {
    let query = head.uri.query().unwrap_or_default();
    let mut levels = query.split('&').filter_map(|pair| pair.strip_prefix("level="));
    match levels.next() {
        Some(level) => level == "none",
        None => default == ReadLevel::None && matches!(head.method, Method::GET | Method::HEAD),
    }
}

/// The name of a client in logs.
pub fn name_of(by: Option<&Principal>) -> &str {
    by.map_or("nobody", Principal::name)
}
