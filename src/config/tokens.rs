//! The flags of authentication: `--root-token-file` and `--anonymous`.

use std::path::PathBuf;

use super::setting::Setting;
use crate::command::{Grant, Grants, MAX_GRANTS};
use crate::exit::Exit;

/// This node's root tokens, and what is granted to those who show none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootTokenFile {
    /// The file.
    pub path: PathBuf,
    /// As it was given, for error texts.
    pub label: String,
    /// What the entry that turns authentication on grants to all.
    pub anonymous: Grants,
}

/// Reads both; `has_secret`: only nodes with the cluster's secret get to this one.
pub(super) fn root_token_file(
    file: Option<Setting>,
    anonymous: Option<Setting>,
    has_secret: bool,
) -> Result<Option<RootTokenFile>, Exit> {
    let Some(file) = file else {
        return match anonymous {
            Some(given) => Err(given.bad("it goes with --root-token-file, which turns authentication on")),
            None => Ok(None),
        };
    };
    if file.text.is_empty() {
        return Err(file.bad("name a file, as hraftd token FILE makes one"));
    }
    if !has_secret {
        return Err(Exit::config(format!(
            "{file}: it needs --cluster-secret-file, without --cluster-secret-optional: with an open Raft port tokens protect \
             nothing"
        )));
    }
    let anonymous = anonymous.map_or_else(|| Ok(Grants::default()), |given| grants(&given))?;
    Ok(Some(RootTokenFile { path: PathBuf::from(&file.text), label: file.to_string(), anonymous }))
}

/// `read:pub/,status`: a comma ends a grant.
fn grants(given: &Setting) -> Result<Grants, Exit> {
    let parsed: Result<Vec<Grant>, String> = given.text.split(',').map(Grant::parse).collect();
    let grants = parsed.map_err(|why| given.bad(why))?;
    if grants.len() > MAX_GRANTS {
        return Err(given.bad(format_args!("{} grants; there are at most {MAX_GRANTS}", grants.len())));
    }
    Ok(Grants(grants))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{EX_CONFIG, EX_USAGE};

    #[test]
    fn what_is_granted_to_all_is_read_at_the_start() {
        let file = || Some(Setting::typed("--root-token-file", "f"));
        let anonymous = |text: &str| Some(Setting::typed("--anonymous", text));
        let read = |text| root_token_file(file(), anonymous(text), true).map(|read| read.unwrap().anonymous.texts());
        assert_eq!(read("read:,write:,lock:,status").unwrap(), ["read:", "write:", "lock:", "status"]);
        assert_eq!(read("read:=a").unwrap(), ["read:=a"]);
        for bad in ["", "read:,", "all", "read"] {
            assert_eq!(read(bad).unwrap_err().code, EX_USAGE, "{bad}");
        }
        assert_eq!(root_token_file(file(), None, true).unwrap().unwrap().anonymous, Grants::default());
        assert_eq!(root_token_file(file(), None, false).unwrap_err().code, EX_CONFIG, "an open Raft port");
        assert_eq!(root_token_file(None, anonymous("read:"), true).unwrap_err().code, EX_USAGE);
        assert_eq!(
            root_token_file(Some(Setting::typed("--root-token-file", "")), None, true).unwrap_err().code,
            EX_USAGE
        );
        assert!(root_token_file(None, None, false).unwrap().is_none());
    }
}
