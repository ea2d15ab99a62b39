//! The figures, for people and for programs.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;
use weir_tests::figures::{Goal, Results, Spread};
use weir_tests::machine;

use crate::node::{Path, Proxy};

/// Nanoseconds per packet: of each round, of each path through each node.
#[derive(Default)]
pub struct Figures(BTreeMap<(Path, Proxy), Vec<f64>>);

impl Figures {
    /// Adds a round's figure.
    pub fn add(&mut self, proxy: Proxy, path: Path, nanoseconds: f64) {
        self.0.entry((path, proxy)).or_default().push(nanoseconds);
    }

    fn of(&self, path: Path, proxy: Proxy) -> &[f64] {
        self.0.get(&(path, proxy)).map_or(&[], Vec::as_slice)
    }

    /// Of each round, what the node adds to the cost of sending.
    fn net(&self, path: Path, proxy: Proxy) -> Vec<f64> {
        let floor = self.of(Path::Floor, Proxy::Floor);
        self.of(path, proxy).iter().zip(floor).map(|(all, floor)| all - floor).collect()
    }

    /// Of each round, `value` of what NodePort costs and of what plain routing costs.
    fn beside(
        &self,
        [path, plain]: [Path; 2],
        proxy: Proxy,
        value: impl Fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let (own, plain) = (self.net(path, proxy), self.net(plain, Proxy::None));
        Spread::of(own.iter().zip(&plain).map(|(own, plain)| value(*own, *plain)))
    }

    /// The figures for people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        let proxies = [Proxy::None, Proxy::Kubernetes, Proxy::WeirTc, Proxy::WeirXdp];
        let names = proxies.iter().map(ToString::to_string);
        table.set_header(["path".to_owned()].into_iter().chain(names));
        for path in [Path::PodHere, Path::PodRemote, Path::NodePortHere, Path::NodePortRemote] {
            let cells = proxies.iter().map(|proxy| {
                let spread = Spread::of(self.net(path, *proxy));
                spread.map_or_else(String::new, |Spread { median, min, max }| {
                    format!("{median:.0} ({min:.0} – {max:.0})")
                })
            });
            table.add_row([path.to_string()].into_iter().chain(cells));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let floor = Spread::of(self.of(Path::Floor, Proxy::Floor).iter().copied());
        let floor = floor.map_or(0.0, |floor| floor.median);
        format!(
            "{}; nanoseconds per packet over the {floor:.0} that sending it costs, one core, median of \
             rounds (least – greatest)\n{table}\n",
            machine::name()
        )
    }

    /// The figures for programs: those that have goals as the figures of the picture.
    pub fn results(&self) -> Results {
        let title = "Forwarding by NodePort, relative to plain routing";
        let mut results = Results::new("forward", title, "× plain routing");
        let here = [Path::NodePortHere, Path::PodHere];
        let remote = [Path::NodePortRemote, Path::PodRemote];
        let ratio = |own: f64, plain: f64| own / plain;
        // The goal is in nanoseconds: as a ratio it is this run's.
        let plain = Spread::of(self.net(Path::PodHere, Proxy::None)).map(|plain| plain.median);
        for proxy in [Proxy::Kubernetes, Proxy::WeirTc, Proxy::WeirXdp] {
            let is_weir = proxy != Proxy::Kubernetes;
            let goal = plain.filter(|_| is_weir).map(|ns| Goal::AtMost((ns + 150.0) / ns));
            results.add(
                "NodePort to a backend here",
                &proxy.to_string(),
                self.beside(here, proxy, ratio),
                goal,
            );
            let most = if proxy == Proxy::WeirXdp { 0.25 } else { 0.6 };
            results.add(
                "NodePort to a remote backend",
                &proxy.to_string(),
                self.beside(remote, proxy, ratio),
                is_weir.then_some(Goal::AtMost(most)),
            );
        }
        let rows = self.0.keys().map(|(path, proxy)| {
            json!({
                "path": path.to_string(),
                "proxy": proxy.to_string(),
                "nanoseconds": Spread::of(self.of(*path, *proxy).iter().copied()),
                "net": Spread::of(self.net(*path, *proxy)),
            })
        });
        let more = |proxy| self.beside(here, proxy, |own, plain| own - plain);
        results.details = json!({
            "rows": rows.collect::<Vec<_>>(),
            "nodePortHereOverPlainRouting": {
                "tc": more(Proxy::WeirTc), "xdp": more(Proxy::WeirXdp),
                "kubeProxy": more(Proxy::Kubernetes),
            },
        });
        results
    }
}
