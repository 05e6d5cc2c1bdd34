//! Files that hold secrets.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use thiserror::Error;
use zeroize::Zeroizing;

use super::text::{Generated, TextError};

/// The largest file that is read.
pub const MAX_FILE_BYTES: usize = 256 << 10;

/// Bits of a mode that a private file must not have: any for others, writing for the group.
const NOT_PRIVATE: u32 = 0o027;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its owner and group alone: it has a secret.
    Private,
    /// Anybody: it has none.
    Public,
}

/// Why a file cannot be used; the caller adds its name.
#[derive(Debug, Error)]
pub enum FileError {
    /// The system's error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A directory, a pipe, a device.
    #[error("it is not a file")]
    NotAFile,
    /// Others may read it, or somebody else may write it.
    #[error("its mode is {0:04o}: it must have no bit for others, and the group must not write it; chmod 600")]
    Mode(u32),
    /// It has more than [`MAX_FILE_BYTES`].
    #[error("it has more than {MAX_FILE_BYTES} bytes")]
    TooLarge,
    /// It has nothing but white space.
    #[error("it is empty; {0} makes what belongs there")]
    Empty(&'static str),
    /// It is not UTF-8, or has NUL bytes.
    #[error("it is not text")]
    Binary,
    /// One of its lines is wrong; they are counted from 1.
    #[error("line {line}: {fault}")]
    Line {
        /// Which line.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
    },
}

/// Why a line cannot be used.
#[derive(Debug, Error)]
pub enum LineFault {
    /// Carriage return and line feed.
    #[error("it ends with CR LF; save the file with the line ends of Unix")]
    CarriageReturn,
    /// It has nothing.
    #[error("it is blank")]
    Blank,
    /// The same as a line before.
    #[error("it is the same as line {0}")]
    Duplicate(usize),
    /// It is no secret.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// Reads a whole file that nobody else may read or write: no bit for others, no write bit for the group. It is the opened
/// file that is judged, so links are followed. Blocks.
///
/// # Errors
/// `Io`, `NotAFile`, `Mode`, `TooLarge` of [`FileError`].
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read_file(path, Access::Private)
}

/// Reads a whole file. Blocks.
///
/// # Errors
/// As [`read_private`]; `Mode` only where it is [`Access::Private`].
pub fn read_file(path: &Path, access: Access) -> Result<Zeroizing<Vec<u8>>, FileError> {
    // A pipe that nobody writes must not keep the process.
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(FileError::NotAFile);
    }
    let mode = about.mode() & 0o7777;
    if access == Access::Private && mode & NOT_PRIVATE != 0 {
        return Err(FileError::Mode(mode));
    }
    // With its whole capacity at once: a buffer that grows leaves copies behind.
    let size = usize::try_from(about.len()).unwrap_or(usize::MAX);
    if size > MAX_FILE_BYTES {
        return Err(FileError::TooLarge);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES.min(size.max(4096)) + 1));
    Read::by_ref(&mut file).take(bytes.capacity() as u64).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(FileError::TooLarge);
    }
    Ok(bytes)
}

/// Reads a private file of secrets, one a line. Blocks.
///
/// # Errors
/// See [`FileError`].
pub fn read_list<T: Generated>(path: &Path) -> Result<Vec<T>, FileError> {
    parse_list(&read_private(path)?)
}

/// Reads secrets, one a line: at least one, none twice, and no line without. The last may lack its newline.
///
/// # Errors
/// `Empty`, `Binary` and `Line` of [`FileError`].
pub fn parse_list<T: Generated>(bytes: &[u8]) -> Result<Vec<T>, FileError> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or(FileError::Binary)?;
    if text.trim().is_empty() {
        return Err(FileError::Empty(T::COMMAND));
    }
    let mut all: Vec<T> = Vec::new();
    for (at, line) in text.strip_suffix('\n').unwrap_or(text).split('\n').enumerate() {
        let one = parse_line(line, &all).map_err(|fault| FileError::Line { line: at + 1, fault })?;
        all.push(one);
    }
    Ok(all)
}

fn parse_line<T: Generated>(line: &str, before: &[T]) -> Result<T, LineFault> {
    if line.ends_with('\r') {
        return Err(LineFault::CarriageReturn);
    }
    if line.trim().is_empty() {
        return Err(LineFault::Blank);
    }
    let one = T::parse(line)?;
    match before.iter().position(|other| other.is_same(&one)) {
        Some(at) => Err(LineFault::Duplicate(at + 1)),
        None => Ok(one),
    }
}

/// Writes a new file that only its owner may read, and flushes it. Blocks.
///
/// # Errors
/// The system's; `AlreadyExists` where there is something of this name, which is left as it is.
pub fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a secret is none.
        let _ = remove_file(path);
        return written;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Not every file system can flush a directory; the file is there.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::{ClusterSecret, Token};
    use super::*;

    fn fault<T: Generated>(bytes: impl AsRef<[u8]>) -> String {
        parse_list::<T>(bytes.as_ref()).err().unwrap().to_string()
    }

    #[test]
    fn each_line_is_one_and_what_is_wrong_is_told() {
        let [a, b] = [0; 2].map(|_| ClusterSecret::generate().unwrap().text().to_string());
        for good in [format!("{a}\n{b}\n"), format!("{a}\n{b}"), format!("{b}\n")] {
            let all = parse_list::<ClusterSecret>(good.as_bytes()).unwrap();
            let lines: Vec<String> = all.iter().map(|one| one.text().to_string()).collect();
            assert_eq!(lines, good.lines().collect::<Vec<_>>());
        }
        for (bytes, wanted) in [
            (String::new(), "it is empty; hraftd secret makes what belongs there"),
            (" \n\n".to_owned(), "it is empty; hraftd secret makes what belongs there"),
            (format!("{a}\r\n"), "line 1: it ends with CR LF; save the file with the line ends of Unix"),
            (format!("{a}\n\n{b}\n"), "line 2: it is blank"),
            (format!("{a}\n\n"), "line 2: it is blank"),
            (format!("{a}\n{b}\n{a}\n"), "line 3: it is the same as line 1"),
            (format!("{a}\n{}\n", &b[..40]), "line 2: it was cut off: it has 40 of 62 characters"),
            (format!("{a}\0\n"), "it is not text"),
            ("hunter2\n".to_owned(), "line 1: it does not begin with hrs_: make one with hraftd secret"),
        ] {
            assert_eq!(fault::<ClusterSecret>(bytes), wanted);
        }
        assert_eq!(fault::<ClusterSecret>([0xff, 0xfe]), "it is not text");
        assert_eq!(fault::<Token>(&a), "line 1: it does not begin with hrt_: make one with hraftd token");
    }

    #[test]
    fn the_opened_file_is_judged() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("secret"), dir.path().join("link"));
        write(&file, "x").unwrap();
        symlink(&file, &link).unwrap();
        for (mode, good) in [
            (0o600, true),
            (0o400, true),
            (0o440, true),
            (0o640, true),
            (0o660, false),
            (0o644, false),
            (0o601, false),
            (0o602, false),
        ] {
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            for path in [&file, &link] {
                let read = read_private(path);
                match read {
                    Ok(bytes) => assert!(good && **bytes == *b"x", "{mode:o}"),
                    Err(error) => {
                        assert!(!good && error.to_string().contains(&format!("its mode is {mode:04o}")), "{error}");
                    }
                }
            }
            assert!(read_file(&link, Access::Public).is_ok());
        }
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_private(dir.path()), Err(FileError::NotAFile)));
        assert!(matches!(read_private(&dir.path().join("none")), Err(FileError::Io(_))));
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert!(matches!(read_private(&pipe), Err(FileError::NotAFile)));
        let large = dir.path().join("large");
        write_new(&large, &"x".repeat(MAX_FILE_BYTES)).unwrap();
        assert_eq!(read_private(&large).unwrap().len(), MAX_FILE_BYTES);
        write(&large, "x".repeat(MAX_FILE_BYTES + 1)).unwrap();
        assert!(matches!(read_private(&large), Err(FileError::TooLarge)));
    }

    #[test]
    fn a_new_file_is_private_and_an_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        write_new(&file, "a\n").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(write_new(&file, "b\n").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a\n");
    }
}
