//! What is measured: objects with Weir's programs, each with tables of its own, and XDP programs of
//! others.

pub mod flows;
pub mod object;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{ProgramFd, ProgramInfo};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use lb_ebpf::bench::shared::ListedFlow;
use lb_ebpf::cases::{Program, frame};

use crate::addresses::{self, Location};
use crate::bench::Bench;
use crate::cases::{Case, Flows, Role, Scale};
use crate::floor::HookKind;
use crate::testbed;
use flows::{Established, Template};
use object::Object;

/// One of those that are measured by turns.
pub enum Subject {
    /// An object.
    Object(Build),
    /// An XDP program that is pinned.
    Pinned(Pinned),
}

/// An object, loaded once for each set of tables.
pub struct Build {
    name: String,
    bytes: Vec<u8>,
    /// Whether it is the one that this benchmark was built with: it must be measurable.
    is_own: bool,
    /// By the backends' location, the protocol and the scale; `None` where it cannot be measured.
    loaded: BTreeMap<(Location, u8, Scale), Option<Loaded>>,
    refused: BTreeSet<String>,
}

/// An object with a Service and established flows.
struct Loaded {
    object: Object,
    flows: BTreeMap<Family, Established>,
}

/// An XDP program of another balancer, with a Service of the benchmark's frontend.
pub struct Pinned {
    name: String,
    program: ProgramFd,
    /// What it did to a packet, by case.
    effects: Vec<String>,
}

impl Subject {
    /// The object that this benchmark was built with.
    pub fn own() -> Result<Self> {
        let bytes = lb_userspace::datapath::loader::bytes()?.into_owned();
        Ok(Self::Object(Build::new("this build".into(), bytes, true)))
    }

    /// The object in `file`.
    pub fn object(file: &Path) -> Result<Self> {
        let name = file.display().to_string();
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
        ensure!(bytes.starts_with(b"\x7fELF"), "{name} is no object of BPF programs");
        Ok(Self::Object(Build::new(name, bytes, false)))
    }

    /// The XDP program that is pinned at `path`.
    pub fn pinned(path: &PathBuf) -> Result<Self> {
        let name = path.display().to_string();
        let program = ProgramInfo::from_pin(path).and_then(|info| info.fd());
        let program = program.with_context(|| format!("{name} is no pinned program"))?;
        Ok(Self::Pinned(Pinned { name, program, effects: Vec::new() }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Object(build) => &build.name,
            Self::Pinned(pinned) => &pinned.name,
        }
    }

    /// What there is to say of it beyond figures: why cases are missing, what became of packets.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Self::Object(build) => {
                let loaded = build.loaded.values().flatten();
                let rows: BTreeSet<_> =
                    loaded.flat_map(|loaded| loaded.object.other_rows()).cloned().collect();
                build.refused.iter().cloned().chain(rows).collect()
            }
            Self::Pinned(pinned) => pinned.effects.clone(),
        }
    }

    /// Loads what the case needs, and sees what becomes of one packet: of new flow `flow`, if the case is about
    /// new ones. Returns whether the case can be measured.
    pub fn prepare(
        &mut self,
        bench: &mut Bench,
        case: &Case,
        flow: u32,
        device: u32,
    ) -> Result<bool> {
        match self {
            Self::Object(build) => match build.prepare(case, flow, device) {
                Err(error) if !build.is_own => {
                    build.refused.insert(format!("{error:#}"));
                    Ok(false)
                }
                other => other,
            },
            Self::Pinned(pinned) => pinned.prepare(bench, case, flow),
        }
    }

    /// Lets a wrapper call the program that the case is about; returns which.
    pub fn choose(&mut self, bench: &mut Bench, case: &Case) -> Result<HookKind> {
        match self {
            Self::Object(build) => {
                let hook = HookKind::of(case.program);
                if case.role == Role::New && build.is_own {
                    build.loaded_mut(case)?.object.clear_port_hints()?;
                }
                bench.choose(hook, build.loaded(case)?.object.descriptor(case.program)?)?;
                Ok(hook)
            }
            Self::Pinned(pinned) => bench.choose_foreign(&pinned.program),
        }
    }

    /// The flows of the case's packets, where `forward` are those from the clients.
    pub fn flows(&self, case: &Case, mut forward: Vec<ListedFlow>) -> Vec<ListedFlow> {
        match (case.role, self) {
            (Role::Reply, Self::Object(build)) => build
                .loaded(case)
                .map_or(forward, |loaded| loaded.flows[&case.family].reply.clone()),
            (Role::NoService | Role::FalseMatch, _) => {
                let addresses = addresses::of(case.family);
                let is_known = case.role == Role::FalseMatch;
                let to = if is_known { addresses.false_match } else { addresses.non_service };
                let [d0, d1] = to.port().to_be_bytes();
                for flow in &mut forward {
                    let [s0, s1, ..] = flow.ports;
                    flow.ports = [s0, s1, d0, d1];
                }
                forward
            }
            (Role::Reply | Role::Forward | Role::New, _) => forward,
        }
    }

    /// What has been counted until now.
    pub fn counts(&self, case: &Case) -> Result<Vec<u64>> {
        match self {
            Self::Object(build) => build.loaded(case)?.object.outcomes(),
            Self::Pinned(_) => Ok(Vec::new()),
        }
    }

    /// Checks that `packets` have been counted since `before`, and ended as the case says.
    pub fn check_counts(&self, case: &Case, before: &[u64], packets: u64) -> Result<()> {
        let Self::Object(build) = self else { return Ok(()) };
        let after = build.loaded(case)?.object.outcomes()?;
        let more = after.iter().zip(before).map(|(after, before)| after - before);
        let ended: Vec<(usize, u64)> = more.enumerate().filter(|(_, times)| *times > 0).collect();
        // Another build may number its outcomes otherwise; what they come to, its first packet has shown.
        let right = if build.is_own {
            let own = Outcome::ALL.iter().position(|outcome| *outcome == case.outcome);
            ended.iter().find(|(number, _)| Some(*number) == own)
        } else {
            ended.iter().max_by_key(|(_, times)| *times)
        };
        let right = right.map_or(0, |(_, times)| *times);
        // What is tolerated is said all the same: such packets cost less than those that the case is about.
        if packets.saturating_sub(right) > packets / 10_000 {
            eprintln!(
                "\n{case}: {} of {packets} packets ended otherwise: {ended:?}",
                packets - right
            );
        }
        ensure!(
            right <= packets && packets - right <= case.tolerated(packets),
            "{packets} packets should have ended as {}, and ended so, by number and times: {ended:?}",
            case.outcome
        );
        Ok(())
    }
}

impl Build {
    const fn new(name: String, bytes: Vec<u8>, is_own: bool) -> Self {
        Self { name, bytes, is_own, loaded: BTreeMap::new(), refused: BTreeSet::new() }
    }

    fn loaded(&self, case: &Case) -> Result<&Loaded> {
        let loaded = self.loaded.get(&key(case)).and_then(Option::as_ref);
        loaded.with_context(|| format!("{} has no tables for this case", self.name))
    }

    fn loaded_mut(&mut self, case: &Case) -> Result<&mut Loaded> {
        let loaded = self.loaded.get_mut(&key(case)).and_then(Option::as_mut);
        loaded.context("the build has no tables for this case")
    }

    fn prepare(&mut self, case: &Case, flow: u32, device: u32) -> Result<bool> {
        if let Entry::Vacant(entry) = self.loaded.entry(key(case)) {
            let loaded = load(&self.name, (&self.bytes, self.is_own), case, device);
            // What cannot be loaded is not tried again.
            entry.insert(None);
            *self.loaded.entry(key(case)).or_default() = Some(loaded?);
        }
        let Some(Some(loaded)) = self.loaded.get_mut(&key(case)) else { return Ok(false) };
        let before = first_frame(case, flow, |role| match role {
            Role::Reply => loaded.flows[&case.family].reply[0],
            Role::Forward | Role::New | Role::NoService | Role::FalseMatch => {
                loaded.flows[&case.family].forward[0]
            }
        });
        // The first finds no next hop at XDP.
        loaded.object.pass(case.program, device, &before)?;
        let (_, after) = loaded.object.pass(case.program, device, &before)?;
        check_effect(case, &before, after).with_context(|| {
            let Case { program, family, .. } = case;
            format!("{}: {case}, {}, {family}", self.name, program.name())
        })?;
        Ok(true)
    }
}

const fn key(case: &Case) -> (Location, u8, Scale) {
    (case.location, case.protocol.0, case.scale())
}

fn load(name: &str, (bytes, is_own): (&[u8], bool), case: &Case, device: u32) -> Result<Loaded> {
    let scale = case.scale();
    let mut object = Object::load(name, bytes, scale)?;
    let service = (case.location, case.protocol);
    testbed::write_service(&mut object, service, scale, device)?;
    ensure!(!is_own || object.other_rows().is_empty(), "{name} is not of this source");
    let flows =
        flows::establish(&mut object, service, scale, device).with_context(|| name.to_owned())?;
    Ok(Loaded { object, flows })
}

/// A frame of the case: of new flow `flow`, or of a flow that is established.
fn first_frame(case: &Case, flow: u32, listed: impl Fn(Role) -> ListedFlow) -> Vec<u8> {
    let mut frame = case.frame();
    match case.role {
        Role::New => {
            for word in case.spread(1).words(flow) {
                frame[word.at..word.at + 2].copy_from_slice(&word.bytes);
            }
            frame
        }
        Role::NoService | Role::FalseMatch => frame,
        Role::Forward | Role::Reply => {
            Template::of(case.family, &frame).with(&listed(case.role)).to_vec()
        }
    }
}

/// Checks what became of a packet by its addresses, which no build can name otherwise.
fn check_effect(case: &Case, before: &[u8], after: &[u8]) -> Result<()> {
    let addresses = addresses::of(case.family);
    let (from, to) = frame::ends(after).context("what came out is no packet")?;
    let is_right = match case.role {
        Role::NoService | Role::FalseMatch => before == after,
        Role::Reply => from == addresses.frontend,
        Role::Forward | Role::New => {
            let backends = case.scale().backends();
            let is_translated = case.location == Location::Local || from.ip() == addresses.own;
            addresses::backends(case.family, case.location, backends).contains(&to) && is_translated
        }
    };
    ensure!(is_right, "a packet came out from {from} to {to}, which is wrong");
    Ok(())
}

impl Pinned {
    fn prepare(&mut self, bench: &mut Bench, case: &Case, flow: u32) -> Result<bool> {
        // What a reply looks like only its own tables know.
        if case.program != Program::NetworkXdp || case.role == Role::Reply {
            return Ok(false);
        }
        let scale = case.scale();
        let before = first_frame(case, flow, |_| flows::forward(case.family, scale)[0]);
        let hook = bench.choose_foreign(&self.program)?;
        // As for builds: what is looked up by the first packet is there for the second.
        bench.pass(hook, case, &before)?;
        let (verdict, after) = bench.pass(hook, case, &before)?;
        let name = match verdict {
            0 => bail!("{} aborts packets: {case}", self.name),
            1 => "dropped",
            2 => "passed",
            3 => "sent back",
            4 => "redirected",
            _ => "returned an unknown verdict",
        };
        let length = after.len();
        let change = match (before == after, frame::ends(&after)) {
            (true, _) => "unchanged".to_owned(),
            (false, Some((from, to))) if length == before.len() => format!("from {from} to {to}"),
            (false, _) => format!("{} bytes became {length}", before.len()),
        };
        let protocol = if case.protocol == Protocol::TCP { "TCP" } else { "UDP" };
        if case.flows != Flows::Million {
            let family = case.family;
            let flows = case.flows;
            self.effects
                .push(format!("{case}, {family} {protocol}, {flows} flows: {name}, {change}"));
        }
        Ok(true)
    }
}
