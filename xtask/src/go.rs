//! Tools that the tests take from Go modules within this repository: built once, and kept in the
//! user's cache folder, where a fresh clone finds them.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{fresh, run};
use crate::tools;
use crate::workspace::{cache_folder, root};

/// The program of the Go module in `folder`, built if this version of it has not been yet; `None`
/// where there is no Go.
pub fn program(folder: &str) -> Result<Option<PathBuf>> {
    let folder = root().join(folder);
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let cache = cache_folder().join("go");
    let kept = cache.join(format!("{name}-{:016x}", version(&folder)?));
    if kept.is_file() {
        return Ok(Some(kept));
    }
    let Some(go) = find_go() else {
        return Ok(None);
    };
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    // Another clone may be building the same: its result will do.
    let lock = cache.join(format!("{name}.lock"));
    let lock =
        fs::File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
    lock.lock().context("cannot wait for another build")?;
    if kept.is_file() {
        return Ok(Some(kept));
    }
    eprintln!("Building {name} with Go: minutes, once.");
    // Built beside and renamed into place, so that nobody runs half of it.
    let building = kept.with_extension(std::process::id().to_string());
    run(
        fresh(go)
            .current_dir(&folder)
            .args([
                "build",
                "-trimpath",
                "-ldflags=-s -w",
                "-buildvcs=false",
                "-mod=readonly",
                "-o",
            ])
            .arg(&building)
            .arg(".")
            .env("CGO_ENABLED", "0"),
        "Go fetches the modules that go.sum names: check the network, or GOPROXY. \
         Without Go on the PATH the tests that need this are skipped.",
    )?;
    fs::rename(&building, &kept).with_context(|| format!("cannot write {}", kept.display()))?;
    Ok(Some(kept))
}

/// A number that is another one when a file of the module is.
fn version(folder: &Path) -> Result<u64> {
    let read = || -> std::io::Result<u64> {
        let mut files = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
        files.sort_by_key(fs::DirEntry::file_name);
        let mut hasher = DefaultHasher::new();
        for file in files {
            (file.file_name(), fs::read(file.path())?).hash(&mut hasher);
        }
        Ok(hasher.finish())
    };
    read().with_context(|| format!("cannot read the Go module {}", folder.display()))
}

fn find_go() -> Option<PathBuf> {
    let usual = PathBuf::from("/usr/local/go/bin/go");
    let goroot = env::var_os("GOROOT").map(|root| Path::new(&root).join("bin/go"));
    let rest = goroot.into_iter().chain([usual]).find(|go| go.is_file());
    tools::on_path("go").or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_module_changes_with_its_files() {
        let folder = env::temp_dir().join(format!("weir-go-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let write = |text: &str| fs::write(folder.join("main.go"), text).unwrap();
        write("package main");
        let first = version(&folder).unwrap();
        assert_eq!(version(&folder).unwrap(), first);
        write("package main // changed");
        assert_ne!(version(&folder).unwrap(), first);
        fs::remove_dir_all(&folder).unwrap();
    }
}
