//! Reads the whole content of a data directory, and finds its faults.

use std::io;
use std::path::Path;
use std::sync::Arc;

use openraft::EntryPayload;

use super::exit;
use crate::exit::Exit;
use crate::formats::Format;
use crate::raft_types::alias::{LogId, StoredMembership};
use crate::storage::disk::Disk;
use crate::storage::log::LogView;
use crate::storage::replace::{self, Pending};
use crate::storage::snapshot::{SnapshotView, views};
use crate::storage::{DataDir, Identity, IdentityStore, ReadDir, StorageError};

/// The content of a directory.
#[derive(Debug)]
pub struct Survey {
    /// Its identity; `None` if that cannot be read.
    pub identity: Option<Identity>,
    /// Its readable snapshots, newest first, and how many keys each has.
    pub snapshots: Vec<(SnapshotView, u64)>,
    /// Its log.
    pub log: LogView,
    /// The format that its newest entry leaves, whether committed or not.
    pub format: Format,
    /// The newest membership, whether committed or not.
    pub membership: Option<StoredMembership>,
    /// The reasons why a node would not start on it, one line each.
    pub problems: Vec<String>,
}

impl Survey {
    /// Reads a directory that is locked, or copied.
    ///
    /// # Errors
    /// `Io`: the directory cannot be read at all.
    pub fn read(disk: &Arc<dyn Disk>) -> Result<Self, StorageError> {
        let mut problems = Vec::new();
        let identity = IdentityStore::new(disk.clone()).peek().unwrap_or_else(|error| {
            problems.push(error.to_string());
            None
        });
        let mut snapshots = Vec::new();
        for view in views(&**disk)? {
            match view.and_then(|view| view.count_keys().map(|keys| (view, keys))) {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(error) => problems.push(error.to_string()),
            }
        }
        let log = LogView::read(&**disk, identity.as_ref().map(Identity::log_owner));
        problems.extend(log.damage.as_ref().map(ToString::to_string));
        let mut survey = Self { identity, snapshots, log, format: Format::default(), membership: None, problems };
        if let Err(error) = survey.replay() {
            survey.problems.push(format!("{}: {error}", disk.display("log-*")));
        }
        if survey.problems.is_empty() && !survey.is_nothing() {
            survey.problems = survey.contradictions(&**disk);
        }
        Ok(survey)
    }

    /// True if there is nothing of a node in the directory.
    pub fn is_nothing(&self) -> bool {
        self.identity.is_none() && self.snapshots.is_empty() && self.log.segments.is_empty() && self.problems.is_empty()
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Option<&SnapshotView> {
        self.snapshots.first().map(|(view, _)| view)
    }

    /// The last log id that the newest snapshot covers.
    pub fn covered(&self) -> Option<LogId> {
        self.snapshot()?.meta.last_log_id
    }

    /// The last entry, be it in the log or covered by the snapshot.
    pub fn last(&self) -> Option<LogId> {
        self.covered().max(self.log.last())
    }

    /// The index of the first entry that the newest snapshot does not cover. `None` if the log contradicts the
    /// snapshot, which then counts alone.
    pub fn replay_from(&self) -> Option<u64> {
        let Some(covered) = self.covered() else { return Some(0) };
        let same = self.log.id(covered.index).is_none_or(|id| id == covered);
        same.then_some(covered.index + 1)
    }

    fn replay(&mut self) -> Result<(), io::Error> {
        let mut newest = self.snapshot().map(|view| view.meta.last_membership.clone());
        let mut format = self.snapshot().map_or_else(Format::default, |view| view.format);
        if let Some(from) = self.replay_from() {
            self.log.for_each(from, |entry| {
                match entry.payload {
                    EntryPayload::Membership(membership) => {
                        newest = Some(StoredMembership::new(Some(entry.log_id), membership));
                    }
                    EntryPayload::Normal(command) => format = format.max(command.format()),
                    EntryPayload::Blank => {}
                }
                Ok::<_, io::Error>(())
            })?;
        }
        (self.membership, self.format) = (newest, format);
        Ok(())
    }

    /// Finds the contradictions between files.
    fn contradictions(&self, disk: &dyn Disk) -> Vec<String> {
        let mut found = Vec::new();
        let Some(identity) = &self.identity else {
            return vec![format!("{}: it is missing, and the log or the snapshots are not", disk.display("identity"))];
        };
        if let (Some(snapshot), Some(expected)) = (self.snapshot(), identity.cluster)
            && snapshot.cluster != expected
        {
            let file = disk.display(&snapshot.name);
            found.push(StorageError::Mixed { file, found: snapshot.cluster, expected }.to_string());
        }
        if let (Some(found_id), Some((name, _))) = (self.log.owner(), self.log.segments.first())
            && found_id != identity.log_owner()
        {
            let (file, expected) = (disk.display(name), identity.log_owner());
            found.push(StorageError::Foreign { file, found: found_id, expected }.to_string());
        }
        if self.log.is_empty()
            && let Some(snapshot) = self.snapshot()
        {
            found.push(format!("{}: a snapshot without its log", disk.display(&snapshot.name)));
        }
        let next = self.covered().map_or(0, |covered| covered.index + 1);
        let missing = match self.log.purged() {
            Some(purged) if Some(purged) > self.covered() => Some(purged.index + 1),
            // A log that was never purged begins with the first entry.
            None if !self.log.range().is_empty() && self.log.range().start > next => Some(self.log.range().start),
            _ => None,
        };
        if let Some(start) = missing {
            found.push(format!(
                "{}: entries {next} to {} are neither in a snapshot nor in the log",
                disk.display("snapshot"),
                start.saturating_sub(1)
            ));
        }
        found
    }
}

/// Reads the directory of a stopped node and changes nothing. It is locked while the [`ReadDir`] lives.
///
/// # Errors
/// Exit code 78: it is in use, it cannot be read, it holds nothing of a node, or an interrupted recovery must be
/// completed first.
pub fn open(dir: &Path) -> Result<(Survey, ReadDir), Exit> {
    let data = DataDir::read(dir).map_err(exit)?;
    if replace::pending(&*data.disk).map_err(exit)? == Pending::Decided {
        return Err(Exit::config(format!(
            "{shown}: a recovery of this directory, or its becoming that of a new node, was interrupted after it was \
             decided; a start of its node completes it, and so does hraftd recover --rdir {shown} --yes",
            shown = dir.display()
        )));
    }
    let survey = Survey::read(&data.disk).map_err(exit)?;
    if survey.is_nothing() {
        return Err(Exit::config(format!("{} holds no data of a node", dir.display())));
    }
    Ok((survey, data))
}
