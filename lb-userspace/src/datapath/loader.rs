//! The BPF object: where its bytes come from, and how it is loaded onto pinned maps.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::PathBuf;

use aya::programs::{CgroupSockAddr, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use lb_common::maps::{self, Capacities, Capacity};
use nix::sys::utsname::uname;

use super::error_chain::causes;
use super::features::Features;
use super::{netns_cookie, socket_lb};
use crate::pins::{PinError, Pins};

/// Why the programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no object.
    #[error(
        "this weir was built without the BPF object: build it with `cargo xtask build`, or name \
         the object file in WEIR_EBPF_OBJECT"
    )]
    Missing,
    /// The file that should hold the object cannot be read.
    #[error("the BPF object {path} cannot be read: {error}; build it with `cargo xtask build`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The maps that are pinned do not fit.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The object or its maps were refused.
    #[error(
        "the kernel did not take the maps: {0}; smaller tables need less memory (`weir run --help`, \
         Sizes)"
    )]
    Maps(String),
    /// A program was refused.
    #[error(
        "the kernel (Linux {}) did not take the program {name}: {cause}\nThis is a fault of Weir's, or a \
         kernel that it cannot use: `weir check` says what else this one lacks, docs/kernels.md which \
         ones were seen to do. Report it to Weir's developers, with these lines.",
        release()
    )]
    Program {
        /// Its name.
        name: &'static str,
        /// The last lines of what the kernel says.
        cause: String,
    },
}

impl ObjectError {
    fn maps(error: &EbpfError, features: &Features) -> Self {
        let mut cause = causes(error);
        if features.counts_maps_as_locked() {
            cause += "; kernels before 5.11 count maps as locked memory: run weir with CAP_SYS_RESOURCE, \
                      or without a limit of it (ulimit -l unlimited, LimitMEMLOCK=infinity)";
        }
        Self::Maps(cause)
    }
}

/// The programs by their names in the object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Program {
    /// TC, ingress of pod-facing devices.
    FromPod,
    /// TC, ingress of network-facing devices.
    FromNetwork,
    /// TC, egress of either.
    ToDevice,
    /// XDP of network-facing devices.
    NetworkXdp,
}

impl Program {
    /// Those every device needs.
    pub const TC: [Self; 3] = [Self::FromPod, Self::FromNetwork, Self::ToDevice];

    /// The name in the object.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::FromNetwork => "from_network",
            Self::ToDevice => "to_device",
            Self::NetworkXdp => "network_xdp",
        }
    }
}

/// The object in the kernel: its maps are pinned, its programs loaded and attached nowhere yet.
#[derive(Debug)]
pub struct Object {
    /// The programs.
    pub ebpf: Ebpf,
    /// Why the XDP program is not among them, if the kernel refused that one alone; TC does
    /// everything without it.
    pub without_xdp: Option<ObjectError>,
}

impl Object {
    /// Loads the object onto the maps in `pins`, which are made where they are missing.
    ///
    /// # Errors
    /// Every [`ObjectError`]; maps that were pinned before are as they were.
    pub fn load(pins: &Pins, capacities: &Capacities) -> Result<Self, ObjectError> {
        let bytes = bytes()?;
        pins.compare(capacities)?;
        pins.create()?;
        let missing = maps::pinned().map(|map| pins.map(map)).filter(|pin| !pin.exists());
        let made: Vec<PathBuf> = missing.collect();
        let loaded = Self::load_onto(pins, capacities, &bytes);
        if loaded.is_err() {
            // Maps made halfway, perhaps too large for this node, must not bind the next try. What
            // cannot be removed is compared with by the next try as any other.
            made.iter().for_each(|pin| drop(fs::remove_file(pin)));
        }
        loaded
    }

    fn load_onto(pins: &Pins, capacities: &Capacities, bytes: &[u8]) -> Result<Self, ObjectError> {
        let features = Features::of_this_kernel();
        let mut loader = EbpfLoader::new();
        features.tell(&mut loader);
        for map in maps::pinned() {
            loader.map_max_entries(map.name, capacities.entries(map.capacity));
            loader.map_pin_path(map.name, pins.map(map));
        }
        let mut ebpf = loader.load(bytes).map_err(|error| ObjectError::maps(&error, &features))?;
        for program in Program::TC {
            load(&mut ebpf, program)?;
        }
        let without_xdp = load(&mut ebpf, Program::NetworkXdp).err();
        Ok(Self { ebpf, without_xdp })
    }
}

/// The kernel's release, as `uname -r` has it.
fn release() -> String {
    let name = uname().map(|name| name.release().to_string_lossy().into_owned());
    name.unwrap_or_else(|_| "of a version that it does not tell".into())
}

/// Loads every program there is onto small maps that are pinned nowhere; returns them, and what was
/// refused.
///
/// # Errors
/// There is no object, or the kernel does not make the maps.
pub fn try_all(features: &Features) -> Result<(Ebpf, Vec<ObjectError>), ObjectError> {
    const FEW: u32 = 16;
    let bytes = bytes()?;
    let mut loader = EbpfLoader::new();
    features.tell(&mut loader);
    for map in maps::pinned() {
        let entries = if let Capacity::Fixed(fixed) = map.capacity { fixed } else { FEW };
        loader.map_max_entries(map.name, entries);
    }
    let mut ebpf = loader.load(&bytes).map_err(|error| ObjectError::maps(&error, features))?;
    let of_packets = Program::TC.into_iter().chain([Program::NetworkXdp]);
    let mut refused: Vec<_> =
        of_packets.filter_map(|program| load(&mut ebpf, program).err()).collect();
    for name in socket_lb::PROGRAMS.into_iter().chain([netns_cookie::PROGRAM]) {
        refused.extend(load_for_sockets(&mut ebpf, name).err());
    }
    Ok((ebpf, refused))
}

/// The object's bytes: embedded at build time, else read from the file that `WEIR_EBPF_OBJECT`
/// names.
pub fn bytes() -> Result<Cow<'static, [u8]>, ObjectError> {
    #[cfg(embedded_object)]
    return Ok(Cow::Borrowed(aya::include_bytes_aligned!(env!("WEIR_EBPF_OBJECT"))));
    #[cfg(not(embedded_object))]
    {
        let path = std::env::var_os("WEIR_EBPF_OBJECT").ok_or(ObjectError::Missing)?;
        let path = PathBuf::from(path);
        match fs::read(&path) {
            Ok(bytes) => Ok(Cow::Owned(bytes)),
            Err(error) => Err(ObjectError::Unreadable { path, error }),
        }
    }
}

/// A program for processes' sockets, which is loaded if it is not yet.
///
/// # Errors
/// [`ObjectError::Program`]
pub fn load_for_sockets<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut CgroupSockAddr, ObjectError> {
    let refused =
        |error: ProgramError| ObjectError::Program { name, cause: last_lines(&error.to_string()) };
    let found = ebpf
        .program_mut(name)
        .ok_or(ObjectError::Program { name, cause: "it is not in the object".into() })?;
    let program: &mut CgroupSockAddr = found.try_into().map_err(refused)?;
    match program.load() {
        Err(ProgramError::AlreadyLoaded) | Ok(()) => Ok(program),
        Err(error) => Err(refused(error)),
    }
}

fn load(ebpf: &mut Ebpf, program: Program) -> Result<(), ObjectError> {
    let name = program.name();
    let refused =
        |error: ProgramError| ObjectError::Program { name, cause: last_lines(&error.to_string()) };
    let found = ebpf
        .program_mut(name)
        .ok_or(ObjectError::Program { name, cause: "it is not in the object".into() })?;
    match program {
        Program::FromPod | Program::FromNetwork | Program::ToDevice => {
            let program: &mut aya::programs::SchedClassifier = found.try_into().map_err(refused)?;
            program.load().map_err(refused)
        }
        Program::NetworkXdp => {
            let program: &mut aya::programs::Xdp = found.try_into().map_err(refused)?;
            program.load().map_err(refused)
        }
    }
}

/// The verifier's log can be megabytes; what it refused stands at its end.
fn last_lines(text: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let skipped = lines.len().saturating_sub(LINES);
    let end = lines.get(skipped..).unwrap_or_default().join("\n");
    match (skipped, lines.first()) {
        (1.., Some(first)) => format!("{first}\n[{} lines]\n{end}", skipped.saturating_sub(1)),
        (_, _) => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_first_line_and_the_end_are_told() {
        let log: String = (0..100).map(|i| format!("line {i}\n")).collect();
        let told = last_lines(&log);
        assert!(told.starts_with("line 0\n[79 lines]\nline 80\n"), "{told}");
        assert!(told.ends_with("line 99"));
        assert_eq!(last_lines("one\ntwo\n"), "one\ntwo");
    }
}
