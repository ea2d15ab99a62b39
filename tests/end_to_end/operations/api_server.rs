//! What the agent says and does while something is wrong with its API server.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_tests::agent::binary;
use weir_tests::lab::{Lab, Shape};
use weir_tests::requires;
use weir_tests::wait::until;

/// Connections that fail before the log is read: each of the four watches tries some times.
const TRIES: usize = 16;

/// `weir run` with a kubeconfig, and its log. It is killed when it is dropped.
struct Run {
    process: Child,
    log: PathBuf,
}

impl Run {
    fn start(lab: &Lab, kubeconfig: &str, environment: &[(&str, &str)]) -> Result<Self> {
        let (path, log) = (lab.folder().join("kubeconfig"), lab.folder().join("log"));
        fs::write(&path, kubeconfig)?;
        let mut weir = lab.node1.namespace.command(binary()?)?;
        weir.args(["run", "--node-name", "node1", "--socket-balancing", "off", "--bpffs"]);
        weir.arg(&lab.node1.bpffs).arg("--kubeconfig").arg(&path);
        weir.envs(environment.iter().copied()).env("NO_COLOR", "1");
        let process = weir.stderr(Stdio::from(File::create(&log)?)).spawn()?;
        Ok(Self { process, log })
    }

    /// The lines of its log with `words` in them, so far.
    fn lines(&self, words: &str) -> Result<Vec<String>> {
        let log = fs::read_to_string(&self.log)?;
        Ok(log.lines().filter(|line| line.contains(words)).map(String::from).collect())
    }

    /// Ends it by SIGTERM.
    fn end(mut self) -> Result<()> {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM)?;
        until("weir ends", Duration::from_secs(5), || {
            let status = self.process.try_wait()?.context("it runs")?;
            ensure!(status.success(), "{status}");
            Ok(())
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn kubeconfig(server: &str, user: &str) -> String {
    format!(
        "clusters: [{{name: c, cluster: {{server: '{server}'}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {user}}}]
current-context: c
"
    )
}

/// A server in node1's namespace that closes every connection, and how many there were.
fn closing_server(lab: &Lab) -> Result<(String, Arc<AtomicUsize>)> {
    let (address, count) = closing_server_at(lab, "127.0.0.1:0")?;
    Ok((format!("http://{address}"), count))
}

fn closing_server_at(lab: &Lab, address: &str) -> Result<(SocketAddr, Arc<AtomicUsize>)> {
    let listener = lab.node1.namespace.run(|| Ok(TcpListener::bind(address)?))?;
    let address = listener.local_addr()?;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok((address, count))
}

#[test]
fn an_api_server_that_is_away_is_a_line_of_the_log_and_not_one_a_request() -> Result<()> {
    let Some(lab) = requires::lab(Shape::default())? else {
        return Ok(());
    };
    let (server, count) = closing_server(&lab)?;
    let tried = |run: &Run| {
        let before = count.load(Ordering::Relaxed);
        until("the watches try again and again", Duration::from_secs(60), || {
            let tries = count.load(Ordering::Relaxed) - before;
            ensure!(tries >= TRIES, "{tries} times. Its log: {:?}", run.lines("")?);
            Ok(())
        })
    };
    let run = Run::start(&lab, &kubeconfig(&server, "{}"), &[])?;
    tried(&run)?;
    let about_it = run.lines("no response")?;
    ensure!((1..=3).contains(&about_it.len()), "{about_it:#?}");
    ensure!(run.lines("failed with")?.is_empty(), "{:#?}", run.lines("")?);
    run.end()?;
    let run =
        Run::start(&lab, &kubeconfig(&server, "{}"), &[("WEIR_LOG", "info,kube_client=error")])?;
    tried(&run)?;
    ensure!(!run.lines("failed with")?.is_empty(), "who asks for it gets it");
    run.end()
}

/// The command that the kubeconfig names for credentials worked at the start, and is asked again.
#[test]
fn a_signal_ends_weir_and_a_command_that_hangs_as_it_renews_credentials() -> Result<()> {
    let Some(lab) = requires::lab(Shape::default())? else {
        return Ok(());
    };
    let (server, _) = closing_server(&lab)?;
    let (script, hangs) = (lab.folder().join("get-token"), lab.folder().join("hangs"));
    let token =
        "{\"status\": {\"token\": \"t\", \"expirationTimestamp\": \"2020-01-01T00:00:00Z\"}}";
    let hangs = hangs.display();
    fs::write(
        &script,
        format!(
            "test -e {hangs} && {{ echo $$ > {hangs}; sleep 1000; }}; touch {hangs}; echo '{token}'"
        ),
    )?;
    let exec = format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, args: ['{}'], interactiveMode: Never}}}}",
        script.display()
    );
    let run = Run::start(&lab, &kubeconfig(&server, &exec), &[])?;
    let process = until("the command is run again", Duration::from_secs(60), || {
        let id: u32 = fs::read_to_string(lab.folder().join("hangs"))?.trim().parse()?;
        Ok(format!("/proc/{id}/stat"))
    })?;
    run.end()?;
    until("the command has ended, too", Duration::from_secs(5), || {
        // It may be that nobody has noticed its end yet.
        let stat = fs::read_to_string(&process).unwrap_or_default();
        ensure!(stat.is_empty() || stat.contains(") Z "), "it runs: {stat}");
        Ok(())
    })
}

#[test]
fn a_proxy_of_the_environment_is_used_unless_no_proxy_has_the_server() -> Result<()> {
    let Some(lab) = requires::lab(Shape::default())? else {
        return Ok(());
    };
    let (server, at_server) = closing_server_at(&lab, "127.0.0.2:0")?;
    let (proxy, at_proxy) = closing_server_at(&lab, "127.0.0.1:0")?;
    let (kubeconfig, proxy) =
        (kubeconfig(&format!("https://{server}"), "{}"), format!("http://{proxy}"));
    let connected = |count: &AtomicUsize| {
        until("the watches connect", Duration::from_secs(60), || {
            ensure!(count.load(Ordering::Relaxed) > 0, "not yet");
            Ok(())
        })
    };
    let run = Run::start(&lab, &kubeconfig, &[("HTTPS_PROXY", &proxy), ("NO_PROXY", "192.0.2.1")])?;
    connected(&at_proxy)?;
    run.end()?;
    ensure!(at_server.load(Ordering::Relaxed) == 0, "the proxy is asked alone");
    let before = at_proxy.load(Ordering::Relaxed);
    let run = Run::start(&lab, &kubeconfig, &[("HTTPS_PROXY", &proxy), ("NO_PROXY", "127.0.0.2")])?;
    connected(&at_server)?;
    run.end()?;
    ensure!(at_proxy.load(Ordering::Relaxed) == before, "the server is called itself");
    Ok(())
}
