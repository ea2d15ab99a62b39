//! The warnings that hold. Each is logged once, when it is new.

use std::collections::BTreeSet;

use super::event::Effect;
use crate::model::Warning;

/// The warnings of the source and of the plan.
#[derive(Default, Debug)]
pub struct Warnings {
    of_source: Vec<Warning>,
    of_plan: BTreeSet<Warning>,
}

impl Warnings {
    /// All of them: the source's, then the plan's.
    pub fn all(&self) -> impl Iterator<Item = &Warning> {
        self.of_source.iter().chain(&self.of_plan)
    }

    /// Replaces the source's; returns what is to be done about new ones, as the others do.
    pub fn set_of_source(&mut self, mut warnings: Vec<Warning>) -> Vec<Effect> {
        warnings.sort_unstable();
        let before = std::mem::replace(&mut self.of_source, warnings);
        let is_new = |warning: &&Warning| before.binary_search(warning).is_err();
        self.of_source.iter().filter(is_new).cloned().map(Effect::Warn).collect()
    }

    /// Replaces the plan's.
    pub fn set_of_plan(&mut self, warnings: Vec<Warning>) -> Vec<Effect> {
        let before = std::mem::replace(&mut self.of_plan, warnings.into_iter().collect());
        self.of_plan.difference(&before).cloned().map(Effect::Warn).collect()
    }

    /// Replaces those of the plan's that are about these objects.
    pub fn set_about(&mut self, about: &BTreeSet<String>, warnings: Vec<Warning>) -> Vec<Effect> {
        let mut before = BTreeSet::new();
        for about in about {
            let first = Warning { about: about.clone(), text: String::new() };
            let ours = self.of_plan.range(first..).take_while(|warning| warning.about == *about);
            before.extend(ours.cloned());
        }
        for warning in &before {
            self.of_plan.remove(warning);
        }
        // The node's own may hold already, too.
        let is_new =
            |warning: &&Warning| !before.contains(warning) && !self.of_plan.contains(*warning);
        let effects = warnings.iter().filter(is_new).cloned().map(Effect::Warn).collect();
        self.of_plan.extend(warnings);
        effects
    }
}
