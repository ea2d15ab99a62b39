//! The figures as a table, or as JSON.

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use lb_common::address::Protocol;
use serde_json::{Value, json};
use weir_tests::machine;

use crate::bench::{Floor, HookKind};
use crate::cases::Case;
use crate::measure::{Figures, FloorAt, Spread};

/// What a case is called: one cell each for the packet, the program, family, protocol and flows.
pub fn line(case: &Case) -> [String; 5] {
    let protocol = if case.protocol == Protocol::TCP { "TCP" } else { "UDP" };
    [
        case.to_string(),
        case.program.name().to_owned(),
        case.family.to_string(),
        protocol.to_owned(),
        case.flows.to_string(),
    ]
}

fn floor_line(at: &FloorAt) -> [String; 5] {
    let name = match at.floor {
        Floor::Drop => "floor: dropped unseen, not subtracted",
        Floor::OneLookUp => "floor: one look-up",
        Floor::TwoLookUps => "floor: two look-ups",
    };
    let hook = match at.hook {
        HookKind::Xdp => "XDP",
        HookKind::Tc => "TC",
    };
    let flows = if at.many { "64k" } else { "1" };
    [name.to_owned(), hook.to_owned(), at.family.to_string(), "TCP".to_owned(), flows.to_owned()]
}

/// The figures for people.
pub fn table(cases: &[Case], figures: &Figures) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["packet", "program", "", "", "flows", "ns", "min – max", "look-ups"]);
    for (at, cost) in &figures.floors {
        table.add_row(floor_line(at).into_iter().chain(cells(cost)).chain([String::new()]));
    }
    for (case, figure) in cases.iter().zip(&figures.cases) {
        let ratio = format!("{:.2}", figure.look_ups.median);
        table.add_row(line(case).into_iter().chain(cells(&figure.net)).chain([ratio]));
    }
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let machine = machine::name();
    format!("{machine}; net nanoseconds per packet, median of rounds\n{table}\n")
}

fn cells(cost: &Spread) -> [String; 2] {
    [format!("{:.1}", cost.median), format!("{:.1} – {:.1}", cost.min, cost.max)]
}

/// The figures for programs.
pub fn json(cases: &[Case], figures: &Figures) -> Result<String> {
    let named = |[packet, program, family, protocol, flows]: [String; 5]| json!({"packet": packet, "program": program, "family": family, "protocol": protocol, "flows": flows});
    let floors = figures.floors.iter().map(|(at, cost)| {
        let mut row = named(floor_line(at));
        row["nanoseconds"] = spread(cost);
        row
    });
    let rows = cases.iter().zip(&figures.cases).map(|(case, figure)| {
        let mut row = named(line(case));
        row["nanoseconds"] = spread(&figure.net);
        row["lookUps"] = spread(&figure.look_ups);
        row
    });
    let [machine, kernel] = machine::parts();
    let all = json!({
        "machine": machine,
        "kernel": kernel,
        "floors": floors.collect::<Vec<_>>(),
        "cases": rows.collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&all)?)
}

fn spread(cost: &Spread) -> Value {
    json!({"median": cost.median, "min": cost.min, "max": cost.max})
}
