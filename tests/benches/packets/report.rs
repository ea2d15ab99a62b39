//! The figures as a table, or as JSON.

use comfy_table::{CellAlignment, Table, presets};
use lb_common::address::Protocol;
use serde_json::{Value, json};
use weir_tests::figures::{Goal, Results, Spread};
use weir_tests::machine;

use lb_ebpf::cases::Program;

use crate::cases::{Case, Flows, Role};
use crate::floor::{Floor, HookKind};
use crate::measure::{Figure, Figures, FloorAt};
use crate::subject::Subject;

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
        Floor::Send => "floor: sent back unseen",
        Floor::OneLookUp => "floor: one look-up",
        Floor::TwoLookUps => "floor: two look-ups",
    };
    let hook = match at.hook {
        HookKind::Xdp | HookKind::XdpFrags => "XDP",
        HookKind::Tc => "TC",
    };
    let flows = if at.many { "64k" } else { "1" };
    [name.to_owned(), hook.to_owned(), at.family.to_string(), "TCP".to_owned(), flows.to_owned()]
}

/// The figures for people.
pub fn table(cases: &[Case], subjects: &[Subject], figures: &Figures) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let mut header: Vec<String> =
        ["packet", "program", "", "", "flows"].map(str::to_owned).to_vec();
    for (index, subject) in subjects.iter().enumerate() {
        header.push(format!("{}: ns", subject.name()));
        header.extend(["min – max", "look-ups"].map(str::to_owned));
        header.extend((index > 0).then(|| "÷ this build".to_owned()));
    }
    table.set_header(header);
    for (at, cost) in &figures.floors {
        table.add_row(floor_line(at).into_iter().chain(cells(cost)));
    }
    for (case, of_subjects) in cases.iter().zip(&figures.cases) {
        let mut row = line(case).to_vec();
        for (index, figure) in of_subjects.iter().enumerate() {
            let width = if index > 0 { 4 } else { 3 };
            row.extend(figure.as_ref().map_or_else(|| vec![String::new(); width], figure_cells));
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!(
        "{}; net nanoseconds per packet, median of rounds, and the same in look-ups of one flow in a hash \
         table, at the same hook and of the same family\n{table}\n",
        machine::name()
    );
    for subject in subjects {
        for note in subject.notes() {
            text += &format!("{}: {note}\n", subject.name());
        }
    }
    text
}

fn figure_cells(figure: &Figure) -> Vec<String> {
    let look_ups = format!("{:.2}", figure.look_ups.median);
    let relative = figure.relative.map(|relative| format!("{:.2}", relative.median));
    cells(&figure.net).into_iter().chain([look_ups]).chain(relative).collect()
}

fn cells(cost: &Spread) -> [String; 2] {
    [format!("{:.1}", cost.median), format!("{:.1} – {:.1}", cost.min, cost.max)]
}

/// The figures for programs: look-ups as the figures of the picture, everything else as details.
pub fn results(cases: &[Case], subjects: &[Subject], figures: &Figures) -> Results {
    let title = "What a packet costs, in look-ups of one flow in a hash table";
    let mut results = Results::new("packets", title, "look-ups");
    for (case, of_subjects) in cases.iter().zip(&figures.cases) {
        for (subject, figure) in subjects.iter().zip(of_subjects) {
            let look_ups = figure.as_ref().map(|figure| figure.look_ups);
            results.add(&line(case).join(" "), subject.name(), look_ups, goal(case));
        }
    }
    results.details = details(cases, subjects, figures);
    results
}

/// What docs/benchmarks.md promises of a case.
fn goal(case: &Case) -> Option<Goal> {
    let is_xdp = case.program == Program::NetworkXdp;
    let look_ups = match (case.role, case.flows) {
        (Role::Forward | Role::Reply, Flows::One) => {
            if is_xdp {
                2.0
            } else {
                3.0
            }
        }
        (Role::Forward | Role::Reply, Flows::Many) if is_xdp => 6.0,
        (Role::Forward | Role::Reply, Flows::Million) if is_xdp => 8.0,
        (Role::New, _) => 12.0,
        (Role::NoService, _) => 0.6,
        _ => return None,
    };
    Some(Goal::AtMost(look_ups))
}

fn details(cases: &[Case], subjects: &[Subject], figures: &Figures) -> Value {
    let named = |[packet, program, family, protocol, flows]: [String; 5]| json!({"packet": packet, "program": program, "family": family, "protocol": protocol, "flows": flows});
    let floors = figures.floors.iter().map(|(at, cost)| {
        let mut row = named(floor_line(at));
        row["nanoseconds"] = json!(cost);
        row
    });
    let rows = cases.iter().zip(&figures.cases).flat_map(|(case, of_subjects)| {
        subjects.iter().zip(of_subjects).filter_map(move |(subject, figure)| {
            let figure = figure.as_ref()?;
            let mut row = named(line(case));
            row["subject"] = json!(subject.name());
            row["nanoseconds"] = json!(figure.net);
            row["lookUps"] = json!(figure.look_ups);
            row["relativeToThisBuild"] = json!(figure.relative);
            Some(row)
        })
    });
    let notes = subjects.iter().map(|subject| json!({subject.name(): subject.notes()}));
    json!({
        "floors": floors.collect::<Vec<_>>(),
        "cases": rows.collect::<Vec<_>>(),
        "notes": notes.collect::<Vec<_>>(),
    })
}
