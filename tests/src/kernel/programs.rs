//! The programs, loaded and run.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::maps::PerCpuArray;
use aya::programs::{
    CgroupAttachMode, ProgramFd, ProgramInfo, SchedClassifier, TestRun, TestRunOptions, Xdp,
};
use aya::{Ebpf, EbpfLoader};
use lb_common::maps::Capacities;
use lb_common::outcome::Outcome;
use lb_ebpf::cases::Program;
use lb_userspace::datapath::loader::{Buckets, Object, size_maps};
use lb_userspace::host::processors;

/// How often a program may do what a rate limit counts: no limit, unless a test sets one.
pub(super) const UNLIMITED: u32 = u32::MAX;
/// A turn of the rate limit so long that no test sees two; and its number.
const NO_TURNS: u32 = 63;
pub(super) const FIRST_TURN: u32 = 0;

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
    pub(super) ebpf: Ebpf,
    pub(super) buckets: Buckets,
    /// Outcomes counted so far.
    counted: Vec<u64>,
}

impl Programs {
    /// Loads all programs, with maps of `entries` where they have no fixed size.
    ///
    /// # Errors
    /// If there is no object, or the kernel refuses it.
    pub fn load(entries: impl Fn(&str) -> u32) -> Result<Self> {
        Self::load_sized(&Self::capacities(entries)?)
    }

    /// The capacities of maps of `entries`.
    ///
    /// # Errors
    /// If the processors cannot be counted.
    pub fn capacities(entries: impl Fn(&str) -> u32) -> Result<Capacities> {
        Ok(Capacities {
            conntrack: entries("CONNTRACK"),
            half_open: entries("HALF_OPEN"),
            services: entries("SERVICES"),
            frontends: entries("FRONTENDS"),
            slots: entries("SLOTS"),
            backends: entries("BACKENDS"),
            affinity: entries("AFFINITY"),
            processors: processors::count()?,
        })
    }

    /// Loads all programs, with maps of these capacities.
    ///
    /// # Errors
    /// As [`Programs::load`].
    pub fn load_sized(capacities: &Capacities) -> Result<Self> {
        Self::load_with(capacities, &[])
    }

    /// The same with these constants of the object set to other values than this kernel asks for.
    ///
    /// # Errors
    /// As [`Programs::load`].
    pub fn load_with(capacities: &Capacities, constants: &[(&str, u32)]) -> Result<Self> {
        let object = lb_userspace::datapath::loader::bytes()?;
        let features = lb_userspace::datapath::features::Features::of_this_kernel();
        let an_hour: u64 = 3_600_000_000_000;
        let mut loader = EbpfLoader::new();
        let buckets = Buckets::of(capacities);
        buckets.set_constants(&mut loader);
        size_maps(&mut loader, capacities);
        features.set_constants(&mut loader, true);
        for (name, value) in constants {
            loader.override_global(name, value, true);
        }
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

    /// Those that an agent has loaded onto maps of these capacities.
    ///
    /// # Errors
    /// If their counters cannot be read.
    pub fn of(object: Object, capacities: &Capacities) -> Result<Self> {
        let buckets = Buckets::of(capacities);
        let mut programs = Self { ebpf: object.ebpf, buckets, counted: Vec::new() };
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
        self.load_classifier(&name)
    }

    /// Loads a program that only some nodes need and returns the kernel's information about it.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn load_classifier(&mut self, name: &str) -> Result<ProgramInfo> {
        let loaded = self.ebpf.program_mut(name).context("no such program")?;
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

    /// Attaches a program for socket load balancing to a control group, for as long as the programs are loaded.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn attach_socket_program(&mut self, name: &'static str, group: &Path) -> Result<()> {
        let program = lb_userspace::datapath::loader::load_socket_program(&mut self.ebpf, name)?;
        program.attach(File::open(group)?, CgroupAttachMode::Single)?;
        Ok(())
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

    /// Leaves out of the next result what was counted until now, as by programs that others handed packets over to.
    ///
    /// # Errors
    /// If the counters cannot be read.
    pub fn forget_counts(&mut self) -> Result<()> {
        self.counted = self.outcomes()?;
        Ok(())
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
