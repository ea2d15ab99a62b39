//! The Kubernetes programs that the section `control-plane` of the tests runs. Those that are not on
//! the machine are built with Go from the modules under `tests/control_plane/`, which takes some
//! minutes once; they stay in the user's cache folder, so a fresh clone does not pay again.

use std::env;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::run;
use crate::{root, tools};

/// The variable that tells the tests of folders with such programs, as in `PATH`.
pub const FOLDERS: &str = "WEIR_CONTROL_PLANE";

/// A Go module of ours, and the programs that its one binary is, by the name it is called by.
struct Module {
    /// Its folder under `tests/control_plane/`.
    name: &'static str,
    /// The module that the programs come from.
    source: &'static str,
    programs: &'static [&'static str],
}

const MODULES: [Module; 2] = [
    Module { name: "etcd", source: "go.etcd.io/etcd/server/v3", programs: &["etcd"] },
    Module {
        name: "kubernetes",
        source: "k8s.io/kubernetes",
        programs: &["kube-apiserver", "kube-controller-manager", "kube-proxy"],
    },
];

/// Folders that hold what neither `KUBEBUILDER_ASSETS` nor `PATH` has, built if need be. Where there
/// is no Go either, the tests are left without and say so.
pub fn folders() -> Result<OsString> {
    let mut folders = Vec::new();
    for module in &MODULES {
        if module.programs.iter().all(|program| is_on_the_machine(program)) {
            continue;
        }
        let folder = module.cache()?;
        if !folder.exists() {
            if tools::on_path("go").is_none() {
                eprintln!("There is neither {} nor Go here.", module.programs.join(", "));
                continue;
            }
            module.build(&folder)?;
        }
        folders.push(folder);
    }
    Ok(env::join_paths(folders)?)
}

fn is_on_the_machine(program: &str) -> bool {
    let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    assets.is_some_and(|folder| folder.join(program).is_file()) || tools::on_path(program).is_some()
}

impl Module {
    /// Where its programs are kept: a folder for each state of its source.
    fn cache(&self) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        for file in ["go.mod", "go.sum", "main.go"] {
            self.read(file)?.hash(&mut hasher);
        }
        let name = format!("{}-{}-{:016x}", self.name, self.version()?, hasher.finish());
        Ok(tools::cache_folder().join("control-plane").join(name))
    }

    fn build(&self, folder: &Path) -> Result<()> {
        let version = self.version()?;
        eprintln!("Building {} {version}: some minutes, once.", self.programs.join(", "));
        let unseen = folder.with_extension(format!("new-{}", std::process::id()));
        std::fs::create_dir_all(&unseen)
            .with_context(|| format!("cannot make {}", unseen.display()))?;
        let flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={version}");
        run(
            Command::new("go")
                .args(["build", "-trimpath", "-ldflags", &flags, "-o"])
                .arg(unseen.join(self.programs[0]))
                .arg(".")
                .current_dir(self.folder())
                .env("CGO_ENABLED", "0"),
            "Go needs the network, 3 GB of disk and 4 GB of memory for this. Programs of your own \
             are used instead if KUBEBUILDER_ASSETS names their folder.",
        )?;
        for program in &self.programs[1..] {
            std::os::unix::fs::symlink(self.programs[0], unseen.join(program))?;
        }
        std::fs::rename(&unseen, folder)
            .with_context(|| format!("cannot move what was built to {}", folder.display()))
    }

    /// The release that go.mod names.
    fn version(&self) -> Result<String> {
        let text = self.read("go.mod")?;
        required_version(&text, self.source)
            .map(str::to_owned)
            .with_context(|| format!("{}/go.mod requires no {}", self.name, self.source))
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.folder().join(file);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn folder(&self) -> PathBuf {
        root().join("tests/control_plane").join(self.name)
    }
}

/// The version of `module` that a go.mod requires, on a line of its own or within a block.
fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let line = line.trim();
        let words = line.strip_prefix("require ").unwrap_or(line);
        words.strip_prefix(module)?.strip_prefix(' ')?.split(' ').next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_its_release_alone_or_in_a_block() {
        assert_eq!(required_version("require a.b/c v1.2.3\n", "a.b/c"), Some("v1.2.3"));
        let block = "require (\n\ta.b/cc v9\n\ta.b/c v1.2.3 // indirect\n)\n";
        assert_eq!(required_version(block, "a.b/c"), Some("v1.2.3"));
        assert_eq!(required_version(block, "a.b/d"), None);
    }

    #[test]
    fn every_module_is_there_and_names_its_release() {
        for module in MODULES {
            assert!(module.version().unwrap().starts_with('v'), "{}", module.name);
        }
    }
}
