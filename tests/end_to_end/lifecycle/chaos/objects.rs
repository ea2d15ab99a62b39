//! The agent's source of objects, which may be out of reach: a file that holds garbage, a folder that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use weir_tests::manifests::{Manifests, Offer, Rules};

/// What a file holds that is spoiled. None is empty: that says, to an agent that starts, that there are no objects.
const GARBAGE: [&str; 3] =
    ["}{ no YAML", "apiVersion: v1\nkind: Service\nmetadata: {na", "kind: Service\nspec: []\n"];

/// A folder of manifests, and what it is to hold.
#[derive(Debug)]
pub struct Objects {
    manifests: Manifests,
    wanted: BTreeMap<String, String>,
    spoiled: BTreeSet<String>,
    is_away: bool,
}

impl Objects {
    /// The folder with all that is in it already.
    pub fn new(manifests: Manifests) -> Result<Self> {
        let mut wanted = BTreeMap::new();
        for entry in fs::read_dir(manifests.folder())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            wanted.insert(name, fs::read_to_string(&path)?);
        }
        Ok(Self { manifests, wanted, spoiled: BTreeSet::new(), is_away: false })
    }

    /// The manifests.
    pub fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// Whether the folder is gone.
    pub fn is_away(&self) -> bool {
        self.is_away
    }

    /// Has the Service of `offer` there, now or once its file is no longer spoiled.
    pub fn offer(&mut self, offer: &Offer, rules: &Rules) -> Result<()> {
        let name = file(offer.name);
        self.wanted.insert(name.clone(), offer.yaml_under(rules));
        if self.spoiled.contains(&name) { Ok(()) } else { self.write(&name) }
    }

    /// Removes the Service `name`, if it is there.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        let name = file(name);
        self.spoiled.remove(&name);
        if self.wanted.remove(&name).is_some() {
            fs::remove_file(self.folder().join(name))?;
        }
        Ok(())
    }

    /// Whether the Service `name` is to be there.
    pub fn has(&self, name: &str) -> bool {
        self.wanted.contains_key(&file(name))
    }

    /// Has a file hold garbage, written into it as an editor or a full disk may leave it.
    pub fn spoil(&mut self, rng: &mut fastrand::Rng) -> Result<()> {
        let names: Vec<String> = self.wanted.keys().cloned().collect();
        let name = names[rng.usize(..names.len())].clone();
        fs::write(self.folder().join(&name), GARBAGE[rng.usize(..GARBAGE.len())])?;
        self.spoiled.insert(name);
        Ok(())
    }

    /// Whether a file holds garbage.
    pub fn is_spoiled(&self) -> bool {
        !self.spoiled.is_empty()
    }

    /// Has all files hold what they should.
    pub fn mend(&mut self) -> Result<()> {
        std::mem::take(&mut self.spoiled).iter().try_for_each(|name| self.write(name))
    }

    /// Takes the folder away, or puts it back.
    pub fn set_away(&mut self, is_away: bool) -> Result<()> {
        if self.is_away != is_away {
            let from = self.folder();
            self.is_away = is_away;
            fs::rename(from, self.folder())?;
        }
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        let folder = self.manifests.folder();
        if self.is_away { folder.with_extension("away") } else { folder.to_owned() }
    }

    /// As a whole, so that the agent never sees half of it.
    fn write(&self, name: &str) -> Result<()> {
        let unseen = self.folder().join(format!(".{name}"));
        fs::write(&unseen, &self.wanted[name])?;
        Ok(fs::rename(unseen, self.folder().join(name))?)
    }
}

fn file(service: &str) -> String {
    format!("{service}.yaml")
}
