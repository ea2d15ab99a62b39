//! An object with Weir's programs: this build's, or another's that it is compared with.
//!
//! The rows of Services are written as this build lays them out; a map with other keys, or of another kind,
//! is an error that names it. Tables of flows are never written: flows are established by packets (`flows.rs`),
//! so that builds with different tables of flows can be compared.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, Map, MapFd, PerCpuArray};
use aya::programs::{ProgramFd, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::filter::Position;
use lb_common::maps::{self, Capacities};
use lb_common::snat::{GROUPS, HINT_ROWS, PortHints, Rows};
use lb_ebpf::cases::Program;
use lb_userspace::datapath::features::Features;
use lb_userspace::datapath::loader::{Buckets, size_maps};
use weir_tests::kernel::context;

use crate::cases::Scale;

/// Tables of flows that earlier builds had, which were hashes of entries: they are sized for as many.
fn earlier(capacities: &Capacities) -> [(&'static str, u32); 4] {
    let Capacities { conntrack, half_open, .. } = *capacities;
    [
        ("CONNTRACK_V4", conntrack),
        ("CONNTRACK_V6", conntrack),
        ("HALF_OPEN_V4", half_open),
        ("HALF_OPEN_V6", half_open),
    ]
}

/// An object in the kernel, attached nowhere.
pub struct Object {
    name: String,
    ebpf: Ebpf,
    other_rows: BTreeSet<String>,
    /// Room for a frame that comes out of a program.
    out: Vec<u8>,
}

impl Object {
    /// Loads the object `name` with tables for `scale`, and those of its programs that it has.
    pub fn load(name: &str, bytes: &[u8], scale: Scale) -> Result<Self> {
        let features = Features::of_this_kernel();
        let an_hour: u64 = 3_600_000_000_000;
        let mut loader = EbpfLoader::new();
        let capacities = scale.capacities();
        size_maps(&mut loader, &capacities);
        let buckets = Buckets::of(&capacities);
        let has = |constant: &[u8]| bytes.windows(constant.len()).any(|window| window == constant);
        if has(b"CONNTRACK_BUCKETS") {
            buckets.set_constants(&mut loader);
        } else {
            for (map, entries) in earlier(&capacities) {
                loader.map_max_entries(map, entries);
            }
        }
        features.set_constants(&mut loader, has(b"FIB_SOURCE_FLAGS"));
        loader.override_global("ROUTE_LIFETIME", &an_hour, false);
        let mut ebpf = loader.load(bytes).with_context(|| {
            format!("the kernel refused the maps of {name}, or it lacks a constant of this build")
        })?;
        for program in [Program::FromNetwork, Program::ToDevice, Program::NetworkXdp] {
            let Some(loaded) = ebpf.program_mut(program.name()) else { continue };
            if program == Program::NetworkXdp {
                <&mut Xdp>::try_from(loaded)?.load()
            } else {
                <&mut SchedClassifier>::try_from(loaded)?.load()
            }
            .with_context(|| format!("{} of {name} is refused", program.name()))?;
        }
        Ok(Self { name: name.to_owned(), ebpf, other_rows: BTreeSet::new(), out: vec![0; 512] })
    }

    /// A program's descriptor, for a program array.
    pub fn descriptor(&self, program: Program) -> Result<&ProgramFd> {
        let loaded = self.ebpf.program(program.name());
        let loaded = loaded.with_context(|| self.lacks("program", program.name()))?;
        Ok(match program {
            Program::NetworkXdp => <&Xdp>::try_from(loaded)?.fd()?,
            Program::FromPod | Program::FromNetwork | Program::ToDevice => {
                <&SchedClassifier>::try_from(loaded)?.fd()?
            }
        })
    }

    /// Gives `program` one frame that came by `device`; returns what the program returned, and the frame
    /// as it left it.
    pub fn pass(&mut self, program: Program, device: u32, frame: &[u8]) -> Result<(u32, &[u8])> {
        let lacks = self.lacks("program", program.name());
        let context = context(program, device, frame.len(), 0);
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut self.out);
        options.ctx_in = Some(&context);
        let loaded = self.ebpf.program_mut(program.name()).context(lacks)?;
        let result = match program {
            Program::NetworkXdp => <&mut Xdp>::try_from(loaded)?.test_run(options)?,
            Program::FromPod | Program::FromNetwork | Program::ToDevice => {
                <&mut SchedClassifier>::try_from(loaded)?.test_run(options)?
            }
        };
        Ok((result.return_value, &self.out[..result.data_size_out as usize]))
    }

    /// How often each outcome was counted, over all CPUs, by the object's own numbers of outcomes.
    pub fn outcomes(&self) -> Result<Vec<u64>> {
        let map = self.ebpf.map("OUTCOMES").with_context(|| self.lacks("map", "OUTCOMES"))?;
        let counts: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
        (0..counts.len()).map(|index| Ok(counts.get(&index, 0)?.iter().sum())).collect()
    }

    /// Writes an entry of a hash.
    pub fn insert<K, V>(&mut self, map: &str, key: K, value: V) -> Result<()>
    where
        K: bytemuck::Pod,
        V: bytemuck::Pod,
    {
        self.write(map, bytemuck::bytes_of(&key), bytemuck::bytes_of(&value))
    }

    /// Sets an element of an array.
    pub fn set<V: bytemuck::Pod>(&mut self, map: &str, index: u32, value: V) -> Result<()> {
        self.write(map, &index.to_ne_bytes(), bytemuck::bytes_of(&value))
    }

    /// Writes a row. One that is shorter in this build than in the object ends in zeroes, one that is longer is cut:
    /// fields are added at the end, and what becomes of packets is checked.
    fn write(&mut self, name: &str, key: &[u8], value: &[u8]) -> Result<()> {
        let map = self.ebpf.map(name).with_context(|| self.lacks("map", name))?;
        let (Map::Array(data) | Map::HashMap(data)) = map else {
            bail!("{}", self.laid_out_otherwise(name))
        };
        let info = data.info()?;
        let size = info.value_size() as usize;
        ensure!(info.key_size() as usize == key.len(), "{}", self.laid_out_otherwise(name));
        let mut row = value.to_vec();
        if size != row.len() {
            let note = format!("rows of {name} have {size} bytes, this build's {}", row.len());
            self.other_rows.insert(note);
            row.resize(size, 0);
        }
        update(data.fd(), key, &row).with_context(|| format!("cannot write {name}"))
    }

    /// Which rows were cut or filled up.
    pub const fn other_rows(&self) -> &BTreeSet<String> {
        &self.other_rows
    }

    /// Forgets which source ports are in use, as an agent does for flows that are gone: there is none here.
    pub fn clear_port_hints(&mut self) -> Result<()> {
        for row in 0..HINT_ROWS {
            self.set(maps::PORT_HINTS.name, row, PortHints::default())?;
        }
        for group in 0..GROUPS {
            self.set(maps::FULL_ROWS.name, group, Rows::default())?;
        }
        Ok(())
    }

    /// Sets the filter's bits at `position`.
    pub fn set_filter_bits(&mut self, position: Position) -> Result<()> {
        let other = self.laid_out_otherwise("FILTER");
        let lacks = self.lacks("map", "FILTER");
        let map = self.ebpf.map_mut("FILTER").context(lacks)?;
        let mut filter: Array<_, u64> = Array::try_from(map).context(other.clone())?;
        ensure!(filter.len() == lb_common::filter::WORDS, "{other}");
        let word = filter.get(&position.word, 0)?;
        Ok(filter.set(position.word, word | position.mask, 0)?)
    }

    fn lacks(&self, kind: &str, name: &str) -> String {
        format!("{} has no {kind} {name}", self.name)
    }

    fn laid_out_otherwise(&self, map: &str) -> String {
        format!(
            "{} lays {map} out otherwise than this build: measure it from the source it was built of, and \
             compare look-ups",
            self.name
        )
    }
}

/// `bpf_attr` of BPF_MAP_UPDATE_ELEM.
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/bpf.h#L1494>
#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Writes an element as bytes, which must be as many as the map's keys and values have.
fn update(map: &MapFd, key: &[u8], value: &[u8]) -> io::Result<()> {
    const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
    let attributes = MapUpdate {
        map_fd: map.as_fd().as_raw_fd().cast_unsigned(),
        zero: 0,
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    // SAFETY: the kernel reads the attributes, a key and a value, all of which live until the call returns; the
    // caller has compared their lengths with the map's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_UPDATE_ELEM,
            ptr::from_ref(&attributes),
            size_of::<MapUpdate>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
