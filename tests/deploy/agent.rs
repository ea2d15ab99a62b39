//! How the agent is started: by arguments it takes, on every node, and able to reach the API server
//! before there is a Service.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lb_userspace::cli::Cli;

use crate::objects::Objects;
use crate::rendered::{ONCE, RUN, all};

#[test]
fn weir_takes_the_arguments_it_is_given() -> Result<()> {
    for case in all() {
        let objects = Objects::of(case)?;
        let arguments = objects.weir()?.args.clone().context("no arguments")?;
        let line = ["weir".to_owned()].into_iter().chain(arguments);
        Cli::try_parse_from(line).with_context(|| format!("in {}", case.name))?;
    }
    Ok(())
}

#[test]
fn the_agent_gets_its_node_s_name_and_an_api_server_that_needs_no_service() -> Result<()> {
    for case in RUN {
        let objects = Objects::of(case)?;
        let weir = objects.weir()?;
        ensure!(
            weir.args.iter().flatten().any(|word| word == "--node-name=$(NODE_NAME)"),
            "{}: {:?}",
            case.name,
            weir.args
        );
        let node = weir.env.iter().flatten().find(|variable| variable.name == "NODE_NAME");
        let source = node.and_then(|variable| variable.value_from.as_ref()?.field_ref.as_ref());
        ensure!(source.is_some_and(|field| field.field_path == "spec.nodeName"), "{}", case.name);
        let host = variable(&objects, weir, "KUBERNETES_SERVICE_HOST").unwrap_or_default();
        ensure!(["192.0.2.10", "api.example.net"].contains(&host), "{}: {host}", case.name);
        let port = variable(&objects, weir, "KUBERNETES_SERVICE_PORT").unwrap_or_default();
        ensure!(["6443", "443"].contains(&port), "{}: {port}", case.name);
        // The cluster's own DNS is a Service too.
        ensure!(objects.pod()?.dns_policy.as_deref() == Some("Default"), "{}", case.name);
    }
    Ok(())
}

#[test]
fn every_verb_finds_the_pins_where_the_node_s_bpffs_is_mounted() -> Result<()> {
    for case in all() {
        let objects = Objects::of(case)?;
        let weir = objects.weir()?;
        let folder = variable(&objects, weir, "WEIR_BPFFS");
        let mounts = weir.volume_mounts.iter().flatten();
        let mounted: Vec<_> = mounts.filter(|mount| mount.name == "bpffs").collect();
        ensure!(mounted.len() == 1, "{}: {mounted:?}", case.name);
        ensure!(folder == Some(&mounted[0].mount_path), "{}: {folder:?}", case.name);
    }
    Ok(())
}

#[test]
fn the_agent_attaches_to_the_node_s_control_groups_where_they_are_mounted_for_it() -> Result<()> {
    for case in all() {
        let objects = Objects::of(case)?;
        let weir = objects.weir()?;
        let mounts = weir.volume_mounts.iter().flatten();
        let mount = mounts.into_iter().find(|mount| mount.name == "cgroup");
        ensure!(mount.is_some() == case.hierarchy().is_some(), "{}: {mount:?}", case.name);
        let folder = mount.map(|mount| mount.mount_path.as_str());
        ensure!(argument(weir, "--cgroup=") == folder, "{}: {:?}", case.name, weir.args);
        // To attach programs the directory is opened, and nothing in it written to.
        ensure!(mount.is_none_or(|mount| mount.read_only == Some(true)), "{}", case.name);
    }
    for case in RUN {
        let objects = Objects::of(case)?;
        let wanted = match case.name {
            "helm-off.yaml" => "off",
            "helm-everything.yaml" => "all",
            _ => "host",
        };
        let given = argument(objects.weir()?, "--socket-balancing=");
        ensure!(given == Some(wanted), "{}: {given:?}", case.name);
    }
    Ok(())
}

#[test]
fn the_kubelet_asks_for_life_and_readiness_where_the_agent_answers() -> Result<()> {
    for case in RUN {
        let objects = Objects::of(case)?;
        let weir = objects.weir()?;
        let bound = argument(weir, "--healthz-bind-address=").context("no address")?;
        let (address, port) = bound.rsplit_once(':').context("no port")?;
        let host = match address.trim_matches(['[', ']']) {
            "0.0.0.0" | "::" => None,
            address => Some(address.to_owned()),
        };
        for (probe, path) in [(&weir.liveness_probe, "/livez"), (&weir.readiness_probe, "/readyz")]
        {
            let asked = HTTPGetAction {
                host: host.clone(),
                path: Some(path.into()),
                port: IntOrString::Int(port.parse()?),
                ..HTTPGetAction::default()
            };
            let given = probe.as_ref().and_then(|Probe { http_get, .. }| http_get.as_ref());
            ensure!(given == Some(&asked), "{}: {given:?}", case.name);
        }
    }
    Ok(())
}

#[test]
fn weir_runs_on_every_linux_node_and_is_among_the_last_to_go() -> Result<()> {
    for case in all().filter(|case| case.name != "helm-everything.yaml") {
        let objects = Objects::of(case)?;
        let pod = objects.pod()?;
        ensure!(
            pod.priority_class_name.as_deref() == Some("system-node-critical"),
            "{}: {:?}",
            case.name,
            pod.priority_class_name
        );
        let tolerates_all = pod.tolerations.iter().flatten().any(|toleration| {
            toleration.operator.as_deref() == Some("Exists")
                && toleration.key.is_none()
                && toleration.effect.is_none()
        });
        ensure!(tolerates_all, "{}: {:?}", case.name, pod.tolerations);
        let mut nodes = pod.node_selector.clone().unwrap_or_default();
        ensure!(nodes.remove("kubernetes.io/os").as_deref() == Some("linux"), "{}", case.name);
        let labelled = case.name == "kustomize-labelled-nodes.yaml";
        let left = nodes.into_iter().collect::<Vec<_>>();
        let wanted = labelled.then(|| ("service-proxy".to_owned(), "weir".to_owned()));
        ensure!(left == Vec::from_iter(wanted), "{}: {left:?}", case.name);
    }
    Ok(())
}

#[test]
fn an_agent_that_is_replaced_is_given_nothing_to_do_before_it_ends() -> Result<()> {
    for case in RUN {
        let objects = Objects::of(case)?;
        let set = objects.daemon_set.spec.as_ref().context("a DaemonSet without spec")?;
        let strategy = set.update_strategy.as_ref().and_then(|given| given.type_.as_deref());
        let wanted = if case.name == "helm-everything.yaml" { "OnDelete" } else { "RollingUpdate" };
        ensure!(strategy == Some(wanted), "{}: {strategy:?}", case.name);
        ensure!(objects.weir()?.lifecycle.is_none(), "{}", case.name);
    }
    Ok(())
}

#[test]
fn a_verb_is_carried_out_before_its_pod_is_ready() -> Result<()> {
    for case in ONCE {
        let objects = Objects::of(case)?;
        let pod = objects.pod()?;
        let first: Vec<_> = pod.init_containers.iter().flatten().collect();
        ensure!(first == [objects.weir()?], "{}: {first:#?}", case.name);
        ensure!(case.name.contains(&format!("-{}.", first[0].name)), "{}", case.name);
        ensure!(pod.containers.len() == 1, "{}", case.name);
    }
    Ok(())
}

/// What follows `name` in the argument that begins so.
fn argument<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container.args.iter().flatten().find_map(|word| word.strip_prefix(name))
}

/// What a variable is set to, by the container or by a ConfigMap it reads.
fn variable<'a>(objects: &'a Objects, container: &'a Container, name: &str) -> Option<&'a str> {
    let own = container.env.iter().flatten().find(|variable| variable.name == name);
    let read = || {
        let mut sources = container.env_from.iter().flatten();
        sources.find_map(|source| {
            let map = &source.config_map_ref.as_ref()?.name;
            let maps = &mut objects.configuration.iter();
            let map = maps.find(|other| other.metadata.name.as_ref() == Some(map))?;
            map.data.as_ref()?.get(name)
        })
    };
    own.and_then(|variable| variable.value.as_ref()).or_else(read).map(String::as_str)
}
