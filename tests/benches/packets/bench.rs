//! The benchmark's object in the kernel: a series of repeats of one frame, timed there.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, HashMap, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::address::{Family, Tuple, V4, V6};
use lb_ebpf::bench::shared::{HEADERS, Series, Spread, WORDS};
use lb_ebpf::cases::{Program, frame, topology};
use weir_tests::kernel::{AyaPod, context};

/// The variable that names the benchmark's object.
const OBJECT: &str = "WEIR_BENCH_OBJECT";

/// The wrappers, the floors, and their maps.
pub struct Bench {
    ebpf: Ebpf,
    /// Interface index of the device that frames come by.
    device: u32,
}

/// The kind of hook of a program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HookKind {
    /// XDP
    Xdp,
    /// TC
    Tc,
}

impl HookKind {
    /// That of `program`.
    pub fn of(program: Program) -> Self {
        if program == Program::NetworkXdp { Self::Xdp } else { Self::Tc }
    }

    fn wrapper(self) -> &'static str {
        match self {
            Self::Xdp => "repeat_xdp",
            Self::Tc => "repeat_tc",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::Xdp => "XDP_PROGRAM",
            Self::Tc => "TC_PROGRAM",
        }
    }
}

/// A program of the benchmark's own, to subtract or to compare with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Floor {
    /// Drops the packet unseen.
    Drop,
    /// Looks its tuple up in one table of 65,536 entries.
    OneLookUp,
    /// In two.
    TwoLookUps,
}

impl Floor {
    /// All floors.
    pub const ALL: [Self; 3] = [Self::Drop, Self::OneLookUp, Self::TwoLookUps];

    /// Its program.
    pub fn program(self, hook: HookKind) -> &'static str {
        match (self, hook) {
            (Self::Drop, HookKind::Xdp) => "drop_xdp",
            (Self::Drop, HookKind::Tc) => "drop_tc",
            (Self::OneLookUp, HookKind::Xdp) => "one_look_up_xdp",
            (Self::OneLookUp, HookKind::Tc) => "one_look_up_tc",
            (Self::TwoLookUps, HookKind::Xdp) => "two_look_ups_xdp",
            (Self::TwoLookUps, HookKind::Tc) => "two_look_ups_tc",
        }
    }
}

/// The same bytes for user space and for the programs.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Shared(Series);

// SAFETY: the series is `repr(C)`, holds integers alone, and its one hole is a field of its own.
unsafe impl aya::Pod for Shared {}

impl Bench {
    /// Loads the object and every program in it.
    pub fn load(device: u32) -> Result<Self> {
        let path = std::env::var_os(OBJECT).map(PathBuf::from).with_context(|| {
            format!("{OBJECT} names no object: start this by `cargo xtask bench packets`")
        })?;
        let object =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut ebpf = EbpfLoader::new().load(&object).context("the kernel refused the maps")?;
        for (name, program) in ebpf.programs_mut() {
            if let aya::programs::Program::Xdp(xdp) = program {
                xdp.load()
            } else {
                <&mut SchedClassifier>::try_from(program)?.load()
            }
            .with_context(|| format!("{name} is refused"))?;
        }
        Ok(Self { ebpf, device })
    }

    /// Fills the floors' tables with the tuples of these flows of `frame`.
    pub fn fill(&mut self, family: Family, frame: &[u8], spread: &Spread) -> Result<()> {
        for flow in 0..=spread.mask {
            let mut frame = frame.to_vec();
            for word in spread.words(flow) {
                frame[word.at..word.at + 2].copy_from_slice(&word.bytes);
            }
            match family {
                Family::V4 => {
                    self.insert("FIRST_V4", tuple::<V4>(&frame)?)?;
                    self.insert("SECOND_V4", tuple::<V4>(&frame)?)?;
                }
                Family::V6 => {
                    self.insert("FIRST_V6", tuple::<V6>(&frame)?)?;
                    self.insert("SECOND_V6", tuple::<V6>(&frame)?)?;
                }
            }
        }
        Ok(())
    }

    fn insert<K: bytemuck::Pod>(&mut self, table: &str, tuple: K) -> Result<()> {
        let map = self.ebpf.map_mut(table).with_context(|| format!("no map {table}"))?;
        let mut map: HashMap<_, AyaPod<K>, u64> = HashMap::try_from(map)?;
        Ok(map.insert(AyaPod(tuple), 1, 0)?)
    }

    /// Lets the wrapper of `hook` call `program`.
    pub fn choose(&mut self, hook: HookKind, program: &ProgramFd) -> Result<()> {
        let map = self.ebpf.map_mut(hook.target()).context("no map of programs")?;
        let mut targets: ProgramArray<_> = ProgramArray::try_from(map)?;
        targets.set(0, program, 0).context("the kernel refused the program beside the wrapper")
    }

    /// Lets the wrapper of `hook` call a floor.
    pub fn choose_floor(&mut self, hook: HookKind, floor: Floor) -> Result<()> {
        let program = self.ebpf.program(floor.program(hook)).context("no such floor")?;
        let descriptor = match hook {
            HookKind::Xdp => <&Xdp>::try_from(program)?.fd()?,
            HookKind::Tc => <&SchedClassifier>::try_from(program)?.fd()?,
        }
        .try_clone()?;
        self.choose(hook, &descriptor)
    }

    /// Gives the program chosen `packets + 1` packets from number `next` on; returns the
    /// nanoseconds that one took.
    pub fn run(
        &mut self,
        hook: HookKind,
        frame: &[u8],
        spread: Spread,
        next: u64,
        packets: u32,
    ) -> Result<f64> {
        let mut headers = [0; WORDS];
        bytemuck::bytes_of_mut(&mut headers)
            .copy_from_slice(frame.get(..HEADERS).context("the frame is too short")?);
        let last = next + u64::from(packets);
        self.series()?.set(
            0,
            Shared(Series {
                headers,
                spread,
                zero: 0,
                next,
                first: next,
                last,
                began: 0,
                ended: 0,
                misses: 0,
            }),
            0,
        )?;
        self.repeat(hook, frame, packets + 1)?;
        let Shared(series) = self.series()?.get(&0, 0)?;
        ensure!(series.next == last + 1, "{} of {packets} packets", series.next - next);
        ensure!(series.misses == 0, "{} look-ups of a floor found nothing", series.misses);
        Ok((series.ended - series.began) as f64 / f64::from(packets))
    }

    fn repeat(&mut self, hook: HookKind, frame: &[u8], repeat: u32) -> Result<()> {
        let program = match hook {
            HookKind::Xdp => Program::NetworkXdp,
            HookKind::Tc => Program::FromNetwork,
        };
        let context = context(program, self.device, frame.len(), 0);
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.ctx_in = Some(&context);
        options.repeat = repeat;
        let wrapper = self.ebpf.program_mut(hook.wrapper()).context("no wrapper")?;
        match hook {
            HookKind::Xdp => {
                let wrapper: &mut Xdp = wrapper.try_into()?;
                wrapper.test_run(options)?
            }
            HookKind::Tc => {
                let wrapper: &mut SchedClassifier = wrapper.try_into()?;
                wrapper.test_run(options)?
            }
        };
        Ok(())
    }

    fn series(&mut self) -> Result<Array<&mut aya::maps::MapData, Shared>> {
        let map = self.ebpf.map_mut("SERIES").context("no map of the series")?;
        Ok(Array::try_from(map)?)
    }
}

fn tuple<A: lb_common::address::Address>(bytes: &[u8]) -> Result<Tuple<A>> {
    let (from, to) = frame::ends(bytes).context("the frame is no packet")?;
    Ok(topology::tuple(from, to, lb_common::address::Protocol::TCP))
}
