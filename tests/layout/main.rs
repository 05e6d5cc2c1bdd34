//! The layout of the sources: arrows go down only, no folder is crowded, no file is long.
//!
//! Reads the sources as text. A new module of `src` needs a line in [`LAYERS`].

#![allow(clippy::unwrap_used, missing_docs)]

mod made_up;
mod source;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tree::Tree;

/// From the top down: a module imports what is on lines below its own only, so those on one line do not know one another.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["server"],
    &["api", "client", "credentials", "network", "offline"],
    &["config", "start"],
    &["http", "node"],
    &["state_machine"],
    &["tls", "watch"],
    &["storage"],
    // `kv` knows no Raft.
    &["kv", "log_time", "raft_types"],
    &["command", "observe"],
    &["duration", "node_id", "record", "task", "telemetry"],
    &["exit", "formats", "json", "platform", "secret", "seldom"],
    &["quote"],
];

/// Cycles that are still to be cut, as [`Tree::folder_cycles`] names them. One that is gone must go from here.
const CYCLES_TO_CUT: &[&str] = &[];

/// So many files lie directly in a folder of `src`, at most.
const FOLDER_FILES: usize = 16;
const FILE_LINES: usize = 450;

/// Every Rust file in a folder of this repository, by its path from there.
fn files(folder: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = BTreeMap::new();
    let mut left: Vec<PathBuf> = vec![root.clone()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(!found.is_empty(), "no Rust files in {folder}");
    found
}

fn product() -> Tree {
    let files = files("src");
    Tree::read(files.iter().map(|(path, text)| (path.as_str(), text.as_str())))
}

#[track_caller]
fn none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

#[test]
fn arrows_go_down_only() {
    none("imports of a layer that is not below", &product().upward_imports(LAYERS));
}

#[test]
fn folders_are_in_no_cycle() {
    let cycles = product().folder_cycles();
    let lines = cycles.iter().filter(|(cycle, _)| !CYCLES_TO_CUT.contains(&cycle.as_str()));
    let lines: Vec<String> = lines.map(|(cycle, imports)| format!("{cycle}\n  {}", imports.join("\n  "))).collect();
    none("folders that import one another", &lines);
    let gone = CYCLES_TO_CUT.iter().filter(|cycle| !cycles.contains_key(**cycle)).map(|cycle| (*cycle).to_owned());
    none("cycles that are cut, and listed", &gone.collect::<Vec<_>>());
}

/// How long `==` takes tells where two secrets differ.
#[test]
fn secrets_are_compared_in_constant_time() {
    let files = files("src/secret");
    for (path, secret) in [("cluster.rs", "pub struct ClusterSecret("), ("token.rs", "pub struct Token(")] {
        let (before, _) = files[path].split_once(secret).unwrap();
        let derives = before.lines().last().unwrap();
        assert!(derives.starts_with("#[derive(") && !derives.contains("Eq"), "{path}: {derives}");
        assert!(files[path].contains("super::same(&self.0, &other.0)"), "{path}: secrets are compared by secret::same");
    }
    assert!(files["mod.rs"].contains("a.ct_eq(b).into()"), "secret::same compares in constant time");
}

/// One that no other file has as a module is not compiled: its tests would never run, and nobody would be told.
#[test]
fn each_file_is_a_module_of_another() {
    let all: BTreeMap<String, String> = ["src", "tests", "benches"]
        .into_iter()
        .flat_map(|folder| files(folder).into_iter().map(move |(path, text)| (format!("{folder}/{path}"), text)))
        .collect();
    let named: Vec<&str> = all.values().flat_map(|text| text.split("#[path = \"").skip(1)).collect();
    let is_named = |path: &str| {
        let end = path.split_once('/').map_or(path, |(_, rest)| rest);
        named.iter().any(|rest| rest.split('"').next().is_some_and(|name| name.ends_with(path) || name.ends_with(end)))
    };
    let mut orphans = Vec::new();
    for path in all.keys() {
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let (parent, name) = module.rsplit_once('/').unwrap();
        // Roots, and those that Cargo.toml names.
        if ["main", "lib"].contains(&name) || module == "benches/micro" {
            continue;
        }
        let declares = |file: String| {
            let text = all.get(&file);
            text.is_some_and(|text| text.lines().any(|line| line.trim_end().ends_with(&format!("mod {name};"))))
        };
        let parents = ["mod", "lib", "main"].map(|file| format!("{parent}/{file}.rs"));
        if !parents.into_iter().chain([format!("{parent}.rs")]).any(declares) && !is_named(path) {
            orphans.push(path.clone());
        }
    }
    none("files that are compiled by nobody", &orphans);
}

/// `tests/mutations/run` would say so, hours later.
#[test]
fn tests_of_mutants_exist() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutations");
    let (mut missing, mut read) = (Vec::new(), BTreeMap::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for filter in text.lines().filter_map(|line| line.strip_prefix("Test: ")) {
            // A test of the library, or of one of the binaries here.
            let (of, filter) =
                match filter.strip_prefix("--test ").map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) {
                    Some((binary, filter)) => (format!("tests/{binary}"), filter.trim_start_matches("-- ")),
                    None => ("src".to_owned(), filter),
                };
            let last = filter.trim_end_matches("::").rsplit("::").next().unwrap().split(' ').next().unwrap();
            let is_there = read.entry(of.clone()).or_insert_with(|| files(&of)).iter().any(|(path, text)| {
                path.trim_end_matches(".rs").split('/').any(|part| part == last)
                    || text.contains(&format!("fn {last}"))
                    || text.contains(&format!("mod {last}"))
            });
            if !is_there {
                missing.push(format!("{}: {filter} is not in {of}", path.file_name().unwrap().display()));
            }
        }
    }
    none("mutants whose tests do not exist", &missing);
}

#[test]
fn no_folder_is_crowded() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for path in files("src").keys() {
        *counts.entry(path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned()).or_default() += 1;
    }
    let crowded = counts.iter().filter(|(_, count)| **count > FOLDER_FILES);
    let crowded: Vec<String> = crowded.map(|(folder, count)| format!("src/{folder}: {count} files")).collect();
    none("too many files in a folder", &crowded);
}

#[test]
fn no_file_is_long() {
    for folder in ["src", "tests", "benches"] {
        let lines = files(folder).into_iter().map(|(path, text)| (path, text.lines().count()));
        let long = lines.filter(|(_, lines)| *lines > FILE_LINES);
        let long: Vec<String> = long.map(|(path, lines)| format!("{folder}/{path}: {lines} lines")).collect();
        none("files that ask to be two", &long);
    }
}
