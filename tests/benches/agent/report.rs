//! The figures, for people and for programs.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use weir_tests::figures::Memory;
use weir_tests::machine;

use super::changes::{Change, Followed};

/// What was measured of one cluster.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Services there were.
    pub services: u32,
    /// Endpoints of each.
    pub endpoints: usize,
    /// To make all objects, which is the control plane's work.
    pub made: Duration,
    /// One proxy after the other.
    pub subjects: Vec<Subject>,
}

/// What was measured of a proxy.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Its name.
    pub proxy: String,
    /// From its start until the Service that was made last was served.
    pub ready: Duration,
    /// Of a processor's time, its share of that, and of the programs that it runs.
    pub processor: Duration,
    /// Bytes on the wire that the node received until then.
    pub received: u64,
    /// The memory it had then.
    pub memory: Memory,
    /// The memory it had after the changes.
    pub memory_after_changes: Memory,
    /// Changes after a quiet time.
    pub quiet: Followed,
    /// Changes that follow each other at once.
    pub in_a_row: Followed,
    /// What is measured of Weir alone.
    pub of_weir: Option<OfWeir>,
}

/// What is measured of Weir alone.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfWeir {
    /// Bytes that all maps take.
    pub maps: u64,
    /// From the start of an agent that found everything in the kernel until it was ready.
    pub restarted: Duration,
}

/// One of a proxy's two series of changes.
type SeriesOf = fn(&Subject) -> &Followed;

/// The figures for people.
pub fn table(figures: &[Figures]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let subjects: Vec<(&Figures, &Subject)> = figures
        .iter()
        .flat_map(|one| one.subjects.iter().map(move |subject| (one, subject)))
        .collect();
    let names = subjects
        .iter()
        .map(|(one, subject)| format!("{}, {} × {}", subject.proxy, one.services, one.endpoints));
    table.set_header(["Services × endpoints".to_owned()].into_iter().chain(names));
    let mut row = |what: &str, of: &dyn Fn(&Subject) -> String| {
        let cells = subjects.iter().map(|(_, subject)| of(subject));
        table.add_row([what.to_owned()].into_iter().chain(cells));
    };
    row("from its start until the last Service is served", &|of| seconds(of.ready));
    row("of that, on a processor", &|of| seconds(of.processor));
    row("received from the API server until then", &|of| mebibytes(of.received));
    row("memory then, resident; its own", &|of| memory(of.memory));
    row("the same after the changes", &|of| memory(of.memory_after_changes));
    row("the most that was ever resident", &|of| mebibytes(of.memory_after_changes.most));
    row("memory of the maps", &|of| {
        of.of_weir.as_ref().map_or_else(not_measured, |weir| mebibytes(weir.maps))
    });
    let series: [(&str, SeriesOf); 2] =
        [("after a quiet time", |of| &of.quiet), ("one after the other", |of| &of.in_a_row)];
    for (how, followed) in series {
        let spread = |of: &Subject, time: fn(&Change) -> Duration| {
            spread(followed(of).changes.iter().map(time).collect())
        };
        row(&format!("changes {how}"), &|of| followed(of).changes.len().to_string());
        row("until packets are right: half, 99 % within", &|of| spread(of, |change| change.total));
        row("of that, the API server", &|of| spread(of, |change| change.server));
        row("and the rest", &|of| spread(of, Change::rest));
        row("by the agent's metric, upper bounds", &|of| {
            let delays = followed(of).delays.as_ref();
            delays.map_or_else(not_measured, |of| format!("{}; {} ms", of.half, of.ninety_nine))
        });
        row("on a processor, per change", &|of| milliseconds(followed(of).processor) + " ms");
    }
    row("a restart until ready, with everything in the kernel", &|of| {
        of.of_weir.as_ref().map_or_else(not_measured, |weir| seconds(weir.restarted))
    });
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let made = figures.iter().map(|one| format!("{} in {}", one.services, seconds(one.made)));
    let made = made.collect::<Vec<_>>().join(", ");
    format!(
        "{}; the control plane made the objects of Services: {made}\n{table}\n",
        machine::name()
    )
}

/// Of kube-proxy, which has no such thing.
fn not_measured() -> String {
    "–".to_owned()
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    let digits = usize::from(milliseconds < 100.0);
    format!("{milliseconds:.digits$}")
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

fn memory(memory: Memory) -> String {
    format!("{}; {}", mebibytes(memory.resident), mebibytes(memory.own))
}

/// The times that half of all, and 99 of 100, are within.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let within =
        |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1));
    match (within(50), within(99)) {
        (Some(half), Some(most)) => format!("{}; {} ms", milliseconds(*half), milliseconds(*most)),
        _ => not_measured(),
    }
}
