//! Who may ask this node for what: authentication as the state has it, and where that is not known yet.
//!
//! Contract: whatever is read is checked in the very state that it is read from; whatever is written, where its entry is
//! applied ([`crate::kv`]). What only the leader does is checked there, in a state that a quorum confirmed to be the newest.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::command::{Action, Denied, Grants, Holder, Need, Principal, TokenHash, TokenId};
use crate::formats::Feature;
use crate::kv::{AuthRecord, HeldLock, Token};
use crate::node::membership::AtLeader;
use crate::node::rpc::NotLeader;
use crate::node::state::Phase;
use crate::node::{Node, NodeError, NodeSlot, ReadLevel, ReadOptions, Settled, StateView};
use crate::observe::{SecurityFault, SecurityNumbers};

/// How long the entry that turns authentication on may take before it is tried again.
const TURN_ON_TIMEOUT: Duration = Duration::from_secs(5);

/// How long until it is tried again.
const TURN_ON_AGAIN: Duration = Duration::from_millis(100);

/// Whether clients are asked who they are.
#[derive(Debug, Clone)]
pub enum Gate {
    /// They are not.
    Open,
    /// They are; what is granted to all is in here.
    Asks(Arc<AuthRecord>),
    /// It is not known yet: nobody is served but who has a root token.
    Shut,
}

impl NodeSlot {
    /// Whether clients are asked who they are.
    pub fn gate(&self) -> Gate {
        match self.node().map(|node| node.inner.map.auth().borrow().record.clone()) {
            Some(Some(record)) if record.on => Gate::Asks(record),
            Some(Some(_)) => Gate::Open,
            Some(None) | None if self.is_closed() || self.is_catching_up() => Gate::Shut,
            Some(None) | None => Gate::Open,
        }
    }

    /// Waits until it is known whether clients are asked, or the time is up.
    pub async fn gate_opens(&self, until: Instant) {
        let known = async {
            let Ok(node) = self.wait(until).await else { return };
            let mut auth = node.inner.map.auth();
            let mut phase = node.inner.phase.subscribe();
            let may_open = !self.is_closed();
            tokio::select! {
                _ = auth.wait_for(|auth| auth.record.is_some()) => {}
                _ = phase.wait_for(|phase| *phase == Phase::Ready), if may_open => {}
            }
        };
        let _ = tokio::time::timeout_at(until, known).await;
    }
}

impl Node {
    /// From now on members tell what is wrong here with secrets and certificates.
    pub fn tell_security(&self, numbers: Arc<SecurityNumbers>) {
        let _first = self.inner.security.set(numbers);
    }

    pub(in crate::node) fn security_warnings(&self) -> Vec<String> {
        self.security_faults().into_iter().map(|(_, what)| what).collect()
    }

    /// What is wrong here with secrets, certificates and tokens.
    pub(in crate::node) fn security_faults(&self) -> Vec<(SecurityFault, String)> {
        let asks = self.inner.map.auth().borrow().record.as_ref().is_some_and(|record| record.on);
        self.inner.security.get().map(|numbers| numbers.faults(asks)).unwrap_or_default()
    }

    /// The fingerprints of the cluster secrets that this node trusts; and when its certificate and the authority of
    /// clients' certificates end, in seconds since 1970, 0 where there is none.
    pub(in crate::node) fn secrets_and_ends(&self) -> (Vec<String>, [i64; 2]) {
        self.inner.security.get().map(|numbers| (numbers.secrets(), numbers.ends())).unwrap_or_default()
    }

    /// Follows changes of authentication and tokens, as far as this node has applied them.
    pub fn auth_changes(&self) -> watch::Receiver<crate::state_machine::AuthNow> {
        self.inner.map.auth()
    }

    /// Who shows the token with this id and hash.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn who_shows(&self, id: TokenId, hash: &TokenHash) -> Result<(Principal, Arc<Token>), Denied> {
        let (token, generation) = self.inner.map.identify(id, hash)?;
        let holder = Holder { id, generation, revision: token.revision, name: token.name.clone() };
        Ok((Principal::Token(holder), token))
    }

    /// Who holds the secret of this generation of a token.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn who_holds(&self, id: TokenId, generation: u32) -> Result<(Principal, Arc<Token>), Denied> {
        let token = self.inner.map.held(id, generation)?;
        let holder = Holder { id, generation, revision: token.revision, name: token.name.clone() };
        Ok((Principal::Token(holder), token))
    }

    /// Whom a certificate with this name stands for.
    pub fn of_certificate(&self, name: &str) -> Option<(Principal, Arc<Token>)> {
        let (id, token) = self.inner.map.of_certificate(name)?;
        let (generation, revision) = (token.generation, token.revision);
        Some((Principal::Token(Holder { id, generation, revision, name: token.name.clone() }), token))
    }

    /// Ok where somebody may do this, by the state that this node has applied; and until when that holds, as long as no
    /// entry changes it.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn allowed(&self, by: Option<&Principal>, need: Need<'_>) -> Result<Option<Duration>, Denied> {
        self.inner.map.allowed(by, need)
    }

    /// As [`view`](Self::view), for a client that needs grants for it.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn view_by(
        &self,
        by: Option<&Principal>,
        needs: &[Need<'_>],
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<StateView, NodeError> {
        let view = self.view(options, deadline).await?;
        let now_ms = self.log_time_of(&view);
        // None of them would ask for nothing.
        let needs = if needs.is_empty() { &[Need::Nothing] } else { needs };
        needs.iter().try_for_each(|need| view.kv.auth().check(by, *need, now_ms)).map_err(NodeError::Denied)?;
        Ok(view)
    }

    /// Whether other nodes understand whom a request is of. Nobody is asked who he is before.
    pub(in crate::node) fn knows_clients(&self) -> bool {
        self.format() >= Feature::Tokens.format()
    }

    /// The same for a request of this client. Who asks for one that it does not know of yet, a root token's, has only just
    /// started, or is new: it catches up first. In the name of nobody the others would refuse the request.
    ///
    /// # Errors
    /// [`NodeError`]: nothing was done.
    pub(in crate::node) async fn knows_client(
        &self,
        by: Option<&Principal>,
        deadline: Instant,
    ) -> Result<bool, NodeError> {
        if by.is_none() || self.knows_clients() {
            return Ok(true);
        }
        match Box::pin(self.settle(ReadLevel::Linearizable.into(), deadline)).await {
            Ok(_) => Ok(self.knows_clients()),
            Err(NodeError::Timeout(why)) => Err(NodeError::NotReady(format!(
                "{why}; until this node has caught up it cannot say whom a request is of"
            ))),
            Err(error) => Err(error),
        }
    }

    /// Log time is not before that of a view, nor before this node's own.
    pub(in crate::node) fn log_time_of(&self, view: &StateView) -> u64 {
        view.kv.log_time_ms().max(self.clock().now_ms())
    }

    /// As [`lock`](Self::lock), for a client.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn lock_by(
        &self,
        by: Option<&Principal>,
        name: &str,
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<(Option<HeldLock>, u64, Settled), NodeError> {
        let settled = self.settle(options, deadline).await?;
        let (lock, index) = self.inner.map.lock_by(by, name).map_err(NodeError::Denied)?;
        Ok((lock, index, settled))
    }

    /// As the leader, of what a client wants: whether it may change the members, by a state that a quorum confirmed.
    pub(in crate::node) async fn may_administer(&self, by: Option<&Principal>, deadline: Instant) -> AtLeader {
        if self.knows_clients() {
            // What earlier leaders committed is applied here.
            self.term_led(deadline).await.ok_or(NotLeader)?;
        }
        if by.is_some() {
            let index = self.confirm_as_leader().await.ok_or(NotLeader)?;
            if let Err(error) = self.wait_applied(index, deadline).await {
                return Ok(Err(error));
            }
        }
        Ok(self.allowed(by, Need::Members).map(|_| ()).map_err(NodeError::Denied))
    }

    /// Turns authentication on, unless it was ever on or off. Ends once that is known. `anonymous` is granted to all.
    pub async fn turn_on_authentication(self, anonymous: Grants) {
        let mut auth = self.inner.map.auth();
        let mut told = String::new();
        loop {
            if let Some(record) = &auth.borrow_and_update().record {
                if !record.on || record.anonymous != anonymous {
                    tracing::warn!(
                        "authentication is {} in this cluster, as was recorded at index {}: --anonymous changes nothing \
                         of that; PUT /hraftd/auth and /hraftd/auth/token/anonymous do",
                        if record.on { "on" } else { "off" },
                        record.revision
                    );
                }
                return;
            }
            let deadline = Instant::now() + TURN_ON_TIMEOUT;
            if let Err(error) = self.try_to_turn_on(&anonymous, deadline).await {
                let why = error.to_string();
                if why != told {
                    tracing::info!("authentication is not on yet: {why}");
                    told = why;
                }
                tokio::select! {
                    () = sleep(TURN_ON_AGAIN) => {}
                    changed = auth.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    async fn try_to_turn_on(&self, anonymous: &Grants, deadline: Instant) -> Result<(), NodeError> {
        self.require(Feature::Tokens, deadline).await?;
        // What the cluster has recorded is known only once this node is up to date.
        self.settle(ReadLevel::Linearizable.into(), deadline).await?;
        if self.inner.map.auth().borrow().record.is_some() {
            return Ok(());
        }
        let action = Action::Authentication { on: true, anonymous: Some(anonymous.clone()), first: true };
        let written = self.write(action.into(), deadline).await?;
        self.wait_applied(written.index, deadline).await?;
        tracing::info!("authentication is on, from index {} on: clients need tokens", written.index);
        Ok(())
    }
}
