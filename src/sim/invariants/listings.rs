//! A listing is what was there at its index: all of it, in order, and nothing else.

use super::Checked;
use super::state::State;

/// A listing that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub prefix: &'a str,
    /// The last key of the page before, if this is a later page.
    pub after: Option<&'a str>,
    pub limit: Option<usize>,
}

/// The answer: names, each with its value where values were asked for.
pub type Listed = Vec<(String, Option<Vec<u8>>)>;

#[derive(Debug, Default)]
pub struct Listings {
    keys: u64,
}

impl Listings {
    /// A node listed this at an index, and said whether there is more.
    pub fn listed(&mut self, asked: Asked<'_>, index: u64, listed: &Listed, more: bool, state: &State) -> Checked {
        let all =
            state.list(asked.prefix, index).filter(|(key, _)| asked.after.is_none_or(|after| key.as_str() > after));
        let mut all = all.fuse();
        let held: Vec<_> = all.by_ref().take(asked.limit.unwrap_or(usize::MAX)).collect();
        let same = held.len() == listed.len()
            && held.iter().zip(listed).all(|((key, value), (name, found))| {
                key.as_str() == name && found.as_ref().is_none_or(|found| found == value)
            });
        if !same {
            return Err(format!("listings: {asked:?} at {index} found {listed:?}, where {held:?} is committed"));
        }
        if more != all.next().is_some() {
            return Err(format!("listings: {asked:?} at {index} found {listed:?}, and says of more: {more}"));
        }
        self.keys += listed.len() as u64;
        Ok(())
    }

    /// How many keys were listed, each time counted.
    pub fn keys(&self) -> u64 {
        self.keys
    }
}
