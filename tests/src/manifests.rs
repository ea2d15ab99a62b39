//! What the agent in a lab reads: the sample manifests, and Services that tests write.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lb_common::address::Family;

use crate::lab::{Addresses, Lab, Pod, addresses};
use crate::traffic::{ECHO_PORT, HTTP_PORT};

/// The nodes and pods of a lab as it is by default, and two Services that its pods serve: `web`
/// (HTTP, port 80, node port 30080) and `echo` (UDP, port 7, node port 30007).
pub const SAMPLES: [(&str, &str); 3] = [
    ("cluster.yaml", include_str!("../manifests/cluster.yaml")),
    ("web.yaml", include_str!("../manifests/web.yaml")),
    ("echo.yaml", include_str!("../manifests/echo.yaml")),
];

/// A folder of manifests.
#[derive(Debug)]
pub struct Manifests {
    folder: PathBuf,
}

impl Manifests {
    /// The lab's folder, holding the samples.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn samples(lab: &Lab) -> Result<Self> {
        let manifests = Self::of(lab, "samples")?;
        for (name, text) in SAMPLES {
            manifests.write(name, text)?;
        }
        Ok(manifests)
    }

    /// A folder with the nodes of `lab` and nothing else yet.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn nodes(lab: &Lab) -> Result<Self> {
        let manifests = Self::of(lab, "manifests")?;
        for node in [&lab.node1, &lab.node2] {
            let file = format!("{}.yaml", node.name);
            manifests.write(&file, &self::node(node.name, node.addresses))?;
        }
        Ok(manifests)
    }

    fn of(lab: &Lab, name: &str) -> Result<Self> {
        let folder = lab.folder().join(name);
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file as a whole, so that the agent never sees half of it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let unseen = self.folder.join(format!(".{name}"));
        fs::write(&unseen, text)
            .and_then(|()| fs::rename(&unseen, self.folder.join(name)))
            .with_context(|| format!("cannot write {name} in {}", self.folder.display()))
    }

    /// Writes the Service and slices of `offer`, replacing those of the same name.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn offer(&self, offer: &Offer) -> Result<()> {
        self.write(&format!("{}.yaml", offer.name), &offer.yaml())
    }

    /// The same for an offer that asks for more.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn offer_under(&self, offer: &Offer, rules: &Rules) -> Result<()> {
        self.write(&format!("{}.yaml", offer.name), &offer.yaml_under(rules))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.folder.join(name)).with_context(|| format!("cannot remove {name}"))
    }
}

fn node(name: &str, addresses: Addresses) -> String {
    format!(
        "apiVersion: v1
kind: Node
metadata: {{name: {name}}}
status:
  addresses:
  - {{type: InternalIP, address: {}}}
  - {{type: InternalIP, address: {}}}
  - {{type: Hostname, address: {name}}}
",
        addresses.v4, addresses.v6
    )
}

/// A Service without a selector, of type NodePort in both families, over TCP (HTTP) and UDP (echo),
/// with its slices.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its number, from which its addresses and node ports follow; each Offer has its own.
    pub number: u8,
    /// Who serves it.
    pub pods: Vec<&'a Pod>,
}

/// What the Service of an [`Offer`] asks for beyond being reached.
#[derive(Clone, Default, Debug)]
pub struct Rules<'a> {
    /// More fields of its spec, such as `sessionAffinity: ClientIP`.
    pub spec: Vec<&'a str>,
    /// Whether it is of type LoadBalancer, and reached at [`Offer::vips`] too.
    pub is_balanced: bool,
    /// Which of its pods are terminating: not ready, but serving.
    pub leaving: Vec<&'a Pod>,
}

impl Offer<'_> {
    /// The port on its ClusterIPs, TCP and UDP alike.
    pub const PORT: u16 = 80;

    /// Its ClusterIPs.
    #[must_use]
    pub fn cluster_ips(&self) -> Addresses {
        addresses::service(self.number)
    }

    /// Its port on the nodes' addresses, TCP and UDP alike.
    #[must_use]
    pub fn node_port(&self) -> u16 {
        31_000 + u16::from(self.number)
    }

    /// Its VIPs, where [`Rules`] give it some.
    #[must_use]
    pub fn vips(&self) -> Addresses {
        addresses::vip(self.number)
    }

    /// The Service and its slices.
    #[must_use]
    pub fn yaml(&self) -> String {
        self.yaml_under(&Rules::default())
    }

    /// The same under these rules.
    #[must_use]
    pub fn yaml_under(&self, rules: &Rules) -> String {
        let Addresses { v4, v6 } = self.cluster_ips();
        let (name, port, node_port) = (self.name, Self::PORT, self.node_port());
        let kind = if rules.is_balanced { "LoadBalancer" } else { "NodePort" };
        let mut yaml = format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  type: {kind}
  clusterIP: {v4}
  clusterIPs: ['{v4}', '{v6}']
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  ports:
  - {{name: http, protocol: TCP, port: {port}, nodePort: {node_port}}}
  - {{name: echo, protocol: UDP, port: {port}, nodePort: {node_port}}}
"
        );
        for field in &rules.spec {
            let _ = writeln!(yaml, "  {field}");
        }
        if rules.is_balanced {
            let Addresses { v4, v6 } = self.vips();
            let _ = writeln!(
                yaml,
                "status: {{loadBalancer: {{ingress: [{{ip: {v4}}}, {{ip: '{v6}'}}]}}}}"
            );
        }
        for family in Family::ALL {
            yaml += &self.slice(family, &rules.leaving);
        }
        yaml
    }

    fn slice(&self, family: Family, leaving: &[&Pod]) -> String {
        let mut yaml = format!(
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-{suffix}
  namespace: default
  labels: {{kubernetes.io/service-name: {name}}}
addressType: {family}
ports:
- {{name: http, protocol: TCP, port: {HTTP_PORT}}}
- {{name: echo, protocol: UDP, port: {ECHO_PORT}}}
endpoints:
",
            name = self.name,
            suffix = family.to_string().to_lowercase(),
        );
        if self.pods.is_empty() {
            yaml.truncate(yaml.trim_end().len());
            yaml += " []\n";
        }
        for pod in &self.pods {
            let leaves = leaving.iter().any(|other| other.name == pod.name);
            let _ = write!(
                yaml,
                "- addresses: ['{}']
  conditions: {{ready: {}, serving: true, terminating: {leaves}}}
  nodeName: {}
",
                pod.addresses.of(family),
                !leaves,
                pod.node
            );
        }
        yaml
    }
}
