//! What Services share: slices by Service, who claims which frontend, what an address is used for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use lb_common::address::Family;

use super::claimed::{Claimed, addresses, claimed, cluster_ips, node_ports};
use super::sorted_set::SortedSet;
use super::touched::Touched;
use crate::model::{Change, Cluster, EndpointSlice, Name, Service};
use crate::plan::service_ports::{has_cluster_ip, is_served, served_ports};

/// An index of a cluster's objects, kept with every change.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ClusterIndex {
    honours_external_ips: bool,
    /// Addresses of this node with node ports, when everything was planned last.
    node_addresses: BTreeSet<IpAddr>,
    /// The slices of each Service.
    slices: HashMap<Name, SortedSet<Name>>,
    /// The Services that claim a frontend.
    claimants: HashMap<Claimed, SortedSet<Name>>,
    /// What each address of Services is used for.
    uses: HashMap<IpAddr, AddressUse>,
    /// Cluster IPs, each with the number of Services that have it.
    cluster_ips: BTreeMap<IpAddr, u32>,
    /// Service ports with a node port, in each family.
    node_ports: BTreeMap<Family, u32>,
}

/// How many Services, or ports of them, use an address.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AddressUse {
    /// Services that have it as cluster IP.
    pub cluster_ips: u32,
    /// Services of other proxies that do.
    pub of_other_proxies: u32,
    /// Service ports that have it as a load balancer's address or external IP.
    pub external: u32,
}

impl AddressUse {
    /// Whether it is an address of any Service.
    pub const fn is_any(self) -> bool {
        self.cluster_ips > 0 || self.of_other_proxies > 0 || self.external > 0
    }
}

impl ClusterIndex {
    /// The index of no objects. `honours_external_ips` as in the plan's settings.
    #[must_use]
    pub fn new(honours_external_ips: bool) -> Self {
        Self { honours_external_ips, ..Self::default() }
    }

    /// The index of `cluster`.
    #[must_use]
    pub fn of(cluster: &Cluster, honours_external_ips: bool) -> Self {
        let mut index = Self::new(honours_external_ips);
        cluster.services.values().for_each(|service| index.add_service(service));
        cluster.slices.values().for_each(|slice| index.add_slice(slice));
        index
    }

    /// Takes a change into `cluster`, which has got all changes by this, and adds to `touched` what it touches. Returns
    /// whether it changed anything.
    pub fn apply(&mut self, cluster: &mut Cluster, change: Change, touched: &mut Touched) -> bool {
        if cluster.knows(&change) {
            return false;
        }
        match &change {
            Change::Service(service) => {
                self.replace_service(cluster.service(&service.name), Some(service), touched);
            }
            Change::ServiceGone(name) => {
                self.replace_service(cluster.service(name), None, touched);
            }
            Change::Slice(slice) => {
                self.replace_slice(cluster.slice(&slice.name), Some(slice), touched);
            }
            Change::SliceGone(name) => {
                self.replace_slice(cluster.slice(name), None, touched);
            }
            Change::Node(_)
            | Change::NodeGone(_)
            | Change::ServiceCidr(..)
            | Change::ServiceCidrGone(_)
            | Change::Synced => touched.add_everything(),
        }
        cluster.apply(change)
    }

    /// Notes which addresses of this node serve node ports. They change with the node alone, and then everything is
    /// touched.
    pub fn set_node_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.node_addresses = addresses;
    }

    /// The slices of the Service with this name.
    pub fn slices<'a>(
        &self,
        service: &Name,
        cluster: &'a Cluster,
    ) -> impl Iterator<Item = &'a EndpointSlice> + use<'a, '_> {
        let names = self.slices.get(service).into_iter().flatten();
        names.filter_map(|name| cluster.slice(name))
    }

    /// The names of Services that claim a frontend that `service` claims, itself included.
    pub fn rivals(&self, service: &Service) -> BTreeSet<&Name> {
        let mut rivals = BTreeSet::new();
        for claimed in claimed(service) {
            for claimed in self.same_frontends(claimed) {
                rivals.extend(self.claimants.get(&claimed).into_iter().flatten());
            }
        }
        rivals
    }

    /// Every address of Services, with what it is used for.
    pub fn uses(&self) -> impl Iterator<Item = (IpAddr, AddressUse)> {
        self.uses.iter().map(|(address, of)| (*address, *of))
    }

    /// What an address is used for.
    pub fn use_of(&self, address: IpAddr) -> AddressUse {
        self.uses.get(&address).copied().unwrap_or_default()
    }

    /// The lowest and the highest cluster IP of a family.
    pub fn cluster_ips(&self, family: Family) -> Option<(IpAddr, IpAddr)> {
        // IPv4 addresses come before IPv6 addresses.
        let is_ours = |ip: &&IpAddr| Family::of(ip) == family;
        let (first, last) = match family {
            Family::V4 => {
                let end = IpAddr::from([0u8; 16]);
                (self.cluster_ips.keys().next(), self.cluster_ips.range(..end).next_back())
            }
            Family::V6 => {
                let start = IpAddr::from([0u8; 16]);
                let first = self.cluster_ips.range(start..).next();
                (first.map(|(ip, _)| ip), self.cluster_ips.iter().next_back())
            }
        };
        first.filter(is_ours).copied().zip(last.map(|(ip, _)| *ip))
    }

    /// Whether a Service port has a node port in this family.
    pub fn has_node_ports(&self, family: Family) -> bool {
        self.node_ports.contains_key(&family)
    }

    /// The frontends that are the same as this one: a node port is one at each of the node's addresses.
    fn same_frontends(&self, claimed: Claimed) -> Vec<Claimed> {
        let at = |address| Claimed { address, ..claimed };
        match claimed.address {
            None => {
                let of_node = self.node_addresses.iter().map(|ip| at(Some(*ip)));
                of_node.chain([claimed]).collect()
            }
            Some(address) if self.node_addresses.contains(&address) => vec![claimed, at(None)],
            Some(_) => vec![claimed],
        }
    }

    fn replace_service(
        &mut self,
        old: Option<&Service>,
        new: Option<&Service>,
        touched: &mut Touched,
    ) {
        let had_node_ports = self.node_ports.clone();
        for service in old.into_iter().chain(new) {
            touched.services.extend(self.rivals(service).into_iter().cloned());
            touched.services.insert(service.name.clone());
            touched.addresses.extend(addresses(service));
        }
        if let Some(old) = old {
            self.remove_service(old);
        }
        if let Some(new) = new {
            self.add_service(new);
        }
        if !had_node_ports.keys().eq(self.node_ports.keys()) {
            // The node's addresses have policies where there are node ports.
            touched.add_everything();
        }
    }

    fn add_service(&mut self, service: &Service) {
        for claimed in claimed(service) {
            self.claimants.entry(claimed).or_default().insert(service.name.clone());
        }
        for ip in cluster_ips(service) {
            *self.cluster_ips.entry(ip).or_default() += 1;
        }
        self.count_uses(service, |count| *count += 1);
        for family in node_ports(service) {
            *self.node_ports.entry(family).or_default() += 1;
        }
    }

    fn remove_service(&mut self, service: &Service) {
        for claimed in claimed(service) {
            if let Some(claimants) = self.claimants.get_mut(&claimed) {
                claimants.remove(&service.name);
                if claimants.is_empty() {
                    self.claimants.remove(&claimed);
                }
            }
        }
        for ip in cluster_ips(service) {
            decrease(&mut self.cluster_ips, &ip);
        }
        self.count_uses(service, |count| *count = count.saturating_sub(1));
        addresses(service).for_each(|ip| {
            if !self.use_of(ip).is_any() {
                self.uses.remove(&ip);
            }
        });
        for family in node_ports(service) {
            decrease(&mut self.node_ports, &family);
        }
    }

    fn count_uses(&mut self, service: &Service, count: impl Fn(&mut u32)) {
        for ip in cluster_ips(service) {
            let of = self.uses.entry(ip).or_default();
            count(if service.other_proxy { &mut of.of_other_proxies } else { &mut of.cluster_ips });
        }
        if !is_served(service) || served_ports(service).next().is_none() {
            return;
        }
        let external = service.external_ips.iter().filter(|_| self.honours_external_ips);
        let external = service.load_balancer_ips.iter().chain(external);
        for ip in external.filter(|ip| has_cluster_ip(service, Family::of(ip))) {
            count(&mut self.uses.entry(*ip).or_default().external);
        }
    }

    fn replace_slice(
        &mut self,
        old: Option<&EndpointSlice>,
        new: Option<&EndpointSlice>,
        touched: &mut Touched,
    ) {
        for slice in old.into_iter().chain(new) {
            touched.services.insert(slice.service.clone());
        }
        let moved = old.filter(|old| new.is_none_or(|new| new.service != old.service));
        if let Some(old) = moved
            && let Some(slices) = self.slices.get_mut(&old.service)
        {
            slices.remove(&old.name);
            if slices.is_empty() {
                self.slices.remove(&old.service);
            }
        }
        if let Some(new) = new {
            self.add_slice(new);
        }
    }

    fn add_slice(&mut self, slice: &EndpointSlice) {
        self.slices.entry(slice.service.clone()).or_default().insert(slice.name.clone());
    }
}

fn decrease<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
