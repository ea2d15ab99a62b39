//! The figures, for people and for programs.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use weir_tests::figures::{Memory, Quantiles};

/// What was measured at one size.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Services and endpoints of each.
    pub size: String,
    /// From the agent's start until everything was in the kernel.
    pub ready: Duration,
    /// Of that, to plan when everything was known.
    pub planned: Duration,
    /// And to write.
    pub written: Duration,
    /// The memory that the agent had then.
    pub memory: Memory,
    /// Ten changes a second.
    pub quiet: Followed,
    /// A hundred changes a second.
    pub busy: Followed,
    /// Five hundred slices a second.
    pub churned: Option<Churn>,
    /// From the start of an agent that found everything in the kernel until it was ready.
    pub restarted: Duration,
    /// Of that, to plan.
    pub restart_planned: Duration,
}

/// What changes cost.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Followed {
    /// From when the change has come to the agent until the last write.
    pub delays: Quantiles,
    /// Writes to maps for each.
    pub operations: f64,
    /// Rows compared for each.
    pub rows: f64,
    /// Plans of everything for each.
    pub of_everything: f64,
}

/// What the churn of a large cluster cost.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Churn {
    /// As of other changes.
    pub delays: Quantiles,
    /// The agent's share of one processor.
    pub processor: f64,
    /// The memory that it had at the end.
    pub memory: Memory,
}

/// The figures for people.
pub fn table(figures: &[Figures]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(
        ["Services × endpoints"]
            .into_iter()
            .map(String::from)
            .chain(figures.iter().map(|f| f.size.clone())),
    );
    let mut row = |what: &str, of: &dyn Fn(&Figures) -> String| {
        table.add_row([what.to_owned()].into_iter().chain(figures.iter().map(of)));
    };
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let mebibytes = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let memory = |of: Memory| format!("{}; {}", mebibytes(of.resident), mebibytes(of.own));
    let delays = |q: &Quantiles| format!("{} / {} ms", q.half, q.ninety_nine);
    row("from the agent's start until everything is in the kernel", &|f| seconds(f.ready));
    row("of that, planning; writing", &|f| {
        format!("{}; {}", seconds(f.planned), seconds(f.written))
    });
    row("memory of the agent then; of that, its own", &|f| memory(f.memory));
    row("10 changes a second: half / 99 % below", &|f| delays(&f.quiet.delays));
    row("100 changes a second: half / 99 % below", &|f| delays(&f.busy.delays));
    row("rows compared; map operations, per change", &|f| {
        format!("{:.1}; {:.1}", f.quiet.rows, f.quiet.operations)
    });
    row("plans of everything, per change", &|f| format!("{:.3}", f.busy.of_everything));
    row("500 slices a second: half / 99 % below", &|f| {
        f.churned.as_ref().map(|churn| delays(&churn.delays)).unwrap_or_default()
    });
    row("the agent's share of a processor then; memory, its own", &|f| {
        let share =
            |churn: &Churn| format!("{:.0} %; {}", churn.processor * 100.0, memory(churn.memory));
        f.churned.as_ref().map(share).unwrap_or_default()
    });
    row("from a restart until ready; of that, planning", &|f| {
        format!("{}; {}", seconds(f.restarted), seconds(f.restart_planned))
    });
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
