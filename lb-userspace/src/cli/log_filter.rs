//! Which log lines are written.

use anyhow::anyhow;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Where the client library logs each request that fails. The watches say it better: once per outage, with
/// what to do.
const FAILED_REQUESTS: &str = "kube_client::client::builder";

/// The filter that `directives` describe, `info` without any. What the client library says of each request
/// that fails is written only if `directives` name the library, or ask for `debug` and more.
///
/// # Errors
///
/// They are no directives.
pub fn by(directives: Option<&str>) -> anyhow::Result<EnvFilter> {
    let directives = directives.unwrap_or("info");
    let filter: EnvFilter = directives.parse().map_err(|error| {
        anyhow!(
            "WEIR_LOG={directives} is no log filter ({error}): write info, debug or module=level,.."
        )
    })?;
    let asks = |directive: &str| {
        let everything = directive.trim().parse::<LevelFilter>();
        directive.contains("kube_client") || everything.is_ok_and(|level| level > LevelFilter::INFO)
    };
    let has_asked = directives.split(',').any(asks);
    Ok(if has_asked {
        filter
    } else {
        filter.add_directive(format!("{FAILED_REQUESTS}=off").parse()?)
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of a failed request and of an own warning.
    fn written(directives: Option<&str>) -> [bool; 2] {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(by(directives).unwrap())
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "kube_client::client::builder", "failed with error");
            tracing::warn!(target: "lb_userspace::agent", "own warning");
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        ["failed with error", "own warning"].map(|words| text.contains(words))
    }

    #[test]
    fn each_failed_request_is_logged_only_to_those_who_ask() {
        for silent in [None, Some("info"), Some("warn"), Some("lb_userspace=debug")] {
            assert_eq!(written(silent), [false, true], "{silent:?}");
        }
        for asked in ["debug", "trace", "info,kube_client=error", "info,kube_client=debug"] {
            assert_eq!(written(Some(asked)), [true, true], "{asked}");
        }
        assert_eq!(written(Some("off")), [false, false]);
    }

    #[test]
    fn what_is_no_filter_is_refused_with_what_to_write() {
        let error = by(Some("a=b=c")).unwrap_err().to_string();
        assert!(error.contains("WEIR_LOG=a=b=c") && error.contains("module=level"), "{error}");
    }
}
