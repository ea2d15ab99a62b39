//! Rendering: each case, its file, and whether they agree.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use weir_tests::requires;

/// One way to install.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What renders it.
    engine: Engine,
    /// The file of values, or the folder with the kustomization.
    input: &'static str,
    /// The name of its file in `rendered/`.
    pub name: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Engine {
    Helm,
    Notes,
    Kustomize,
}

const fn case(engine: Engine, input: &'static str, name: &'static str) -> Case {
    Case { engine, input, name }
}

/// Those in which the agent runs.
pub const RUN: [Case; 6] = [
    case(Engine::Helm, "inputs/helm-run.yaml", "helm-run.yaml"),
    case(Engine::Helm, "inputs/helm-everything.yaml", "helm-everything.yaml"),
    case(Engine::Helm, "inputs/helm-off.yaml", "helm-off.yaml"),
    case(Engine::Kustomize, "overlays/instead-of-kube-proxy", "kustomize-instead.yaml"),
    case(Engine::Kustomize, "overlays/labelled-nodes", "kustomize-labelled-nodes.yaml"),
    case(Engine::Kustomize, "inputs/mount-bpffs", "kustomize-mount-bpffs.yaml"),
];

/// Those in which a verb is carried out once on every node.
pub const ONCE: [Case; 4] = [
    case(Engine::Helm, "inputs/helm-check.yaml", "helm-check.yaml"),
    case(Engine::Helm, "inputs/helm-detach.yaml", "helm-detach.yaml"),
    case(Engine::Kustomize, "overlays/check", "kustomize-check.yaml"),
    case(Engine::Kustomize, "overlays/detach", "kustomize-detach.yaml"),
];

/// The notes that Helm prints.
const NOTES: [Case; 3] = [
    case(Engine::Notes, "inputs/helm-run.yaml", "notes-run.txt"),
    case(Engine::Notes, "inputs/helm-check.yaml", "notes-check.txt"),
    case(Engine::Notes, "inputs/helm-detach.yaml", "notes-detach.txt"),
];

/// Those that render objects.
pub fn all() -> impl Iterator<Item = Case> {
    RUN.into_iter().chain(ONCE)
}

impl Case {
    /// Where the node has the hierarchy of control groups that the agent is shown; `None` where it
    /// attaches to none.
    pub fn hierarchy(&self) -> Option<&'static str> {
        match self.name {
            "helm-off.yaml" => None,
            "helm-everything.yaml" => Some("/sys/fs/cgroup/unified"),
            name => RUN.iter().any(|run| run.name == name).then_some("/sys/fs/cgroup"),
        }
    }

    /// What is kept in `rendered/`.
    pub fn kept(&self) -> Result<String> {
        let file = self.file();
        fs::read_to_string(&file).with_context(|| format!("{} is missing", file.display()))
    }

    fn file(&self) -> PathBuf {
        folder().join("rendered").join(self.name)
    }

    fn render(&self, renderer: &Path) -> Result<String> {
        let input = match self.input.strip_prefix("overlays/") {
            Some(overlay) => deploy().join("kustomize/overlays").join(overlay),
            None => folder().join(self.input),
        };
        let mut command = Command::new(renderer);
        match self.engine {
            Engine::Kustomize => command.arg("kustomize").arg(input),
            Engine::Helm => chart(&mut command, "helm").arg(input),
            Engine::Notes => chart(&mut command, "notes").arg(input),
        };
        output(&mut command)
    }
}

#[test]
fn what_is_kept_is_what_helm_and_kustomize_render() -> Result<()> {
    let Some(renderer) = renderer() else {
        return Ok(());
    };
    for case in all().chain(NOTES) {
        let rendered = case.render(&renderer)?;
        if env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(case.file(), rendered)?;
        } else {
            ensure!(
                case.kept()? == rendered,
                "{} differs from what is rendered now: run the test with UPDATE_EXPECT=1 and look \
                 at the difference",
                case.name
            );
        }
    }
    Ok(())
}

#[test]
fn the_chart_refuses_values_that_cannot_work_and_says_what_to_give() -> Result<()> {
    let Some(renderer) = renderer() else {
        return Ok(());
    };
    for (values, hint) in [
        ("{}", "--set k8sServiceHost=ADDRESS"),
        ("action: remove", "value must be one of 'run', 'check', 'detach'"),
        ("{k8sServiceHost: a, image: {tagg: latest}}", "additional properties 'tagg'"),
        ("{k8sServiceHost: a, healthzBindAddress: '10256'}", "does not match pattern"),
        ("{k8sServiceHost: a, socketBalancing: pods}", "value must be one of 'host', 'all', 'off'"),
        ("{k8sServiceHost: a, cgroup: sys/fs/cgroup}", "does not match pattern"),
    ] {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(&file, values)?;
        let mut command = Command::new(&renderer);
        let refused = output(chart(&mut command, "helm").arg(file.path()));
        let Err(error) = refused else {
            bail!("{values} is taken");
        };
        ensure!(format!("{error:#}").contains(hint), "{values}: {error:#}");
    }
    Ok(())
}

#[test]
fn the_chart_the_kustomization_the_image_and_the_agent_have_one_version() -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let chart = fs::read_to_string(deploy().join("helm/weir/Chart.yaml"))?;
    let base = fs::read_to_string(deploy().join("kustomize/base/kustomization.yaml"))?;
    let image = fs::read_to_string(deploy().join("Dockerfile"))?;
    for (text, line) in [
        (&image, format!("\nARG VERSION={version}\n")),
        (&chart, format!("\nversion: {version}\n")),
        (&chart, format!("\nappVersion: {version}\n")),
        (&base, format!("app.kubernetes.io/version: {version}\n")),
        (&base, format!("newTag: {version}\n")),
    ] {
        ensure!(text.contains(&line), "no line `{}` in:\n{text}", line.trim());
    }
    Ok(())
}

/// The renderer, or `None` where there is none: the test is then skipped.
fn renderer() -> Option<PathBuf> {
    let renderer = env::var_os("WEIR_RENDER").map(PathBuf::from);
    if renderer.is_none() {
        requires::skip("needs the renderer: install Go and run `cargo xtask test`");
    }
    renderer
}

fn chart<'a>(command: &'a mut Command, what: &str) -> &'a mut Command {
    command.arg(what).arg(deploy().join("helm/weir")).arg("kube-system")
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}
