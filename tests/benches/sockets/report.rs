//! The figures, for people and for programs.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::cases::{Times, Whom};

/// What one call costs, in nanoseconds; medians.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    family: String,
    who: String,
    call: String,
    /// To an address that is nobody's of the cluster: before Weir ran, and with it.
    stranger: Option<(f64, f64)>,
    /// To a pod by its own address: before Weir ran, and with it.
    pod: (f64, f64),
    /// To a Service that this pod serves.
    service: f64,
}

/// The figures of all cases; `None` if one is missing.
pub fn figures(without: &Times, with: &Times) -> Option<Vec<Figure>> {
    let figure = |(family, who, call)| {
        let of = |times: &Times, whom| times.median((family, who, call, whom));
        let both = |whom| Some((of(without, whom)?, of(with, whom)?));
        Some(Figure {
            family: family.to_string(),
            who: who.to_string(),
            call: call.to_string(),
            stranger: both(Whom::Stranger),
            pod: both(Whom::Pod)?,
            service: of(with, Whom::Service)?,
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
        "to a stranger, without Weir",
        "with",
        "to a pod by itself, without Weir",
        "with",
        "to its Service",
        "of a pod by itself",
    ]);
    for figure in figures {
        let told = |nanoseconds: f64| format!("{:.2}", nanoseconds / 1000.0);
        let of = |both: Option<(f64, f64)>| {
            both.map_or_else(Default::default, |(without, with)| [told(without), told(with)])
        };
        let [stranger, stranger_with] = of(figure.stranger);
        let [pod, pod_with] = of(Some(figure.pod));
        table.add_row([
            figure.call.clone(),
            figure.who.clone(),
            figure.family.clone(),
            stranger,
            stranger_with,
            pod,
            pod_with,
            told(figure.service),
            format!("{:.2}", figure.service / figure.pod.1),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n{}\n", weir_tests::machine::name())
}
