//! One client port may lead to one backend through several frontends at once: the backend then sees
//! another port, and each reply reaches the right socket.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::Shape;
use weir_tests::manifests::Offer;
use weir_tests::traffic::Client;

#[test]
fn one_client_port_reaches_one_backend_through_three_frontends_at_once() -> Result<()> {
    const CLIENT_PORT: u16 = 40_404;
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let offer = ServedBy::OnePod.offer(lab);
    let twin = Offer { name: "twin", number: 15, ..offer.clone() };
    fixture.add(&twin)?;
    let client = &lab.node1.pods[1];
    for family in Family::ALL {
        let own = SocketAddr::from((client.addresses.of(family), CLIENT_PORT));
        let frontends: [SocketAddr; 3] = [
            (offer.cluster_ips().of(family), Offer::PORT).into(),
            (twin.cluster_ips().of(family), Offer::PORT).into(),
            (lab.node1.addresses.of(family), offer.node_port()).into(),
        ];
        let connect = |frontend| Client::connect_from(&client.namespace, own, frontend);
        let mut clients = frontends.map(connect).into_iter().collect::<Result<Vec<_>>>()?;
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            for (client, frontend) in clients.iter_mut().zip(frontends) {
                let response = client
                    .exchange(2000)
                    .with_context(|| format!("{own} > {frontend}, one of three flows"))?;
                ensure!(response.client.ip() == own.ip(), "{frontend}: saw {}", response.client);
                seen.insert(response.client.port());
            }
        }
        ensure!(seen.len() == 3 && seen.contains(&CLIENT_PORT), "ports seen: {seen:?}");
    }
    Ok(())
}
