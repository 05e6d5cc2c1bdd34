//! The way of a command: who asks, whether it was asked before, and only then what it does.

use std::borrow::Cow;

use super::KvStore;
use super::event::{Event, Events};
use super::idempotency::{LIMITS, Limits};
use crate::command::{Action, Command, Denied, Failure, Leased, Need, Principal, Reply, Retry, Stamped};
use crate::record::{Marks, Rare, Record};

impl KvStore {
    /// Applies all of one command, or refuses all of it. The same commands at the same indexes in the same
    /// order give the same state, replies and events everywhere.
    pub fn apply(&mut self, index: u64, command: &Command, events: &mut Vec<Event>) -> Reply {
        self.apply_within(LIMITS, index, command, events)
    }

    pub(super) fn apply_within(
        &mut self,
        limits: Limits,
        index: u64,
        command: &Command,
        events: &mut Vec<Event>,
    ) -> Reply {
        let mut events = Events::new(index, command.by(), events);
        match command {
            Command::Set(_) | Command::Delete(_) if self.auth.is_on() => {
                Reply::failed(Failure::Denied(Denied::Missing))
            }
            Command::Set(pairs) => {
                for (key, value) in pairs {
                    self.store(key, |_| Record::new(Marks::UNKNOWN, &Rare::default(), value), &mut events);
                }
                Reply::Done
            }
            Command::Delete(key) => Reply::Deleted(self.delete(key, &mut events)),
            Command::Stamped(stamped) => self.apply_stamped(limits, (index, None), stamped, &mut events),
            Command::By(by, stamped) => self.apply_stamped(limits, (index, Some(by)), stamped, &mut events),
        }
    }

    /// Answers a command that [only reads](Command::only_reads) as applying it would: for a clone of the state, which what
    /// is compared is noted in. `None` of any other command. Kept outcomes are neither looked at nor added.
    pub fn answer_read(&mut self, index: u64, now_ms: u64, command: &Command) -> Option<Reply> {
        let Stamped { action, .. } = command.stamped().filter(|_| command.only_reads())?;
        self.log_time_ms = self.log_time_ms.max(now_ms);
        let by = command.by();
        Some(match self.check_command(by, action) {
            Ok(()) => self.act(index, by, action, &mut Events::new(index, by, &mut Vec::new())),
            Err(refused) => Reply::failed(refused),
        })
    }

    fn apply_stamped(
        &mut self,
        limits: Limits,
        (index, by): (u64, Option<&Principal>),
        Stamped { stamp_ms, retry, action }: &Stamped,
        events: &mut Events<'_>,
    ) -> Reply {
        // What a lock or a lease shows goes with it, one day.
        if let Action::Acquire { body: Some(body), .. }
        | Action::Grant { body: Some(body), .. }
        | Action::Leased { write: Leased::Acquire { body: Some(body), .. }, .. } = action
        {
            self.keys.gone.add(body.len());
        }
        self.log_time_ms = self.log_time_ms.max(*stamp_ms);
        if let Err(refused) = self.check_command(by, action) {
            return Reply::failed(refused);
        }
        let Some(retry) = retry else { return self.act_within_quota(index, by, action, events) };
        let retry = self.retry_of(by, retry);
        if let Some(reply) = self.retries.check(limits, self.log_time_ms, &retry) {
            return self.replay(action, reply);
        }
        let reply = self.act_within_quota(index, by, action, events);
        // Nothing was done; once there is room, a repetition is to be.
        if matches!(&reply, Reply::Failed(failure) if matches!(**failure, Failure::Quota { .. })) {
            return reply;
        }
        self.retries.keep(index, self.log_time_ms, &retry, &reply);
        reply
    }

    /// Before anything else is looked at: may this client propose that now?
    fn check_command(&self, by: Option<&Principal>, action: &Action) -> Result<(), Failure> {
        let may_all = self.auth.check_command(by, action, self.log_time_ms).map_err(Failure::Denied)?;
        if may_all { Ok(()) } else { self.check_owner(by, action) }
    }

    /// What it changes that others may have made was made by this client. A lease that was not is answered as one that
    /// is not there: ids are easy to guess.
    fn check_owner(&self, by: Option<&Principal>, action: &Action) -> Result<(), Failure> {
        if let Action::Renew { name, token, .. } | Action::Release { name, token } = action
            && !self.locks.lets(name, *token, by)
        {
            return Err(Failure::Denied(Denied::NotOwner));
        }
        match action.leases().find(|lease| !self.may_use_lease(*lease, by)) {
            Some(lease) => Err(Failure::LeaseLost { place: None, lease }),
            None => Ok(()),
        }
    }

    /// One that nobody made who is known may have anybody's keys: a token that uses it may write all of them.
    fn may_use_lease(&self, lease: u64, by: Option<&Principal>) -> bool {
        match by {
            Some(by @ Principal::Token(_)) if !self.has_owner(lease) => {
                self.auth.check(Some(by), Need::WriteAll(""), self.log_time_ms).is_ok()
            }
            by => self.lease_owners.lets(lease, by),
        }
    }

    /// The `Idempotency-Key` as it is kept. Outcomes from before clients said who they are match anybody.
    fn retry_of<'a>(&self, by: Option<&Principal>, retry: &'a Retry) -> Cow<'a, Retry> {
        match by {
            Some(by) if !self.retries.has(&retry.key) => {
                Cow::Owned(Retry { key: by.idempotency_key(&retry.key), ..retry.clone() })
            }
            _ => Cow::Borrowed(retry),
        }
    }
}
