//! A rolling replacement of all of a Service's pods, one after the other, under load: not one request
//! fails.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Lab, Namespace, Pod, Shape};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::{Client, Servers, get};
use weir_tests::wait::until;

/// How long a change of the manifests may take.
const CHANGE: Duration = Duration::from_secs(10);

#[test]
fn no_request_fails_while_every_pod_is_replaced() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let mut servers: Vec<_> = fixture.servers.drain(..).map(Some).collect();
    let lab = &fixture.lab;
    let pods: Vec<&Pod> = lab.pods().collect();
    let mut offer = Offer { name: "rolling", number: 39, pods: pods[..2].to_vec() };
    fixture.add(&offer)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = |(client, frontend)| {
            let over = &over;
            scope.spawn(move || ask_until(client, frontend, over))
        };
        let loads: Vec<_> = clients(lab, &offer).into_iter().map(load).collect();
        // Two pods serve at any time: each step brings the next and takes the oldest.
        let rolled = (0..pods.len() - 2).try_for_each(|oldest| {
            offer.pods = pods[oldest..oldest + 3].to_vec();
            replace(&fixture, &offer, &mut servers[oldest])
        });
        over.store(true, Ordering::Relaxed);
        for load in loads {
            let responses = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            ensure!(responses.len() == pods.len(), "not everybody served: {responses:?}");
        }
        rolled
    })
}

/// Lets the first of the offer's pods leave, as Kubernetes does it: it is terminating, gets no
/// new connections, ends, and is removed.
fn replace(fixture: &Fixture, offer: &Offer, server: &mut Option<Servers>) -> Result<()> {
    let (oldest, stay) = offer.pods.split_first().context("nobody is there to leave")?;
    fixture.manifests.offer_under(offer, &Rules { leaving: vec![oldest], ..Rules::default() })?;
    for (client, frontend) in clients(&fixture.lab, offer) {
        until("new connections are others'", CHANGE, || {
            for _ in 0..20 {
                let pod = get(client, frontend)?.pod;
                ensure!(pod != oldest.name, "{pod} still gets connections");
            }
            Ok(())
        })?;
    }
    // It ends; its clients have gone.
    *server = None;
    fixture.manifests.offer(&Offer { pods: stay.to_vec(), ..offer.clone() })
}

/// Sends requests as fast as responses come, over a connection for every three, until `over`; returns
/// which pods responded, and how often.
fn ask_until(
    client: &Namespace,
    frontend: SocketAddr,
    over: &AtomicBool,
) -> Result<BTreeMap<String, usize>> {
    let mut responses = BTreeMap::new();
    while !over.load(Ordering::Relaxed) {
        let asked = Client::connect(client, frontend).and_then(|mut connection| {
            (0..3).map(|_| Ok(connection.exchange(1000)?.pod)).collect::<Result<Vec<_>>>()
        });
        for pod in asked.with_context(|| format!("a request failed after {responses:?}"))? {
            *responses.entry(pod).or_default() += 1;
        }
    }
    Ok(responses)
}

fn clients<'a>(lab: &'a Lab, offer: &Offer) -> Vec<(&'a Namespace, SocketAddr)> {
    let of_family = |family| {
        let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
        let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
        [(&lab.node1.pods[2].namespace, cluster_ip), (&lab.client, node_port)]
    };
    Family::ALL.into_iter().flat_map(of_family).collect()
}
