//! Ends what lasts, a watch or a wait, once its client may not have it any more.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Caller;
use crate::api::App;
use crate::api::response::stream::GoesOn;
use crate::api::service::Service;
use crate::command::{Denied, Need};
use crate::secret::Token;
use crate::state_machine::AuthNow;
use crate::watch::Filter;

/// What is looked at again.
type Look = Box<dyn Fn() -> Allowed + Send + Sync>;

/// Until when it may go on, if that is known.
pub type Allowed = Result<Option<Duration>, Denied>;

/// Looks again after each change of authentication and tokens, and when the token's time is up; of a token without a time it
/// costs nothing between.
pub struct Guard {
    look: Look,
    changes: watch::Receiver<AuthNow>,
    /// For a client with a root token, this node's.
    roots: Option<watch::Receiver<Vec<Token>>>,
    /// For a client who is known by a certificate.
    certificate_over: Option<CancellationToken>,
    /// What was seen last: allowed, until then.
    until: Option<Instant>,
    looked: bool,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("until", &self.until).finish_non_exhaustive()
    }
}

/// What somebody needs to follow changes of this.
pub fn need_of(filter: &Filter) -> Need<'_> {
    match filter {
        Filter::Key(key) => Need::Read(key),
        Filter::Prefix(prefix) => Need::ReadAll(prefix),
        Filter::Lock(name) => Need::Lock(name),
    }
}

impl Guard {
    /// Over what somebody follows.
    pub fn new<S: Service>(app: &Arc<App<S>>, caller: &Caller, filter: Filter) -> Self {
        Self::over(app, caller, move |look| look(need_of(&filter)))
    }

    /// Over a listing of what needs all of this: as a body asks whether it may go on.
    pub fn listing<S: Service>(
        app: &Arc<App<S>>,
        caller: &Caller,
        with_need: impl Fn(&dyn Fn(Need<'_>) -> Allowed) -> Allowed + Send + Sync + 'static,
    ) -> GoesOn {
        let mut guard = Self::over(app, caller, with_need);
        Box::new(move || guard.check().is_ok())
    }

    /// Over what needs `status`.
    pub fn of_status<S: Service>(app: &Arc<App<S>>, caller: &Caller) -> Self {
        Self::over(app, caller, |look| look(Need::Status))
    }

    fn over<S: Service>(
        app: &Arc<App<S>>,
        caller: &Caller,
        with_need: impl Fn(&dyn Fn(Need<'_>) -> Allowed) -> Allowed + Send + Sync + 'static,
    ) -> Self {
        let (app, caller) = (app.clone(), caller.clone());
        let changes = app.service.auth_changes();
        let certificate_over = caller.certificate_over().cloned();
        let roots = caller.root_mark().map(|_| app.access.root.changes());
        let look = move || {
            with_need(&|need| {
                let session = app.still_known(&caller)?;
                let token = app.service.allowed(caller.by(), need)?;
                Ok(session.into_iter().chain(token).min())
            })
        };
        Self { look: Box::new(look), changes, roots, certificate_over, until: None, looked: false }
    }

    /// Of what nobody ends.
    #[cfg(test)]
    pub fn none() -> Self {
        let changes = watch::Sender::default().subscribe();
        Self { look: Box::new(|| Ok(None)), changes, roots: None, certificate_over: None, until: None, looked: false }
    }

    /// Ok as long as it may go on. Changes of the state come after this could tell of what ended it.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check(&mut self) -> Result<(), Denied> {
        // Of a token with a time log time decides, which this node may hear of late.
        let roots = self.roots.as_ref().is_some_and(|roots| roots.has_changed().unwrap_or(false));
        let over = self.certificate_over.as_ref().is_some_and(CancellationToken::is_cancelled);
        let changed = self.changes.has_changed().unwrap_or(false);
        let is_news = !self.looked || changed || self.until.is_some() || roots || over;
        if is_news {
            // First, so that what changes meanwhile is news again.
            self.changes.mark_unchanged();
            if let Some(roots) = &mut self.roots {
                roots.mark_unchanged();
            }
            let left = (self.look)()?;
            self.until = left.map(|left| Instant::now() + left);
            self.looked = true;
        }
        Ok(())
    }

    /// Waits until it may not go on any more.
    pub async fn ended(&mut self) -> Denied {
        loop {
            if let Err(denied) = self.check() {
                return denied;
            }
            let over = async {
                match self.until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let other_roots = async {
                match &mut self.roots {
                    Some(roots) => roots.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            let certificate_over = async {
                match &self.certificate_over {
                    Some(over) => over.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() {
                    // The node is gone, and all that lasts ends by itself.
                    return std::future::pending().await;
                } else {
                    self.looked = false;
                },
                // The node is gone here, too, where that fails.
                true = other_roots => self.looked = false,
                () = over => self.looked = false,
                () = certificate_over => self.looked = false,
            }
        }
    }
}
