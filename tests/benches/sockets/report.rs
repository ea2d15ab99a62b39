//! The figures, for people and for programs.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::cases::{Target, Times};

/// What one call costs, in nanoseconds; medians.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    family: String,
    caller: String,
    call: String,
    /// To an address outside the cluster: before Weir ran, and with it.
    outside: Option<(f64, f64)>,
    /// To a pod by its own address: before Weir ran, and with it.
    pod: (f64, f64),
    /// To a Service that this pod serves.
    service: f64,
}

/// The figures of all cases; `None` if one is missing.
pub fn figures(without: &Times, with: &Times) -> Option<Vec<Figure>> {
    let figure = |(family, caller, call)| {
        let of = |times: &Times, target| times.median((family, caller, call, target));
        let both = |target| Some((of(without, target)?, of(with, target)?));
        Some(Figure {
            family: family.to_string(),
            caller: caller.to_string(),
            call: call.to_string(),
            outside: both(Target::Outside),
            pod: both(Target::Pod)?,
            service: of(with, Target::Service)?,
        })
    };
    with.names().map(figure).collect()
}

/// The figures for people.
pub fn table(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "microseconds per call",
        "",
        "",
        "to an outside address, without Weir",
        "with",
        "to a pod directly, without Weir",
        "with",
        "to its Service",
        "relative to a pod directly",
    ]);
    for figure in figures {
        let microseconds = |nanoseconds: f64| format!("{:.2}", nanoseconds / 1000.0);
        let of = |both: Option<(f64, f64)>| {
            both.map_or_else(Default::default, |(without, with)| {
                [microseconds(without), microseconds(with)]
            })
        };
        let [outside, outside_with] = of(figure.outside);
        let [pod, pod_with] = of(Some(figure.pod));
        table.add_row([
            figure.call.clone(),
            figure.caller.clone(),
            figure.family.clone(),
            outside,
            outside_with,
            pod,
            pod_with,
            microseconds(figure.service),
            format!("{:.2}", figure.service / figure.pod.1),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n{}\n", weir_tests::machine::name())
}
