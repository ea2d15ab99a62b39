//! Unsafe code is in few files.

use std::collections::BTreeMap;

use super::syntax::Source;
use super::tree::Violation;

/// What to do instead of `unsafe` in other files.
const INSTEAD: &str = "Unsafe code lives in lb-ebpf/src/{kernel,bench}, lb-ebpf/src/main.rs, \
    lb-common/src/layout.rs and lb-userspace/src/host/syscall; put a safe function there and call it.";

/// Unsafe code in other files.
pub fn check(sources: &BTreeMap<String, Source>) -> Vec<Violation> {
    let others = sources.iter().filter(|(file, _)| !may_be_unsafe(file));
    let violation = |file: &str, line: usize| Violation {
        subject: format!("unsafe {file}"),
        message: format!("{file}:{line} is unsafe. {INSTEAD}"),
    };
    let of_file = |(file, source): (&String, &Source)| {
        source.unsafe_lines.iter().map(|line| violation(file, *line)).collect::<Vec<_>>()
    };
    others.flat_map(of_file).collect()
}

/// Whether `file` is one of the few that may be unsafe.
fn may_be_unsafe(file: &str) -> bool {
    [
        "lb-ebpf/src/kernel/",
        "lb-ebpf/src/bench/",
        "lb-ebpf/src/main.rs",
        "lb-common/src/layout.rs",
        "lb-userspace/src/host/syscall",
        "tests/",
    ]
    .iter()
    .any(|allowed| file.starts_with(allowed))
}

#[cfg(test)]
mod tests {
    use super::super::tests::violations;
    use super::*;

    #[track_caller]
    fn found(file: &str, text: &str) -> usize {
        violations(&[(file, text)], |_, sources| check(sources)).len()
    }

    #[test]
    fn unsafe_stays_in_its_few_files() {
        let text = "fn f() { unsafe { g() } }";
        assert_eq!(found("lb-userspace/src/cli/run.rs", text), 1);
        assert_eq!(found("lb-userspace/src/host/syscall/mod.rs", text), 0);
        let words = "// unsafe\nfn f() { \"unsafe\"; }";
        assert_eq!(found("lb-userspace/src/cli/run.rs", words), 0);
    }
}
