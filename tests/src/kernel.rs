//! The programs in the kernel, with maps of their own and attached nowhere: they are run on frames
//! with `BPF_PROG_TEST_RUN`, in a network namespace of their own.

use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapFd, PerCpuArray, PerCpuValues};
use aya::programs::{ProgramFd, ProgramInfo, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::address::{Address, Port, Protocol, Tuple};
use lb_common::conntrack::ConntrackEntry;
use lb_common::conntrack::table::{NotInserted, Stored};
use lb_common::filter::Position;
use lb_common::maps::{self, Capacities};
use lb_common::outcome::Outcome;
use lb_common::snat::{GROUPS, HINT_ROWS, PortHints, Rows};
use lb_common::source_range::SourceRange;
use lb_ebpf::cases::Program;
use lb_ebpf::world::{RateLimit, Table};
use lb_userspace::datapath::loader::Buckets;
use lb_userspace::maps::flow_table::FlowTable;
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

/// Runs `work` on a thread of its own, in a network namespace of its own and on one CPU; the
/// namespace goes with the thread.
///
/// # Errors
/// If the namespace cannot be made, or `work` fails.
pub fn in_own_namespace<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
            // The programs' caches are per CPU: the next packet must find what the last one cached.
            let mut cpus = CpuSet::new();
            cpus.set(0)?;
            sched_setaffinity(Pid::from_raw(0), &cpus)?;
            work()
        });
        match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Carries out an `ip` command in the calling thread's namespace.
///
/// # Errors
/// If it fails; its standard error is part of the error.
pub fn ip(command: &str) -> Result<()> {
    let output = Command::new("ip").args(command.split_whitespace()).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {command}`: {complaint}");
    Ok(())
}

/// How often a program may do what a rate limit counts: no limit, unless a test sets one.
const UNLIMITED: u32 = u32::MAX;
/// A turn of the rate limit so long that no test sees two; and its number.
const NO_TURNS: u32 = 63;
const FIRST_TURN: u32 = 0;

/// A value that maps hold as bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct AyaPod<T>(pub T);

// SAFETY: `bytemuck::Pod` asks for all that `aya::Pod` does, and the wrapper adds nothing.
unsafe impl<T: bytemuck::Pod> aya::Pod for AyaPod<T> {}

/// What a program made of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TestRunResult {
    /// The program's return value.
    pub verdict: i32,
    /// What it counted.
    pub outcome: Outcome,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// The loaded programs.
pub struct Programs {
    ebpf: Ebpf,
    buckets: Buckets,
    /// Outcomes counted so far.
    counted: Vec<u64>,
}

impl Programs {
    /// Loads all programs, with maps of `entries` where they have no fixed size.
    ///
    /// # Errors
    /// If there is no object, or the kernel refuses it.
    pub fn load(entries: impl Fn(&str) -> u32) -> Result<Self> {
        let capacities = Capacities {
            conntrack: entries("CONNTRACK"),
            half_open: entries("HALF_OPEN"),
            services: entries("SERVICES"),
            frontends: entries("FRONTENDS"),
            slots: entries("SLOTS"),
            backends: entries("BACKENDS"),
            affinity: entries("AFFINITY"),
        };
        Self::load_sized(&capacities)
    }

    /// Loads all programs, with maps of these capacities.
    ///
    /// # Errors
    /// As [`Programs::load`].
    pub fn load_sized(capacities: &Capacities) -> Result<Self> {
        let object = lb_userspace::datapath::loader::bytes()?;
        let features = lb_userspace::datapath::features::Features::of_this_kernel();
        let an_hour: u64 = 3_600_000_000_000;
        let mut loader = EbpfLoader::new();
        let buckets = Buckets::of(capacities);
        buckets.set_constants(&mut loader);
        for map in maps::ALL {
            loader.map_max_entries(map.name, capacities.entries(map.capacity));
        }
        features.set_constants(&mut loader);
        let mut ebpf = loader
            .override_global("ROUTE_LIFETIME", &an_hour, true)
            .override_global("RATE_PERIOD", &NO_TURNS, true)
            .override_global("RATE_PER_PERIOD", &UNLIMITED, true)
            .load(&object)
            .context("the kernel refused the maps")?;
        for program in [Program::FromPod, Program::FromNetwork, Program::ToDevice] {
            let classifier: &mut SchedClassifier = named(&mut ebpf, program)?.try_into()?;
            classifier.load().with_context(|| format!("{} is refused", program.name()))?;
        }
        let xdp: &mut Xdp = named(&mut ebpf, Program::NetworkXdp)?.try_into()?;
        xdp.load().context("network_xdp is refused")?;
        let mut programs = Self { ebpf, buckets, counted: Vec::new() };
        programs.counted = programs.outcomes()?;
        Ok(programs)
    }

    /// Loads the program with the datapath log and returns the kernel's information about it.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn load_with_log(&mut self, program: Program) -> Result<ProgramInfo> {
        let name = format!("{}_log", program.name());
        let loaded = self.ebpf.program_mut(&name).context("no such program")?;
        if program == Program::NetworkXdp {
            let xdp: &mut Xdp = loaded.try_into()?;
            xdp.load().with_context(|| format!("{name} is refused"))?;
            return Ok(xdp.info()?);
        }
        let classifier: &mut SchedClassifier = loaded.try_into()?;
        classifier.load().with_context(|| format!("{name} is refused"))?;
        Ok(classifier.info()?)
    }

    /// Loads a program for socket load balancing and returns the kernel's information about it.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn load_socket_program(&mut self, name: &'static str) -> Result<ProgramInfo> {
        let program = lb_userspace::datapath::loader::load_socket_program(&mut self.ebpf, name)?;
        Ok(program.info()?)
    }

    /// The kernel's information about a program.
    ///
    /// # Errors
    /// If the kernel gives none.
    pub fn info(&self, program: Program) -> Result<ProgramInfo> {
        let name = program.name();
        Ok(self.ebpf.program(name).context("no such program")?.info()?)
    }

    /// A program's descriptor, for a program array.
    ///
    /// # Errors
    /// If it is not loaded.
    pub fn descriptor(&self, program: Program) -> Result<&ProgramFd> {
        let name = program.name();
        let loaded = self.ebpf.program(name).context("no such program")?;
        if program == Program::NetworkXdp {
            let xdp: &Xdp = loaded.try_into()?;
            Ok(xdp.fd()?)
        } else {
            let classifier: &SchedClassifier = loaded.try_into()?;
            Ok(classifier.fd()?)
        }
    }

    /// Runs `program` on `frame`, as received by `device`.
    ///
    /// # Errors
    /// If the kernel will not run it so: a frame without an Ethernet header, for one.
    pub fn test_run(
        &mut self,
        program: Program,
        device: u32,
        frame: &[u8],
    ) -> Result<TestRunResult> {
        self.test_run_gso(program, device, frame, 0)
    }

    /// The same with a frame that the kernel is to cut into packets of `segment` bytes of payload.
    ///
    /// # Errors
    /// As for [`Programs::test_run`].
    pub fn test_run_gso(
        &mut self,
        program: Program,
        device: u32,
        frame: &[u8],
        segment: u32,
    ) -> Result<TestRunResult> {
        let mut out = vec![0; frame.len() + 256];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        let context = context(program, device, frame.len(), segment);
        options.ctx_in = Some(&context);
        let result = if program == Program::NetworkXdp {
            let xdp: &mut Xdp = named(&mut self.ebpf, program)?.try_into()?;
            xdp.test_run(options)
        } else {
            let classifier: &mut SchedClassifier = named(&mut self.ebpf, program)?.try_into()?;
            classifier.test_run(options)
        };
        let result =
            result.with_context(|| format!("{} bytes to {}", frame.len(), program.name()))?;
        out.truncate(result.data_size_out as usize);
        let outcome = self.newly_counted()?;
        Ok(TestRunResult { verdict: result.return_value as i32, outcome, frame: out })
    }

    fn newly_counted(&mut self) -> Result<Outcome> {
        let now = self.outcomes()?;
        let before = std::mem::replace(&mut self.counted, now.clone());
        let mut rose = Vec::new();
        for (outcome, (before, now)) in Outcome::ALL.iter().zip(before.iter().zip(&now)) {
            if now != before {
                rose.push((*outcome, now - before));
            }
        }
        match rose.as_slice() {
            [(outcome, 1)] => Ok(*outcome),
            other => bail!("a program run must count one outcome once, and counted {other:?}"),
        }
    }

    /// How often each outcome was counted, over all CPUs.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn outcomes(&self) -> Result<Vec<u64>> {
        let map = self.ebpf.map("OUTCOMES").context("no map of outcomes")?;
        let counts: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
        (0..Outcome::COUNT).map(|index| Ok(counts.get(&index, 0)?.iter().sum())).collect()
    }

    /// The descriptor of a map.
    ///
    /// # Errors
    /// If there is no such map.
    pub fn map_fd(&self, name: &str) -> Result<&MapFd> {
        let map = self.ebpf.map(name).with_context(|| format!("the object has no map {name}"))?;
        let (Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)) = map
        else {
            bail!("{name} is of a kind that the catalogue does not have");
        };
        Ok(data.fd())
    }

    /// Lets every CPU do what `limit` counts so many times more.
    ///
    /// # Errors
    /// If the map is not there.
    pub fn allow(&mut self, limit: RateLimit, times: u32) -> Result<()> {
        let state = AyaPod([FIRST_TURN, UNLIMITED - times]);
        let values = PerCpuValues::try_from(vec![state; aya::util::nr_cpus().map_err(|e| e.1)?])?;
        let mut map: PerCpuArray<_, AyaPod<[u32; 2]>> =
            PerCpuArray::try_from(self.map("RATE_LIMIT")?)?;
        Ok(map.set(limit as u32, values, 0)?)
    }

    /// Writes a source range.
    ///
    /// # Errors
    /// If the map is not there or is full.
    pub fn insert_source_range<A: Address>(
        &mut self,
        map: &str,
        range: &SourceRange<A>,
    ) -> Result<()>
    where
        SourceRange<A>: bytemuck::Pod,
    {
        let bytes = bytemuck::bytes_of(range);
        match *bytes {
            [_, _, _, _, ref data @ ..] if data.len() == 8 => {
                self.insert_range_bytes::<8>(map, range.bits, data.try_into()?)
            }
            [_, _, _, _, ref data @ ..] => {
                self.insert_range_bytes::<20>(map, range.bits, data.try_into()?)
            }
            _ => bail!("a source range begins with its number of bits"),
        }
    }

    fn insert_range_bytes<const N: usize>(
        &mut self,
        map: &str,
        bits: u32,
        data: [u8; N],
    ) -> Result<()> {
        let mut trie: LpmTrie<_, [u8; N], u32> = LpmTrie::try_from(self.map(map)?)?;
        Ok(trie.insert(&Key::new(bits, data), 1, 0)?)
    }

    /// Writes an entry of a hash.
    ///
    /// # Errors
    /// If the map is not there or is full.
    pub fn insert<K: bytemuck::Pod, V: bytemuck::Pod>(
        &mut self,
        map: &str,
        key: K,
        value: V,
    ) -> Result<()> {
        let mut hash: HashMap<_, AyaPod<K>, AyaPod<V>> = HashMap::try_from(self.map(map)?)?;
        Ok(hash.insert(AyaPod(key), AyaPod(value), 0)?)
    }

    /// Removes an entry of a hash.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove<K: bytemuck::Pod, V: bytemuck::Pod>(&mut self, map: &str, key: K) -> Result<()> {
        let mut hash: HashMap<_, AyaPod<K>, AyaPod<V>> = HashMap::try_from(self.map(map)?)?;
        Ok(hash.remove(&AyaPod(key))?)
    }

    /// The keys of a hash.
    ///
    /// # Errors
    /// If the map is not there.
    pub fn keys<K: bytemuck::Pod, V: bytemuck::Pod>(&mut self, map: &str) -> Result<Vec<K>> {
        let hash: HashMap<_, AyaPod<K>, AyaPod<V>> = HashMap::try_from(self.map(map)?)?;
        hash.keys().map(|key| Ok(key?.0)).collect()
    }

    /// Removes every entry of a hash.
    ///
    /// # Errors
    /// If the map is not there.
    pub fn clear<K: bytemuck::Pod, V: bytemuck::Pod>(&mut self, map: &str) -> Result<()> {
        let mut hash: HashMap<_, AyaPod<K>, AyaPod<V>> = HashMap::try_from(self.map(map)?)?;
        let keys: Vec<_> = hash.keys().collect::<Result<_, _>>()?;
        for key in keys {
            hash.remove(&key)?;
        }
        Ok(())
    }

    /// A conntrack table.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn flows<A: Stored>(&self, table: Table) -> Result<FlowTable<A>> {
        let map = match table {
            Table::Established => &maps::CONNTRACK,
            Table::HalfOpen => &maps::HALF_OPEN,
        };
        Ok(FlowTable::map(self.map_fd(map.of(A::FAMILY).name)?.as_fd(), self.buckets_of(table))?)
    }

    /// Removes every entry of both conntrack tables of a family.
    ///
    /// # Errors
    /// If they cannot be mapped.
    pub fn clear_flows<A: Stored>(&self) -> Result<()> {
        for table in [Table::Established, Table::HalfOpen] {
            self.flows::<A>(table)?.clear();
        }
        Ok(())
    }

    /// Fills the table of established flows of a family with flows of no one, until a new one finds no place.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn fill_flows<A: Stored>(&self) -> Result<()> {
        let flows = self.flows::<A>(Table::Established)?;
        for port in 1.. {
            let tuple = Tuple { source_port: Port::new(port), ..Tuple::empty() };
            let tuple = Tuple { protocol: Protocol::TCP, ..tuple };
            if flows.insert(&tuple, &ConntrackEntry::empty()) == Err(NotInserted::Full) {
                break;
            }
        }
        Ok(())
    }

    const fn buckets_of(&self, table: Table) -> u32 {
        match table {
            Table::Established => self.buckets.conntrack,
            Table::HalfOpen => self.buckets.half_open,
        }
    }

    /// Sets an element of an array.
    ///
    /// # Errors
    /// If there is no such element.
    pub fn set<V: bytemuck::Pod>(&mut self, map: &str, index: u32, value: V) -> Result<()> {
        let mut array: Array<_, AyaPod<V>> = Array::try_from(self.map(map)?)?;
        Ok(array.set(index, AyaPod(value), 0)?)
    }

    /// Clears all hints of which source ports are in use.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn clear_port_hints(&mut self) -> Result<()> {
        let mut hints: Array<_, PortHints> = Array::try_from(self.map(maps::PORT_HINTS.name)?)?;
        for row in 0..HINT_ROWS {
            hints.set(row, PortHints::default(), 0)?;
        }
        for group in 0..GROUPS {
            self.set(maps::FULL_ROWS.name, group, Rows::default())?;
        }
        Ok(())
    }

    /// Sets the filter's bits at `position`.
    ///
    /// # Errors
    /// If it lies outside.
    pub fn set_filter_bits(&mut self, position: Position) -> Result<()> {
        let mut filter: Array<_, u64> = Array::try_from(self.map("FILTER")?)?;
        let word = filter.get(&position.word, 0)?;
        Ok(filter.set(position.word, word | position.mask, 0)?)
    }

    /// Empties the cache of next hops.
    ///
    /// # Errors
    /// If a map is not there.
    pub fn clear_fib_cache(&mut self) -> Result<()> {
        self.zero::<48>("FIB_CACHE_V4")?;
        self.zero::<72>("FIB_CACHE_V6")
    }

    /// Fills an array per CPU with zeroes.
    fn zero<const N: usize>(&mut self, map: &str) -> Result<()> {
        let mut array: PerCpuArray<_, [u8; N]> = PerCpuArray::try_from(self.map(map)?)?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        for index in 0..array.len() {
            array.set(index, PerCpuValues::try_from(vec![[0; N]; cpus])?, 0)?;
        }
        Ok(())
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("the object has no map {name}"))
    }
}

fn named(ebpf: &mut Ebpf, program: Program) -> Result<&mut aya::programs::Program> {
    let name = program.name();
    ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))
}

/// The context with the device that a frame was received by: the beginning of `struct xdp_md` or of
/// `struct __sk_buff`, include/uapi/linux/bpf.h.
#[must_use]
pub fn context(program: Program, device: u32, length: usize, segment: u32) -> Vec<u8> {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let fields: Vec<u32> = if program == Program::NetworkXdp {
        // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
        vec![0, length, 0, device, 0, 0]
    } else {
        // len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto,
        // priority, ingress_ifindex, ifindex
        let mut fields = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, device];
        if segment != 0 {
            // Up to and with gso_size.
            fields.resize(176 / 4, 0);
            fields.push(segment);
        }
        fields
    };
    bytemuck::cast_slice(&fields).to_vec()
}
