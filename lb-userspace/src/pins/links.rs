//! The pins of links.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::attach_point::AttachPoint;
use super::directory::{Pins, entries};
use super::error::PinError;

impl Pins {
    /// The pin of the link at `attach point` of the device with interface index `device`.
    #[must_use]
    pub fn link(&self, device: u32, point: AttachPoint) -> PathBuf {
        self.links().join(format!("{device}-{point}"))
    }

    /// The pin of the link by which the program `name` is on a control group.
    #[must_use]
    pub fn socket_link(&self, name: &str) -> PathBuf {
        self.links().join(format!("cgroup-{name}"))
    }

    /// Every link on a device that is pinned.
    ///
    /// # Errors
    /// [`PinError::File`]
    pub fn all_links(&self) -> Result<Vec<(u32, AttachPoint)>, PinError> {
        Ok(entries(&self.links())?
            .iter()
            .filter_map(|path| {
                let (device, point) = path.file_name()?.to_str()?.split_once('-')?;
                Some((device.parse().ok()?, AttachPoint::from_name(point)?))
            })
            .collect())
    }

    /// Removes the pin of a link, if it is there.
    ///
    /// # Errors
    /// [`PinError::File`]
    pub fn remove_link(&self, device: u32, point: AttachPoint) -> Result<(), PinError> {
        let pin = self.link(device, point);
        match fs::remove_file(&pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PinError::file(&pin, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
