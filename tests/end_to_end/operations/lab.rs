//! The lab itself: without Weir, everyone reaches every pod at its own address, whatever the lab's
//! shape. If this fails, no other failure means anything.

use std::net::SocketAddr;

use anyhow::Result;
use lb_common::address::Family;
use weir_tests::lab::{Attachment, Namespace, Pod, PodRouting, Shape};
use weir_tests::requires;
use weir_tests::traffic::{self, Client, ECHO_PORT, HTTP_PORT};

#[test]
fn everyone_reaches_every_pod_over_routes() -> Result<()> {
    check(Shape::default())
}

#[test]
fn everyone_reaches_every_pod_without_offloads() -> Result<()> {
    check(Shape { offloads: false, ..Shape::default() })
}

#[test]
fn everyone_reaches_every_pod_over_bridges() -> Result<()> {
    check(Shape { attachment: Attachment::Bridged, ..Shape::default() })
}

#[test]
fn pods_reach_pods_through_an_overlay() -> Result<()> {
    check(Shape { pod_routing: PodRouting::Overlay, ..Shape::default() })
}

#[test]
fn a_lab_leaves_nothing_behind() -> Result<()> {
    let Some(lab) = requires::lab(Shape::default())? else {
        return Ok(());
    };
    let folder = lab.folder();
    let namespaces: Vec<_> = lab.namespaces().map(Namespace::path).collect();
    assert!(folder.exists() && namespaces.iter().all(|path| path.exists()));
    drop(lab);
    assert!(!folder.exists() && !namespaces.iter().any(|path| path.exists()));
    Ok(())
}

fn check(shape: Shape) -> Result<()> {
    let Some(lab) = requires::lab(shape)? else {
        return Ok(());
    };
    let _servers = traffic::serve(&lab)?;
    let mut clients = vec![&lab.node1.pods[0].namespace, &lab.node2.pods[0].namespace];
    if shape.pod_routing == PodRouting::Direct {
        clients.push(&lab.client);
    }
    for client in clients {
        for pod in lab.pods() {
            reaches(client, pod)?;
        }
    }
    Ok(())
}

fn reaches(client: &Namespace, pod: &Pod) -> Result<()> {
    for family in Family::ALL {
        let address = pod.addresses.of(family);
        let mut connection = Client::connect(client, (address, HTTP_PORT).into())?;
        for length in [1, 1460, 1 << 20] {
            let response = connection.exchange(length)?;
            assert_eq!((&response.pod, response.client), (&pod.name, response.own));
        }
        let server = SocketAddr::from((address, ECHO_PORT));
        let response = traffic::ask(client, server, 100)?;
        assert_eq!((&response.pod, response.client.port()), (&pod.name, response.own.port()));
    }
    Ok(())
}
