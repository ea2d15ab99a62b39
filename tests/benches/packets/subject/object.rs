//! An object with Weir's programs: this build's, or another's that it is compared with.
//!
//! The rows of Services are written as this build lays them out; a map laid out otherwise is an error
//! that names it. Tables of flows are never written: flows are established by packets (`flows.rs`),
//! so that builds with different tables of flows can be compared.

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, HashMap, Map, PerCpuArray};
use aya::programs::{ProgramFd, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::filter::Position;
use lb_common::maps::Capacity;
use lb_ebpf::cases::Program;
use lb_userspace::datapath::features::Features;
use weir_tests::kernel::{AyaPod, context};

use crate::cases::Scale;

/// Tables of flows of earlier builds, by what their size follows from: they are sized as this build's are.
const EARLIER: [(&str, Capacity); 4] = [
    ("CONNTRACK_V4", Capacity::Conntrack),
    ("CONNTRACK_V6", Capacity::Conntrack),
    ("HALF_OPEN_V4", Capacity::HalfOpen),
    ("HALF_OPEN_V6", Capacity::HalfOpen),
];

/// An object in the kernel, attached nowhere.
pub struct Object {
    name: String,
    ebpf: Ebpf,
    /// Room for a frame that comes out of a program.
    out: Vec<u8>,
}

impl Object {
    /// Loads the object `name` with tables for `scale`, and those of its programs that it has.
    pub fn load(name: &str, bytes: &[u8], scale: Scale) -> Result<Self> {
        let features = Features::of_this_kernel();
        let an_hour: u64 = 3_600_000_000_000;
        let mut loader = EbpfLoader::new();
        let known = lb_common::maps::ALL.iter().map(|map| (map.name, map.capacity));
        for (map, capacity) in EARLIER.into_iter().chain(known) {
            loader.map_max_entries(map, scale.entries(capacity));
        }
        features.set_constants(&mut loader);
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
        Ok(Self { name: name.to_owned(), ebpf, out: vec![0; 512] })
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
        let other = self.laid_out_otherwise(map);
        let mut hash: HashMap<_, AyaPod<K>, AyaPod<V>> =
            HashMap::try_from(self.map(map)?).context(other)?;
        hash.insert(AyaPod(key), AyaPod(value), 0).with_context(|| format!("cannot write {map}"))
    }

    /// Sets an element of an array.
    pub fn set<V: bytemuck::Pod>(&mut self, map: &str, index: u32, value: V) -> Result<()> {
        let other = self.laid_out_otherwise(map);
        let mut array: Array<_, AyaPod<V>> = Array::try_from(self.map(map)?).context(other)?;
        array.set(index, AyaPod(value), 0).with_context(|| format!("cannot write {map}"))
    }

    /// Sets a bit of the filter.
    pub fn set_filter_bit(&mut self, position: Position) -> Result<()> {
        let other = self.laid_out_otherwise("FILTER");
        let mut filter: Array<_, u64> =
            Array::try_from(self.map("FILTER")?).context(other.clone())?;
        ensure!(filter.len() == lb_common::filter::WORDS, "{other}");
        let word = filter.get(&position.word, 0)?;
        Ok(filter.set(position.word, word | position.mask, 0)?)
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        let lacks = self.lacks("map", name);
        self.ebpf.map_mut(name).context(lacks)
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
