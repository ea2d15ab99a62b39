//! Rounds of samples, and the figures that come of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use weir_tests::kernel::Programs;

use crate::addresses::Location;
use crate::bench::{Bench, Floor, HookKind};
use crate::cases::{Case, Flows, Role};
use crate::testbed;

/// The order in which flows are visited while caches warm up, and while time is taken.
const WARM_UP: u32 = 1;
const MEASURED: u32 = 0x9e37_79b1;

/// Packets that warm a case up: at least those of every flow once.
const WARM_UP_PACKETS: u32 = Flows::Many.mask() + 1;

/// Median, least and greatest of all rounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// What was found.
pub struct Figures {
    /// Nanoseconds per packet of each floor: the plain one as it is, the others over it.
    pub floors: Vec<(FloorAt, Spread)>,
    /// Of each case, in their order.
    pub cases: Vec<Figure>,
}

/// What one case costs.
pub struct Figure {
    /// Nanoseconds per packet over the plain floor.
    pub net: Spread,
    /// The same in hash look-ups.
    pub look_ups: Spread,
}

/// A floor and its packets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FloorAt {
    /// The hook.
    pub hook: HookKind,
    /// The floor.
    pub floor: Floor,
    /// The packets' family.
    pub family: Family,
    /// Whether packets are of 65,536 flows.
    pub many: bool,
}

impl FloorAt {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for hook in [HookKind::Xdp, HookKind::Tc] {
            for family in Family::ALL {
                for many in [false, true] {
                    all.extend(Floor::ALL.map(|floor| Self { hook, floor, family, many }));
                }
            }
        }
        all
    }

    /// The floor that a case is to be compared with.
    fn of(case: &Case, floor: Floor) -> Self {
        let hook = HookKind::of(case.program);
        Self { hook, floor, family: case.family, many: case.flows != Flows::One }
    }

    /// The packets of this floor: those of the established flows.
    fn case(self) -> Case {
        Case {
            location: Location::Local,
            role: Role::Forward,
            program: lb_ebpf::cases::Program::FromNetwork,
            family: self.family,
            protocol: Protocol::TCP,
            flows: if self.many { Flows::Many } else { Flows::One },
            outcome: Outcome::Forwarded,
        }
    }
}

/// One sample to take.
#[derive(Clone, Copy)]
enum Task {
    Floor(FloorAt),
    Case(usize),
}

/// What one round has found, in nanoseconds per packet.
struct Round {
    floors: BTreeMap<FloorAt, f64>,
    cases: Vec<f64>,
}

/// Measures `cases` in `rounds` rounds of samples of `packets` packets.
pub fn measure(cases: &[Case], device: u32, rounds: u32, packets: u32) -> Result<Figures> {
    let mut meter = Meter::new(cases, device, packets)?;
    let mut tasks: Vec<Task> = FloorAt::all().into_iter().map(Task::Floor).collect();
    tasks.extend((0..cases.len()).map(Task::Case));
    let mut found = Vec::new();
    for number in 0..=rounds {
        fastrand::shuffle(&mut tasks);
        let round = meter.round(cases, &tasks)?;
        if number > 0 {
            eprint!("\rround {number} of {rounds}");
            found.push(round);
        }
    }
    eprintln!();
    Ok(figures(cases, &found))
}

/// Takes samples.
struct Meter {
    bench: Bench,
    programs: BTreeMap<(Location, u8), Programs>,
    packets: u32,
    /// The next packet's number: it never falls back, so that endless flows never come again.
    next: u64,
}

impl Meter {
    fn new(cases: &[Case], device: u32, packets: u32) -> Result<Self> {
        let mut bench = Bench::load(device)?;
        for floor in FloorAt::all() {
            if floor.many && floor.hook == HookKind::Tc && floor.floor == Floor::Drop {
                let case = floor.case();
                bench.fill(case.family, &case.frame(), &case.spread(WARM_UP))?;
            }
        }
        let mut programs = BTreeMap::new();
        for case in cases {
            if let Entry::Vacant(entry) = programs.entry((case.location, case.protocol.0)) {
                entry.insert(testbed::programs(case.location, case.protocol, device)?);
            }
        }
        let mut meter = Self { bench, programs, packets, next: 0 };
        for case in cases {
            meter.fill_fib_cache(case)?;
        }
        Ok(meter)
    }

    /// Lets the programs look up the next hops of all hosts, which XDP leaves to TC; nothing is checked.
    fn fill_fib_cache(&mut self, case: &Case) -> Result<()> {
        let Self { bench, programs, .. } = self;
        let hook = HookKind::of(case.program);
        let programs =
            programs.get(&(case.location, case.protocol.0)).context("no programs for this case")?;
        bench.choose(hook, programs.descriptor(case.program)?)?;
        bench.run(hook, &case.frame(), case.spread(WARM_UP), 0, WARM_UP_PACKETS)?;
        Ok(())
    }

    fn round(&mut self, cases: &[Case], tasks: &[Task]) -> Result<Round> {
        let mut round = Round { floors: BTreeMap::new(), cases: vec![0.0; cases.len()] };
        for task in tasks {
            match *task {
                Task::Floor(floor) => {
                    let sample = self.floor(floor).with_context(|| format!("{floor:?}"))?;
                    round.floors.insert(floor, sample);
                }
                Task::Case(index) => {
                    let case = &cases[index];
                    let sample = self.case(case).with_context(|| format!("{case:?}"))?;
                    round.cases[index] = sample;
                }
            }
        }
        Ok(round)
    }

    fn floor(&mut self, floor: FloorAt) -> Result<f64> {
        self.bench.choose_floor(floor.hook, floor.floor)?;
        self.sample(floor.hook, &floor.case())
    }

    fn case(&mut self, case: &Case) -> Result<f64> {
        let hook = HookKind::of(case.program);
        let programs = &self.programs[&(case.location, case.protocol.0)];
        self.bench.choose(hook, programs.descriptor(case.program)?)?;
        let before = programs.outcomes()?;
        let sample = self.sample(hook, case)?;
        let after = self.programs[&(case.location, case.protocol.0)].outcomes()?;
        let expected = u64::from(WARM_UP_PACKETS) + u64::from(self.packets) + 2;
        let ended: Vec<_> = Outcome::ALL
            .iter()
            .zip(before.iter().zip(after))
            .map(|(outcome, (before, after))| (*outcome, after - before))
            .filter(|(_, times)| *times > 0)
            .collect();
        let right: u64 =
            ended.iter().filter(|(outcome, _)| *outcome == case.outcome).map(|(_, n)| n).sum();
        ensure!(
            right <= expected && expected - right <= tolerated(case, expected),
            "{expected} packets should have ended as {}, and ended as {ended:?}",
            case.outcome
        );
        Ok(sample)
    }

    /// Warms up, then takes the time.
    fn sample(&mut self, hook: HookKind, case: &Case) -> Result<f64> {
        let frame = case.frame();
        let (warm_up, measured) = (case.spread(WARM_UP), case.spread(MEASURED));
        // One order for endless flows, or numbers would come again.
        let warm_up = if case.flows == Flows::Endless { measured } else { warm_up };
        self.bench.run(hook, &frame, warm_up, self.next, WARM_UP_PACKETS)?;
        self.next += u64::from(WARM_UP_PACKETS) + 1;
        let sample = self.bench.run(hook, &frame, measured, self.next, self.packets)?;
        self.next += u64::from(self.packets) + 1;
        Ok(sample)
    }
}

/// How many of a case's packets may end otherwise: none, but for a new flow that finds no source port
/// free where one must be found, of which there are a few in a hundred million.
fn tolerated(case: &Case, packets: u64) -> u64 {
    if case.role == Role::New && case.location == Location::Remote { packets / 10_000 } else { 0 }
}

fn figures(cases: &[Case], rounds: &[Round]) -> Figures {
    let plain = |round: &Round, at: FloorAt| round.floors[&FloorAt { floor: Floor::Drop, ..at }];
    let floors = FloorAt::all().into_iter().map(|at| {
        let costs = rounds.iter().map(|round| {
            let cost = round.floors[&at];
            if at.floor == Floor::Drop { cost } else { cost - plain(round, at) }
        });
        (at, Spread::of(costs))
    });
    let figures = cases.iter().enumerate().map(|(index, case)| {
        let at = FloorAt::of(case, Floor::OneLookUp);
        let net = |round: &Round| round.cases[index] - plain(round, at);
        let look_up = |round: &Round| round.floors[&at] - plain(round, at);
        Figure {
            net: Spread::of(rounds.iter().map(net)),
            look_ups: Spread::of(rounds.iter().map(|round| net(round) / look_up(round))),
        }
    });
    Figures { floors: floors.collect(), cases: figures.collect() }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        Self { median: values[last / 2], min: values[0], max: values[last] }
    }
}
