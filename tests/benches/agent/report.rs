//! The figures, for people and for programs.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use weir_tests::machine;

/// What was measured.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Services there were.
    pub services: u32,
    /// Endpoints of each.
    pub endpoints: usize,
    /// To make all objects, which is the control plane's work.
    pub made: Duration,
    /// From the agent's start until everything was in the kernel.
    pub ready: Duration,
    /// Of a processor's time, the agent's share of that.
    pub processor: Duration,
    /// Bytes on the wire that the agent received until then.
    pub received: u64,
    /// Bytes of memory the agent had then.
    pub memory: u64,
    /// Bytes of memory it had after the changes.
    pub memory_after_changes: u64,
    /// The most it ever had.
    pub most_memory: u64,
    /// Bytes that all maps take.
    pub maps: u64,
    /// Each time from the request that changes a slice, after a quiet time, until packets reached the
    /// right pod.
    pub changes: Vec<Duration>,
    /// The same where each change follows the one before at once.
    pub changes_in_a_row: Vec<Duration>,
    /// From the start of an agent that found everything in the kernel until it was ready.
    pub restarted: Duration,
}

/// The figures for people.
pub fn table(figures: &Figures) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let spread = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        let at = |index: usize| times.get(index).copied().unwrap_or_default().as_secs_f64();
        let (median, most) = (at(times.len() / 2), at(times.len().saturating_sub(1)));
        format!("{median:.2} s ({:.2} – {most:.2})", at(0))
    };
    for (what, figure) in [
        ("making the objects, which is the control plane's work", seconds(figures.made)),
        ("the agent's start until everything is in the kernel", seconds(figures.ready)),
        ("of that, the agent on a processor", seconds(figures.processor)),
        ("received from the API server until then", mebibytes(figures.received)),
        ("memory of the agent then", mebibytes(figures.memory)),
        ("the same after the changes", mebibytes(figures.memory_after_changes)),
        ("the most it ever had", mebibytes(figures.most_memory)),
        ("memory of the maps", mebibytes(figures.maps)),
        ("a slice's change until packets are right, after a quiet time", spread(&figures.changes)),
        ("the same, one change after the other", spread(&figures.changes_in_a_row)),
        ("a restart until ready, with everything in the kernel", seconds(figures.restarted)),
    ] {
        table.add_row([what, &figure]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let (services, endpoints) = (figures.services, figures.endpoints);
    format!("{}; {services} Services of {endpoints} endpoints\n{table}\n", machine::name())
}
