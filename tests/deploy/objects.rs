//! The objects of a rendered file, as the types of Kubernetes' own description of its API.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::rendered::{Case, all};

/// What one file holds.
#[derive(Debug)]
pub struct Objects {
    /// The pods on every node.
    pub daemon_set: DaemonSet,
    /// Their account at the API server.
    pub account: ServiceAccount,
    /// What they may do there.
    pub role: ClusterRole,
    /// Which gives the one to the other.
    pub binding: ClusterRoleBinding,
    /// Their further configuration.
    pub configuration: Vec<ConfigMap>,
}

impl Objects {
    /// Reads what is kept of `case`.
    pub fn of(case: Case) -> Result<Self> {
        Self::read(&case.kept()?).with_context(|| format!("in {}", case.name))
    }

    fn read(text: &str) -> Result<Self> {
        let (mut sets, mut accounts, mut roles) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bindings, mut configuration) = (Vec::new(), Vec::new());
        for object in serde_saphyr::from_multiple::<Value>(text)? {
            match object["kind"].as_str().context("an object without a kind")? {
                "DaemonSet" => sets.push(exactly(object)?),
                "ServiceAccount" => accounts.push(exactly(object)?),
                "ClusterRole" => roles.push(exactly(object)?),
                "ClusterRoleBinding" => bindings.push(exactly(object)?),
                "ConfigMap" => configuration.push(exactly(object)?),
                kind => bail!("nothing here checks objects of kind {kind}: add it to Objects"),
            }
        }
        Ok(Self {
            daemon_set: only(sets)?,
            account: only(accounts)?,
            role: only(roles)?,
            binding: only(bindings)?,
            configuration,
        })
    }

    /// What each pod is.
    pub fn pod(&self) -> Result<&PodSpec> {
        let spec = self.daemon_set.spec.as_ref().context("a DaemonSet without spec")?;
        spec.template.spec.as_ref().context("a DaemonSet without pods")
    }

    /// All containers of a pod, in the order they start.
    pub fn containers(&self) -> Result<Vec<&Container>> {
        let pod = self.pod()?;
        Ok(pod.init_containers.iter().flatten().chain(&pod.containers).collect())
    }

    /// The container that runs weir.
    pub fn weir(&self) -> Result<&Container> {
        let containers = self.containers()?;
        let found = containers.into_iter().find(|container| {
            let image = container.image.as_deref().unwrap_or_default();
            image.rsplit('/').next().is_some_and(|name| name.starts_with("weir"))
        });
        found.context("no container runs weir")
    }
}

/// Reads an object and checks that nothing in it was passed over: a field that the type does not have
/// would be ignored by the API server too, with a warning that few see.
fn exactly<T: DeserializeOwned + Serialize>(object: Value) -> Result<T> {
    let typed: T = serde_json::from_value(object.clone())?;
    let understood = serde_json::to_value(&typed)?;
    ensure!(
        understood == object,
        "not understood in full:\n{object:#}\nunderstood:\n{understood:#}"
    );
    Ok(typed)
}

fn only<T>(mut objects: Vec<T>) -> Result<T> {
    ensure!(objects.len() == 1, "{} {}", objects.len(), std::any::type_name::<T>());
    objects.pop().context("checked above")
}

#[test]
fn every_rendered_object_is_one_that_kubernetes_knows_in_full() -> Result<()> {
    for case in all() {
        Objects::of(case)?;
    }
    Ok(())
}

#[test]
fn a_misspelt_field_is_noticed() {
    let account = "{apiVersion: v1, kind: ServiceAccount, metadata: {naem: weir}}";
    let error = Objects::read(account).unwrap_err();
    assert!(error.to_string().contains("not understood in full"), "{error}");
}

#[test]
fn what_objects_say_of_each_other_is_true() -> Result<()> {
    for case in all() {
        let objects = Objects::of(case)?;
        let set = objects.daemon_set.spec.as_ref().context("a DaemonSet without spec")?;
        let labels = set.template.metadata.as_ref().and_then(|data| data.labels.as_ref());
        let labels = labels.context("pods without labels")?;
        let wanted = set.selector.match_labels.as_ref().context("a selector without labels")?;
        ensure!(wanted.iter().all(|(name, value)| labels.get(name) == Some(value)), "{wanted:?}");

        let account = objects.account.metadata.name.as_ref();
        ensure!(objects.pod()?.service_account_name.as_ref() == account, "{account:?}");
        let subject = objects.binding.subjects.iter().flatten().next().context("no subject")?;
        ensure!(Some(&subject.name) == account, "{subject:?}");
        ensure!(subject.namespace == objects.account.metadata.namespace, "{subject:?}");
        let role = &objects.binding.role_ref.name;
        ensure!(Some(role) == objects.role.metadata.name.as_ref(), "{role}");
        check_configuration(&objects)?;
    }
    Ok(())
}

/// Checks that every ConfigMap which a pod refers to is there, and every one there is referred to.
fn check_configuration(objects: &Objects) -> Result<()> {
    let volumes = objects.pod()?.volumes.iter().flatten();
    let mounted = volumes.filter_map(|volume| Some(volume.config_map.as_ref()?.name.clone()));
    let containers = objects.containers()?;
    let sources = containers.iter().flat_map(|container| container.env_from.iter().flatten());
    let read = sources.filter_map(|source| Some(source.config_map_ref.as_ref()?.name.clone()));
    let mut used: Vec<String> = mounted.chain(read).collect();
    let maps = objects.configuration.iter();
    let mut there: Vec<String> = maps.filter_map(|map| map.metadata.name.clone()).collect();
    used.sort();
    there.sort();
    ensure!(used == there, "used: {used:?}, there: {there:?}");
    Ok(())
}
