//! How many frames a second one core sends back: `cargo xtask bench frames`.
//!
//! Live frames (`BPF_F_TEST_XDP_LIVE_FRAMES`) come in at one end of a veth pair, whose two ends have native
//! XDP; those that a program sends arrive at the other end on the same core, where they are counted and
//! dropped. By turns: frames dropped at once, sent back unseen, sent back after one look-up, and sent on with
//! both addresses translated.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use serde_json::json;
use weir_tests::figures::{Goal, Results, Spread};
use weir_tests::kernel::in_own_namespace;
use weir_tests::machine;

use crate::addresses::Location;
use crate::bench::{Bench, Frames};
use crate::cases::{Case, Flows, Role, Scale};
use crate::floor::{Floor, HookKind};
use crate::subject::{Subject, flows};
use crate::testbed;

/// Measure live frames through native XDP on one core, relative to sending them back unseen.
#[derive(Parser)]
#[command(name = "frames", after_help = EXAMPLE)]
struct Arguments {
    /// Rounds to measure, after one that is thrown away.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Frames in a sample.
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..))]
    frames: u32,
    /// Frames that come in at a time, as from a device's queue.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=256))]
    batch: u32,
    /// To try it out: three rounds of 131,072 frames.
    #[arg(long)]
    short: bool,
    /// Measure this object of another build, too; may be given again.
    #[arg(long, value_name = "OBJECT")]
    against: Vec<PathBuf>,
    /// Measure this pinned XDP program, too; may be given again. Its balancer must serve 203.0.113.1 and
    /// 2001:db8:f::1, port 80, TCP.
    #[arg(long, value_name = "PATH")]
    against_pinned: Vec<PathBuf>,
    /// Write the figures to this file as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const EXAMPLE: &str = "Example: cargo xtask bench frames -- --rounds 5 --json frames.json";

/// What may become of every frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Floor(Floor),
    /// Translation by one of the subjects.
    Nat(usize),
}

/// What is measured: the work, and the frames it is done on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Row {
    work: Work,
    family: Family,
    flows: Flows,
}

/// What has been found of each row, in nanoseconds per frame.
type Samples = Vec<(Row, Vec<f64>)>;

/// Measures as the arguments of the command line say, of which the first names this benchmark.
pub fn main(words: impl Iterator<Item = String>) -> Result<()> {
    let mut arguments = Arguments::parse_from(words);
    ensure!(nix::unistd::geteuid().is_root(), "this needs root: run it as root");
    if arguments.short {
        (arguments.rounds, arguments.frames) = (arguments.rounds.min(3), 1 << 17);
    }
    let mut subjects = vec![Subject::own()?];
    for object in &arguments.against {
        subjects.push(Subject::object(object)?);
    }
    for path in &arguments.against_pinned {
        subjects.push(Subject::pinned(path)?);
    }
    let samples = in_own_namespace(|| {
        testbed::go_first().context("cannot take precedence over other processes")?;
        let device = testbed::build()?;
        measure(&mut subjects, device, &arguments)
    })?;
    let results = results(&subjects, &samples);
    print!("{}", table(&subjects, &samples));
    print!("{}", results.goals());
    results.write(arguments.json.as_ref())
}

fn case(row: Row) -> Case {
    Case::established(Location::Remote, Role::Forward, row.family, Protocol::TCP, row.flows)
}

fn measure(subjects: &mut [Subject], device: u32, arguments: &Arguments) -> Result<Samples> {
    let mut bench = Bench::load(device)?;
    bench.attach("net0", "far0")?;
    let mut samples: Samples = Vec::new();
    for family in Family::ALL {
        for flows in [Flows::One, Flows::Many] {
            for floor in [Floor::Drop, Floor::Send, Floor::OneLookUp] {
                samples.push((Row { work: Work::Floor(floor), family, flows }, Vec::new()));
            }
            for (index, subject) in subjects.iter_mut().enumerate() {
                let row = Row { work: Work::Nat(index), family, flows };
                eprintln!("{}: establishing flows of {family}", subject.name());
                if subject.prepare(&mut bench, &case(row), 0, device)? {
                    samples.push((row, Vec::new()));
                }
            }
        }
        let row = Row { work: Work::Nat(0), family, flows: Flows::Many };
        let flows = flows::forward(family, Scale::Usual);
        bench.fill(family, &case(row).frame(), &flows)?;
    }
    for number in 0..=arguments.rounds {
        eprint!("\rround {number} of {}", arguments.rounds);
        fastrand::shuffle(&mut samples);
        for (row, found) in &mut samples {
            let sample = sample(&mut bench, subjects, *row, arguments)?;
            found.extend((number > 0).then_some(sample));
        }
    }
    eprintln!();
    samples.sort_by_key(|(row, _)| order(*row));
    Ok(samples)
}

const fn order(row: Row) -> (bool, bool, usize) {
    let work = match row.work {
        Work::Floor(Floor::Drop) => 0,
        Work::Floor(Floor::Send) => 1,
        Work::Floor(Floor::OneLookUp | Floor::TwoLookUps) => 2,
        Work::Nat(index) => 3 + index,
    };
    (matches!(row.family, Family::V6), matches!(row.flows, Flows::Many), work)
}

/// Takes one sample, and checks that nothing was lost and everything was translated.
fn sample(
    bench: &mut Bench,
    subjects: &mut [Subject],
    row: Row,
    arguments: &Arguments,
) -> Result<f64> {
    let case = case(row);
    let frame = case.frame();
    let listed = flows::forward(row.family, Scale::Usual);
    bench.list(&listed, row.flows.mask())?;
    let hook = match row.work {
        Work::Floor(floor) => {
            bench.choose_floor(HookKind::Xdp, floor)?;
            HookKind::Xdp
        }
        Work::Nat(index) => subjects[index].choose(bench, &case)?,
    };
    let spread = case.spread(1);
    let frames = Frames { frame: &frame, spread, are_listed: true, family: row.family };
    let warm_up = row.flows.mask() + 1;
    bench.run_live(hook, frames, (0, warm_up.max(arguments.batch), arguments.batch))?;
    let before = match row.work {
        Work::Nat(index) => subjects[index].counts(&case)?,
        Work::Floor(_) => Vec::new(),
    };
    let arrived = bench.arrived()?;
    let sample = bench.run_live(hook, frames, (0, arguments.frames, arguments.batch))?;
    let arrived = bench.arrived()? - arrived;
    let expected =
        if row.work == Work::Floor(Floor::Drop) { 0 } else { u64::from(arguments.frames) };
    // The kernel itself may send a few: router solicitations, multicast reports.
    ensure!(
        (expected..expected + 16).contains(&arrived),
        "{arrived} of {expected} frames have arrived"
    );
    if let Work::Nat(index) = row.work {
        subjects[index].check_counts(&case, &before, expected)?;
    }
    Ok(sample)
}

fn name(subjects: &[Subject], work: Work) -> String {
    match work {
        Work::Floor(Floor::Drop) => "floor: dropped at once".into(),
        Work::Floor(Floor::Send) => "floor: sent back unseen (XDP_TX)".into(),
        Work::Floor(Floor::OneLookUp | Floor::TwoLookUps) => "floor: one look-up, sent back".into(),
        Work::Nat(index) => format!("NAT: {}", subjects[index].name()),
    }
}

/// The rate of `row` relative to sending frames back unseen, a figure of each round.
fn relative<'a>(samples: &'a Samples, row: Row) -> impl Iterator<Item = f64> + 'a {
    let of = move |work| {
        let row = Row { work, ..row };
        samples.iter().find(|(other, _)| *other == row).map(|(_, found)| found.as_slice())
    };
    let floor = of(Work::Floor(Floor::Send)).unwrap_or_default();
    let own = of(row.work).unwrap_or_default();
    floor.iter().zip(own).map(|(floor, own)| floor / own)
}

fn table(subjects: &[Subject], samples: &Samples) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "frames",
        "family",
        "flows",
        "ns",
        "min – max",
        "Mpps",
        "÷ XDP_TX",
        "min – max",
    ]);
    for (row, found) in samples {
        let (Some(ns), Some(ratio)) =
            (Spread::of(found.iter().copied()), Spread::of(relative(samples, *row)))
        else {
            continue;
        };
        table.add_row([
            name(subjects, row.work),
            row.family.to_string(),
            row.flows.to_string(),
            format!("{:.1}", ns.median),
            format!("{:.1} – {:.1}", ns.min, ns.max),
            format!("{:.2}", 1000.0 / ns.median),
            format!("{:.2}", ratio.median),
            format!("{:.2} – {:.2}", ratio.min, ratio.max),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{}; nanoseconds per live frame, one core, median of rounds\n{table}\n",
        machine::name()
    )
}

fn results(subjects: &[Subject], samples: &Samples) -> Results {
    let title = "Live frames through native XDP: rate relative to sending them back unseen";
    let mut results = Results::new("frames", title, "× XDP_TX");
    for (row, _) in samples.iter().filter(|(row, _)| row.work != Work::Floor(Floor::Send)) {
        let (label, subject) = match row.work {
            Work::Floor(_) => (name(subjects, row.work), "floor"),
            Work::Nat(index) => ("both ends translated".into(), subjects[index].name()),
        };
        let label = format!("{label}, {}, {} flows", row.family, row.flows);
        let goal =
            (row.work == Work::Nat(0) && row.flows == Flows::One).then_some(Goal::AtLeast(0.75));
        results.add(&label, subject, Spread::of(relative(samples, *row)), goal);
    }
    let rows = samples.iter().map(|(row, found)| {
        json!({
            "work": name(subjects, row.work),
            "family": row.family.to_string(),
            "flows": row.flows.to_string(),
            "nanoseconds": Spread::of(found.iter().copied()),
        })
    });
    results.details =
        json!({"outcome": Outcome::ForwardedSnat.to_string(), "rows": rows.collect::<Vec<_>>()});
    results
}
