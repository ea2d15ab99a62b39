//! Building the BPF object and the agent that carries it, and running what was built.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::cargo::{cargo, target};
use crate::command::{become_command, fresh, run, run_reading_quietly};
use crate::kernels::architecture::Architecture;
use crate::workspace::root;
use crate::{control_plane, toolchain, tools};

/// How the agent is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build: for tests and the lab.
    Debug,
    /// One static binary for other machines.
    Release,
}

/// The variable with the path of the object, for the agent's build, the tests and the benchmarks.
const OBJECT: &str = "WEIR_EBPF_OBJECT";

/// The variable with the path of the agent, for the lab, the tests and the benchmarks.
const AGENT: &str = "WEIR_BIN";

/// The variable with the path of the packet benchmark's own object.
const BENCH_OBJECT: &str = "WEIR_BENCH_OBJECT";

/// The variable with the folder that a benchmark is called from: files are named relative to it.
const CALLED_FROM: &str = "WEIR_CALLED_FROM";

/// The folder below the target folder where this machine's object is built, without a fault.
const OWN_FOLDER: &str = "bpf";

/// Where cargo leaves the objects, in the folder of a build.
const RELEASE: &str = "bpfel-unknown-none/release";

/// The feature of the BPF object that puts a fault back.
const FAULT: &str = "fault";

/// The feature of the object and of the agent that gives their maps a layout that no release has.
const OTHER_LAYOUT: &str = "lb-common/other-layout";

/// The variable with the path of the agent with that layout, for the test that goes from one to the other.
const OTHER_AGENT: &str = "WEIR_OTHER_BIN";

/// The variable that is set when tests are built for an emulated machine.
const EMULATED: &str = "WEIR_EMULATED";

/// Builds the BPF object; returns its path.
pub fn object() -> Result<PathBuf> {
    Ok(objects(&[], Architecture::of_this_machine()?)?.join("weir-ebpf"))
}

/// Builds the BPF objects that `features` ask for; returns the folder they are in.
fn objects(features: &[&str], architecture: Architecture) -> Result<PathBuf> {
    let toolchain = toolchain::bpf_toolchain()?;
    // Packets are not aligned, and a load of four bytes must be one: without the target feature it
    // would be four. Copies and fills of rows are written out rather than calls to byte loops, which
    // the linker's default prefers.
    let described = format!("--cfg=bpf_target_arch=\"{}\"", architecture.name());
    let flags = [
        described.as_str(),
        "-Cdebuginfo=2",
        "-Ctarget-cpu=v3",
        "-Ctarget-feature=+allows-misaligned-mem-access",
        "-Clink-arg=--btf",
        "-Clink-arg=--disable-expand-memcpy-in-order",
    ];
    // A folder of its own: the object's build then never waits for the lock of the host's, and those
    // that embed this machine's are not built anew because of another's.
    let is_own = Architecture::of_this_machine()? == architecture;
    let has_fault = features.contains(&FAULT);
    let folder = match (is_own, has_fault) {
        _ if features.contains(&OTHER_LAYOUT) => {
            format!("bpf-{}-other-layout", architecture.name())
        }
        (true, false) => OWN_FOLDER.into(),
        (false, false) => format!("bpf-{}", architecture.name()),
        (_, true) => format!("bpf-{}-{FAULT}", architecture.name()),
    };
    let folder = target().join(folder);
    run(
        fresh(&toolchain.cargo)
            .current_dir(root())
            .args(["build", "--release", "--package", "lb-ebpf", "--bins"])
            .args(features.iter().flat_map(|feature| ["--features", feature]))
            .args(["--target", "bpfel-unknown-none", "-Zbuild-std=core"])
            .arg("--target-dir")
            .arg(&folder)
            .env("RUSTC", &toolchain.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")),
        "If the linker complains, its LLVM may be older than the compiler's: \
         remove bpf-linker and try again, it is then built anew.",
    )?;
    Ok(folder.join(RELEASE))
}

/// Builds the object and the agent; returns the agent's path.
pub fn agent(profile: Profile) -> Result<PathBuf> {
    if profile == Profile::Release {
        return static_agent(Architecture::of_this_machine()?);
    }
    let next = "Fix what the compiler names above.";
    run(cargo().args(["build", "--workspace", "--bin", "weir"]).env(OBJECT, object()?), next)?;
    Ok(target().join("debug/weir"))
}

/// Builds the agent with another layout, and its object, as [`crate::test::build_agent_for_tests`] builds the usual one,
/// in whose place it is until that is built again; returns the variable that names it, and its path.
pub fn agent_with_other_layout() -> Result<(&'static str, PathBuf)> {
    let object = objects(&[OTHER_LAYOUT], Architecture::of_this_machine()?)?.join("weir-ebpf");
    run(
        cargo()
            .args(["test", "--workspace", "--no-run", "--test", "scenarios"])
            .args(["--features", OTHER_LAYOUT])
            .env(OBJECT, object),
        "Fix what the compiler names above.",
    )?;
    let weir = target().join("weir-other-layout");
    std::fs::copy(target().join("debug/weir"), &weir)
        .with_context(|| format!("cannot write {}", weir.display()))?;
    Ok((OTHER_AGENT, weir))
}

/// Builds one static binary for machines of `architecture`: target/release/weir for those of this one's,
/// else with the architecture behind its name.
pub fn static_agent(architecture: Architecture) -> Result<PathBuf> {
    let object = objects(&[], architecture)?.join("weir-ebpf");
    // With --target the static flag does not reach build scripts, which cannot be linked so.
    let target_name = architecture.target();
    let mut command = toolchain::cargo_for(architecture)?;
    run(
        run_fast(&mut command)
            .args(["build", "--package", "lb-userspace", "--bin", "weir"])
            .args(["--release", "--target", target_name])
            .env(OBJECT, object),
        "Fix what the compiler names above.",
    )?;
    let built = target().join(target_name).join("release/weir");
    let is_own = Architecture::of_this_machine()? == architecture;
    let name = if is_own { "weir".into() } else { format!("weir-{architecture}") };
    let weir = target().join("release").join(name);
    std::fs::create_dir_all(target().join("release"))?;
    // Renamed into place, so that a weir that is running keeps its file.
    let fresh = weir.with_extension("new");
    std::fs::copy(&built, &fresh)
        .and_then(|_| std::fs::rename(&fresh, &weir))
        .with_context(|| format!("cannot write {}", weir.display()))?;
    Ok(weir)
}

/// Shows the agent at work in a lab.
pub fn demonstrate(datapath_log: Option<&str>) -> Result<()> {
    tools::for_the_lab()?;
    run(
        cargo_for_tests()?.args(["build", "--workspace", "--bin", "weir", "--bin", "lab"]),
        "Fix what the compiler names above.",
    )?;
    let mut lab = Command::new(target().join("debug/lab"));
    lab.args(datapath_log.iter().flat_map(|level| ["--datapath-log", level]));
    become_command(lab.env(AGENT, target().join("debug/weir")))
}

/// Runs the agent on this machine.
pub fn run_here(arguments: &[String]) -> Result<()> {
    let weir = agent(Profile::Release)?;
    become_command(Command::new(weir).arg("run").args(arguments))
}

/// What a guest runs: static binaries of its architecture.
pub struct Tests {
    /// The agent.
    pub agent: PathBuf,
    /// The demonstration.
    pub lab: PathBuf,
    /// The tests of the section kernel.
    pub kernel: PathBuf,
    /// The tests of the section end-to-end.
    pub end_to_end: PathBuf,
}

/// Builds what guests of `architecture` run, with the fault in it that older verifiers refuse if
/// `has_fault`.
pub fn tests_for(architecture: Architecture, has_fault: bool) -> Result<Tests> {
    let features: &[&str] = if has_fault { &[FAULT] } else { &[] };
    let object = objects(features, architecture)?.join("weir-ebpf");
    let mut command = toolchain::cargo_for(architecture)?;
    let target = architecture.target();
    // A test's own agent and lab are built with the features of tests, as in `build_agent_for_tests`.
    command
        .args(["test", "--workspace", "--no-run", "--profile", "guest", "--target", target])
        .args(["--test", "kernel", "--test", "end_to_end", "--test", "scenarios"])
        .args(["--message-format", "json-render-diagnostics"])
        .env(EMULATED, "1")
        .env(OBJECT, object);
    let mut tests = Vec::new();
    let built = run_reading_quietly(&mut command, |line| {
        let message: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        if let (Some(name), Some(file)) =
            (text(&message["target"]["name"]), text(&message["executable"]))
        {
            tests.push((name, PathBuf::from(file)));
        }
    })?;
    if !built {
        bail!("the tests for {target} cannot be built: fix what the compiler names above");
    }
    let file = |name: &str| {
        let found = tests.iter().find(|(test, _)| test == name).map(|(_, file)| file.clone());
        found.with_context(|| format!("cargo has built no {name} for {target}"))
    };
    Ok(Tests {
        agent: file("weir")?,
        lab: file("lab")?,
        kernel: file("kernel")?,
        end_to_end: file("end_to_end")?,
    })
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Benchmark {
    /// What a packet costs in each program.
    Packets,
    /// How many live frames a second one core sends on by XDP.
    Frames,
    /// What a node pays to forward a packet.
    Forward,
    /// What a flood from forged sources does to honest clients.
    Flood,
    /// What connections to a Service cost beside those to its pod directly.
    Connections,
    /// What a large cluster costs the agent, and kube-proxy beside it.
    Agent,
    /// What changes of large clusters cost the agent.
    Changes,
    /// What connecting to a Service costs a process.
    Sockets,
    /// None: draws what the others have written with --json.
    Picture,
}

/// Runs a benchmark.
pub fn measure(benchmark: Benchmark, arguments: &[String]) -> Result<()> {
    tools::for_the_lab()?;
    // What is measured was built for release: how the measuring is built makes no difference.
    let mut command = cargo();
    command.args(["bench", "--profile", "dev", "--package", "weir-tests", "--bench"]);
    command.env(CALLED_FROM, std::env::current_dir()?);
    // Two benchmarks are one program.
    let mode = (benchmark == Benchmark::Frames).then_some("frames");
    match benchmark {
        Benchmark::Packets | Benchmark::Frames => {
            let objects = objects(&["bench"], Architecture::of_this_machine()?)?;
            command
                .arg("packets")
                .env(OBJECT, objects.join("weir-ebpf"))
                .env(BENCH_OBJECT, objects.join("weir-bench"));
        }
        Benchmark::Agent => {
            tools::for_kube_proxy()?;
            let weir = agent(Profile::Release)?;
            command
                .arg("agent")
                .env(OBJECT, object()?)
                .env(AGENT, weir)
                .env(control_plane::FOLDERS, control_plane::folders()?);
        }
        Benchmark::Picture => {
            command.arg("picture").env(OBJECT, object()?);
        }
        Benchmark::Changes => {
            let weir = agent(Profile::Release)?;
            command.arg("changes").env(OBJECT, object()?).env(AGENT, weir);
        }
        Benchmark::Flood => {
            // The agent collects garbage meanwhile, which is timed.
            let weir = agent(Profile::Release)?;
            command.arg("flood").env(OBJECT, object()?).env(AGENT, weir);
        }
        Benchmark::Sockets | Benchmark::Forward | Benchmark::Connections => {
            let name = benchmark.to_possible_value().context("a benchmark without a name")?;
            // What is timed happens in the kernel.
            command.arg(name.get_name()).env(OBJECT, object()?).env(AGENT, agent(Profile::Debug)?);
        }
    }
    run(
        command.arg("--").args(mode).args(arguments),
        "Benchmarks load programs into the kernel: run them as root.",
    )
}

/// The host's cargo, with the paths of the object, which is built first, and of the agent. Every build
/// of the agent's library has the object's path, so that none builds it anew.
pub fn cargo_for_tests() -> Result<Command> {
    let mut command = cargo();
    command.env(OBJECT, object()?).env(AGENT, target().join("debug/weir"));
    Ok(command)
}

/// The host's cargo for tests that load no program: they need no object and no BPF toolchain. An object of
/// an earlier build is embedded all the same, so that the agent's library is not built anew by turns.
pub fn cargo_for_tests_without_programs() -> Command {
    let mut command = cargo();
    let object = target().join(OWN_FOLDER).join(RELEASE).join("weir-ebpf");
    command.envs(object.exists().then_some((OBJECT, object)));
    command
}

/// Has a cargo build what runs fast. The workspace's release profile is the BPF object's: of a program in
/// user space it would make minutes of linking, and nothing that shows.
fn run_fast(command: &mut Command) -> &mut Command {
    command
        .env("CARGO_PROFILE_RELEASE_LTO", "thin")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
}
