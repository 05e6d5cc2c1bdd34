//! A client that is known, as far as it must be.

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use compact_str::CompactString;
use tokio_util::sync::CancellationToken;

use crate::api::response::error::ApiError;
use crate::command::{Action, Command, Condition, Denied, Grants, Key, Need, Principal, Stamped};
use crate::kv::{AuthRecord, Token};
use crate::secret::{Session, SessionOf, TokenMark};

/// Who asks, and what he may do as the node saw it when the request came.
#[derive(Debug, Clone)]
pub struct Caller {
    by: Option<Principal>,
    may: May,
    means: Means,
    /// Cancelled once the certificate that he is known by counts no more.
    certificate_over: Option<CancellationToken>,
}

/// The head of a request, and who sent it as far as that is known: an extension of the head would take memory.
#[derive(Debug, Clone)]
pub struct Head {
    parts: Parts,
    pub(super) caller: Option<Caller>,
}

impl Head {
    /// The head with who sent it as an extension, for handlers that take a [`Caller`].
    pub fn into_parts(self) -> Parts {
        let Self { mut parts, caller } = self;
        if let Some(caller) = caller {
            parts.extensions.insert(caller);
        }
        parts
    }
}

impl From<Parts> for Head {
    fn from(parts: Parts) -> Self {
        Self { parts, caller: None }
    }
}

impl Deref for Head {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// By which means somebody is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// He showed nothing.
    Nothing,
    /// A token, in a header.
    Token,
    /// A root token, in a header.
    Root(TokenMark),
    /// A session.
    Session(Session),
    /// A certificate.
    Certificate,
    /// The cluster's secret: it is another node.
    Secret,
}

#[derive(Debug, Clone)]
enum May {
    /// Nobody is asked, or it is a root token.
    All,
    Token(Arc<Token>),
    Anonymous(Arc<AuthRecord>),
}

/// Who asks while nobody is asked. Should that have changed by the time when the request is answered, it is refused.
static UNASKED: Caller = Caller { by: None, may: May::All, means: Means::Nothing, certificate_over: None };

impl Caller {
    /// Who sent a request.
    pub fn of(head: &Head) -> &Self {
        head.caller.as_ref().unwrap_or(&UNASKED)
    }

    pub(super) fn root(means: Means) -> Self {
        Self { by: Some(Principal::Root), may: May::All, means, certificate_over: None }
    }

    /// Another node, for itself.
    pub(super) fn node() -> Self {
        Self { by: Some(Principal::Node), may: May::All, means: Means::Secret, certificate_over: None }
    }

    /// `None` where nothing is granted to those who show nothing.
    pub(super) fn anonymous(record: Arc<AuthRecord>) -> Option<Self> {
        let by = Some(Principal::Anonymous { revision: record.revision });
        let is_any = !record.anonymous.0.is_empty();
        is_any.then_some(Self { by, may: May::Anonymous(record), means: Means::Nothing, certificate_over: None })
    }

    pub(super) fn token((by, token): (Principal, Arc<Token>), means: Means) -> Self {
        Self { by: Some(by), may: May::Token(token), means, certificate_over: None }
    }

    /// The same, who is known by a certificate.
    pub(super) fn with_certificate(self, over: CancellationToken) -> Self {
        Self { certificate_over: Some(over), ..self }
    }

    /// Cancelled once the certificate that he is known by counts no more; `None` where there is none.
    pub(super) fn certificate_over(&self) -> Option<&CancellationToken> {
        self.certificate_over.as_ref()
    }

    /// By which means he is known.
    pub fn means(&self) -> Means {
        self.means
    }

    /// The root token behind it all, if there is one.
    pub fn root_mark(&self) -> Option<TokenMark> {
        match self.means {
            Means::Root(mark) | Means::Session(Session { of: SessionOf::Root(mark), .. }) => Some(mark),
            _ => None,
        }
    }

    /// When his session is over, in milliseconds of log time.
    pub(super) fn session_ends_ms(&self) -> Option<u64> {
        match self.means {
            Means::Session(session) => Some(session.ends_ms),
            _ => None,
        }
    }

    /// The principal, for the node.
    pub fn by(&self) -> Option<&Principal> {
        self.by.as_ref()
    }

    fn grants(&self) -> Option<&Grants> {
        match &self.may {
            May::All => None,
            May::Token(token) => Some(&token.grants),
            May::Anonymous(record) => Some(&record.anonymous),
        }
    }

    /// As the API shows them.
    pub fn grant_texts(&self) -> Vec<String> {
        self.grants().map_or_else(|| vec!["admin".to_owned()], Grants::texts)
    }

    /// Whether he may.
    pub fn may(&self, need: Need<'_>) -> bool {
        self.grants().is_none_or(|grants| grants.allow(need))
    }

    /// Ok where he may.
    ///
    /// # Errors
    /// 403, which names the grant.
    pub fn demand(&self, need: Need<'_>) -> Result<(), ApiError> {
        self.grants().map_or(Ok(()), |grants| grants.demand(need)).map_err(|denied| self.refused(denied))
    }

    /// Ok where he may write one key, under these conditions.
    ///
    /// # Errors
    /// 403, which names the first grant that is missing.
    pub fn demand_write(&self, key: &Key, conditions: &[Condition]) -> Result<(), ApiError> {
        self.grants()
            .map_or(Ok(()), |grants| grants.demand_write(key, conditions))
            .map_err(|denied| self.refused(denied))
    }

    /// Ok where he may do all of an action.
    ///
    /// # Errors
    /// 403, which names the first grant that is missing.
    pub fn demand_action(&self, action: &Action) -> Result<(), ApiError> {
        self.grants().map_or(Ok(()), |grants| action.demand(grants)).map_err(|denied| self.refused(denied))
    }

    /// Ok for a root token.
    ///
    /// # Errors
    /// 403.
    pub fn must_be_root(&self) -> Result<(), ApiError> {
        match self.by {
            Some(Principal::Root) => Ok(()),
            _ => Err(self.refused(Denied::Forbidden("root (a token of --root-token-file)".into()))),
        }
    }

    /// A refusal that knows whom it is about.
    pub fn refused(&self, denied: Denied) -> ApiError {
        ApiError::denied(denied, self.by.as_ref().map(|by| by.name().into()))
    }

    /// The `Idempotency-Key` under which an outcome of his is kept.
    pub fn idempotency_key(&self, key: &str) -> CompactString {
        self.by.as_ref().map_or_else(|| key.into(), |by| by.idempotency_key(key))
    }

    /// The command that asks for something in his name.
    pub fn command(&self, stamped: Stamped) -> Command {
        match &self.by {
            Some(by) => Command::By(by.clone(), stamped),
            None => Command::Stamped(stamped),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(head.extensions.get().unwrap_or(&UNASKED).clone())
    }
}
