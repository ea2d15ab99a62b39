//! The metrics as text, in the two formats that scrapers read.

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// The registry's text, in the format that `accept` asks for, and its content type.
///
/// # Errors
/// What a metric is made of cannot be written as text, which is a mistake in the code.
pub fn exposition(
    registry: &Registry,
    accept: &str,
) -> Result<(&'static str, String), std::fmt::Error> {
    let mut open_metrics = String::new();
    text::encode(&mut open_metrics, registry)?;
    if accept.contains("application/openmetrics-text") {
        return Ok(("application/openmetrics-text; version=1.0.0; charset=utf-8", open_metrics));
    }
    Ok(("text/plain; version=0.0.4; charset=utf-8", as_prometheus(&open_metrics)))
}

/// OpenMetrics as the older format of Prometheus, in which a counter's family bears its suffix too
/// and information is a gauge.
fn as_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            if let Some((_, words)) = help.take() {
                text += &format!("# HELP {name}{suffix} {words}\n");
            }
            text += &format!("# TYPE {name}{suffix} {kind}\n");
        } else {
            text += line;
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;

    #[test]
    fn a_scraper_that_accepts_open_metrics_gets_it() {
        let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1";
        let (content_type, text) = exposition(&Metrics::default().registry(), accept).unwrap();
        assert!(content_type.starts_with("application/openmetrics-text"));
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(text.contains("# TYPE kubeproxy_sync_proxy_rules_service_changes counter\n"));
    }

    #[test]
    fn others_get_the_older_format() {
        let metrics = Metrics::default();
        metrics.healthz(200);
        metrics.services.inc();
        metrics.udp_sockets_destroyed.inc_by(2);
        let (content_type, text) = exposition(&metrics.registry(), "*/*").unwrap();
        assert!(content_type.starts_with("text/plain; version=0.0.4"));
        assert!(!text.contains("# EOF"));
        let version = env!("CARGO_PKG_VERSION");
        for line in [
            "# TYPE kubeproxy_sync_proxy_rules_service_changes_total counter\n",
            "\nkubeproxy_sync_proxy_rules_service_changes_total 1\n",
            "\nkubeproxy_proxy_healthz_total{code=\"200\"} 1\n",
            "# TYPE kubeproxy_network_programming_duration_seconds histogram\n",
            "\nkubeproxy_network_programming_duration_seconds_bucket{le=\"300.0\"} 0\n",
            "\nweir_udp_sockets_destroyed_total 2\n",
            "# TYPE weir_build_info gauge\n",
            &format!("\nweir_build_info{{version=\"{version}\"}} 1\n"),
        ] {
            assert!(text.contains(line), "no {line:?} in {text}");
        }
    }
}
