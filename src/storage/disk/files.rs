//! Opening files and making directories of the operating system, with nothing of others in between.
//!
//! * A symbolic link is never followed: it could lead to a file outside the data directory.
//! * Only regular files are opened, and without waiting: a named pipe would block for ever.
//! * Directories are made one at a time, each flushed into its parent before the next.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Opens a file of a data directory.
///
/// # Errors
/// `InvalidInput`: it is a symbolic link, or not a regular file. Otherwise the error of the operating system.
pub(in crate::storage) fn open_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = match options.custom_flags(flags).open(path) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link, which is not followed"));
        }
        // A named pipe that nobody reads, a socket.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => return Err(not_regular()),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(not_regular());
    }
    Ok(file)
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

/// Makes a directory, and those above it that do not exist, readable by its owner only. The names of all of them are
/// durable afterwards.
///
/// # Errors
/// A directory cannot be made or flushed.
pub(super) fn make_dirs(path: &Path) -> io::Result<()> {
    make_dirs_with(path, |dir| File::open(dir)?.sync_all())
}

fn make_dirs_with(path: &Path, mut flush: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut missing: Vec<&Path> = path.ancestors().take_while(|dir| !is_empty(dir) && !dir.is_dir()).collect();
    // A start that was killed may have made the last one that exists and not have flushed it. Others may own its parent.
    if let Some(existing) = path.ancestors().nth(missing.len()).filter(|dir| !is_empty(dir)) {
        let _ = flush(&parent_of(existing));
    }
    while let Some(dir) = missing.pop() {
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            made => made?,
        }
        flush(&parent_of(dir))?;
    }
    Ok(())
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !is_empty(parent) => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => path.to_owned(),
    }
}

/// The reason why others may change what is in a directory, if they may.
pub(in crate::storage) fn others_may_write(metadata: &Metadata) -> Option<String> {
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    let me = rustix::process::geteuid().as_raw();
    if owner != me && owner != 0 {
        return Some(format!("user {owner} owns it, and this process is of user {me}"));
    }
    (mode & 0o022 != 0).then(|| format!("its mode is {mode:04o}; chmod go-w takes that from others"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::storage::disk::{Disk, ReadOnlyDisk, RealDisk};

    #[test]
    fn every_new_directory_is_flushed_into_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let flushed = |path: &Path| {
            let mut flushed = Vec::new();
            make_dirs_with(path, |dir| {
                flushed.push(dir.to_owned());
                Ok(())
            })
            .unwrap();
            assert!(path.is_dir());
            flushed
        };
        let above = dir.path().parent().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("a/b"));
        assert_eq!(flushed(&b.join("c")), [above, dir.path(), &a, &b]);
        assert_eq!(flushed(&b.join("c")), [&*b], "it may have been made and not flushed");
        assert_eq!(std::fs::metadata(b.join("c")).unwrap().permissions().mode() & 0o777, 0o700);
        let failed = make_dirs_with(&b.join("d"), |dir| match dir == b {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn nothing_but_a_regular_file_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("target"), b"x").unwrap();
        symlink(dir.path().join("target"), dir.path().join("link")).unwrap();
        symlink(dir.path().join("nothing"), dir.path().join("dangling")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap();
        assert!(pipe.success());
        std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let disks: [Box<dyn Disk>; 2] =
            [Box::new(RealDisk::open(dir.path()).unwrap()), Box::new(ReadOnlyDisk::new(dir.path()))];
        for disk in disks {
            disk.open("target").unwrap();
            for name in ["link", "dangling", "pipe", "socket"] {
                let error = disk.open(name).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}: {error}");
            }
        }
    }

    #[test]
    fn a_directory_that_others_may_write_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let told = |mode: u32| {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            others_may_write(&std::fs::metadata(dir.path()).unwrap())
        };
        assert_eq!((told(0o700), told(0o755)), (None, None));
        for mode in [0o770, 0o702] {
            assert!(told(mode).is_some_and(|why| why.contains(&format!("{mode:04o}"))));
        }
    }
}
