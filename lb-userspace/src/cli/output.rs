//! How a command's output is written: a table for people, JSON or YAML for programs. The names of the
//! fields are an interface, the columns of the tables are not.

use std::fmt;
use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// How output is written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Output {
    /// A table as wide as the terminal
    #[default]
    Table,
    /// A table with every column
    Wide,
    /// JSON, for programs
    Json,
    /// YAML, for programs
    Yaml,
}

/// Output that can be written in each way.
pub trait Report: Serialize {
    /// As a table, with every column or with the important ones.
    fn table(&self, wide: bool) -> Table;

    /// Lines below the table.
    fn notes(&self, _wide: bool) -> Vec<String> {
        Vec::new()
    }
}

/// A table without lines, for people and for `awk`.
pub fn table<Row: IntoIterator<Item = String>>(
    header: &[&str],
    rows: impl IntoIterator<Item = Row>,
) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table
}

/// Writes a line of text to stdout.
///
/// # Errors
///
/// It could not be written. A closed pipe, as of `head`, is no error.
pub fn print_line(text: impl fmt::Display) -> io::Result<()> {
    readable(writeln!(io::stdout(), "{text}"))
}

/// Writes output to stdout.
///
/// # Errors
///
/// It could not be written. A closed pipe, as of `head`, is no error.
pub fn print(report: &impl Report, output: Output) -> io::Result<()> {
    readable(write(report, output, &mut io::stdout().lock()))
}

/// Takes a closed pipe for success.
pub fn readable(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn write(report: &impl Report, output: Output, to: &mut impl Write) -> io::Result<()> {
    match output {
        Output::Json => writeln!(to, "{}", json(report)?),
        Output::Yaml => write!(to, "{}", yaml(report)?),
        Output::Table | Output::Wide => {
            let wide = output == Output::Wide;
            let mut table = report.table(wide);
            let width = table.width();
            if !wide {
                fit(&mut table, width);
            }
            write!(to, "{}", trimmed(&table))?;
            report.notes(wide).iter().try_for_each(|note| writeln!(to, "{note}"))
        }
    }
}

/// The narrowest terminal that a table is fitted into.
const NARROWEST: u16 = 40;

/// Breaks lines so that the table fits into `width` columns, where that is known and makes sense: a
/// serial console reports none, and a table of that width has one letter a line.
fn fit(table: &mut Table, width: Option<u16>) {
    if let Some(width) = width.filter(|width| *width >= NARROWEST) {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
}

/// `value` as JSON.
///
/// # Errors
///
/// JSON cannot express it.
pub fn json(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

/// `value` as YAML.
///
/// # Errors
///
/// YAML cannot express it.
pub fn yaml(value: &impl Serialize) -> io::Result<String> {
    serde_saphyr::to_string(value).map_err(io::Error::other)
}

/// The table's lines without the blanks that fill its last column.
pub fn trimmed(table: &Table) -> String {
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    #[serde(transparent)]
    struct Pair(Vec<u32>);

    impl Report for Pair {
        fn table(&self, wide: bool) -> Table {
            let header: &[&str] = if wide { &["NUMBER", "TWICE"] } else { &["NUMBER"] };
            let row = |n: &u32| vec![n.to_string(), (n * 2).to_string()];
            table(header, self.0.iter().map(row).map(|row| row.into_iter().take(header.len())))
        }

        fn notes(&self, _: bool) -> Vec<String> {
            vec!["two numbers".into()]
        }
    }

    fn written(output: Output) -> String {
        let mut bytes = Vec::new();
        write(&Pair(vec![1, 20]), output, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_report_is_written_in_each_way() {
        assert_eq!(written(Output::Wide), " NUMBER  TWICE\n 1       2\n 20      40\ntwo numbers\n");
        assert_eq!(written(Output::Table), " NUMBER\n 1\n 20\ntwo numbers\n");
        assert_eq!(written(Output::Json), "[\n  1,\n  20\n]\n");
        assert_eq!(written(Output::Yaml), "- 1\n- 20\n");
    }

    #[test]
    fn a_table_fits_the_terminal_unless_that_has_no_width() {
        let row = ["some words that are longer than forty columns of a terminal".to_owned()];
        let lines = |width| {
            let mut table = table(&["WORDS"], [row.clone()]);
            fit(&mut table, width);
            trimmed(&table).lines().count()
        };
        assert_eq!(lines(None), 2);
        assert_eq!(lines(Some(80)), 2);
        assert_eq!(lines(Some(40)), 3);
        assert_eq!(lines(Some(0)), 2);
        assert_eq!(lines(Some(1)), 2);
    }

    #[test]
    fn a_reader_that_has_had_enough_is_no_error() {
        assert!(readable(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(readable(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
