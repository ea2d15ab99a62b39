//! The module trees of the workspace's crates, and which file of a crate imports which other.

use std::collections::{BTreeMap, BTreeSet};

use super::syntax::{Module, Source, Use};
use super::tree::Tree;

/// A crate: the files that its root reaches by `mod`, those for tests alone left out.
pub struct Crate<'a> {
    modules: BTreeMap<Path, Scope<'a>>,
    /// The files, each with the module that it is.
    files: Vec<(Path, &'a str)>,
    tests: BTreeSet<&'a str>,
    sources: &'a BTreeMap<String, Source>,
}

/// A module's path within its crate.
type Path = Vec<String>;

/// What names mean in a module.
struct Scope<'a> {
    file: &'a str,
    items: BTreeSet<&'a str>,
    uses: BTreeMap<&'a str, &'a Use>,
    globs: Vec<&'a Use>,
}

/// One file importing another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Import {
    /// The file that names something.
    pub from: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The file that defines it.
    pub to: String,
    /// The path that was named.
    pub name: String,
}

/// How many re-exports are followed from a name to what it stands for.
const DEPTH: usize = 8;

impl<'a> Crate<'a> {
    /// Every crate of the tree.
    pub fn all(tree: &'a Tree, sources: &'a BTreeMap<String, Source>) -> Vec<Self> {
        let roots = sources.keys().filter(|file| is_root(file));
        roots.map(|root| Self::of(root, tree, sources)).collect()
    }

    fn of(root: &'a str, tree: &'a Tree, sources: &'a BTreeMap<String, Source>) -> Self {
        let mut this =
            Self { modules: BTreeMap::new(), files: Vec::new(), tests: BTreeSet::new(), sources };
        this.add(Path::new(), root, folder(root).to_owned(), tree);
        this
    }

    /// Adds the module `module`, which is `file`; files of its own modules are in `below`.
    fn add(&mut self, module: Path, file: &'a str, below: String, tree: &'a Tree) {
        let Some(source) = self.sources.get(file) else { return };
        self.scopes(&module, file, source);
        self.files.push((module.clone(), file));
        for declared in source.modules.iter().filter(|declared| !declared.is_inline) {
            let Some((found, below)) = file_of(declared, file, &below, tree) else { continue };
            if declared.is_test {
                self.tests.insert(found);
            } else {
                self.add([module.clone(), declared.path.clone()].concat(), found, below, tree);
            }
        }
    }

    /// The files that are for tests alone: `#[cfg(test)] mod tests;`.
    pub fn test_files(&self) -> impl Iterator<Item = &'a str> {
        self.tests.iter().copied()
    }

    /// Adds the scopes of a file: its own, and those of the modules written in it.
    fn scopes(&mut self, module: &Path, file: &'a str, source: &'a Source) {
        let empty =
            || Scope { file, items: BTreeSet::new(), uses: BTreeMap::new(), globs: Vec::new() };
        let within = |inside: &[String]| [module.as_slice(), inside].concat();
        self.modules.entry(module.clone()).or_insert_with(empty);
        for inline in source.modules.iter().filter(|inline| inline.is_inline && !inline.is_test) {
            self.modules.entry(within(&inline.path)).or_insert_with(empty);
        }
        for (inside, name) in &source.items {
            self.modules.entry(within(inside)).or_insert_with(empty).items.insert(name);
        }
        for leaf in &source.uses {
            let scope = self.modules.entry(within(&leaf.inside)).or_insert_with(empty);
            match &leaf.name {
                Some(name) => {
                    scope.uses.insert(name, leaf);
                }
                None => scope.globs.push(leaf),
            }
        }
    }

    /// Every import between two files of the crate, each pair of files once.
    pub fn imports(&self) -> Vec<Import> {
        let mut imports = BTreeMap::new();
        for (module, file) in &self.files {
            let source = &self.sources[*file];
            let leaves = source.uses.iter().filter(|leaf| !self.is_re_export(module, leaf));
            let uses = leaves.map(|leaf| (&leaf.inside, &leaf.path, leaf.line));
            let names = source.names.iter().map(|name| (&name.inside, &name.path, name.line));
            for (inside, path, line) in uses.chain(names) {
                let scope = [module.as_slice(), inside].concat();
                let Some(to) = self.locate(&scope, path, DEPTH).filter(|to| to != file) else {
                    continue;
                };
                let (from, to, name) = ((*file).to_owned(), to.to_owned(), path.join("::"));
                imports.entry((from.clone(), to.clone())).or_insert(Import {
                    from,
                    line,
                    to,
                    name,
                });
            }
        }
        imports.into_values().collect()
    }

    /// Whether a module hands on with `pub use` what one of its own modules defines.
    fn is_re_export(&self, module: &[String], leaf: &Use) -> bool {
        let scope = [module, &leaf.inside].concat();
        let target = self.absolute(&scope, &leaf.path, DEPTH);
        leaf.is_public
            && target.is_some_and(|path| path.len() > scope.len() && path.starts_with(&scope))
    }

    /// The path from the crate's root that `path` is in the module `scope`; `None` if it leads to
    /// another crate or is no path at all.
    fn absolute(&self, scope: &[String], path: &[String], depth: usize) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        let depth = depth.checked_sub(1)?;
        let mut base = scope.to_vec();
        match first.as_str() {
            "crate" => return Some(rest.to_vec()),
            "self" => return Some([base.as_slice(), rest].concat()),
            "super" => {
                base.pop()?;
                let rest_is_relative = rest.first().is_some_and(|next| next == "super");
                return if rest_is_relative {
                    self.absolute(&base, rest, depth)
                } else {
                    Some([base.as_slice(), rest].concat())
                };
            }
            _ => {}
        }
        base.push(first.clone());
        if self.modules.contains_key(&base) {
            return Some([base.as_slice(), rest].concat());
        }
        let own = self.modules.get(scope)?;
        if own.items.contains(first.as_str()) {
            return Some([base.as_slice(), rest].concat());
        }
        let leaf = own.uses.get(first.as_str())?;
        // `use a::b;` names the crate `a`, not itself.
        if leaf.path.first() == Some(first) && leaf.path.as_slice() == path {
            return None;
        }
        let target = self.absolute(scope, &leaf.path, depth)?;
        Some([target.as_slice(), rest].concat())
    }

    /// The file that defines what `path` names in the module `scope`.
    fn locate(&self, scope: &[String], path: &[String], depth: usize) -> Option<&'a str> {
        let depth = depth.checked_sub(1)?;
        let target = self.absolute(scope, path, depth)?;
        let mut length = target.len();
        while !self.modules.contains_key(&target[..length]) {
            length = length.checked_sub(1)?;
        }
        let (module, rest) = target.split_at(length);
        let found = &self.modules[module];
        let Some((name, after)) = rest.split_first() else { return Some(found.file) };
        if found.items.contains(name.as_str()) {
            return Some(found.file);
        }
        if let Some(leaf) = found.uses.get(name.as_str()) {
            let path = [leaf.path.as_slice(), after].concat();
            return self.locate(module, &path, depth);
        }
        let of_glob = |leaf: &&Use| {
            let globbed = self.absolute(module, &leaf.path, depth)?;
            let other = self.modules.get(&globbed)?;
            let has = other.items.contains(name.as_str()) || other.uses.contains_key(name.as_str());
            let path = [&["crate".to_owned()], globbed.as_slice(), rest].concat();
            has.then(|| self.locate(&[], &path, depth)).flatten()
        };
        found.globs.iter().find_map(of_glob).or(Some(found.file))
    }
}

/// The file of a module that `file` declares, and the folder of that module's own modules.
fn file_of<'a>(
    declared: &Module,
    file: &str,
    below: &str,
    tree: &'a Tree,
) -> Option<(&'a str, String)> {
    let path = declared.path.join("/");
    let candidates = match &declared.file {
        Some(given) => vec![normal(&format!("{}/{given}", folder(file)))],
        None => vec![format!("{below}/{path}.rs"), format!("{below}/{path}/mod.rs")],
    };
    let found = candidates.iter().find_map(|candidate| tree.file(candidate))?;
    let is_mod = found.ends_with("/mod.rs");
    let below = if is_mod { folder(found) } else { found.trim_end_matches(".rs") };
    Some((found, below.to_owned()))
}

/// Whether cargo takes this file for the root of a crate.
fn is_root(file: &str) -> bool {
    let Some((folder, name)) = file.rsplit_once('/') else { return false };
    let is_target = ["tests", "benches", "bin", "examples"]
        .iter()
        .any(|targets| folder.ends_with(&format!("/{targets}")));
    matches!(name, "main.rs" | "lib.rs" | "build.rs") || is_target
}

fn folder(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path without `..`.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
