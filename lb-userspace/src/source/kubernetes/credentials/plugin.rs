//! The command that a kubeconfig names under `exec`: it writes a token or a certificate, often one that it
//! got from another server. kube runs such a command, too, but waits for it as long as it takes; here it has
//! its time, and is killed with all that it has started.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::{self, Timestamp};
use kube::config::{AuthInfo, ExecConfig, ExecInteractiveMode};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

/// Why a plugin gave no credentials.
#[derive(thiserror::Error, Debug)]
pub enum PluginError {
    /// It is not there, or cannot be run.
    #[error("cannot be started ({cause}){hint}")]
    Start {
        /// What the system says.
        cause: io::Error,
        /// What the kubeconfig says of how to install it.
        hint: String,
    },
    /// It was killed.
    #[error("did not end within {} s and was killed", .0.as_secs_f32())]
    Late(Duration),
    /// It ended without success.
    #[error("failed ({status}{said})")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The last line that it wrote to standard error.
        said: String,
    },
    /// What it wrote is no `ExecCredential`.
    #[error("wrote no ExecCredential ({0})")]
    Unreadable(String),
    /// There is none.
    #[error("has no command")]
    Unnamed,
    /// There is nothing in it.
    #[error("wrote an ExecCredential with neither a token nor a certificate and its key")]
    Empty,
}

/// The plugin that `user` names, unless it has credentials that kube would use first.
pub(super) fn of(user: &AuthInfo) -> Option<&ExecConfig> {
    let has_others = user.auth_provider.is_some()
        || user.token.is_some()
        || user.token_file.is_some()
        || (user.username.is_some() && user.password.is_some());
    user.exec.as_ref().filter(|_| !has_others)
}

/// Runs the plugin and gives `user` what it writes, in the plugin's place. Returns when that expires.
pub(super) async fn run(
    exec: &ExecConfig,
    user: &mut AuthInfo,
    limit: Duration,
) -> Result<Option<Timestamp>, PluginError> {
    if name(exec).is_empty() {
        return Err(PluginError::Unnamed);
    }
    let Output { status, stdout, stderr } = output(exec, limit).await?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        let said = said.trim().lines().next_back().map_or_else(String::new, |line| {
            format!(": {}", line.chars().take(200).collect::<String>())
        });
        return Err(PluginError::Failed { status, said });
    }
    let unreadable = |error: String| PluginError::Unreadable(error);
    let written: ExecCredential =
        serde_saphyr::from_slice(&stdout).map_err(|error| unreadable(error.to_string()))?;
    let Status { token, client_certificate_data, client_key_data, expiration_timestamp } =
        written.status.ok_or(PluginError::Empty)?;
    let expires = expiration_timestamp.map(|time| time.parse()).transpose();
    let expires = expires.map_err(|error: jiff::Error| unreadable(error.to_string()))?;
    match (client_certificate_data, client_key_data, token) {
        (Some(certificate), Some(key), _) => {
            user.client_certificate_data = Some(base64(certificate)?);
            user.client_key_data = Some(base64(key)?.into());
        }
        (_, _, Some(token)) => user.token = Some(token.into()),
        _ => return Err(PluginError::Empty),
    }
    user.exec = None;
    Ok(expires)
}

/// What a plugin writes, as far as it is used.
#[derive(Deserialize)]
struct ExecCredential {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// As a kubeconfig has it.
fn base64(pem: String) -> Result<String, PluginError> {
    let text = serde_json::to_value(ByteString(pem.into_bytes()));
    text.and_then(serde_json::from_value)
        .map_err(|error| PluginError::Unreadable(error.to_string()))
}

async fn output(exec: &ExecConfig, limit: Duration) -> Result<Output, PluginError> {
    let is_interactive =
        exec.interactive_mode != Some(ExecInteractiveMode::Never) && io::stdin().is_terminal();
    let mut command = command(exec, is_interactive);
    if is_interactive {
        command.stdin(Stdio::inherit()).stderr(Stdio::inherit());
    } else {
        // A group in the background may not read from a terminal.
        command.stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    }
    let child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().map_err(|cause| {
        let hint = exec.install_hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
        PluginError::Start { cause, hint }
    })?;
    let mut group = Group(child.id().filter(|_| !is_interactive));
    let output = timeout(limit, child.wait_with_output()).await;
    let output = output.map_err(|_elapsed| PluginError::Late(limit))?;
    group.0 = None;
    output.map_err(|cause| PluginError::Start { cause, hint: String::new() })
}

/// The processes of a plugin, which are killed with this value.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It may have ended by itself.
            let _: nix::Result<()> = killpg(Pid::from_raw(leader.cast_signed()), Signal::SIGKILL);
        }
    }
}

/// The command with its environment, as client-go makes it.
fn command(exec: &ExecConfig, is_interactive: bool) -> Command {
    let mut command = Command::new(name(exec));
    command.args(exec.args.iter().flatten());
    for variable in exec.env.iter().flatten() {
        if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
            command.env::<&OsStr, &OsStr>(name.as_ref(), value.as_ref());
        }
    }
    let mut info = json!({
        "apiVersion": exec.api_version, "kind": "ExecCredential",
        "spec": {"interactive": is_interactive},
    });
    if exec.provide_cluster_info {
        info["spec"]["cluster"] = json!(exec.cluster);
    }
    command.env("KUBERNETES_EXEC_INFO", info.to_string());
    command
}

/// The command's name, for messages; its arguments may hold secrets. Empty where the kubeconfig names none, which
/// [`run`] refuses.
pub(super) fn name(exec: &ExecConfig) -> &str {
    exec.command.as_deref().unwrap_or("")
}
