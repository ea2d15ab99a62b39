//! The table of the demonstration.

use std::collections::BTreeSet;

use comfy_table::{CellAlignment, ColumnConstraint, Table, presets};

use anyhow::Result;
use weir_tests::agent::weir;
use weir_tests::lab::Lab;

use crate::score::Score;

/// What the kernel's maps hold: Services with their frontends, backends and flows.
pub fn from_the_kernel(lab: &Lab) -> Result<String> {
    Ok(format!("weir show services\n{}", weir(&lab.node1, &["show", "services"])?))
}

/// One line of the table.
pub struct Row<'a> {
    /// What the traffic is.
    pub title: &'a str,
    /// Its results.
    pub score: &'a Score,
    /// Right responses per second of late.
    pub rate: f64,
}

/// The rows as a table for people, with a column for each of `pods` and any other that responded.
pub fn render(rows: &[Row], pods: &[String]) -> String {
    let mut columns: BTreeSet<&str> = pods.iter().map(String::as_str).collect();
    columns.extend(rows.iter().flat_map(|row| row.score.responses.keys().map(String::as_str)));
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let fixed = ["traffic", "responses", "per second", "failed"];
    table.set_header(fixed.into_iter().chain(columns.iter().copied()));
    for row in rows {
        let fixed = [
            row.title.to_owned(),
            row.score.responded().to_string(),
            format!("{:.0}", row.rate),
            row.score.failures.to_string(),
        ];
        let responses = columns
            .iter()
            .map(|pod| row.score.responses.get(*pod).copied().unwrap_or(0).to_string());
        table.add_row(fixed.into_iter().chain(responses));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if is_too_wide(&table) {
        for column in table.column_iter_mut().skip(fixed.len()) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
    let complaints: String = rows
        .iter()
        .filter_map(|row| row.score.complaint.as_ref())
        .map(|complaint| format!("last failure: {complaint}\n"))
        .collect();
    format!("{table}\n{complaints}")
}

/// Whether the terminal, if there is one, is narrower.
fn is_too_wide(table: &Table) -> bool {
    let line = table.lines().next().unwrap_or_default();
    table.width().is_some_and(|room| line.chars().count() > room.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_pod_has_a_column_and_failures_are_shown() {
        let score = Score {
            responses: BTreeMap::from([("web-1".into(), 7), ("web-9".into(), 3)]),
            failures: 1,
            complaint: Some("no answer".into()),
        };
        let row = Row { title: "pod → web", score: &score, rate: 2.4 };
        let text = render(&[row], &["web-1".into(), "web-2".into()]);
        for expected in ["web-2", "web-9", "pod → web", " 10 ", "last failure: no answer"] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }
}
