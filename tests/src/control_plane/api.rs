//! The API server as a test calls it: one call at a time, from within the lab.

use std::fmt::Debug;
use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::lab::Namespace;

/// The namespace of all objects that have one.
const NAMESPACE: &str = "default";

/// Who applies what tests write, in the words of server-side apply.
const FIELD_MANAGER: &str = "weir-tests";

/// An object of the API that lives in a namespace.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + k8s_openapi::Resource<Scope = NamespaceResourceScope>
    + Clone
    + DeserializeOwned
    + Debug
    + Send
{
}

impl<T> Object for T where
    T: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + k8s_openapi::Resource<Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
{
}

/// A client of the API server whose connections begin in the lab.
pub struct Api {
    namespace: Namespace,
    runtime: Runtime,
    client: Client,
}

impl Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Api {
    /// A client with this `kubeconfig`, in `namespace`; it connects when it is first used.
    pub(super) fn new(namespace: &Namespace, kubeconfig: &Path) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let client = runtime.block_on(async {
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Self { namespace: namespace.clone(), runtime, client })
    }

    /// Does `work` within the lab, to its end.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn call<T, F>(&self, work: impl FnOnce(Client) -> F + Send) -> Result<T>
    where
        T: Send,
        F: Future<Output = kube::Result<T>>,
    {
        let client = self.client.clone();
        self.namespace.run(|| Ok(self.runtime.block_on(async { work(client).await })?))
    }

    /// The response to a GET of `path`, as text.
    ///
    /// # Errors
    /// If the server does not respond, or refuses.
    pub fn get_text(&self, path: &str) -> Result<String> {
        let request = http::Request::get(path).body(Vec::new())?;
        self.call(async |client| client.request_text(request).await)
    }

    /// Makes an object what `fields` say, whether it is there or not; fields that an earlier call
    /// named and this one does not are taken out.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn apply<T: Object>(&self, name: &str, fields: &Value) -> Result<T> {
        self.call(async |client| apply(client, name, fields).await)
            .with_context(|| format!("cannot apply the {} {name}", T::kind(&())))
    }

    /// Merges `fields` into an object.
    ///
    /// # Errors
    /// If it is not there, or the server refuses.
    pub fn merge<T: Object>(&self, name: &str, fields: &Value) -> Result<T> {
        let merge = PatchParams::default();
        self.call(async |client| {
            namespaced(client).patch(name, &merge, &Patch::Merge(fields)).await
        })
        .with_context(|| format!("cannot change the {} {name}", T::kind(&())))
    }

    /// Merges `fields` into an object's status.
    ///
    /// # Errors
    /// If it is not there, or the server refuses.
    pub fn merge_status<T: Object>(&self, name: &str, fields: &Value) -> Result<T> {
        let merge = PatchParams::default();
        self.call(async |client| {
            namespaced(client).patch_status(name, &merge, &Patch::Merge(fields)).await
        })
        .with_context(|| format!("cannot change the status of the {} {name}", T::kind(&())))
    }

    /// An object as the server has it.
    ///
    /// # Errors
    /// If it is not there.
    pub fn get<T: Object>(&self, name: &str) -> Result<T> {
        self.call(async |client| namespaced(client).get(name).await)
            .with_context(|| format!("cannot read the {} {name}", T::kind(&())))
    }

    /// Deletes an object; `grace` is how long it may take to end, in seconds.
    ///
    /// # Errors
    /// If it is not there.
    pub fn delete<T: Object>(&self, name: &str, grace: u32) -> Result<()> {
        let grace = DeleteParams::default().grace_period(grace);
        self.call(async |client| namespaced::<T>(client).delete(name, &grace).await.map(|_| ()))
            .with_context(|| format!("cannot delete the {} {name}", T::kind(&())))
    }
}

/// [`Api::apply`], for many at once.
///
/// # Errors
/// If the server refuses.
pub async fn apply<T: Object>(client: Client, name: &str, fields: &Value) -> kube::Result<T> {
    let forced = PatchParams::apply(FIELD_MANAGER).force();
    let mut fields = fields.clone();
    fields["apiVersion"] = T::API_VERSION.into();
    fields["kind"] = T::KIND.into();
    fields["metadata"]["name"] = name.into();
    namespaced(client).patch(name, &forced, &Patch::Apply(fields)).await
}

/// The objects of a kind in the one namespace that tests use.
#[must_use]
pub fn namespaced<T: Object>(client: Client) -> kube::Api<T> {
    kube::Api::namespaced(client, NAMESPACE)
}
