//! What a change of devices costs on a node with many routes: they are read when default routes may have changed, or
//! notifications were lost, and not for each pod that comes.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_userspace::host::devices::{Link, Netlink};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use weir_tests::kernel::{in_own_namespace, ip};

const ROUTES: u32 = 5_000;

#[test]
fn a_pod_that_comes_or_goes_has_no_routes_read() -> Result<()> {
    watched(|mut node| {
        let read = node.netlink.routes_read();
        ensure!(read > u64::from(ROUTES), "{read} routes were read at first");
        for _ in 0..3 {
            node.changes("link add pod0 type veth peer name pod1\nlink set pod0 up")?;
            node.changes("address add 10.9.0.1/32 dev pod0\nroute add 10.9.0.2/32 dev pod0")?;
            ensure!(node.link("pod0")?.addresses.len() == 1, "a stale list");
            node.changes("link delete pod0")?;
        }
        ensure!(node.netlink.routes_read() == read, "{} more", node.netlink.routes_read() - read);
        Ok(())
    })
}

#[test]
fn default_routes_are_followed_however_they_come_and_go() -> Result<()> {
    const ADD: &str = "route add default via 192.0.2.1 dev up0";
    watched(|mut node| {
        for (change, leaves) in [
            (ADD, true),
            ("route delete default", false),
            (ADD, true),
            // Of these the kernel does not say that routes go.
            ("link set up0 down", false),
            ("link set up0 up\nroute add default via 192.0.2.1 dev up0", true),
            ("address delete 192.0.2.9/24 dev up0", false),
            ("address add 192.0.2.9/24 dev up0\naddress add 10.8.0.1/32 dev lo", false),
            ("route add default via 192.0.2.1 dev up0 src 10.8.0.1", true),
            ("address delete 10.8.0.1/32 dev lo", false),
            ("route add ::/0 dev up0 table 77", false),
        ] {
            node.changes(change)?;
            let link = node.link("up0")?;
            ensure!(link.main_default_routes.v4 == leaves, "after `{change}`: {link:?}");
        }
        let link = node.link("up0")?;
        ensure!(link.default_routes.v6 && !link.main_default_routes.v6, "{link:?}");
        Ok(())
    })
}

#[test]
fn rules_of_policy_routing_are_followed() -> Result<()> {
    watched(|mut node| {
        for (change, expected) in [
            ("link set lo up", false),
            ("rule add from 10.1.0.0/16 lookup 100", true),
            ("rule delete from 10.1.0.0/16 lookup 100", false),
        ] {
            node.changes(change)?;
            let Node { runtime, netlink } = &mut node;
            let found = runtime.block_on(netlink.has_rules_for_sources())?;
            ensure!(found == expected, "after `{change}`");
        }
        Ok(())
    })
}

#[test]
fn all_is_read_again_after_notifications_were_lost() -> Result<()> {
    watched(|mut node| {
        ip("route add default via 192.0.2.1 dev up0")?;
        // Nobody takes these: the socket's buffer is full before the last ones.
        batch(&many_routes("add", 20))?;
        ip("route delete default")?;
        node.settle()?;
        ensure!(!node.link("up0")?.main_default_routes.v4);
        let read = node.netlink.routes_read();
        batch(&many_routes("delete", 20))?;
        node.settle()?;
        node.link("up0")?;
        let again = node.netlink.routes_read() - read;
        ensure!(again > u64::from(ROUTES), "only {again} were read after the loss");
        Ok(())
    })
}

/// A network namespace with an uplink and many routes, of which everything was read once.
struct Node {
    runtime: Runtime,
    netlink: Netlink,
}

fn watched(what: impl FnOnce(Node) -> Result<()> + Send) -> Result<()> {
    in_own_namespace(|| {
        batch("link add up0 type veth peer name up1\nlink set up1 up\nlink set up0 up\n")?;
        batch("address add 192.0.2.9/24 dev up0")?;
        batch(&many_routes("add", 10))?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let netlink = runtime.block_on(async { Netlink::open() })?;
        let mut node = Node { runtime, netlink };
        let Node { runtime, netlink } = &mut node;
        ensure!(!runtime.block_on(netlink.has_rules_for_sources())?);
        node.link("up0")?;
        what(node)
    })
}

impl Node {
    /// Carries out `ip` commands and waits until they are noticed.
    fn changes(&mut self, commands: &str) -> Result<()> {
        batch(commands)?;
        self.settle()
    }

    /// Waits for notifications until none comes.
    fn settle(&mut self) -> Result<()> {
        const QUIET: Duration = Duration::from_millis(300);
        let Self { runtime, netlink } = self;
        while let Ok(changed) = runtime.block_on(async { timeout(QUIET, netlink.changed()).await })
        {
            changed?;
        }
        Ok(())
    }

    fn link(&mut self, name: &str) -> Result<Link> {
        let links = self.runtime.block_on(self.netlink.links())?;
        links.into_iter().find(|link| link.name == name).with_context(|| format!("no {name}"))
    }
}

fn many_routes(verb: &str, second: u8) -> String {
    (0..ROUTES).fold(String::new(), |lines, number| {
        let (third, fourth) = (number >> 8, number & 0xff);
        lines + &format!("route {verb} 10.{second}.{third}.{fourth}/32 dev up0\n")
    })
}

/// Carries out lines of `ip` commands by one process.
fn batch(lines: &str) -> Result<()> {
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    ip.stdin.take().context("no input")?.write_all(lines.as_bytes())?;
    ensure!(ip.wait()?.success(), "`ip -batch` failed");
    Ok(())
}
