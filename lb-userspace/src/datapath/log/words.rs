//! The words for the numbers of the datapath log (`lb-ebpf/src/kernel/hooks/datapath_log.rs`).

use lb_common::address::Protocol;
use lb_common::conntrack::State;
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;
use lb_ebpf::trace::StepKind;

/// Verdicts in the order of their numbers.
const VERDICTS: [&str; 5] = ["pass", "drop", "redirect", "redirect after resolving", "tx"];

/// Bytes of a step: three numbers.
const STEP: usize = 12;

/// The lines that `text`, one line of the log, stands for; `device` names a device. What is none of ours
/// is one line as it is.
pub fn lines(text: &str, device: impl Fn(u32) -> String) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let read = match words.split_first() {
        Some((&"walk", numbers)) => walk(numbers, &device),
        Some((&"steps", [count, bytes])) => steps(count, bytes),
        _ => None,
    };
    read.unwrap_or_else(|| vec![text.to_owned()])
}

fn walk(words: &[&str], device: &impl Fn(u32) -> String) -> Option<Vec<String>> {
    let (numbers, ends) = words.split_at_checked(7)?;
    let numbers: Vec<u32> = numbers.iter().map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let [point, class, at, outcome, verdict, to, suppressed] = *numbers.as_slice() else {
        return None;
    };
    let point = ["ingress", "egress"].get(point as usize)?;
    let class = SourceClass::ALL.get(class as usize)?;
    let outcome = Outcome::ALL.get(outcome as usize)?.name();
    let packet = match ends {
        [source, source_port, destination, destination_port, protocol] => {
            let protocol = Protocol(protocol.parse().ok()?);
            let from = end(source, source_port);
            format!(" {from} > {}/{protocol}", end(destination, destination_port))
        }
        _ => String::new(),
    };
    let mut verdict = (*VERDICTS.get(verdict as usize)?).to_owned();
    if to != 0 {
        verdict = format!("{verdict} to {}", device(to));
    }
    let mut lines = Vec::new();
    if suppressed > 0 {
        lines.push(format!("{suppressed} walks before this one were not logged"));
    }
    let from = if *point == "ingress" { format!(", from {class}") } else { String::new() };
    lines.push(format!(
        "{point} {}{from}:{packet}{} {outcome}, {verdict}",
        device(at),
        if packet.is_empty() { "" } else { ":" }
    ));
    Some(lines)
}

fn end(address: &str, port: &str) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn steps(count: &str, bytes: &str) -> Option<Vec<String>> {
    let count: usize = count.parse().ok()?;
    let bytes = bytes
        .as_bytes()
        .chunks_exact(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    let kept = bytes.len() / STEP;
    let numbers = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word));
    let numbers: Vec<u32> = numbers.collect();
    let mut lines: Vec<String> = numbers
        .as_chunks::<3>()
        .0
        .iter()
        .take(count.min(kept))
        .filter_map(|[kind, found, value]| step(*kind, *found != 0, *value))
        .collect();
    if count > kept {
        lines.push(format!("  the first {} steps are not kept", count - kept));
    }
    Some(lines)
}

fn step(kind: u32, found: bool, value: u32) -> Option<String> {
    let kind = *StepKind::ALL.get(kind as usize)?;
    let result = match (kind, found) {
        (StepKind::ConntrackLookup | StepKind::HalfOpenLookup, true) => {
            format!("hit, backend {value}")
        }
        (StepKind::ConntrackLookup | StepKind::HalfOpenLookup, false) => "miss".into(),
        (StepKind::Filter, true) => "match".into(),
        (StepKind::Filter, false) => "no match".into(),
        (StepKind::ServiceRanges, true) => "inside".into(),
        (StepKind::ServiceRanges, false) => "outside".into(),
        (StepKind::SourceRanges | StepKind::RateLimit, true) => "allowed".into(),
        (StepKind::SourceRanges | StepKind::RateLimit, false) => "not allowed".into(),
        (StepKind::Settings, _) => "read".into(),
        (StepKind::SetExpected, _) => format!("{value}"),
        (StepKind::SetState, _) => State(value.to_le_bytes()).name().into(),
        (
            StepKind::ConntrackInsert
            | StepKind::HalfOpenInsert
            | StepKind::Remove
            | StepKind::SetAffinity,
            true,
        ) => "done".into(),
        (
            StepKind::ConntrackInsert
            | StepKind::HalfOpenInsert
            | StepKind::Remove
            | StepKind::SetAffinity,
            false,
        ) => "refused".into(),
        (StepKind::Slot | StepKind::Backend, true) => format!("{value}"),
        (StepKind::Slot | StepKind::Backend, false) => format!("{value}, none"),
        (
            StepKind::Frontend
            | StepKind::IpPolicy
            | StepKind::Affinity
            | StepKind::Fragment
            | StepKind::Fib
            | StepKind::SourceAddress
            | StepKind::Mapping
            | StepKind::LocalSocket,
            true,
        ) => "found".into(),
        (
            StepKind::Frontend
            | StepKind::IpPolicy
            | StepKind::Affinity
            | StepKind::Fragment
            | StepKind::Fib
            | StepKind::SourceAddress
            | StepKind::Mapping
            | StepKind::LocalSocket,
            false,
        ) => "none".into(),
    };
    Some(format!("  {}: {result}", kind.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        lines(text, |index| format!("eth{index}"))
    }

    #[test]
    fn a_walk_is_one_line_with_its_outcome_and_verdict() {
        let forwarded = Outcome::Forwarded as u32;
        let text = format!("walk 0 0 3 {forwarded} 0 0 0 10.244.1.9 40000 10.96.0.1 80 6");
        assert_eq!(
            said(&text),
            ["ingress eth3, from pod: 10.244.1.9:40000 > 10.96.0.1:80/tcp: forwarded, pass"]
        );
        let snat = Outcome::ForwardedSnat as u32;
        let text = format!("walk 0 1 3 {snat} 2 7 12 fd00::9 40000 fd00:96::1 53 17");
        assert_eq!(
            said(&text),
            [
                "12 walks before this one were not logged",
                "ingress eth3, from network: [fd00::9]:40000 > [fd00:96::1]:53/udp: \
                 forwarded-snat, redirect to eth7",
            ]
        );
        let not_ip = Outcome::PassedNotIp as u32;
        assert_eq!(
            said(&format!("walk 1 2 3 {not_ip} 0 0 0")),
            ["egress eth3: passed-not-ip, pass"]
        );
    }

    #[test]
    fn steps_are_a_line_each_and_lost_ones_are_named() {
        let hex = |numbers: &[u32]| -> String {
            let bytes = numbers.iter().flat_map(|number| number.to_ne_bytes());
            bytes.map(|byte| format!("{byte:02x}")).collect()
        };
        let (lookup, slot) = (StepKind::ConntrackLookup as u32, StepKind::Slot as u32);
        let bytes = hex(&[lookup, 0, 0, slot, 1, 93]);
        assert_eq!(said(&format!("steps 1 {bytes}")), ["  conntrack lookup: miss"]);
        assert_eq!(
            said(&format!("steps 5 {bytes}")),
            ["  conntrack lookup: miss", "  slot: 93", "  the first 3 steps are not kept"]
        );
    }

    #[test]
    fn a_line_that_is_none_of_these_is_kept_as_it_is() {
        assert_eq!(said("walk of another version"), ["walk of another version"]);
        assert_eq!(said("steps x y"), ["steps x y"]);
    }
}
