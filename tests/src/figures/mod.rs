//! What benchmarks have in common: what the system and the agent count, medians of rounds, and the file that a
//! benchmark leaves for programs and for the picture of docs/benchmarks.md.

mod process;
mod scrape;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machine;

pub use process::{Memory, Process};
pub use scrape::{Quantiles, Scrape};

/// The variable with the folder that a benchmark was called from.
const FROM: &str = "WEIR_CALLED_FROM";

/// Goes to the folder that the user has called the benchmark from, so that files are found and left where the
/// command line says: cargo starts benchmarks in the folder of their package.
///
/// # Errors
/// If that folder is gone.
pub fn go_where_called() -> Result<()> {
    let Some(folder) = std::env::var_os(FROM).map(PathBuf::from) else { return Ok(()) };
    std::env::set_current_dir(&folder).with_context(|| format!("cannot go to {}", folder.display()))
}

/// Median, least and greatest of all rounds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spread {
    /// The median; of an even number the lower of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// That of `values`; `None` if there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        Some(Self { median: values[last / 2], min: values[0], max: values[last] })
    }
}

/// What a figure should be.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less.
    AtLeast(f64),
}

impl Goal {
    /// Whether `value` is what it should be.
    #[must_use]
    pub const fn is_reached(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

/// One figure, as a bar of the picture.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub label: String,
    /// Of what: a build, a proxy.
    pub subject: String,
    /// The figure, in the unit of its [`Results`].
    pub value: Spread,
    /// What it should be, if there is a goal.
    pub goal: Option<Goal>,
}

/// Everything that one run of a benchmark has found.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Results {
    /// The benchmark's name.
    pub benchmark: String,
    /// A sentence that says what the figures are.
    pub title: String,
    /// Their unit.
    pub unit: String,
    /// The machine's processors.
    pub machine: String,
    /// Its kernel.
    pub kernel: String,
    /// The arguments it was run with.
    pub arguments: Vec<String>,
    /// The figures.
    pub figures: Vec<Figure>,
    /// What else the benchmark tells.
    pub details: Value,
}

impl Results {
    /// Results of this run on this machine, without figures yet.
    #[must_use]
    pub fn new(benchmark: &str, title: &str, unit: &str) -> Self {
        let [machine, kernel] = machine::parts();
        let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        Self {
            benchmark: benchmark.to_owned(),
            title: title.to_owned(),
            unit: unit.to_owned(),
            machine,
            kernel,
            arguments: arguments.collect(),
            figures: Vec::new(),
            details: Value::Null,
        }
    }

    /// Adds a figure; one without a round is left out.
    pub fn add(&mut self, label: &str, subject: &str, value: Option<Spread>, goal: Option<Goal>) {
        self.figures.extend(value.map(|value| Figure {
            label: label.to_owned(),
            subject: subject.to_owned(),
            value,
            goal,
        }));
    }

    /// Lines that say of each figure with a goal whether it is reached.
    #[must_use]
    pub fn goals(&self) -> String {
        let line = |figure: &Figure| {
            let goal = figure.goal?;
            let Figure { label, subject, value, .. } = figure;
            let (words, bound) = match goal {
                Goal::AtMost(bound) => ("at most", bound),
                Goal::AtLeast(bound) => ("at least", bound),
            };
            let verdict = if goal.is_reached(value.median) { "reached" } else { "NOT REACHED" };
            let unit = &self.unit;
            let is = value.median;
            Some(format!("{verdict}: {label} ({subject}): {is:.3} {unit}, goal {words} {bound}\n"))
        };
        self.figures.iter().filter_map(line).collect()
    }

    /// Writes them to `file`, if one was asked for.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, file: Option<&PathBuf>) -> Result<()> {
        let Some(file) = file else { return Ok(()) };
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Reads what [`Results::write`] has written.
    ///
    /// # Errors
    /// If it cannot be read or is something else.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} was not written by a benchmark's --json", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_one_of_the_values() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]);
        assert_eq!(spread, Some(Spread { median: 2.0, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn what_is_written_can_be_read_and_says_which_goals_are_reached() {
        let mut results = Results::new("test", "A test.", "ns");
        results.add("fast enough", "Weir", Spread::of([1.0]), Some(Goal::AtMost(1.0)));
        results.add("too few", "Weir", Spread::of([1.0]), Some(Goal::AtLeast(2.0)));
        results.add("not measured", "Weir", None, Some(Goal::AtMost(1.0)));
        let file = tempfile::NamedTempFile::new().unwrap();
        results.write(Some(&file.path().to_owned())).unwrap();
        assert_eq!(Results::read(file.path()).unwrap(), results);
        assert_eq!(
            results.goals(),
            "reached: fast enough (Weir): 1.000 ns, goal at most 1\n\
             NOT REACHED: too few (Weir): 1.000 ns, goal at least 2\n"
        );
    }
}
