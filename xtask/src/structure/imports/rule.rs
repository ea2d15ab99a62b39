//! A rule about imports.

/// One rule: files that may not import something, and what to do instead.
pub struct Rule {
    /// Files, or folders of them.
    pub files: &'static [&'static str],
    /// Files among them that may.
    pub except: &'static [&'static str],
    /// What they must not import.
    pub names: &'static [&'static str],
    /// Names among them that may be imported.
    pub but: &'static [&'static str],
    /// What to do instead: a sentence.
    pub instead: &'static str,
}

impl Rule {
    /// Whether this rule is about `file`.
    pub fn applies_to(&self, file: &str) -> bool {
        let within = |prefixes: &[&str]| prefixes.iter().any(|prefix| file.starts_with(prefix));
        within(self.files) && !within(self.except)
    }

    /// Whether `path` must not be imported.
    pub fn forbids(&self, path: &str) -> bool {
        let under = |roots: &[&str]| roots.iter().any(|root| is_under(path, root));
        under(self.names) && !under(self.but)
    }
}

fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
