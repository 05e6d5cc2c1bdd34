//! The modules of a source tree, who imports whom, and the rules about that.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// The path of a module from the root of the crate: `["kv", "pages"]`; of the root itself, nothing.
type Module = Vec<String>;

/// Who imports whom among the children of one folder, each pair with an example.
type Graph = BTreeMap<(String, String), String>;

/// Follows so many re-exports of re-exports.
const MAX_REEXPORTS: usize = 8;

/// All modules of a crate, but those that exist only under test.
#[derive(Debug)]
pub struct Tree {
    modules: BTreeMap<Module, Source>,
}

impl Tree {
    /// Reads files, each with its path from the source folder and its text.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut modules: BTreeMap<Module, Source> =
            files.into_iter().map(|(path, text)| (module_of(path), Source::read(text))).collect();
        let under_test: Vec<Module> = modules
            .iter()
            .flat_map(|(module, source)| source.test_modules.iter().map(move |name| child(module, name)))
            .collect();
        modules.retain(|module, _| !under_test.iter().any(|test| module.starts_with(test)));
        Self { modules }
    }

    /// Breaches of "arrows go down only". `layers` are from the top down; modules on one line do not know one another. A
    /// module belongs to the longest path that is listed; each must be listed.
    pub fn upward_imports(&self, layers: &[&[&str]]) -> Vec<String> {
        let listed: BTreeMap<Module, usize> = layers
            .iter()
            .enumerate()
            .flat_map(|(layer, paths)| paths.iter().map(move |path| (split(path), layer)))
            .collect();
        let place = |module: &Module| -> Option<(&Module, usize)> {
            let (path, layer) =
                listed.iter().filter(|(path, _)| module.starts_with(path)).max_by_key(|(path, _)| path.len())?;
            Some((path, *layer))
        };
        let mut wrong = Vec::new();
        for path in listed.keys().filter(|path| !self.modules.contains_key(*path)) {
            wrong.push(format!("{} is in the list of layers and not in the tree", path.join("::")));
        }
        for module in self.modules.keys().filter(|module| !module.is_empty() && place(module).is_none()) {
            wrong.push(format!("{} is in no layer", module.join("::")));
        }
        for (from, to) in self.imports() {
            let (Some((own, layer)), Some((other, target))) = (place(&from), place(&to)) else { continue };
            // A folder and what is listed within it may know each other; the rule on cycles is about those.
            let related = own.starts_with(other) || other.starts_with(own);
            if !related && target <= layer {
                wrong.push(format!("{} imports {}", from.join("::"), to.join("::")));
            }
        }
        wrong
    }

    /// Cycles among what lies side by side in a folder, where a folder is part of the cycle: who is in it
    /// (`api: keys lock`), and the imports that make it. A `mod.rs` and its own children may know each other.
    pub fn folder_cycles(&self) -> BTreeMap<String, Vec<String>> {
        let mut graphs: BTreeMap<Module, Graph> = BTreeMap::new();
        for (from, to) in self.imports() {
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            let (Some(a), Some(b)) = (from.get(common), to.get(common)) else { continue };
            let example = format!("{} imports {}", from.join("::"), to.join("::"));
            graphs.entry(from[..common].to_vec()).or_default().entry((a.clone(), b.clone())).or_insert(example);
        }
        let mut cycles: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (folder, graph) in &graphs {
            for ((from, to), example) in graph {
                let names = in_cycle_with(graph, from);
                if names.contains(to.as_str()) && names.iter().any(|name| self.is_folder(&child(folder, name))) {
                    let names: Vec<&str> = names.into_iter().collect();
                    let cycle = format!("{}: {}", folder.join("::"), names.join(" "));
                    cycles.entry(cycle).or_default().push(example.clone());
                }
            }
        }
        cycles
    }

    fn is_folder(&self, module: &Module) -> bool {
        self.modules.keys().any(|other| other.len() > module.len() && other.starts_with(module))
    }

    /// Who imports whom, each pair once. A re-exported name counts for the module that it comes from.
    fn imports(&self) -> BTreeSet<(Module, Module)> {
        let mut imports = BTreeSet::new();
        for (module, source) in &self.modules {
            let targets = source.paths.iter().filter_map(|path| self.resolve(module, path, MAX_REEXPORTS));
            imports.extend(targets.filter(|target| target != module).map(|target| (module.clone(), target)));
        }
        imports
    }

    /// The module that holds what `path` names within `module`; `None` for other crates and local names.
    fn resolve(&self, module: &Module, path: &[String], reexports: usize) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Module::new(),
            // Its own library, seen from `main.rs`.
            "hraftd" if module == &["main"] => Module::new(),
            "self" => module.clone(),
            "super" => module[..module.len().checked_sub(1)?].to_vec(),
            name => self.enter(module, name, reexports)?,
        };
        for segment in rest {
            if segment == "super" {
                at.pop();
                continue;
            }
            match self.enter(&at, segment, reexports) {
                Some(next) => at = next,
                None => break,
            }
        }
        self.modules.contains_key(&at).then_some(at)
    }

    /// The child or re-export of this name.
    fn enter(&self, module: &Module, name: &str, reexports: usize) -> Option<Module> {
        let inner = child(module, name);
        if self.modules.contains_key(&inner) {
            return Some(inner);
        }
        let binding = self.modules.get(module)?.bindings.iter().find(|binding| binding.name == name)?;
        // `use a::a;` names itself.
        let is_itself = binding.path.first().is_some_and(|first| first == name);
        if is_itself { None } else { self.resolve(module, &binding.path, reexports.checked_sub(1)?) }
    }
}

/// All names that lead to `name` and to which it leads, itself among them where there is a cycle.
fn in_cycle_with<'a>(graph: &'a Graph, name: &str) -> BTreeSet<&'a str> {
    reached_from(graph, name).into_iter().filter(|other| reached_from(graph, other).contains(name)).collect()
}

fn reached_from<'a>(graph: &'a Graph, name: &str) -> BTreeSet<&'a str> {
    let next = |name: &str| -> Vec<&'a str> {
        graph.keys().filter(|(from, _)| from == name).map(|(_, to)| to.as_str()).collect()
    };
    let (mut reached, mut left) = (BTreeSet::new(), next(name));
    while let Some(name) = left.pop() {
        if reached.insert(name) {
            left.extend(next(name));
        }
    }
    reached
}

fn split(path: &str) -> Module {
    path.split("::").map(str::to_owned).collect()
}

fn child(module: &Module, name: &str) -> Module {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// `kv/pages.rs` is `kv::pages`, `kv/mod.rs` is `kv`, `lib.rs` is the root.
fn module_of(path: &str) -> Module {
    let mut module: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}
