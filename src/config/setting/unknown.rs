//! Warns of variables that look like a setting and are none: `HRAFTD_HADR=:1` would otherwise do nothing, unsaid.

use clap::CommandFactory;

use super::variable;
use crate::config::args::Args;

/// Variables of the client's recipes, and of scripts that start this binary, not of a node.
const CLIENT_VARIABLES: [&str; 10] = [
    "HRAFTD_BIN",
    "HRAFTD_ENDPOINTS",
    "HRAFTD_TOKEN_FILE",
    "HRAFTD_CACERT",
    "HRAFTD_CLIENT_CERT",
    "HRAFTD_CLIENT_KEY",
    "HRAFTD_EVENT",
    "HRAFTD_KEY",
    "HRAFTD_INDEX",
    "HRAFTD_LOCK_TOKEN",
];

/// Kubernetes sets these in each container, for a service named `hraftd`.
const SERVICE_LINK_PREFIXES: [&str; 2] = ["HRAFTD_SERVICE_", "HRAFTD_PORT"];

/// Names are suggested from this similarity on (Jaro-Winkler), as clap does for flags.
const MIN_SIMILARITY: f64 = 0.7;

/// A warning for each of `names` that begins with `HRAFTD_` and sets nothing.
pub(in crate::config) fn warnings(names: impl Iterator<Item = String>) -> Vec<String> {
    let flags = Args::command();
    let known: Vec<String> = flags.get_opts().filter_map(|flag| flag.get_long()).map(variable).collect();
    let mut unknown: Vec<String> =
        names.filter(|name| name.starts_with("HRAFTD_") && !is_known(name, &known)).collect();
    unknown.sort_unstable();
    unknown.iter().map(|name| warning(name, &known)).collect()
}

fn is_known(name: &str, known: &[String]) -> bool {
    known.iter().any(|one| one == name)
        || CLIENT_VARIABLES.contains(&name)
        || SERVICE_LINK_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The known name that is most like this one, if any is like it.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let similar = known.map(|one| (strsim::jaro_winkler(name, one), one));
    let (similarity, nearest) = similar.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (similarity >= MIN_SIMILARITY).then_some(nearest)
}

fn warning(name: &str, known: &[String]) -> String {
    let hint = match nearest(name, known.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "hraftd --help lists the flags that can be set so".to_owned(),
    };
    format!("the environment has {name}, which sets nothing: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Vec<String> {
        warnings(names.iter().map(|&name| name.to_owned()))
    }

    #[test]
    fn a_variable_that_sets_nothing_is_told_with_the_nearest() {
        assert_eq!(
            of(&["PATH", "HRAFTD_HADR", "HRAFTD_READ_LEVELS", "HRAFTD_HADDR"]),
            [
                "the environment has HRAFTD_HADR, which sets nothing: did you mean HRAFTD_HADDR?",
                "the environment has HRAFTD_READ_LEVELS, which sets nothing: did you mean HRAFTD_READ_LEVEL?",
            ]
        );
    }

    #[test]
    fn variables_of_others_are_no_mistakes() {
        assert_eq!(
            of(&["HRAFTD_SERVICE_HOST", "HRAFTD_PORT_11000_TCP", "HRAFTD_PORT", "HRAFTD_ENDPOINTS", "HRAFTD_BIN"]),
            Vec::<String>::new()
        );
        assert_eq!(of(&["RUST_LOG", "HOME"]), Vec::<String>::new());
    }
}
