//! The checker on trees that are made up: it finds what is wrong, and nothing else.

use super::tree::Tree;

const LAYERS: &[&[&str]] = &[&["top"], &["left", "right"], &["leaf"]];

/// A tree with a module a layer, in which `files` take the place of empty ones.
fn tree(files: &[(&'static str, &'static str)]) -> Tree {
    let empty = ["lib.rs", "top.rs", "left.rs", "right.rs", "leaf.rs"].into_iter();
    let module = |path: &str| path.trim_end_matches("/mod.rs").trim_end_matches(".rs").to_owned();
    let empty = empty.filter(|path| !files.iter().any(|(file, _)| module(file) == module(path)));
    Tree::read(empty.map(|path| (path, "")).chain(files.iter().copied()))
}

fn upward(files: &[(&'static str, &'static str)]) -> Vec<String> {
    tree(files).upward_imports(LAYERS)
}

fn cycles(files: &[(&'static str, &'static str)]) -> usize {
    tree(files).folder_cycles().len()
}

#[test]
fn what_goes_down_is_right() {
    let files = [("top.rs", "use crate::{left::A, right::{self, B}};"), ("left.rs", "fn f() { crate::leaf::g() }")];
    assert_eq!(upward(&files), Vec::<String>::new());
}

#[test]
fn what_goes_up_or_sideways_is_wrong() {
    for text in [
        "use crate::top::A;",
        "use crate::{leaf, top::{A, B}};",
        "pub(crate) use crate::top;",
        "use super::top::A as B;",
        "fn f() { let x = crate::top::A::new(); }",
        "fn f(x: super::top::A) {}",
        "fn f() { use crate::top::*; }",
        "macro_rules! m { () => { $crate::top::f() } }",
        "use crate as here; fn f() { here::top::f() }",
        "#[cfg(not(test))] use crate::top;",
        "mod inner { use crate::top; }",
        "mod inner { fn f() { super::super::top::g() } }",
    ] {
        assert_eq!(upward(&[("left.rs", text)]), ["left imports top"], "{text}");
        let sideways = text.replace("top", "right").leak();
        assert_eq!(upward(&[("left.rs", sideways)]), ["left imports right"], "{sideways}");
    }
    assert_eq!(upward(&[("leaf/mod.rs", ""), ("leaf/a.rs", "use super::super::top::A;")]), ["leaf::a imports top"]);
}

#[test]
fn what_is_re_exported_counts_where_it_comes_from() {
    let files = [("leaf.rs", "use crate::right::A;"), ("right.rs", "pub use super::left::A;")];
    assert_eq!(upward(&files), ["leaf imports left", "right imports left"]);
}

#[test]
fn what_only_tests_see_is_no_import() {
    for text in [
        "// crate::top::A",
        "/* use crate::top; */",
        "const A: &str = \"crate::top::A\";",
        "const A: &str = r#\"\"crate::top::A\"#;",
        "#[cfg(test)] use crate::{top::A, top::B};",
        "#[cfg(test)] mod tests { use crate::top; fn f() {} }",
        "#[cfg(test)] pub(crate) fn f() { crate::top::g() }",
        "struct A { #[cfg(test)] b: crate::top::B, c: u8 }",
        "fn f() { #[cfg(test)] if crate::top::g() { crate::top::h() } }",
        "fn f<'a>(a: &'a str) -> char { 'a' }",
    ] {
        assert_eq!(upward(&[("left.rs", text)]), Vec::<String>::new(), "{text}");
        // And what follows is seen.
        let more = format!("{text}\nfn more() {{ crate::top::f() }}").leak();
        assert_eq!(upward(&[("left.rs", more)]), ["left imports top"], "{more}");
    }
    let files = [("left/mod.rs", "#[cfg(test)] mod tests;"), ("left/tests.rs", "use crate::top;")];
    assert_eq!(upward(&files), Vec::<String>::new());
}

#[test]
fn a_module_without_a_layer_is_wrong_and_so_is_a_layer_without_a_module() {
    assert_eq!(upward(&[("new/mod.rs", "")]), ["new is in no layer"]);
    let lacks = Tree::read([("top.rs", ""), ("left.rs", ""), ("leaf.rs", "")]).upward_imports(LAYERS);
    assert_eq!(lacks, ["right is in the list of layers and not in the tree"]);
}

const FOLDER: [(&str, &str); 2] = [("leaf/mod.rs", ""), ("leaf/a/deep.rs", "use crate::leaf::b::B;")];

#[test]
fn a_folder_in_a_cycle_is_wrong() {
    let [parent, deep] = FOLDER;
    assert_eq!(cycles(&[parent, deep, ("leaf/a/mod.rs", ""), ("leaf/b.rs", "use super::a::A;")]), 1);
    // By way of a third.
    let files = [("leaf/a/mod.rs", ""), ("leaf/b.rs", "use super::c::C;"), ("leaf/c.rs", "use crate::leaf::a::A;")];
    assert_eq!(cycles(&[&FOLDER[..], &files].concat()), 1);
    // By a name that the parent re-exports.
    let parent = ("leaf/mod.rs", "pub use a::A;");
    assert_eq!(cycles(&[parent, deep, ("leaf/a/mod.rs", ""), ("leaf/b.rs", "use super::A;")]), 1);
}

#[test]
fn a_folder_and_its_children_may_know_each_other() {
    let parent = ("leaf/mod.rs", "use a::A; pub struct L;");
    assert_eq!(cycles(&[parent, ("leaf/a/mod.rs", "use super::L;"), ("leaf/a/b.rs", "use super::A;")]), 0);
    // Files side by side may, too: they are one folder.
    let files = [("leaf/mod.rs", ""), ("leaf/a.rs", "use super::b::B;"), ("leaf/b.rs", "use super::a::A;")];
    assert_eq!(cycles(&files), 0);
}
