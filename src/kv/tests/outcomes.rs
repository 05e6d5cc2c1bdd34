//! What the [`Model`] keeps of an outcome, and what it tells of it later.

use super::model::{Entry, Model};
use super::*;
use crate::command::OpResult;

/// Cuts a reply to the part that is kept.
pub(super) fn cut(kept: &mut Reply) {
    match kept {
        Reply::Txn { results, .. } => {
            for result in results.iter_mut().filter(|result| matches!(result, OpResult::Got(..))) {
                *result = OpResult::NotKept;
            }
        }
        Reply::Failed(failure) => match &mut **failure {
            Failure::Precondition { current } => *current = None,
            Failure::Locked(view) => view.body = None,
            _ => {}
        },
        _ => {}
    }
}

impl Model {
    /// A refusal, with what was not kept of it.
    pub(super) fn as_now(&self, action: &Action, mut kept: Reply) -> Reply {
        if let Reply::Failed(failure) = &mut kept {
            match (&mut **failure, action) {
                (
                    Failure::Precondition { current },
                    Action::Put { key, .. }
                    | Action::Delete { key, .. }
                    | Action::Incr { key, .. }
                    | Action::Touch { key, .. }
                    | Action::Leased { write: Leased::Put { key, .. } | Leased::Incr { key, .. }, .. },
                ) => *current = self.keys.get(key).map(Entry::record),
                (
                    Failure::Precondition { current },
                    Action::Set { pairs, .. } | Action::Leased { write: Leased::Set { pairs, .. }, .. },
                ) => {
                    *current = self.keys.get(&pairs[0].0).map(Entry::record);
                }
                (
                    Failure::Locked(view),
                    Action::Acquire { name, .. } | Action::Leased { write: Leased::Acquire { name, .. }, .. },
                ) => {
                    view.body = self.view(name).filter(|now| now.token == view.token).and_then(|now| now.body);
                }
                _ => {}
            }
        }
        kept
    }
}
