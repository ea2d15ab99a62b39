//! Flows of every kind, which go on while everything else changes.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use weir_tests::lab::{Lab, Namespace};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Client, ECHO_PORT, HTTP_PORT, Tally, tick};
use weir_tests::wait::SLOWNESS;

/// The time between the datagrams of a client.
const BETWEEN_DATAGRAMS: Duration = Duration::from_millis(1).saturating_mul(SLOWNESS * SLOWNESS);

/// The time between rounds, in each of which each connection of a client is used, and a new one begins.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(25).saturating_mul(SLOWNESS);

/// Connections of a client that stay until the end, and such that end when others have begun.
const STEADY: usize = 3;
const RECENT: usize = 3;

/// A connection that takes as long has lost a packet, or waited for a busy processor.
const SLOW: Duration = Duration::from_millis(900);

/// Who speaks to which frontend.
#[derive(Clone, Debug)]
pub struct Talk {
    from: &'static str,
    client: Namespace,
    frontend: SocketAddr,
}

impl Talk {
    /// From a pod and from node1 itself by ClusterIP, and from outside by node port to backends of node1 and of node2;
    /// in both families. `offers` are the Services with backends of node1, of node2, and of both.
    pub fn all(lab: &Lab, [local, remote, both]: [Offer<'_>; 3]) -> Vec<Self> {
        let of_family = |family| {
            let node = lab.node1.addresses.of(family);
            let cluster_ip = (both.cluster_ips().of(family), Offer::PORT).into();
            let pod = (("a pod"), &lab.node1.pods[1].namespace, cluster_ip);
            let to_local = ("outside", &lab.client, (node, local.node_port()).into());
            let to_remote = ("outside", &lab.client, (node, remote.node_port()).into());
            // Where there is no cgroup v2, nothing is balanced for processes.
            let host = ("node1", &lab.node1.namespace, cluster_ip);
            let host = lab.node1.cgroup.is_some().then_some(host);
            [pod, to_local, to_remote].into_iter().chain(host)
        };
        let talks = Family::ALL.into_iter().flat_map(of_family);
        talks
            .map(|(from, client, frontend)| Self { from, client: client.clone(), frontend })
            .collect()
    }

    /// The same to a pod of node1 and one of node2 themselves.
    pub fn to_pods(lab: &Lab) -> Vec<Self> {
        let mut talks = Vec::new();
        for (family, pod) in
            Family::ALL.into_iter().flat_map(|f| [(f, &lab.node1.pods[0]), (f, &lab.node2.pods[0])])
        {
            for (from, client) in [
                ("a pod", &lab.node1.pods[1].namespace),
                ("outside", &lab.client),
                ("node1", &lab.node1.namespace),
            ] {
                let frontend = (pod.addresses.of(family), HTTP_PORT).into();
                talks.push(Self { from, client: client.clone(), frontend });
            }
        }
        talks
    }
}

impl Talk {
    /// Pods take datagrams at another port than connections.
    fn datagrams_to(&self) -> SocketAddr {
        let port = self.frontend.port();
        let port = if port == HTTP_PORT { ECHO_PORT } else { port };
        SocketAddr::new(self.frontend.ip(), port)
    }
}

impl fmt::Display for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.from, self.frontend)
    }
}

/// What became of the flows of a [`Talk`].
#[derive(Debug, Default)]
pub struct Report {
    /// Its datagrams, of one flow.
    pub tally: Tally,
    /// Requests over connections that were there already.
    pub exchanges: u64,
    /// New connections.
    pub connections: u64,
    /// Those of them that took [`SLOW`] and longer.
    pub slow: Vec<Duration>,
}

/// All flows at work. They end when they are dropped, or told to.
#[derive(Debug)]
pub struct Traffic {
    over: Arc<AtomicBool>,
    talks: Vec<(Talk, JoinHandle<Result<Report>>)>,
}

impl Traffic {
    /// Begins all flows of `talks`.
    pub fn start(talks: Vec<Talk>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let start = |talk: Talk| {
            let (own, over) = (talk.clone(), Arc::clone(&over));
            (talk, thread::spawn(move || talk_until(&own, &over)))
        };
        let talks = talks.into_iter().map(start).collect();
        Self { over, talks }
    }

    /// Fails if one of them has.
    pub fn check_going_on(&mut self) -> Result<()> {
        match self.talks.iter().position(|(_, thread)| thread.is_finished()) {
            None => Ok(()),
            Some(finished) => {
                let (talk, thread) = self.talks.remove(finished);
                joined(thread).with_context(|| talk.to_string()).map(drop)
            }
        }
    }

    /// Ends all of them, and checks that none was broken and nothing lost.
    pub fn end(mut self) -> Result<Vec<(Talk, Report)>> {
        self.over.store(true, Ordering::Relaxed);
        let talks = std::mem::take(&mut self.talks).into_iter();
        let ended = talks.map(|(talk, thread)| {
            let report = joined(thread).with_context(|| talk.to_string())?;
            println!("{talk}: {report}");
            Ok((talk, report))
        });
        // All of them are to be seen, whatever became of the first.
        ended.collect::<Vec<Result<_>>>().into_iter().collect()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.talks.drain(..).for_each(|(_, thread)| drop(thread.join()));
    }
}

impl Report {
    /// Fails if a datagram was lost, or their flow moved.
    pub fn check(&self) -> Result<()> {
        ensure!(self.tally.lost() == 0, "datagrams were lost: {self}");
        ensure!(self.tally.responses.len() == 1, "a flow moved: {self}");
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tally, exchanges, connections, slow } = self;
        let (sent, lost, pods) = (tally.sent, tally.lost(), &tally.responses);
        write!(
            f,
            "{lost} of {sent} datagrams lost ({pods:?}); {exchanges} requests; {connections} new connections, of which \
             slow: {slow:?}"
        )
    }
}

fn joined<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn talk_until(talk: &Talk, over: &AtomicBool) -> Result<Report> {
    let done = || over.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let ticking =
            scope.spawn(|| tick(&talk.client, talk.datagrams_to(), BETWEEN_DATAGRAMS, done));
        let report = talk.client.run(|| keep_connections_busy(talk.frontend, done));
        if report.is_err() {
            over.store(true, Ordering::Relaxed);
        }
        let tally = ticking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(Report { tally: tally?, ..report? })
    })
}

/// A connection, and the pod that served it first.
type Served = (Client, String);

fn keep_connections_busy(frontend: SocketAddr, done: impl Fn() -> bool) -> Result<Report> {
    let mut report = Report::default();
    let steady: Result<Vec<Served>> = (0..STEADY).map(|_| connect(frontend)).collect();
    let (mut steady, mut recent) = (steady?, VecDeque::new());
    while !done() {
        let round = Instant::now();
        for (connection, pod) in steady.iter_mut().chain(&mut recent) {
            let response = connection.exchange(2000).context("a connection was broken")?;
            ensure!(response.pod == *pod, "{pod}'s connection went on at {}", response.pod);
            report.exchanges += 1;
        }
        let started = Instant::now();
        recent.push_back(connect(frontend).context("a new connection failed")?);
        report.slow.extend(Some(started.elapsed()).filter(|took| *took >= SLOW));
        report.connections += 1;
        if recent.len() > RECENT {
            recent.pop_front();
        }
        thread::sleep(BETWEEN_ROUNDS.saturating_sub(round.elapsed()));
    }
    Ok(report)
}

fn connect(frontend: SocketAddr) -> Result<Served> {
    let mut connection = Client::connect_here(frontend)?;
    let pod = connection.exchange(1)?.pod;
    Ok((connection, pod))
}
