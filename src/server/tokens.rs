//! The root tokens of this node, from their file; and the start of a node that must not serve just anybody.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::failure;
use crate::api::RootTokens;
use crate::config::RootTokenFile;
use crate::exit::Exit;
use crate::node::{Node, NodeSlot};
use crate::secret::{Access, FileWatch, Token, parse_list};
use crate::start::Setup;
use crate::storage::IdentityStore;
use crate::task;

/// How often it is looked whether the file has changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Ends what it began when it is dropped.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The root tokens, which follow their file until the task is dropped.
///
/// # Errors
/// 78: the file cannot be used.
pub(super) async fn root_tokens(file: Option<&RootTokenFile>) -> Result<(RootTokens, Option<Task>), Exit> {
    let Some(file) = file.cloned() else { return Ok((RootTokens::default(), None)) };
    let bad = |label: &str, why: &dyn std::fmt::Display| Exit::config(format!("{label}: {why}"));
    let (path, label) = (file.path, file.label);
    let opened = task::spawn_blocking(move || FileWatch::open(vec![(path, Access::Private)])).await.map_err(failure)?;
    let (watch, contents) = opened.map_err(|(_, why)| bad(&label, &why))?;
    let tokens = first(&contents).map_err(|why| bad(&label, &why))?;
    let root = RootTokens::new(tokens);
    let following = task::spawn(follow(watch, root.clone(), label));
    Ok((root, Some(Task(following))))
}

fn first(contents: &[impl AsRef<[u8]>]) -> Result<Vec<Token>, crate::secret::FileError> {
    parse_list(contents.first().map(AsRef::as_ref).unwrap_or_default())
}

/// Takes over what the file has; one that cannot be used changes nothing, and is warned of.
async fn follow(mut watch: FileWatch, root: RootTokens, label: String) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let looked = task::spawn_blocking(move || {
            let news = watch.look();
            (watch, news)
        });
        let Ok((again, news)) = looked.await else { return };
        watch = again;
        match news {
            None => {}
            Some(Ok(contents)) => match first(&contents) {
                Ok(tokens) => {
                    tracing::info!("{label}: it has changed, and has {} root tokens now", tokens.len());
                    root.replace(tokens);
                }
                Err(why) => tracing::warn!("{label}: {why}; the root tokens stay as they were"),
            },
            Some(Err((path, why))) => {
                tracing::warn!("{label}: {}: {why}; the root tokens stay as they were", PathBuf::from(path).display());
            }
        }
    }
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

/// Has authentication turned on where it never was on or off.
pub(super) fn turn_on(node: &Node, file: Option<&RootTokenFile>) -> Option<Task> {
    let anonymous = file?.anonymous.clone();
    Some(Task(task::spawn(node.clone().turn_on_authentication(anonymous))))
}
