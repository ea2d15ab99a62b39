//! What figures were taken on.

use std::fs;

/// The machine's processors and its kernel.
#[must_use]
pub fn name() -> String {
    let [processors, kernel] = parts();
    format!("{processors}, {kernel}")
}

/// The machine's processors; its kernel.
#[must_use]
pub fn parts() -> [String; 2] {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, model)| model);
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    [format!("{count} × {model}"), format!("Linux {}", kernel.trim())]
}
