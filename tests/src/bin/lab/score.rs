//! The results of a load's requests.

use std::collections::BTreeMap;

use anyhow::Result;
use weir_tests::traffic::Response;

/// The results of the requests of one load.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Score {
    /// Right responses, by the pod they came from.
    pub responses: BTreeMap<String, u64>,
    /// Requests without a response, or with a wrong one.
    pub failures: u64,
    /// The error of the last of those.
    pub complaint: Option<String>,
}

impl Score {
    /// Adds the result of one request.
    pub fn add(&mut self, outcome: Result<Response>) {
        match outcome {
            Ok(response) => *self.responses.entry(response.pod).or_default() += 1,
            Err(error) => {
                self.failures += 1;
                self.complaint = Some(format!("{error:#}"));
            }
        }
    }

    /// Right responses of all pods.
    pub fn responded(&self) -> u64 {
        self.responses.values().sum()
    }

    /// The pods of `pods` that got less than a third of their fair share, with what they got.
    pub fn short_of<'a>(&'a self, pods: &'a [String]) -> impl Iterator<Item = (&'a str, u64)> {
        let fair = self.responded() / pods.len().max(1) as u64;
        pods.iter()
            .map(|pod| (pod.as_str(), self.responses.get(pod).copied().unwrap_or(0)))
            .filter(move |(_, got)| *got <= fair / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_gets_next_to_nothing_is_short() {
        let score = Score {
            responses: BTreeMap::from([("a".into(), 60), ("b".into(), 50), ("c".into(), 4)]),
            ..Score::default()
        };
        let pods = ["a", "b", "c", "d"].map(String::from);
        let short: Vec<_> = score.short_of(&pods).collect();
        assert_eq!(short, [("c", 4), ("d", 0)]);
    }

    #[test]
    fn a_failure_is_counted_and_remembered() {
        let mut score = Score::default();
        score.add(Err(anyhow::anyhow!("no answer")));
        assert_eq!((score.failures, score.complaint.as_deref()), (1, Some("no answer")));
        assert_eq!(score.responded(), 0);
    }
}
