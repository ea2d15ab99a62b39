//! Maps of other sizes, pinned beside those in use until they take their place.

use std::fs;
use std::path::Path;

use aya::maps::MapData;
use lb_common::maps::{self, Capacities, Capacity};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::directory::{MAPS, Pins, RESIZED, TRIAL, entries, remove_directory};
use super::error::PinError;
use super::layout::value_fields;
use super::shape::Shape;

impl Pins {
    /// The pins of the maps that are to take the place of these. Links are the same.
    #[must_use]
    pub fn resized(&self) -> Self {
        Self { folder: RESIZED, ..self.clone() }
    }

    /// The sizes of the maps that are pinned; `None` if one is missing, or of another layout. `processors` are those
    /// of the node.
    ///
    /// # Errors
    /// [`PinError::Map`]
    pub fn capacities(&self, processors: u32) -> Result<Option<Capacities>, PinError> {
        let mut there = Capacities { processors, ..Capacities::default() };
        for map in maps::pinned() {
            let Some(shape) = self.shape(map)? else { return Ok(None) };
            let wanted = Shape::wanted(map, &there);
            if (Shape { entries: wanted.entries, ..shape }) != wanted {
                return Ok(None);
            }
            set_size(&mut there, map, shape.entries);
        }
        Ok(Some(there))
    }

    /// The sizes of maps of another layout; those of `wanted` where it has no such map.
    ///
    /// # Errors
    /// [`PinError::Map`]
    pub fn sizes(&self, wanted: &Capacities) -> Result<Capacities, PinError> {
        let mut there = *wanted;
        for map in maps::pinned() {
            let Some(shape) = self.shape(map)? else { continue };
            let places = self.other_layout().and_then(|layout| layout.rows(map.name));
            let places = places.map_or(1, |rows| rows.places.max(1));
            let (own_places, _) = value_fields(map);
            set_size(&mut there, map, shape.entries.saturating_mul(places) / own_places);
        }
        Ok(there)
    }

    /// Pins `map` of `other` here, too.
    ///
    /// # Errors
    /// [`PinError::Map`], [`PinError::File`]
    pub fn share(&self, map: &maps::Map, other: &Self) -> Result<(), PinError> {
        let path = other.map(map);
        let data = MapData::from_pin(&path).map_err(|error| PinError::Map { path, error })?;
        let pin = self.map(map);
        data.pin(&pin).map_err(|error| PinError::file(&pin, std::io::Error::other(error)))
    }

    /// Makes the folder of resized maps, and tries whether it can take the place of another (Linux 5.17 on a BPF file
    /// system, <https://git.kernel.org/torvalds/c/3871cb8cf741>): that must be known before programs use what is in it.
    ///
    /// # Errors
    /// [`PinError::File`]
    pub fn create_resized(&self) -> Result<(), PinError> {
        let [resized, trial] = [RESIZED, TRIAL].map(|folder| self.directory.join(folder));
        self.resized().create()?;
        fs::create_dir_all(&trial).map_err(|error| PinError::file(&trial, error))?;
        let tried = exchange(&trial, &resized);
        remove_directory(&trial)?;
        tried
    }

    /// Puts the resized maps in the place of those in use, all at once.
    ///
    /// # Errors
    /// [`PinError::File`]; nothing is changed.
    pub fn exchange(&self) -> Result<(), PinError> {
        let [in_use, resized] = [MAPS, RESIZED].map(|folder| self.directory.join(folder));
        exchange(&in_use, &resized)
    }

    /// Removes the pins of resized maps, if there are any. What is attached keeps the maps it works on.
    ///
    /// # Errors
    /// [`PinError::File`]
    pub fn discard_resized(&self) -> Result<(), PinError> {
        let folder = self.resized().maps();
        for pin in entries(&folder)? {
            fs::remove_file(&pin).map_err(|error| PinError::file(&pin, error))?;
        }
        remove_directory(&folder)
    }

    /// Removes the pin of a map, if it is there.
    ///
    /// # Errors
    /// [`PinError::File`]
    pub fn remove_map(&self, map: &maps::Map) -> Result<(), PinError> {
        let pin = self.map(map);
        match fs::remove_file(&pin) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(PinError::file(&pin, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Notes the size that `map` has with so many `elements`.
fn set_size(sizes: &mut Capacities, map: &maps::Map, elements: u32) {
    let usable = map.capacity.usable(elements);
    match map.capacity {
        Capacity::Fixed(_) => {}
        Capacity::Services => sizes.services = usable,
        Capacity::Frontends => sizes.frontends = usable,
        Capacity::Slots => sizes.slots = usable,
        Capacity::Backends => sizes.backends = usable,
        Capacity::ConntrackBuckets => sizes.conntrack = usable,
        Capacity::HalfOpenBuckets => sizes.half_open = usable,
        Capacity::Affinity => sizes.affinity = usable,
    }
}

/// Puts one folder in the place of the other, and that one in its place, in one step.
fn exchange(one: &Path, other: &Path) -> Result<(), PinError> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
        .map_err(|error| PinError::file(other, error.into()))
}
