//! What builds: a Rust toolchain that can build `core` for BPF, bpf-linker with the same LLVM, and
//! libraries and C compilers for other processors; found or installed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::cargo::{cargo, cargo_of};
use crate::command::{fresh, output_of, run};
use crate::kernels::architecture::Architecture;
use crate::kernels::debian::Packages;
use crate::tools::{install_packages, on_path};
use crate::workspace::cache_folder;

/// The bpf-linker that the project is built with.
const LINKER_VERSION: &str = "0.13.0";

/// The oldest compiler that builds the workspace, as in the workspace's Cargo.toml.
const OLDEST_RUST: (u32, u32) = (1, 95);

/// A Rust toolchain that has the source of `core`, and its linker for BPF.
pub struct BpfToolchain {
    /// Its cargo.
    pub cargo: PathBuf,
    /// Its compiler.
    pub rustc: PathBuf,
    /// bpf-linker, whose LLVM is at least the compiler's.
    pub linker: PathBuf,
}

/// Finds what builds the BPF object, installing what is missing.
pub fn bpf_toolchain() -> Result<BpfToolchain> {
    let (cargo, rustc, llvm) = match find_compiler() {
        Some(found) => found,
        None => install_compiler()?,
    };
    let linker = match find_linker() {
        Some(linker) => linker,
        None => install_linker(llvm)?,
    };
    eprintln!("BPF objects: {} with LLVM {llvm}, {}", rustc.display(), linker.display());
    Ok(BpfToolchain { cargo, rustc, linker })
}

/// A cargo that builds static programs in user space of `architecture`: the one that runs us where its
/// compiler has the library for it, else the one that builds BPF objects, with the library out of
/// Debian's package for that architecture.
pub fn cargo_for(architecture: Architecture) -> Result<Command> {
    let target = architecture.target();
    let variable = target.replace('-', "_");
    let mut flags = String::from("-Ctarget-feature=+crt-static");
    let mut command = cargo();
    if !has_library(target) {
        let toolchain = bpf_toolchain()?;
        let library = library_for(architecture, &toolchain)?;
        flags += &format!(" --sysroot={}", library.display());
        command = cargo_of(&toolchain.cargo);
        command.env("RUSTC", toolchain.rustc);
    }
    if architecture != Architecture::of_this_machine()? {
        let (compiler, packages) = architecture.c_compiler();
        let compiles = ["-E", "-include", "stdlib.h", "-x", "c", "/dev/null"];
        if output_of(Command::new(compiler).args(compiles)).is_none() {
            install_packages(&packages)?;
        }
        command
            .env(format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), compiler)
            .env(format!("CC_{variable}"), compiler);
    }
    command.env(format!("CARGO_TARGET_{}_RUSTFLAGS", variable.to_uppercase()), flags);
    Ok(command)
}

/// Whether the compiler in use has the library for `target`, or rustup can bring it.
fn has_library(target: &str) -> bool {
    let there = || {
        let sysroot = output_of(fresh("rustc").args(["--print", "sysroot"]));
        sysroot.is_some_and(|root| Path::new(&root).join("lib/rustlib").join(target).is_dir())
    };
    there() || (output_of(fresh("rustup").args(["target", "add", target])).is_some() && there())
}

/// A folder with Rust's library for `architecture`, of the very version of Debian's compiler.
fn library_for(architecture: Architecture, toolchain: &BpfToolchain) -> Result<PathBuf> {
    const PACKAGE: &str = "libstd-rust-web-dev";
    let version = output_of(Command::new("dpkg-query").args(["-W", "-f", "${Version}", PACKAGE]));
    let Some(version) = version.filter(|_| toolchain.rustc == Path::new("/usr/bin/rustc")) else {
        bail!(
            "no Rust compiler here has the library for {target}: `rustup target add {target}` brings \
             it, or on Debian the package rustc-web a compiler for which Debian has it",
            target = architecture.target()
        );
    };
    let folder = cache_folder().join(format!("rust-library-{architecture}-{version}"));
    let library = folder.join("usr");
    if library.join("lib/rustlib").join(architecture.target()).is_dir() {
        return Ok(library);
    }
    let release =
        output_of(Command::new("sh").args(["-c", ". /etc/os-release; echo $VERSION_CODENAME"]));
    let release = release.unwrap_or_else(|| "bookworm".into());
    let releases = [release.clone(), format!("{release}-security")];
    let releases = releases.each_ref().map(String::as_str);
    let packages = Packages::of(&format!("programs-{release}"), &releases, architecture)?;
    std::fs::create_dir_all(&folder)?;
    packages.unpack(&[format!("{PACKAGE}={version}")], &folder)?;
    Ok(library)
}

type Compiler = (PathBuf, PathBuf, u32);

/// The first toolchain with the source of `core`: the one in use, rustup's nightly, the system's.
fn find_compiler() -> Option<Compiler> {
    let of_rustup = |toolchain: &str| {
        let rustc = output_of(fresh("rustup").args(["which", "--toolchain", toolchain, "rustc"]))?;
        Some(PathBuf::from(rustc))
    };
    let in_use = output_of(fresh("rustc").args(["--print", "sysroot"]))
        .map(|sysroot| Path::new(&sysroot).join("bin/rustc"));
    [in_use, of_rustup("nightly"), Some("/usr/bin/rustc".into())]
        .into_iter()
        .flatten()
        .find_map(|rustc| can_build_core(&rustc))
}

/// Whether the toolchain of `rustc` is new enough and has a cargo and the source of `core`.
fn can_build_core(rustc: &Path) -> Option<Compiler> {
    let cargo = rustc.with_file_name("cargo");
    let sysroot = output_of(fresh(rustc).args(["--print", "sysroot"]))?;
    let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    let (version, llvm) = versions(&output_of(fresh(rustc).arg("-vV"))?)?;
    let usable = source.exists() && cargo.exists() && version >= OLDEST_RUST;
    usable.then(|| (cargo, rustc.to_owned(), llvm))
}

/// Rust's version and LLVM's major version, of what `rustc -vV` printed.
fn versions(verbose: &str) -> Option<((u32, u32), u32)> {
    let field = |name: &str| {
        let line = verbose.lines().find_map(|line| line.strip_prefix(name))?;
        let mut numbers = line.trim().split('.').map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    Some((field("release:")?, field("LLVM version:")?.0))
}

fn install_compiler() -> Result<Compiler> {
    eprintln!("No Rust toolchain here has the source of `core`, which BPF programs need.");
    if on_path("apt-get").is_some() {
        install_packages(&["rustc-web", "cargo-web", "rust-web-src"])?;
    } else {
        run(
            fresh("rustup").args(["component", "add", "rust-src"]),
            "Install the source of Rust's library (component rust-src) by hand, then try again.",
        )?;
    }
    match find_compiler() {
        Some(found) => Ok(found),
        None => bail!(
            "still no Rust toolchain of {}.{} or later with the source of `core`. \
             `rustup component add rust-src` gives one where rustup can download; \
             on Debian the packages rustc-web, cargo-web and rust-web-src do.",
            OLDEST_RUST.0,
            OLDEST_RUST.1
        ),
    }
}

fn find_linker() -> Option<PathBuf> {
    let installed = cargo_home().map(|home| home.join("bin/bpf-linker"));
    [on_path("bpf-linker"), installed, Some(cache_folder().join("bin/bpf-linker"))]
        .into_iter()
        .flatten()
        .find(|linker| output_of(Command::new(linker).arg("--version")).is_some())
}

/// Builds bpf-linker against LLVM `llvm`, the compiler's own, which takes about a minute.
fn install_linker(llvm: u32) -> Result<PathBuf> {
    eprintln!("There is no bpf-linker here: building {LINKER_VERSION} with LLVM {llvm}.");
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    if !prefix.join("bin/llvm-config").exists() {
        install_packages(&[
            &format!("llvm-{llvm}-dev"),
            &format!("libpolly-{llvm}-dev"),
            "libzstd-dev",
            "g++",
        ])?;
    }
    let home = match cargo_home() {
        Some(home) if is_writable(&home) => home,
        Some(_) | None => cache_folder(),
    };
    run(
        fresh("cargo")
            .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"])
            .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
            .arg("--root")
            .arg(&home)
            .env("LLVM_PREFIX", &prefix),
        &format!(
            "bpf-linker needs LLVM {llvm}: check that {} holds it, or put a bpf-linker on the PATH.",
            prefix.display()
        ),
    )?;
    Ok(home.join("bin/bpf-linker"))
}

fn cargo_home() -> Option<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

fn is_writable(folder: &Path) -> bool {
    let probe = folder.join(format!(".weir-{}", std::process::id()));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&probe, ""));
    let _ = std::fs::remove_file(&probe);
    written.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_says_its_own_version_and_its_llvm_s() {
        let verbose = "rustc 1.96.0 (ac68faa20 2026-05-25)\nhost: x86_64-unknown-linux-gnu\n\
                       release: 1.96.0\nLLVM version: 22.1.8";
        assert_eq!(versions(verbose), Some(((1, 96), 22)));
        assert_eq!(versions("release: 1.98.0-nightly\nLLVM version: 23.0"), Some(((1, 98), 23)));
        assert_eq!(versions("rustc 1.96.0"), None);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_not_writable() {
        assert!(!is_writable(Path::new("/proc/weir")));
    }
}
