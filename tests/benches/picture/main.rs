//! Draws the figures of benchmarks as a picture: `cargo xtask bench picture`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use svg::Document;
use svg::node::element::{Line, Rectangle, Text};
use weir_tests::figures::{Figure, Goal, Results, go_where_called};

/// Draw what benchmarks have written with --json as an SVG picture.
#[derive(Parser)]
#[command(after_help = EXAMPLE)]
struct Arguments {
    /// Files that benchmarks have written.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where to write the picture.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const EXAMPLE: &str =
    "Example: cargo xtask bench picture -- packets.json frames.json --output docs/benchmarks.svg";

/// Pixels: of the picture, of the words on its left, of its bars, of a row.
const WIDTH: f64 = 960.0;
const WORDS: f64 = 470.0;
const BARS: f64 = 380.0;
const ROW: f64 = 18.0;

fn main() -> Result<()> {
    go_where_called()?;
    let arguments = Arguments::parse();
    let all = arguments.files.iter().map(|file| Results::read(file)).collect::<Result<Vec<_>>>()?;
    let output = &arguments.output;
    svg::save(output, &picture(&all)).with_context(|| format!("cannot write {}", output.display()))
}

/// A panel for each benchmark: a bar for each figure that has a goal, or stands beside one that has; its goal is
/// a line across.
fn picture(all: &[Results]) -> Document {
    let mut document = Document::new();
    let mut y = ROW;
    for results in all {
        let shown: Vec<&Figure> =
            results.figures.iter().filter(|one| is_shown(results, one)).collect();
        let longest = shown.iter().map(|figure| extent(figure)).fold(f64::MIN_POSITIVE, f64::max);
        let title = format!("{} ({})", results.title, results.unit);
        document = document.add(text(&title, 8.0, y + 4.0, "bold", "start"));
        y += ROW * 1.2;
        for figure in shown {
            document = bar(document, figure, y, BARS / longest);
            y += ROW;
        }
        let machine = format!("{}, {}", results.machine, results.kernel);
        document =
            document.add(text(&machine, 8.0, y + 2.0, "normal", "start").set("fill", "#666"));
        y += ROW * 1.8;
    }
    document
        .set("viewBox", (0.0, 0.0, WIDTH, y))
        .set("width", WIDTH)
        .set("height", y)
        .set("font-family", "sans-serif")
        .set("font-size", 12)
}

fn is_shown(results: &Results, figure: &Figure) -> bool {
    let is_beside = |other: &&Figure| other.label == figure.label && other.goal.is_some();
    results.figures.iter().any(|other| is_beside(&other))
}

const fn bound(goal: Goal) -> f64 {
    match goal {
        Goal::AtMost(bound) | Goal::AtLeast(bound) => bound,
    }
}

fn extent(figure: &Figure) -> f64 {
    figure.goal.map_or(0.0, bound).max(figure.value.max)
}

fn bar(document: Document, figure: &Figure, y: f64, scale: f64) -> Document {
    let Figure { label, subject, value, goal } = figure;
    let colour = match goal {
        None => "#8a93a6",
        Some(goal) if goal.is_reached(value.median) => "#2e8b57",
        Some(_) => "#c0504d",
    };
    let length = (value.median * scale).max(0.0);
    let name = format!("{label}: {subject}");
    let mut document = document
        .add(text(&name, WORDS - 8.0, y, "normal", "end"))
        .add(
            Rectangle::new()
                .set("x", WORDS)
                .set("y", y - ROW * 0.6)
                .set("width", length)
                .set("height", ROW * 0.7)
                .set("fill", colour),
        )
        .add(line(
            WORDS + value.min * scale,
            WORDS + value.max * scale,
            [y - ROW * 0.25; 2],
            "#333",
        ));
    let mut end = length.max(value.max * scale);
    if let Some(goal) = goal {
        let x = WORDS + bound(*goal) * scale;
        document = document
            .add(line(x, x, [y - ROW * 0.75, y + ROW * 0.2], "#000").set("stroke-width", 2));
        end = end.max(bound(*goal) * scale);
    }
    document.add(text(&format!("{:.2}", value.median), WORDS + end + 6.0, y, "normal", "start"))
}

fn line(x1: f64, x2: f64, [y1, y2]: [f64; 2], colour: &str) -> Line {
    let line = Line::new().set("x1", x1).set("x2", x2).set("y1", y1).set("y2", y2);
    line.set("stroke", colour)
}

fn text(words: &str, x: f64, y: f64, weight: &str, anchor: &str) -> Text {
    Text::new(words).set("x", x).set("y", y).set("font-weight", weight).set("text-anchor", anchor)
}
