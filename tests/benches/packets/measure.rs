//! Rounds of samples, and the figures that come of them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use lb_common::address::{Family, Protocol};
use weir_tests::figures::Spread;

use crate::addresses::Location;
use crate::bench::{Bench, Frames};
use crate::cases::{Case, Flows, Role, Scale};
use crate::floor::{Floor, HookKind};
use crate::subject::{Subject, flows};

/// The order in which flows are visited while caches warm up, and while time is taken. Listed flows are
/// in an order of their own already.
const WARM_UP: u32 = 0x85eb_ca6b;
const MEASURED: u32 = 1;
/// That of flows that never come again.
const ENDLESS: u32 = 0x9e37_79b1;

/// Packets that warm a case up, at least.
const WARM_UP_PACKETS: u32 = Flows::Many.mask() + 1;

/// What was found.
pub struct Figures {
    /// Nanoseconds per packet of each floor: the plain one as it is, the others over it.
    pub floors: Vec<(FloorAt, Spread)>,
    /// Of each case, in their order, and of each subject.
    pub cases: Vec<Vec<Option<Figure>>>,
}

/// What one case costs one subject.
pub struct Figure {
    /// Nanoseconds per packet over the plain floor.
    pub net: Spread,
    /// The same in hash look-ups of one flow.
    pub look_ups: Spread,
    /// The same relative to the first subject, if that was measured.
    pub relative: Option<Spread>,
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

    /// The floor that is subtracted from a case.
    fn below(case: &Case) -> Self {
        let many = case.flows != Flows::One;
        Self { hook: HookKind::of(case.program), floor: Floor::Drop, family: case.family, many }
    }

    /// The floors whose difference is the unit of a case: a look-up of one flow.
    fn unit(case: &Case) -> [Self; 2] {
        let below = Self { many: false, ..Self::below(case) };
        [Self { floor: Floor::OneLookUp, ..below }, below]
    }

    /// The packets of this floor: those of the established flows.
    fn case(self) -> Case {
        let flows = if self.many { Flows::Many } else { Flows::One };
        Case::established(Location::Local, Role::Forward, self.family, Protocol::TCP, flows)
    }
}

/// One sample to take.
#[derive(Clone, Copy)]
enum Task {
    Floor(FloorAt),
    /// Of a case and a subject.
    Case(usize, usize),
}

/// What one round has found, in nanoseconds per packet.
struct Round {
    floors: BTreeMap<FloorAt, f64>,
    cases: BTreeMap<(usize, usize), f64>,
}

/// Measures `cases` of `subjects` in `rounds` rounds of samples of `packets` packets.
pub fn measure(
    cases: &[Case],
    subjects: &mut [Subject],
    device: u32,
    rounds: u32,
    packets: u32,
) -> Result<Figures> {
    let mut meter = Meter { bench: Bench::load(device)?, subjects, packets, next: 0 };
    meter.fill_floors()?;
    let mut tasks: Vec<Task> = FloorAt::all().into_iter().map(Task::Floor).collect();
    for (index, case) in cases.iter().enumerate() {
        for subject in 0..meter.subjects.len() {
            eprint!("\rtrying case {} of {}", index + 1, cases.len());
            if meter.prepare(subject, case, device)? {
                tasks.push(Task::Case(index, subject));
            }
        }
    }
    eprintln!();
    let mut found = Vec::new();
    for number in 0..=rounds {
        fastrand::shuffle(&mut tasks);
        eprint!("\rround {number} of {rounds}");
        let round = meter.round(cases, &tasks)?;
        if number > 0 {
            found.push(round);
        }
    }
    eprintln!();
    Ok(figures(cases.len(), meter.subjects.len(), cases, &found))
}

/// Takes samples.
struct Meter<'a> {
    bench: Bench,
    subjects: &'a mut [Subject],
    packets: u32,
    /// The next packet's number: it never falls back, so that endless flows never come again.
    next: u64,
}

impl Meter<'_> {
    fn fill_floors(&mut self) -> Result<()> {
        for family in Family::ALL {
            let floor = FloorAt { hook: HookKind::Xdp, floor: Floor::Drop, family, many: true };
            let flows = flows::forward(family, Scale::Usual);
            self.bench.fill(family, &floor.case().frame(), &flows)?;
        }
        Ok(())
    }

    /// Loads what the case needs, sees what becomes of one packet, and lets the programs look up the next
    /// hops of all hosts, which XDP leaves to TC. Returns whether the subject can be measured.
    fn prepare(&mut self, subject: usize, case: &Case, device: u32) -> Result<bool> {
        let flow = self.next as u32;
        self.next += 1;
        if !self.subjects[subject].prepare(&mut self.bench, case, flow, device)? {
            return Ok(false);
        }
        let hook = self.hook(subject, case)?;
        self.warm_up(hook, case, Some(subject))?;
        Ok(true)
    }

    fn hook(&mut self, subject: usize, case: &Case) -> Result<HookKind> {
        self.subjects[subject].choose(&mut self.bench, case)
    }

    fn round(&mut self, cases: &[Case], tasks: &[Task]) -> Result<Round> {
        let mut round = Round { floors: BTreeMap::new(), cases: BTreeMap::new() };
        for task in tasks {
            match *task {
                Task::Floor(floor) => {
                    let sample = self.floor(floor).with_context(|| format!("{floor:?}"))?;
                    round.floors.insert(floor, sample);
                }
                Task::Case(index, subject) => {
                    let case = &cases[index];
                    let sample = self.case(case, subject).with_context(|| {
                        format!("{case:?} of {}", self.subjects[subject].name())
                    })?;
                    round.cases.insert((index, subject), sample);
                }
            }
        }
        Ok(round)
    }

    fn floor(&mut self, floor: FloorAt) -> Result<f64> {
        self.bench.choose_floor(floor.hook, floor.floor)?;
        self.warm_up(floor.hook, &floor.case(), None)?;
        self.sample(floor.hook, &floor.case())
    }

    fn case(&mut self, case: &Case, subject: usize) -> Result<f64> {
        let hook = self.hook(subject, case)?;
        let before = self.subjects[subject].counts(case)?;
        let warmed_up = self.warm_up(hook, case, Some(subject))?;
        let sample = self.sample(hook, case)?;
        let packets = warmed_up + u64::from(self.packets) + 1;
        self.subjects[subject].check_counts(case, &before, packets)?;
        Ok(sample)
    }

    /// Lists the case's flows and visits each; returns how many packets that took.
    fn warm_up(&mut self, hook: HookKind, case: &Case, subject: Option<usize>) -> Result<u64> {
        if case.flows != Flows::Endless {
            let own = flows::forward(case.family, case.scale());
            let flows = match subject {
                Some(subject) => self.subjects[subject].flows(case, own),
                None => own,
            };
            self.bench.list(&flows, case.flows.mask())?;
        }
        let packets = WARM_UP_PACKETS.max(case.scale().flows());
        self.run(hook, case, WARM_UP, packets)?;
        Ok(u64::from(packets) + 1)
    }

    fn sample(&mut self, hook: HookKind, case: &Case) -> Result<f64> {
        self.run(hook, case, MEASURED, self.packets)
    }

    fn run(&mut self, hook: HookKind, case: &Case, order: u32, packets: u32) -> Result<f64> {
        let are_listed = case.flows != Flows::Endless;
        // One order for endless flows, or numbers would come again.
        let spread = case.spread(if are_listed { order } else { ENDLESS });
        let frame = case.frame();
        let frames = Frames { frame: &frame, spread, are_listed, family: case.family };
        let sample = self.bench.run(hook, frames, self.next, packets)?;
        self.next += u64::from(packets) + 1;
        Ok(sample)
    }
}

fn figures(count: usize, subjects: usize, cases: &[Case], rounds: &[Round]) -> Figures {
    let floors = FloorAt::all().into_iter().filter_map(|at| {
        let below = FloorAt { floor: Floor::Drop, ..at };
        let costs = rounds.iter().map(|round| {
            let cost = round.floors[&at];
            if at.floor == Floor::Drop { cost } else { cost - round.floors[&below] }
        });
        Some((at, Spread::of(costs)?))
    });
    let figure = |index: usize, subject: usize| {
        let case = &cases[index];
        let net = |round: &Round, subject: usize| {
            Some(round.cases.get(&(index, subject))? - round.floors[&FloorAt::below(case)])
        };
        let unit = |round: &Round| {
            let [look_up, below] = FloorAt::unit(case);
            round.floors[&look_up] - round.floors[&below]
        };
        let each =
            |value: &dyn Fn(&Round) -> Option<f64>| Spread::of(rounds.iter().filter_map(value));
        Some(Figure {
            net: each(&|round| net(round, subject))?,
            look_ups: each(&|round| Some(net(round, subject)? / unit(round)))?,
            relative: each(&|round| Some(net(round, subject)? / net(round, 0)?))
                .filter(|_| subject > 0),
        })
    };
    let of = |index| (0..subjects).map(|subject| figure(index, subject)).collect();
    Figures { floors: floors.collect(), cases: (0..count).map(of).collect() }
}
