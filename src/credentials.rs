//! Tools for secrets: `hraftd secret` and `hraftd token` make them, `hraftd secret --id` tells them apart, `hraftd ca` prints
//! the authorities that clients trust.
//!
//! A file is written for its owner alone, and never over another. What is printed is the secret and its newline.

use std::io;
use std::path::Path;

use crate::config::Credentials;
use crate::exit::{EX_FAILURE, Exit};
use crate::secret::{self, ClusterSecret, Generated, Token};
use crate::tls::{Authority, Kind, TlsError};

/// Runs the tool. Blocks.
pub fn run(task: Credentials) -> Exit {
    let done = match task {
        Credentials::Secret(file) => make::<ClusterSecret>(file.as_deref()),
        Credentials::Token(file) => make::<Token>(file.as_deref()),
        Credentials::SecretIds(file) => ids(&file),
        Credentials::Ca(file) => authorities(&file),
    };
    done.unwrap_or_else(|exit| exit)
}

fn make<T: Generated>(file: Option<&Path>) -> Result<Exit, Exit> {
    let failure = |what: String| Exit::error(EX_FAILURE, what);
    let text = T::generate().map_err(|error| failure(error.to_string()))?.text();
    let line = format!("{}\n", *text);
    let Some(file) = file else { return Ok(Exit::printed(line)) };
    let name = file.display();
    secret::write_new(file, &line).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Exit::config(format!("{name} exists, and is not overwritten")),
        _ => failure(format!("{name}: {error}")),
    })?;
    Ok(Exit::printed(""))
}

fn read(file: &Path) -> Result<Vec<ClusterSecret>, Exit> {
    secret::read_list(file).map_err(|error| Exit::config(format!("{}: {error}", file.display())))
}

fn authorities(file: &Path) -> Result<Exit, Exit> {
    let secrets = read(file)?;
    let all = secrets.iter().map(|one| Authority::of(one, Kind::Clients).map(|one| one.pem()));
    let all: Result<String, TlsError> = all.collect();
    all.map(Exit::printed).map_err(|error| Exit::error(EX_FAILURE, error.to_string()))
}

fn ids(file: &Path) -> Result<Exit, Exit> {
    let all = read(file)?;
    Ok(Exit::printed(all.iter().map(|one| format!("{}\n", one.id())).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_read_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (secret, token) = (dir.path().join("secret"), dir.path().join("token"));
        assert_eq!(run(Credentials::Secret(Some(secret.clone()))), Exit::printed(""));
        assert_eq!(run(Credentials::Token(Some(token.clone()))), Exit::printed(""));
        let made = secret::read_list::<ClusterSecret>(&secret).unwrap();
        assert_eq!(run(Credentials::SecretIds(secret.clone())), Exit::printed(format!("{}\n", made[0].id())));
        assert_eq!(secret::read_list::<Token>(&token).unwrap().len(), 1);
        let again = run(Credentials::Secret(Some(secret.clone())));
        assert_eq!(again, Exit::config(format!("{} exists, and is not overwritten", secret.display())));
        assert!(made[0].is_same(&secret::read_list(&secret).unwrap()[0]));
        let wrong = run(Credentials::SecretIds(token.clone()));
        assert_eq!(wrong.code, crate::exit::EX_CONFIG);
        assert!(wrong.err.unwrap().contains("line 1: it does not begin with hrs_"));
        assert_eq!(run(Credentials::Secret(Some(dir.path().join("none/x")))).code, EX_FAILURE);
        let printed = run(Credentials::Secret(None)).out.unwrap();
        assert!(secret::parse_list::<ClusterSecret>(printed.as_bytes()).is_ok());
    }
}
