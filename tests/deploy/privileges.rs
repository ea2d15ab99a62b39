//! What an install may do: on the node and in the cluster, to the letter.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Capabilities, Container, SELinuxOptions, SecurityContext};
use k8s_openapi::api::rbac::v1::PolicyRule;
use weir_tests::container::CAPABILITIES;

use crate::objects::Objects;
use crate::rendered::all;

#[test]
fn weir_has_three_capabilities_and_a_root_it_cannot_write_to() -> Result<()> {
    let wanted = SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add: Some(CAPABILITIES.iter().map(|(name, _)| (*name).to_owned()).collect()),
            drop: Some(vec!["ALL".into()]),
        }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    };
    for case in all() {
        let objects = Objects::of(case)?;
        let mut given = security(objects.weir()?)?.clone();
        if case.name == "helm-everything.yaml" {
            let labels = given.se_linux_options.take();
            let type_ = Some("spc_t".to_owned());
            ensure!(labels == Some(SELinuxOptions { type_, ..SELinuxOptions::default() }));
        }
        ensure!(given == wanted, "{}: {given:#?}", case.name);
        let pod = objects.pod()?.security_context.as_ref().context("nothing about pods")?;
        let filter = pod.seccomp_profile.as_ref().map(|profile| profile.type_.as_str());
        ensure!(filter == Some("RuntimeDefault"), "{}: system calls {filter:?}", case.name);
        ensure!(pod.run_as_user == Some(0), "{}: user {:?}", case.name, pod.run_as_user);
    }
    Ok(())
}

#[test]
fn no_container_is_privileged_but_the_one_that_mounts_a_bpffs_where_that_is_asked_for() -> Result<()>
{
    for case in all() {
        let objects = Objects::of(case)?;
        let mut privileged = Vec::new();
        for container in objects.containers()? {
            let security = security(container)?;
            if security.privileged == Some(true) {
                privileged.push(container.name.as_str());
            } else {
                ensure!(security.allow_privilege_escalation == Some(false), "{}", container.name);
            }
            ensure!(security.read_only_root_filesystem == Some(true), "{}", container.name);
        }
        let mounts = ["helm-everything.yaml", "kustomize-mount-bpffs.yaml"].contains(&case.name);
        let wanted: &[&str] = if mounts { &["mount-bpffs"] } else { &[] };
        ensure!(privileged == wanted, "{}: {privileged:?}", case.name);
    }
    Ok(())
}

#[test]
fn of_the_node_weir_sees_its_network_bpffs_control_groups_and_runtime_directory() -> Result<()> {
    for case in all() {
        let objects = Objects::of(case)?;
        let pod = objects.pod()?;
        ensure!(pod.host_network == Some(true), "{}", case.name);
        ensure!(pod.host_ipc.is_none(), "{}", case.name);
        // Among the node's processes `weir check` looks for kube-proxy.
        let is_check = case.name.contains("-check");
        ensure!(pod.host_pid == is_check.then_some(true), "{}: {:?}", case.name, pod.host_pid);
        let volumes = pod.volumes.iter().flatten();
        let paths: Vec<&str> =
            volumes.filter_map(|volume| Some(volume.host_path.as_ref()?.path.as_str())).collect();
        let wanted = ["/sys/fs/bpf", "/run/weir"].into_iter().chain(case.hierarchy());
        ensure!(paths == Vec::from_iter(wanted), "{}: {paths:?}", case.name);
    }
    Ok(())
}

#[test]
fn of_the_cluster_weir_reads_what_it_balances_and_says_events() -> Result<()> {
    let wanted = [
        rule("", "services", &["list", "watch"]),
        rule("discovery.k8s.io", "endpointslices", &["list", "watch"]),
        rule("", "nodes", &["get", "list", "watch"]),
        rule("networking.k8s.io", "servicecidrs", &["list", "watch"]),
        rule("events.k8s.io", "events", &["create", "patch"]),
    ];
    for case in all() {
        let role = Objects::of(case)?.role;
        ensure!(role.rules.as_deref() == Some(&wanted), "{}: {:#?}", case.name, role.rules);
        ensure!(role.aggregation_rule.is_none(), "{}", case.name);
    }
    Ok(())
}

fn security(container: &Container) -> Result<&SecurityContext> {
    let security = container.security_context.as_ref();
    security.with_context(|| format!("nothing is said about what {} may do", container.name))
}

fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.into()]),
        resources: Some(vec![resource.into()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}
