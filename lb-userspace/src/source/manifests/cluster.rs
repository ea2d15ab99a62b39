//! From the objects of all files to the cluster they describe. Pure: reading and watching files is
//! done by `reader`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use super::document::Contents;
use super::object::{Kind, Object};
use super::pods;
use crate::model::{Cluster, Name, Service, SharedText, Warning};
use crate::source::convert;
use crate::source::warning::{FilePosition, SourceWarning};

/// The cluster that these files describe, and what of it cannot be honoured. Of two objects of the
/// same kind and name the first counts.
pub(super) fn cluster<'a>(
    files: impl IntoIterator<Item = (&'a Arc<Path>, &'a Contents)>,
) -> (Cluster, Vec<SourceWarning>) {
    let mut reading = Reading::default();
    for (file, contents) in files {
        for (line, object) in &contents.objects {
            reading.object(FilePosition::line(file, *line), object);
        }
        reading.skipped(file, &contents.skipped);
    }
    reading.slices_of_pods();
    (reading.cluster, reading.warnings)
}

/// The cluster as far as it is read.
#[derive(Default)]
struct Reading<'a> {
    cluster: Cluster,
    warnings: Vec<SourceWarning>,
    /// Where each object stands.
    seen: BTreeMap<(Kind, Name), FilePosition>,
    /// Pods by namespace.
    pods: BTreeMap<SharedText, Vec<&'a core::Pod>>,
    /// Services that select pods, in Kubernetes' form.
    selecting: Vec<(FilePosition, &'a core::Service)>,
}

impl<'a> Reading<'a> {
    fn object(&mut self, position: FilePosition, object: &'a Object) {
        let name = object.name();
        match self.seen.entry((object.kind(), name.clone())) {
            Entry::Vacant(entry) => entry.insert(position.clone()),
            Entry::Occupied(first) => {
                let text = format!(
                    "stands in {} already, which counts: remove one of the two",
                    first.get()
                );
                let warning = Warning { about: about(object, &name), text };
                self.warn(&position, [warning]);
                return;
            }
        };
        match object {
            Object::Service(object) => {
                let (service, warnings) = convert::service(object);
                self.warn(&position, warnings);
                if pods::selector(object).is_some() {
                    self.selecting.push((position, object));
                }
                self.cluster.services.insert(name, Box::new(service));
            }
            Object::Slice(object) => {
                let (slice, warnings) = convert::slice(object);
                self.warn(&position, warnings);
                self.cluster.slices.extend(slice.map(|slice| (name, Box::new(slice))));
            }
            Object::Node(object) => {
                let (node, warnings) = convert::node(object);
                self.warn(&position, warnings);
                self.cluster.nodes.insert(name.name.to_string(), node);
            }
            Object::ServiceCidr(object) => {
                let (ranges, warnings) = convert::service_cidr(object);
                self.warn(&position, warnings);
                self.cluster.service_cidrs.insert(name.name.to_string(), ranges);
            }
            Object::Pod(pod) => self.pods.entry(name.namespace).or_default().push(pod),
        }
    }

    fn warn(&mut self, position: &FilePosition, warnings: impl IntoIterator<Item = Warning>) {
        self.warnings.extend(
            warnings
                .into_iter()
                .map(|warning| SourceWarning::Object { position: Some(position.clone()), warning }),
        );
    }

    /// One warning for each kind, however many objects of it a file has.
    fn skipped(&mut self, file: &Arc<Path>, skipped: &[(u64, String)]) {
        let mut kinds: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
        for (line, kind) in skipped {
            kinds.entry(kind).or_insert((*line, 0)).1 += 1;
        }
        self.warnings.extend(kinds.into_iter().map(|(kind, (line, count))| {
            SourceWarning::Skipped {
                position: FilePosition::line(file, line),
                kind: kind.into(),
                count,
            }
        }));
    }

    fn slices_of_pods(&mut self) {
        let served: BTreeSet<Name> =
            self.cluster.slices.values().map(|slice| slice.service.clone()).collect();
        for (position, object) in std::mem::take(&mut self.selecting) {
            let name = convert::name(&object.metadata);
            let Some(service) =
                self.cluster.services.get(&name).filter(|_| !served.contains(&name))
            else {
                continue;
            };
            let (slices, warnings) = pods::slices(service, object, self.pods_beside(service));
            self.cluster
                .slices
                .extend(slices.into_iter().map(|slice| (slice.name.clone(), Box::new(slice))));
            self.warn(&position, warnings);
        }
    }

    fn pods_beside(&self, service: &Service) -> impl Iterator<Item = &'a core::Pod> {
        self.pods.get(&service.name.namespace).into_iter().flatten().copied()
    }
}

fn about(object: &Object, name: &Name) -> String {
    match object {
        Object::Node(_) | Object::ServiceCidr(_) => {
            format!("{} {}", object.kind().word(), name.name)
        }
        Object::Service(_) | Object::Slice(_) | Object::Pod(_) => {
            format!("{} {name}", object.kind().word())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::manifests::changes::changes;
    use crate::source::manifests::document;

    fn read(files: &[(&str, &str)]) -> (Cluster, Vec<String>) {
        let files: Vec<(Arc<Path>, Contents)> = files
            .iter()
            .map(|(path, text)| (Path::new(path).into(), document::parse(text).unwrap()))
            .collect();
        let (cluster, warnings) = cluster(files.iter().map(|(path, contents)| (path, contents)));
        (cluster, warnings.iter().map(ToString::to_string).collect())
    }

    const SERVICE: &str = "kind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80}]}\n";
    const POD: &str =
        "kind: Pod\nmetadata: {name: web-1, labels: {app: web}}\nstatus: {podIP: 10.244.1.1}\n";
    const SLICE: &str = "kind: EndpointSlice\nmetadata: {name: web-abc, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [10.244.1.9]}]\n";

    #[test]
    fn what_kubectl_prints_is_honoured_whole() {
        let (cluster, warnings) = read(&[("a.yaml", include_str!("document/kubectl.yaml"))]);
        assert_eq!(warnings, [""; 0]);
        let web = Name::new("shop", "web");
        assert_eq!(cluster.services[&web].cluster_ips.len(), 2);
        assert_eq!(cluster.services[&web].ports[0].node_port, Some(31080));
        let slice = &cluster.slices[&Name::new("shop", "web-lqvr4")];
        assert_eq!((&slice.service, slice.endpoints[0].node.as_deref()), (&web, Some("node-1")));
        assert_eq!(cluster.slices.len(), 1);
        assert_eq!(cluster.nodes["node-1"].zone.as_deref(), Some("zone-a"));
    }

    #[test]
    fn a_selector_that_no_slice_serves_finds_its_pods_in_any_file() {
        let (cluster, warnings) = read(&[("b.yaml", SERVICE), ("a.yaml", POD)]);
        assert_eq!(warnings, [""; 0]);
        let slices: Vec<_> = cluster.slices.values().collect();
        assert_eq!(slices.len(), 1);
        assert_eq!(slices[0].service, Name::new("default", "web"));
        assert_eq!(slices[0].endpoints[0].address.to_string(), "10.244.1.1");
    }

    #[test]
    fn a_slice_that_serves_the_service_keeps_its_pods_out() {
        let (cluster, _) = read(&[("a.yaml", SERVICE), ("b.yaml", POD), ("c.yaml", SLICE)]);
        let slices: Vec<_> = cluster.slices.values().collect();
        assert_eq!(slices.len(), 1);
        assert_eq!(slices[0].endpoints[0].address.to_string(), "10.244.1.9");
    }

    #[test]
    fn pods_of_other_namespaces_are_not_selected() {
        let other_namespace = POD.replace("name: web-1", "name: web-1, namespace: shop");
        assert!(read(&[("a.yaml", SERVICE), ("b.yaml", &other_namespace)]).0.slices.is_empty());
    }

    #[test]
    fn of_two_equal_objects_the_first_counts_and_the_second_is_told() {
        let other = SERVICE.replace("10.96.0.1", "10.96.0.2");
        let (cluster, warnings) =
            read(&[("a.yaml", SERVICE), ("b.yaml", &format!("# c\n{other}"))]);
        let service = &cluster.services[&Name::new("default", "web")];
        assert_eq!(service.cluster_ips[0].to_string(), "10.96.0.1");
        assert_eq!(
            warnings,
            [
                "b.yaml:2: Service default/web: stands in a.yaml:1 already, which counts: remove one of the two"
            ]
        );
    }

    #[test]
    fn warnings_have_the_place_of_their_object() {
        let (_, warnings) = read(&[(
            "a.yaml",
            "---\n---\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96}\n",
        )]);
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].starts_with("a.yaml:3: Service default/web: spec.clusterIPs \"10.96\"")
        );
    }

    #[test]
    fn the_ranges_of_a_service_cidr_are_known_by_its_name() {
        let text = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: kubernetes}\nspec: {cidrs: [10.96.0.0/12, everything]}\n";
        let (cluster, warnings) = read(&[("a.yaml", text)]);
        assert_eq!(cluster.service_cidrs["kubernetes"], ["10.96.0.0/12".parse().unwrap()]);
        assert_eq!(warnings.len(), 1);
        let start = "a.yaml:1: ServiceCIDR kubernetes: spec.cidrs \"everything\"";
        assert!(warnings[0].starts_with(start), "{warnings:?}");
    }

    #[test]
    fn kinds_that_are_not_read_are_warned_of_once_for_each_file() {
        let text = "kind: Deployment\n---\nkind: Ingress\n---\nkind: Deployment\n";
        assert_eq!(
            read(&[("a.yaml", text)]).1,
            [
                "a.yaml:1: 2 of kind Deployment skipped: Weir reads Service, EndpointSlice, Node, ServiceCIDR, Pod and List",
                "a.yaml:3: 1 of kind Ingress skipped: Weir reads Service, EndpointSlice, Node, ServiceCIDR, Pod and List",
            ]
        );
    }

    #[test]
    fn applying_the_changes_from_one_cluster_to_another_leads_there() {
        let node = "kind: Node\nmetadata: {name: node-1}\n";
        let range = "kind: ServiceCIDR\nmetadata: {name: all}\nspec: {cidrs: [10.96.0.0/12]}\n";
        let clusters = [
            read(&[]).0,
            read(&[("a.yaml", SERVICE), ("b.yaml", POD), ("c.yaml", node)]).0,
            read(&[("a.yaml", SERVICE), ("c.yaml", SLICE), ("d.yaml", range)]).0,
            read(&[("c.yaml", SLICE), ("d.yaml", &range.replace("/12", "/16"))]).0,
            read(&[("a.yaml", &SERVICE.replace("80", "81")), ("b.yaml", POD)]).0,
        ];
        for before in &clusters {
            for after in &clusters {
                let mut cluster = before.clone();
                let changes = changes(before, after);
                assert_eq!(changes.is_empty(), before == after);
                for change in changes {
                    assert!(cluster.apply(change), "a change that changes nothing");
                }
                assert_eq!(&cluster, after);
            }
        }
    }
}
