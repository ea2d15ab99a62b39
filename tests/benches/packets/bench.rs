//! The benchmark's object in the kernel: a series of repeats of one frame, timed there.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, HashMap, Map, PerCpuArray, ProgramArray};
use aya::programs::{
    ProgramFd, SchedClassifier, TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode,
};
use aya::{Ebpf, EbpfLoader};
use lb_common::address::{Family, Tuple, V4, V6};
use lb_ebpf::bench::shared::{HEADERS, ListedFlow, Series, Spread, WORDS};
use lb_ebpf::cases::{Program, frame, topology};
use weir_tests::kernel::{AyaPod, context};

use crate::addresses;
use crate::cases::Case;
use crate::floor::{Floor, HookKind};
use crate::flow_list::FlowList;
use crate::subject::flows;

/// The variable that names the benchmark's object.
const OBJECT: &str = "WEIR_BENCH_OBJECT";

/// The wrappers, the floors, and their maps.
pub struct Bench {
    ebpf: Ebpf,
    /// The flows of the next series.
    list: FlowList,
    /// Interface index of the device that frames come by.
    device: u32,
}

/// The frames of a series.
#[derive(Clone, Copy)]
pub struct Frames<'a> {
    /// The frame of flow 0.
    pub frame: &'a [u8],
    /// How flows follow from their numbers, and how many there are.
    pub spread: Spread,
    /// Whether they are those of the list instead.
    pub are_listed: bool,
    /// Their family.
    pub family: Family,
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
        let Some(Map::Array(list)) = ebpf.map("FLOWS") else { bail!("no list of flows") };
        let list = FlowList::of(list.fd())?;
        Ok(Self { ebpf, list, device })
    }

    /// Lists the flows of the next series: those with numbers up to `mask`, in an order of its own.
    pub fn list(&mut self, flows: &[ListedFlow], mask: u32) -> Result<()> {
        self.list.write(flows, mask)
    }

    /// Fills the floors' tables with the tuples of these flows of `frame`.
    pub fn fill(&mut self, family: Family, frame: &[u8], flows: &[ListedFlow]) -> Result<()> {
        let mut template = flows::Template::of(family, frame);
        for flow in flows {
            let frame = template.with(flow);
            match family {
                Family::V4 => {
                    self.insert("FIRST_V4", tuple::<V4>(frame)?)?;
                    self.insert("SECOND_V4", tuple::<V4>(frame)?)?;
                }
                Family::V6 => {
                    self.insert("FIRST_V6", tuple::<V6>(frame)?)?;
                    self.insert("SECOND_V6", tuple::<V6>(frame)?)?;
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
        self.put(hook.target(), program)
            .context("the kernel refused the program beside the wrapper")
    }

    /// Lets a wrapper for XDP call `program`, which may take frames in several buffers; returns the wrapper.
    pub fn choose_foreign(&mut self, program: &ProgramFd) -> Result<HookKind> {
        if self.choose(HookKind::Xdp, program).is_ok() {
            return Ok(HookKind::Xdp);
        }
        self.put(HookKind::XdpFrags.target(), program).context(
            "no wrapper can call it: it is no XDP program, or was loaded to be attached otherwise",
        )?;
        Ok(HookKind::XdpFrags)
    }

    fn put(&mut self, target: &str, program: &ProgramFd) -> Result<()> {
        let map = self.ebpf.map_mut(target).context("no map of programs")?;
        let mut targets: ProgramArray<_> = ProgramArray::try_from(map)?;
        Ok(targets.set(0, program, 0)?)
    }

    /// Lets the wrapper of `hook` call a floor.
    pub fn choose_floor(&mut self, hook: HookKind, floor: Floor) -> Result<()> {
        let program = self.ebpf.program(floor.program(hook)).context("no such floor")?;
        let descriptor = match hook {
            HookKind::Xdp | HookKind::XdpFrags => <&Xdp>::try_from(program)?.fd()?,
            HookKind::Tc => <&SchedClassifier>::try_from(program)?.fd()?,
        }
        .try_clone()?;
        self.choose(hook, &descriptor)
    }

    /// Gives the program chosen `packets + 1` packets from number `next` on; returns the
    /// nanoseconds that one took.
    pub fn run(&mut self, hook: HookKind, frames: Frames, next: u64, packets: u32) -> Result<f64> {
        let last = next + u64::from(packets);
        self.write_series(frames, next, last)?;
        self.repeat(hook, frames.frame, packets + 1, None)?;
        let Shared(series) = self.series()?.get(&0, 0)?;
        ensure!(series.next == last + 1, "{} of {packets} packets", series.next - next);
        ensure!(series.misses == 0, "{} look-ups of a floor found nothing", series.misses);
        Ok((series.ended - series.began) as f64 / f64::from(packets))
    }

    fn write_series(&mut self, frames: Frames, next: u64, last: u64) -> Result<()> {
        let mut headers = [0; WORDS];
        bytemuck::bytes_of_mut(&mut headers)
            .copy_from_slice(frames.frame.get(..HEADERS).context("the frame is too short")?);
        let (source_at, destination_at) =
            if frames.are_listed { addresses::differ_at(frames.family) } else { (0, 0) };
        Ok(self.series()?.set(
            0,
            Shared(Series {
                headers,
                spread: frames.spread,
                length: frames.frame.len() as u32,
                source_at,
                destination_at,
                zero: 0,
                next,
                first: next,
                last,
                began: 0,
                ended: 0,
                misses: 0,
            }),
            0,
        )?)
    }

    /// Gives the program chosen one packet; returns its verdict and the packet as it left it.
    pub fn pass(&mut self, hook: HookKind, case: &Case, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0; frame.len() + 256];
        let spread = Spread { mask: 0, ..case.spread(1) };
        let word = |at: u16| {
            let at = usize::from(at);
            u16::from_be_bytes([frame[at], frame[at + 1]])
        };
        let spread = Spread { low: word(spread.low_at), high: word(spread.high_at), ..spread };
        let frames = Frames { frame, spread, are_listed: false, family: case.family };
        self.write_series(frames, 0, 0)?;
        let (verdict, length) = self.repeat(hook, frame, 1, Some(&mut out))?;
        out.truncate(length);
        Ok((verdict, out))
    }

    /// Has the device, and the one at the far end of its link, take part in XDP as long as this value
    /// lives; the far one counts what arrives.
    pub fn attach(&mut self, near: &str, far: &str) -> Result<()> {
        for (program, device) in [("pass_xdp", near), ("count_xdp", far)] {
            let xdp: &mut Xdp = self.ebpf.program_mut(program).context("no program")?.try_into()?;
            xdp.attach(device, XdpMode::Driver)
                .with_context(|| format!("{device} has no native XDP"))?;
        }
        Ok(())
    }

    /// Frames that have arrived at the far end.
    pub fn arrived(&self) -> Result<u64> {
        let map = self.ebpf.map("ARRIVED").context("no map of what arrived")?;
        let counts: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
        Ok(counts.get(&0, 0)?.iter().sum())
    }

    /// Gives the program chosen live frames, `batch` at a time, which then go where it sends them; returns
    /// the nanoseconds that one took on this CPU until it had arrived.
    pub fn run_live(
        &mut self,
        hook: HookKind,
        frames: Frames,
        (next, packets, batch): (u64, u32, u32),
    ) -> Result<f64> {
        self.write_series(frames, next, next + u64::from(packets))?;
        let context = context(Program::NetworkXdp, self.device, frames.frame.len(), 0);
        let mut options = TestRunOptions::new();
        options.data_in = Some(frames.frame);
        options.ctx_in = Some(&context);
        options.repeat = packets;
        options.attrs = TestRunAttrs::new().xdp_live_frames(batch);
        let wrapper = self.ebpf.program_mut(hook.wrapper()).context("no wrapper")?;
        let wrapper: &mut Xdp = wrapper.try_into()?;
        let begun = Instant::now();
        wrapper.test_run(options).context("this kernel sends no live frames (Linux 5.18 does)")?;
        let took = begun.elapsed();
        let Shared(series) = self.series()?.get(&0, 0)?;
        ensure!(series.next == next + u64::from(packets), "{} frames", series.next - next);
        ensure!(series.misses == 0, "{} look-ups of a floor found nothing", series.misses);
        Ok(took.as_nanos() as f64 / f64::from(packets))
    }

    fn repeat(
        &mut self,
        hook: HookKind,
        frame: &[u8],
        repeat: u32,
        out: Option<&mut [u8]>,
    ) -> Result<(u32, usize)> {
        let program = match hook {
            HookKind::Xdp | HookKind::XdpFrags => Program::NetworkXdp,
            HookKind::Tc => Program::FromNetwork,
        };
        let context = context(program, self.device, frame.len(), 0);
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.ctx_in = Some(&context);
        options.repeat = repeat;
        options.data_out = out;
        let wrapper = self.ebpf.program_mut(hook.wrapper()).context("no wrapper")?;
        let result = match hook {
            HookKind::Xdp | HookKind::XdpFrags => {
                let wrapper: &mut Xdp = wrapper.try_into()?;
                wrapper.test_run(options)?
            }
            HookKind::Tc => {
                let wrapper: &mut SchedClassifier = wrapper.try_into()?;
                wrapper.test_run(options)?
            }
        };
        Ok((result.return_value, result.data_size_out as usize))
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
