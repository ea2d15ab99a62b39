//! Running other programs: each command is printed before it runs, and one that fails says what to
//! try next.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` with its output going to ours. `next` is what to try if it fails: a sentence.
pub fn run(command: &mut Command, next: &str) -> Result<()> {
    print(command);
    let status =
        command.status().with_context(|| format!("cannot start `{}`. {next}", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status}). {next}", line(command));
    }
    Ok(())
}

/// Runs `command`, passing each line of its standard output on and to `read`; returns whether it
/// succeeded.
pub fn run_reading(command: &mut Command, mut read: impl FnMut(&str)) -> Result<bool> {
    run_reading_quietly(command, |line| {
        println!("{line}");
        read(line);
    })
}

/// Runs `command`, giving each line of its standard output to `read` alone; returns whether it
/// succeeded.
pub fn run_reading_quietly(command: &mut Command, mut read: impl FnMut(&str)) -> Result<bool> {
    print(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if let Some(output) = child.stdout.take() {
        for text in BufReader::new(output).lines() {
            read(&text?);
        }
    }
    Ok(child.wait()?.success())
}

/// Runs `command` silently and returns what it printed, or `None` if it cannot be run or fails.
pub fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// Becomes `command`, so that signals meant for us reach it.
pub fn become_command(command: &mut Command) -> Result<()> {
    print(command);
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start `{}`", line(command)))
}

/// A `cargo` or `rustc` without the environment of the cargo that runs us: compiler, flags, package.
/// What users set for all their builds stays.
pub fn fresh(program: impl AsRef<OsStr>) -> Command {
    const KEPT: [&str; 5] =
        ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_TERM_"];
    const FORGOTTEN: [&str; 4] = ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS"];
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        if begins(&FORGOTTEN) && !begins(&KEPT) {
            command.env_remove(&name);
        }
    }
    command
}

fn print(command: &Command) {
    eprintln!("$ {}", line(command));
}

/// The command as one would type it, with the variables it sets that are not set already.
fn line(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        let value = value.filter(|value| std::env::var_os(name).as_deref() != Some(*value))?;
        let value = value.to_string_lossy().replace('\x1f', "\\x1f");
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value)))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    variables.chain(words.map(|word| quoted(&word.to_string_lossy()))).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else if word.contains("\\x1f") {
        format!("$'{word}'")
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_printed_as_one_would_type_it() {
        let mut command = Command::new("cargo");
        command.args(["test", "a sentence"]).env("FLAGS", "-a\x1f-b");
        assert_eq!(line(&command), r"FLAGS=$'-a\x1f-b' cargo test 'a sentence'");
    }

    #[test]
    fn the_environment_of_the_outer_cargo_does_not_reach_the_inner_one() {
        let command = fresh("cargo");
        assert!(
            command.get_envs().any(|(name, value)| name == "CARGO_MANIFEST_DIR" && value.is_none())
        );
    }

    #[test]
    fn a_failure_says_what_to_try_next() {
        let error = run(&mut Command::new("false"), "Try true.").unwrap_err();
        assert!(error.to_string().ends_with("Try true."), "{error}");
    }
}
