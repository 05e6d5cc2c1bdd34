//! The root tokens of this node, from their file; and the start of a node that must not serve just anybody.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::failure;
use super::reload::{Reloads, Why};
use crate::api::RootTokens;
use crate::config::RootTokenFile;
use crate::exit::Exit;
use crate::node::{Node, NodeSlot};
use crate::observe::{SecurityFault, SecurityNumbers};
use crate::secret::{Access, FileError, FileWatch, Token, parse_list};
use crate::start::Setup;
use crate::storage::IdentityStore;
use crate::task;

/// Ends what it began when it is dropped.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The root tokens, which follow their file. Blocks.
///
/// # Errors
/// 78: the file cannot be used.
pub(super) fn root_tokens(
    file: Option<&RootTokenFile>,
    reloads: &Reloads,
    numbers: &Arc<SecurityNumbers>,
) -> Result<RootTokens, Exit> {
    let Some(RootTokenFile { path, label, .. }) = file.cloned() else { return Ok(RootTokens::default()) };
    let bad = |why: FileError| Exit::config(format!("{label}: {why}"));
    let (mut watch, contents) = FileWatch::open(vec![(path, Access::Private)]).map_err(|(_, why)| bad(why))?;
    let root = RootTokens::new(tokens(&contents).map_err(bad)?);
    let (following, numbers) = (root.clone(), numbers.clone());
    reloads.add(move |why| {
        let news = match why {
            Why::Signal => Some(watch.read_now()),
            Why::Time => watch.look(),
        };
        let Some(news) = news else { return };
        // One that cannot be used changes nothing.
        match news.map_err(|(_, why)| why).and_then(|contents| tokens(&contents)) {
            Ok(tokens) => {
                tracing::info!("{label}: read again; it has {} root tokens", tokens.len());
                following.replace(tokens);
                numbers.fault(SecurityFault::RootTokens, None);
            }
            Err(why) => {
                let what = format!("{label}: {why}; the root tokens stay as they were");
                tracing::warn!("{what}");
                numbers.fault(SecurityFault::RootTokens, Some(what));
            }
        }
    });
    Ok(root)
}

fn tokens(contents: &[impl AsRef<[u8]>]) -> Result<Vec<Token>, FileError> {
    parse_list(contents.first().map(AsRef::as_ref).unwrap_or_default())
}

/// Closes a node that must not serve just anybody before it knows its state: one that is to turn authentication on, and one
/// whose cluster has it on.
///
/// # Errors
/// The directory cannot be read.
pub(super) async fn close_if_needed(slot: &NodeSlot, setup: &Setup, file: Option<&RootTokenFile>) -> Result<(), Exit> {
    let disk = setup.disk.clone();
    let noted = task::spawn_blocking(move || IdentityStore::new(disk).is_closed()).await.map_err(failure)?;
    if noted.map_err(failure)? || file.is_some() {
        slot.close();
    }
    Ok(())
}

/// Closes a node with a secret that has not caught up with its first cluster: what it applies first may be of before
/// authentication was on. That is noted before it can be let in, so that a restart does not forget it. `is_new`: it has no
/// cluster yet. True: the note is to go once it has caught up.
///
/// # Errors
/// The directory cannot be read or written.
pub(super) async fn close_until_caught_up(slot: &NodeSlot, setup: &Setup, is_new: bool) -> Result<bool, Exit> {
    let store = IdentityStore::new(setup.disk.clone());
    let noted = task::spawn_blocking(move || {
        if is_new {
            store.note_joining()?;
        }
        store.is_joining()
    });
    let is_joining = noted.await.map_err(failure)?.map_err(failure)?;
    if is_joining {
        slot.close_until_ready();
    }
    Ok(is_joining)
}

/// Forgets that once it is so no more.
pub(super) fn forget_once_caught_up(slot: &NodeSlot, setup: &Setup) -> Task {
    let (slot, store) = (slot.clone(), IdentityStore::new(setup.disk.clone()));
    Task(task::spawn(async move {
        slot.caught_up().await;
        // Where it stays the node is closed for a while once more.
        if let Ok(Err(error)) = task::spawn_blocking(move || store.forget_joining()).await {
            tracing::warn!("it cannot be noted that this node has caught up: {error}");
        }
    }))
}

/// Has authentication turned on where it never was on or off.
pub(super) fn turn_on(node: &Node, file: Option<&RootTokenFile>) -> Option<Task> {
    let anonymous = file?.anonymous.clone();
    Some(Task(task::spawn(node.clone().turn_on_authentication(anonymous))))
}
