//! What is recorded of a walk: its steps in words, and the packet's own conntrack entry.

use std::cell::{Cell, RefCell};

use lb_common::address::{Address, Tuple};
use lb_common::conntrack::{ConntrackEntry, State};
use lb_common::filter::Position;
use lb_common::service::{ServiceId, SourceClass};
use lb_ebpf::trace::Step as Traced;
use serde::Serialize;

use crate::cli::explain::node::NodeView;
use crate::maps::Contents;

/// Of a flow to a backend itself: it has no Service.
const DIRECT: &str = "no Service: direct";
/// What such a flow has in place of a Service port.
const NO_SERVICE: ServiceId = ServiceId(0);

/// One step of a walk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    /// What was looked up or written, such as `conntrack lookup`.
    pub step: String,
    /// The result, such as `miss`.
    pub result: String,
    /// The same as a sentence.
    pub detail: String,
}

impl Step {
    /// A step in words.
    pub fn new(step: impl Into<String>, result: impl Into<String>, detail: String) -> Self {
        Self { step: step.into(), result: result.into(), detail }
    }
}

/// Records the steps of one walk.
pub struct Steps<'a, N> {
    /// The node, for the names of devices.
    pub node: &'a N,
    contents: &'a Contents,
    /// The class of the packet's sender.
    pub class: SourceClass,
    /// Whether a system call is walked, not a packet.
    pub is_call: bool,
    /// The packet's own tuple, in words: steps about it do not repeat it.
    tuple: String,
    /// The filter's positions of the packet's source and destination, in words, each as a frontend and as a
    /// backend.
    pub positions: Vec<(Position, String)>,
    /// The Service port and state in the packet's conntrack entry, while no frontend is looked up: that
    /// begins a new flow.
    entry: Cell<Option<(ServiceId, State)>>,
    steps: RefCell<Vec<Step>>,
}

impl<'a, N: NodeView> Steps<'a, N> {
    /// The steps of a walk of a packet of `class` with this tuple; `positions` are those of its source and
    /// destination.
    pub fn new(
        node: &'a N,
        contents: &'a Contents,
        class: SourceClass,
        tuple: String,
        positions: Vec<(Position, String)>,
    ) -> Self {
        let (is_call, entry, steps) = (false, Cell::default(), RefCell::default());
        Self { node, contents, class, is_call, tuple, positions, entry, steps }
    }

    /// The steps of a system call instead.
    pub fn of_a_call(self) -> Self {
        Self { is_call: true, ..self }
    }

    /// The conntrack entry that decided about the packet, if one did: `default/web:http, established`.
    pub fn entry(&self) -> Option<String> {
        let (service, state) = self.entry.get()?;
        let label = self.contents.services.get(&service);
        let service = match label {
            Some(label) => label.to_string(),
            None if service == NO_SERVICE => DIRECT.into(),
            None => format!("Service port {service}"),
        };
        Some(format!("{service}, {}", state.name()))
    }

    /// What was recorded.
    pub fn into_steps(self) -> Vec<Step> {
        self.steps.into_inner()
    }

    /// A Service port, in words.
    pub fn service(&self, service: ServiceId) -> String {
        let label = self.contents.services.get(&service);
        label.map_or_else(|| format!("Service port {service}"), |label| format!("{label:?}"))
    }

    /// The Service port of an entry's backend, in words.
    pub fn service_of<A: Address>(&self, entry: &ConntrackEntry<A>) -> String {
        if entry.is_direct() {
            return DIRECT.into();
        }
        self.service(self.contents.service_of(A::FAMILY, entry.backend))
    }

    /// ` 10.0.0.9:40000 > 10.96.0.1:80/tcp`, or nothing for the packet's own tuple.
    pub fn other<A: Address>(&self, tuple: &Tuple<A>) -> String {
        let text = tuple.to_string();
        if text == self.tuple { String::new() } else { format!(" {text}") }
    }

    /// Notes which entry is the packet's own.
    pub fn note_entry<A: Address>(&self, step: Traced<'_, A>) {
        if let Traced::Lookup(_, tuple, Some(entry)) = step {
            if tuple.to_string() == self.tuple {
                let service = self.contents.service_of(A::FAMILY, entry.backend);
                self.entry.set(Some((service, entry.state)));
            }
        } else if let Traced::Frontend(_, row) = step {
            // A direct flow looks for a frontend to be sure that there is none.
            let is_direct = self.entry.get().is_some_and(|(service, _)| service == NO_SERVICE);
            if row.is_some() || !is_direct {
                self.entry.set(None);
            }
        }
    }

    /// Records a step.
    pub fn push(&self, step: Step) {
        self.steps.borrow_mut().push(step);
    }
}
