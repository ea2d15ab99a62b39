//! `cargo xtask run`: Weir at work in a lab, where it is started with the arguments of this program. On a terminal it shows a live table until Ctrl-C; else it
//! is a finite demonstration that succeeds only if every response is right.

mod live;
mod load;
mod score;
mod table;
mod trial;
mod walks;

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::thread;

use anyhow::Result;
use weir_tests::agent::Agent;
use weir_tests::lab::{Lab, Shape, addresses, is_ending};
use weir_tests::manifests::Manifests;
use weir_tests::traffic;

fn main() -> ExitCode {
    let shown = demonstrate();
    // The signal's own thread ends the process, once everything is removed.
    while is_ending() {
        thread::park();
    }
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> Result<()> {
    eprintln!("Making a lab of network namespaces: a client, a network, two nodes, five pods.");
    let lab = Lab::new(Shape::default())?;
    let _servers = traffic::serve(&lab)?;
    let manifests = Manifests::samples(&lab)?;
    eprintln!("Starting weir run on node1.");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut agent = Agent::start(&lab.node1, &manifests, &arguments)?;
    if arguments.contains(&"--datapath-log") {
        walks::show(&lab, &mut agent)?;
    }
    let introduction = introduction(&lab, &manifests);
    if stdout().is_terminal() {
        live::show(&lab, &mut agent, &introduction)
    } else {
        println!("{introduction}");
        trial::run(&lab, &manifests, &mut agent)
    }
}

fn introduction(lab: &Lab, manifests: &Manifests) -> String {
    format!(
        "Weir balances on node1 ({node}). Try it by hand, from the client outside:\n\
         \n    nsenter --net={client} curl http://{node}:30080/\n\n\
         What it balances stands in {folder}; edits take effect at once.",
        node = addresses::node(1).v4,
        client = lab.client.path().display(),
        folder = manifests.folder().display(),
    )
}
