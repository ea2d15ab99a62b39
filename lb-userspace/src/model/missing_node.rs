//! A node's name that no Node of the cluster has: most often `--node-name` is not given, and the host's name
//! is another one.

use super::Warning;

/// Names that are shown.
const SHOWN: usize = 3;

/// The warning that none of `nodes` is called `name`, with those names that come close, else the first; `None`
/// if one is, or if there are no Nodes at all.
pub fn missing_node<'a>(name: &str, nodes: impl Iterator<Item = &'a str>) -> Option<Warning> {
    let mut nodes: Vec<&str> = nodes.collect();
    if nodes.is_empty() || nodes.contains(&name) {
        return None;
    }
    // Those that come close are first, in the order of the others.
    nodes.sort_unstable_by_key(|node| (!is_close(node, name), *node));
    let close = nodes.iter().take_while(|node| is_close(node, name)).count();
    let shown = if close == 0 { nodes.len() } else { close }.min(SHOWN);
    let names = nodes[..shown].join(", ");
    let more = if shown < nodes.len() { ", .." } else { "" };
    Some(Warning {
        about: format!("Node {name}"),
        text: format!(
            "none of the cluster's Nodes has this name (they have {names}{more}), so no endpoint counts \
             as one of this node, and its Node's addresses and zone are not known: give the name that `kubectl \
             get nodes` shows for this node with --node-name, in a DaemonSet from spec.nodeName by the downward \
             API"
        ),
    })
}

/// Whether one is the other in other letters, with a domain, or with something before or after it.
fn is_close(node: &str, name: &str) -> bool {
    let (node, name) = (node.to_lowercase(), name.to_lowercase());
    let host = |name: &str| name.split_once('.').map_or(name, |(host, _)| host).to_owned();
    let has_more = |long: &str, short: &str| long.starts_with(short) || long.ends_with(short);
    host(&node) == host(&name) || has_more(&node, &name) || has_more(&name, &node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, nodes: &[&str]) -> Option<String> {
        missing_node(name, nodes.iter().copied()).map(|warning| warning.to_string())
    }

    #[test]
    fn a_name_that_a_node_has_and_a_cluster_without_nodes_are_no_warning() {
        assert_eq!(text("a", &["b", "a"]), None);
        assert_eq!(text("a", &[]), None);
    }

    #[test]
    fn names_that_come_close_are_shown_before_others() {
        let all = ["node-1.example.org", "node-2", "x"];
        for name in ["node-1", "NODE-1.example.org", "node-1.internal"] {
            let text = text(name, &all).unwrap();
            assert!(text.contains("(they have node-1.example.org, ..)"), "{text}");
            assert!(text.starts_with(&format!("Node {name}: none of")), "{text}");
        }
    }

    #[test]
    fn without_a_close_one_the_first_few_are_shown_and_what_to_do() {
        let text = text("host", &["e", "d", "c", "b"]).unwrap();
        for part in ["(they have b, c, d, ..)", "kubectl get nodes", "--node-name", "spec.nodeName"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = missing_node("host", ["b"].into_iter()).unwrap().text;
        assert!(text.contains("(they have b)"), "{text}");
    }
}
