//! The sets of maps that are pinned, one per layout while one takes over from another: `v<version>`, and later ones
//! `v<version>-<generation>`. The newest is in use; an older one is there as long as its programs hand packets over to
//! those of the next.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use aya::maps::MapData;
use lb_common::layout::VERSION;
use lb_common::maps;

use super::directory::{MAPS, Pins, RESIZED, TRIAL, entries, generation, remove_directory};
use super::error::PinError;
use super::layout::Layout;
use crate::host::syscall;

/// How far a set of maps has been handed over to the next one; the value of `HANDOVER`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handover {
    /// Its programs do everything.
    None = 0,
    /// Its programs leave flows that they do not know to the next one's.
    Begun = 1,
    /// Nothing of it is needed any more.
    Done = 2,
}

impl Pins {
    /// The sets of maps, the oldest first, each with its layout if that is not this build's.
    ///
    /// # Errors
    /// [`PinError`]
    pub fn generations(&self) -> Result<Vec<Self>, PinError> {
        let mut found = Vec::new();
        for directory in self.versions()? {
            let pins = Self::at(&directory);
            if !entries(&pins.maps())?.is_empty() {
                found.push((generation(&directory), pins.with_its_layout()?));
            }
        }
        found.sort_by_key(|(generation, _)| *generation);
        Ok(found.into_iter().map(|(_, pins)| pins).collect())
    }

    /// The newest set of maps in use, which this build must know; these pins if there is none.
    ///
    /// # Errors
    /// [`PinError::OtherVersion`]
    pub fn newest(&self) -> Result<Self, PinError> {
        let mut sets = self.generations()?;
        while let [.., before, _] = sets.as_slice()
            && before.handover()? == Handover::None
        {
            sets.pop();
        }
        match sets.pop() {
            None => Ok(self.clone()),
            Some(newest) if newest.is_own() => Ok(newest),
            Some(newest) => Err(PinError::OtherVersion(newest.directory)),
        }
    }

    /// Where the next set of maps is pinned, once these are in use.
    #[must_use]
    pub fn next(&self) -> Self {
        let number = generation(&self.directory).unwrap_or(0) + 1;
        Self::at(&self.home().join(format!("v{VERSION}-{number}")))
    }

    /// Whether the maps are of this build's layout.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        self.other.is_none()
    }

    /// The layout of the maps, if it is not this build's.
    #[must_use]
    pub fn other_layout(&self) -> Option<&Layout> {
        self.other.as_deref()
    }

    fn with_its_layout(self) -> Result<Self, PinError> {
        let layout = match self.layout_text()? {
            Some(text) if text == Layout::own_text() => return Ok(self),
            Some(text) => Layout::parse(&text)
                .map_err(|error| PinError::Layout(self.directory.clone(), error))?,
            // Made only half, or by a build that does not say it: nothing is known of its maps.
            None => Layout::default(),
        };
        Ok(Self { other: Some(Arc::new(layout)), ..self })
    }

    /// How far it has been handed over.
    ///
    /// # Errors
    /// [`PinError::Map`], [`PinError::File`]
    pub fn handover(&self) -> Result<Handover, PinError> {
        let path = self.map(&maps::HANDOVER);
        if !path.exists() {
            return Ok(Handover::None);
        }
        let word = on_pin(&path, |map| syscall::lookup::<u32, u32>(map.fd().as_fd(), &0))?;
        Ok(match word {
            0 => Handover::None,
            1 => Handover::Begun,
            _ => Handover::Done,
        })
    }

    /// Notes how far it has been handed over; its programs go by it from the next packet on.
    ///
    /// # Errors
    /// [`PinError::Map`], [`PinError::File`]
    pub fn set_handover(&self, handover: Handover) -> Result<(), PinError> {
        let path = self.map(&maps::HANDOVER);
        on_pin(&path, |map| syscall::replace(map.fd().as_fd(), &0_u32, &(handover as u32)))
    }

    /// Takes the links of devices over from `before`.
    ///
    /// # Errors
    /// [`PinError::File`]
    pub fn take_links(&self, before: &Self) -> Result<(), PinError> {
        for (device, point) in before.all_links()? {
            let (from, to) = (before.link(device, point), self.link(device, point));
            fs::rename(&from, &to).map_err(|error| PinError::file(&from, error))?;
        }
        Ok(())
    }

    /// Removes the pins of the maps, that by which the next agent knows how far it was at last; what is attached keeps
    /// what it works on. The directory stays while links are pinned there.
    ///
    /// # Errors
    /// [`PinError::File`]
    pub fn remove_maps(&self) -> Result<(), PinError> {
        let last = self.map(&maps::HANDOVER);
        for folder in [RESIZED, TRIAL, MAPS] {
            let folder = self.directory.join(folder);
            for pin in entries(&folder)?.into_iter().filter(|pin| *pin != last) {
                fs::remove_file(&pin).map_err(|error| PinError::file(&pin, error))?;
            }
            if last.parent() == Some(&folder) && last.exists() {
                fs::remove_file(&last).map_err(|error| PinError::file(&last, error))?;
            }
            remove_directory(&folder)?;
        }
        if entries(&self.links())?.is_empty() {
            remove_directory(&self.links())?;
            remove_directory(&self.directory)?;
        }
        Ok(())
    }
}

fn on_pin<T>(path: &Path, what: impl FnOnce(&MapData) -> io::Result<T>) -> Result<T, PinError> {
    let map = MapData::from_pin(path);
    let map = map.map_err(|error| PinError::Map { path: path.into(), error })?;
    what(&map).map_err(|error| PinError::file(path, error))
}
