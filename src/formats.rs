//! Formats: what nodes of different versions have in common. All of them, and what each makes possible, are listed here and
//! nowhere else.
//!
//! A format names one version of everything that nodes say to one another and write: messages, log, commands, snapshots.
//! A cluster has one format, which its state holds. It is the highest that all members understand, and never gets lower.
//! The leader raises it by an entry ([`Action::Raise`](crate::command::Action::Raise)); until then a newer node speaks,
//! writes and applies all exactly as the older format has it.
//!
//! To add something: CONTRIBUTING.md.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// The number of a format. They count up from 1; a node may name one that this hraftd does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Format(pub u32);

/// The oldest format that this hraftd speaks.
pub const OLDEST: Format = Format(1);

/// The newest format that this hraftd speaks.
pub const NEWEST: Format = Format(2);

/// A thing that clients may ask for once the cluster has a certain format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Leases: `POST /hraftd/lease`, and `lease=` on writes.
    Leases,
    /// In transactions: conditions on locks and leases, comparisons of numbers, `touch`.
    Conditions,
    /// Authentication, and tokens.
    Tokens,
    /// A quota of bytes.
    Quota,
}

/// All that a format stands for.
#[derive(Debug)]
pub struct Spec {
    /// Its number.
    pub format: Format,
    /// The first hraftd that speaks it.
    pub since: &'static str,
    /// The version byte of messages, see `network::wire`.
    pub wire: u8,
    /// The version of a segment of the log that its commands may come into.
    pub log: u32,
    /// How many kinds of [`Action`](crate::command::Action) there are, by their order.
    pub actions: u32,
    /// The version of a snapshot of such a state.
    pub snapshot: u32,
    /// The features that it brings, and their names.
    pub features: &'static [(Feature, &'static str)],
}

/// Every format, from the oldest to the newest.
pub const FORMATS: [Spec; 2] = [
    Spec { format: Format(1), since: "0.1.0", wire: 4, log: 3, actions: 13, snapshot: 2, features: &[] },
    Spec {
        format: Format(2),
        since: "0.2.0",
        wire: 5,
        log: 4,
        actions: 23,
        snapshot: 3,
        features: &[
            (Feature::Leases, "leases"),
            (Feature::Conditions, "these conditions and operations"),
            (Feature::Tokens, "authentication and tokens"),
            (Feature::Quota, "quotas"),
        ],
    },
];

impl Format {
    /// All that it stands for; `None` for one that only a newer hraftd knows.
    pub fn spec(self) -> Option<&'static Spec> {
        FORMATS.iter().find(|spec| spec.format == self)
    }

    /// The first hraftd that speaks it, in words.
    pub fn since(self) -> String {
        let newer = || format!("a newer hraftd than {}", env!("CARGO_PKG_VERSION"));
        self.spec().map_or_else(newer, |spec| format!("hraftd {}", spec.since))
    }

    /// All that the newest known format up to this one stands for.
    fn known(self) -> &'static Spec {
        FORMATS.iter().rfind(|spec| spec.format <= self).unwrap_or(&FORMATS[0])
    }

    /// The version byte of messages.
    pub fn wire(self) -> u8 {
        self.known().wire
    }

    /// The version of a segment of the log.
    pub fn log(self) -> u32 {
        self.known().log
    }

    /// The version of a snapshot.
    pub fn snapshot(self) -> u32 {
        self.known().snapshot
    }
}

impl Default for Format {
    /// The format of a state that does not say which.
    fn default() -> Self {
        OLDEST
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Feature {
    fn listed(self) -> (Format, &'static str) {
        let named = FORMATS.iter().flat_map(|spec| spec.features.iter().map(|(of, name)| (spec.format, *of, *name)));
        let found = named.into_iter().find(|(_, of, _)| *of == self);
        found.map_or((NEWEST, "this"), |(format, _, name)| (format, name))
    }

    /// The format that a cluster must have for it.
    pub fn format(self) -> Format {
        self.listed().0
    }

    /// Its name, in the plural.
    pub fn name(self) -> &'static str {
        self.listed().1
    }
}

/// The formats that a node understands, and its version, as it tells them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaks {
    /// The oldest.
    pub oldest: Format,
    /// The newest.
    pub newest: Format,
    /// The version of hraftd.
    pub version: CompactString,
}

impl Speaks {
    /// This hraftd.
    pub fn own() -> Self {
        Self { oldest: OLDEST, newest: NEWEST, version: CompactString::const_new(env!("CARGO_PKG_VERSION")) }
    }

    /// A node that says nothing of it: 0.1.0 is the only one.
    pub fn silent() -> Self {
        Self { oldest: Format(1), newest: Format(1), version: CompactString::const_new("0.1.0") }
    }

    /// Says that a node which understands this is too old for a cluster, and what to do.
    pub fn too_old(&self, node: &dyn fmt::Display, format: Format) -> String {
        format!(
            "{node} runs hraftd {}, which is too old for the cluster's format {format}: start it with {} or newer",
            self.version,
            format.since()
        )
    }

    /// True where the node can be a member of a cluster of this format.
    pub fn understands(&self, format: Format) -> bool {
        (self.oldest..=self.newest).contains(&format)
    }
}

impl Default for Speaks {
    fn default() -> Self {
        Self::silent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert_eq!((FORMATS[0].format, FORMATS[FORMATS.len() - 1].format), (OLDEST, NEWEST));
        for pair in FORMATS.windows(2) {
            let [old, new] = pair else { panic!("two") };
            assert_eq!(new.format.0, old.format.0 + 1);
            let versions = |spec: &Spec| [u32::from(spec.wire), spec.log, spec.actions, spec.snapshot];
            // Each must be told from the one before by whoever knows only that.
            assert!(versions(old).iter().zip(versions(new)).all(|(old, new)| *old < new), "{old:?} {new:?}");
        }
        assert_eq!(FORMATS[FORMATS.len() - 1].since, env!("CARGO_PKG_VERSION"), "of the release that brings it");
    }

    #[test]
    fn a_feature_is_in_one_format() {
        assert_eq!((Feature::Leases.format(), Feature::Leases.name()), (Format(2), "leases"));
        let mut seen = std::collections::HashSet::new();
        for (feature, _) in FORMATS.iter().flat_map(|spec| spec.features) {
            assert!(seen.insert(*feature), "{feature:?}");
        }
    }

    #[test]
    fn a_format_of_the_future_is_not_understood() {
        assert!(!Speaks::own().understands(Format(NEWEST.0 + 1)));
        assert!(!Speaks::silent().understands(Format(2)) && Speaks::own().understands(OLDEST));
        assert_eq!(Format(9).since(), format!("a newer hraftd than {}", env!("CARGO_PKG_VERSION")));
        assert_eq!((Format(9).log(), Format(2).since()), (NEWEST.log(), "hraftd 0.2.0".to_owned()));
    }
}
