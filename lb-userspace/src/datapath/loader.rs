//! The BPF object: where its bytes come from, and how it is loaded onto pinned maps.

use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;

use aya::programs::{CgroupSockAddr, ProgramError};
use aya::{Ebpf, EbpfLoader};
use lb_common::maps::{self, Capacities, Capacity};

use super::features::Features;
use super::load_error::LoadError;
use super::log;
use super::programs::{NETNS_COOKIE_PROGRAM, Program, SOCKET_PROGRAMS};
use crate::config::DatapathLog;
use crate::pins::Pins;

/// The object in the kernel: its maps are pinned, its programs loaded and attached nowhere yet.
#[derive(Debug)]
pub struct Object {
    /// The programs.
    pub ebpf: Ebpf,
    /// Why the XDP program is not among them, if the kernel refused that one alone; TC does
    /// everything without it.
    pub without_xdp: Option<LoadError>,
    log: DatapathLog,
}

impl Object {
    /// Loads the object onto the maps in `pins`, which are made where they are missing. With `old` the programs work on
    /// the conntrack tables there, too, as long as the tables are resized.
    ///
    /// # Errors
    /// Every [`LoadError`]; maps that were pinned before are as they were.
    pub fn load(
        pins: &Pins,
        capacities: &Capacities,
        old: Option<&Old<'_>>,
        log: DatapathLog,
    ) -> Result<Self, LoadError> {
        let bytes = bytes()?;
        let features = suitable(Features::of_this_kernel())?;
        pins.compare(capacities)?;
        pins.create()?;
        let missing = maps::pinned().map(|map| pins.map(map)).filter(|pin| !pin.exists());
        let made: Vec<PathBuf> = missing.collect();
        let loaded = Self::load_onto(pins, capacities, old, &features, log, &bytes);
        let loaded = loaded.and_then(|object| match pins.write_layout() {
            Ok(()) => Ok(object),
            Err(error) => Err(LoadError::Maps(format!("LAYOUT cannot be written: {error}"))),
        });
        if loaded.is_err() {
            // Maps made halfway, perhaps too large for this node, must not bind the next try. What
            // cannot be removed is compared with by the next try as any other.
            made.iter().for_each(|pin| drop(fs::remove_file(pin)));
        }
        loaded
    }

    fn load_onto(
        pins: &Pins,
        capacities: &Capacities,
        old: Option<&Old<'_>>,
        features: &Features,
        log: DatapathLog,
        bytes: &[u8],
    ) -> Result<Self, LoadError> {
        let mut loader = EbpfLoader::new();
        features.set_constants(&mut loader, true);
        log::set_constants(&mut loader, log);
        let buckets = Buckets::of(capacities);
        buckets.set_constants(&mut loader);
        size_maps(&mut loader, capacities);
        for map in maps::pinned() {
            loader.map_pin_path(map.name, pins.map(map));
        }
        let old_buckets = old.map(|old| Buckets::of(old.capacities));
        if let (Some(old), Some(buckets)) = (old, &old_buckets) {
            buckets.set_old_constants(&mut loader);
            for (name, map) in OLD_TABLES {
                loader.map_pin_path(name, old.pins.map(map));
            }
            loader.map_pin_path(maps::RESIZE.name, pins.map(&maps::RESIZE));
        }
        let mut ebpf = loader.load(bytes).map_err(|error| LoadError::maps(&error))?;
        for program in Program::TC {
            load(&mut ebpf, program, program.name_for(log))?;
        }
        let xdp = Program::NetworkXdp;
        let without_xdp = load(&mut ebpf, xdp, xdp.name_for(log)).err();
        Ok(Self { ebpf, without_xdp, log })
    }

    /// Loads a program that only some nodes need, unless it is.
    ///
    /// # Errors
    /// [`LoadError::Program`]
    pub fn require(&mut self, program: Program) -> Result<(), LoadError> {
        let name = program.name_for(self.log);
        let is_loaded = self.ebpf.program(name).is_some_and(|program| program.fd().is_ok());
        if is_loaded { Ok(()) } else { load(&mut self.ebpf, program, name) }
    }
}

/// Conntrack tables of the size before.
#[derive(Clone, Copy, Debug)]
pub struct Old<'a> {
    /// Where they are pinned.
    pub pins: &'a Pins,
    /// Their sizes.
    pub capacities: &'a Capacities,
}

/// The maps by which programs know the old tables, and what is pinned of these.
const OLD_TABLES: [(&str, &maps::Map); 4] = [
    ("OLD_CONNTRACK_V4", &maps::CONNTRACK.v4),
    ("OLD_CONNTRACK_V6", &maps::CONNTRACK.v6),
    ("OLD_HALF_OPEN_V4", &maps::HALF_OPEN.v4),
    ("OLD_HALF_OPEN_V6", &maps::HALF_OPEN.v6),
];

/// Sets how many entries each map has.
pub fn size_maps(loader: &mut EbpfLoader<'_>, capacities: &Capacities) {
    for map in maps::pinned() {
        loader.map_max_entries(map.name, capacities.entries(map));
    }
    for (name, entries, _) in maps::PROGRAMS_LRU {
        loader.map_max_entries(name, capacities.lru_entries(entries));
    }
}

/// These features, if the programs can do with them.
fn suitable(features: Features) -> Result<Features, LoadError> {
    if features.compares_and_swaps { Ok(features) } else { Err(LoadError::TooOld) }
}

/// How many buckets the conntrack tables have, which the programs are told in constants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buckets {
    /// Of established flows.
    pub conntrack: u32,
    /// Of half-open flows.
    pub half_open: u32,
}

impl Buckets {
    /// Those for `capacities`.
    #[must_use]
    pub const fn of(capacities: &Capacities) -> Self {
        Self {
            conntrack: capacities.conntrack_buckets(),
            half_open: capacities.half_open_buckets(),
        }
    }

    /// Sets the constants of the programs.
    pub fn set_constants<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader.override_global("CONNTRACK_BUCKETS", &self.conntrack, true);
        loader.override_global("HALF_OPEN_BUCKETS", &self.half_open, true);
    }

    /// Tells the programs that there are old tables, of these sizes.
    fn set_old_constants<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader.override_global("OLD_CONNTRACK_BUCKETS", &self.conntrack, true);
        loader.override_global("OLD_HALF_OPEN_BUCKETS", &self.half_open, true);
    }
}

/// Loads every program there is onto small maps that are pinned nowhere; returns them, and what was
/// refused.
///
/// # Errors
/// There is no object, or the kernel does not make the maps.
pub fn try_all(features: &Features) -> Result<(Ebpf, Vec<LoadError>), LoadError> {
    const FEW: u32 = 16;
    let bytes = bytes()?;
    suitable(*features)?;
    let mut loader = EbpfLoader::new();
    features.set_constants(&mut loader, true);
    // The constants say one bucket, of these few places.
    for map in maps::pinned() {
        let entries = if let Capacity::Fixed(fixed) = map.capacity { fixed } else { FEW };
        loader.map_max_entries(map.name, entries);
    }
    let mut ebpf = loader.load(&bytes).map_err(|error| LoadError::maps(&error))?;
    let of_packets = Program::TC.into_iter().chain(Program::L3).chain([Program::NetworkXdp]);
    let mut refused: Vec<_> =
        of_packets.filter_map(|program| load(&mut ebpf, program, program.name()).err()).collect();
    for name in SOCKET_PROGRAMS.into_iter().chain([NETNS_COOKIE_PROGRAM]) {
        refused.extend(load_socket_program(&mut ebpf, name).err());
    }
    Ok((ebpf, refused))
}

/// The object's bytes: embedded at build time, else read from the file that `WEIR_EBPF_OBJECT`
/// names.
pub fn bytes() -> Result<Cow<'static, [u8]>, LoadError> {
    #[cfg(embedded_object)]
    return Ok(Cow::Borrowed(aya::include_bytes_aligned!(env!("WEIR_EBPF_OBJECT"))));
    #[cfg(not(embedded_object))]
    {
        let path = std::env::var_os("WEIR_EBPF_OBJECT").ok_or(LoadError::Missing)?;
        let path = PathBuf::from(path);
        match fs::read(&path) {
            Ok(bytes) => Ok(Cow::Owned(bytes)),
            Err(error) => Err(LoadError::Unreadable { path, error }),
        }
    }
}

/// A program for processes' sockets, which is loaded if it is not yet.
///
/// # Errors
/// [`LoadError::Program`]
pub fn load_socket_program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut CgroupSockAddr, LoadError> {
    let refused = |error: ProgramError| LoadError::program(name, &error);
    let found = ebpf.program_mut(name).ok_or_else(|| LoadError::no_program(name))?;
    let program: &mut CgroupSockAddr = found.try_into().map_err(refused)?;
    match program.load() {
        Err(ProgramError::AlreadyLoaded) | Ok(()) => Ok(program),
        Err(error) => Err(refused(error)),
    }
}

/// The loaded one of a program's two: with the datapath log or without. `None` if the object has neither.
pub fn loaded(ebpf: &mut Ebpf, program: Program) -> Option<&mut aya::programs::Program> {
    let with_log = program.name_with_log();
    let has_log = ebpf.program(with_log).is_some_and(|program| program.fd().is_ok());
    ebpf.program_mut(if has_log { with_log } else { program.name() })
}

fn load(ebpf: &mut Ebpf, program: Program, name: &'static str) -> Result<(), LoadError> {
    let refused = |error: ProgramError| LoadError::program(name, &error);
    let found = ebpf.program_mut(name).ok_or_else(|| LoadError::no_program(name))?;
    match program {
        Program::FromPod
        | Program::FromNetwork
        | Program::ToDevice
        | Program::FromNetworkL3
        | Program::ToDeviceL3 => {
            let program: &mut aya::programs::SchedClassifier = found.try_into().map_err(refused)?;
            program.load().map_err(refused)
        }
        Program::NetworkXdp => {
            let program: &mut aya::programs::Xdp = found.try_into().map_err(refused)?;
            program.load().map_err(refused)
        }
    }
}
