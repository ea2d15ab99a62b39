//! The map that says which layout the others have.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use aya::maps::MapData;
use lb_common::maps::{self, LayoutText};

use super::directory::Pins;
use super::error::PinError;
use super::layout::Layout;
use crate::host::syscall;

impl Pins {
    /// Notes the layout of what is pinned, which is this build's.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn write_layout(&self) -> io::Result<()> {
        let mut text: LayoutText = [0; 2048];
        let own = Layout::own_text();
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut text);
        let room = bytes.get_mut(..own.len());
        let room = room.ok_or_else(|| io::Error::other("its text does not fit: report this"))?;
        room.copy_from_slice(own.as_bytes());
        let map = MapData::from_pin(self.map(&maps::LAYOUT)).map_err(io::Error::other)?;
        syscall::replace(map.fd().as_fd(), &0_u32, &text)
    }

    /// The layout of what is pinned, as text; `None` if nothing says which it is.
    ///
    /// # Errors
    /// [`PinError::Map`], [`PinError::File`]
    pub fn layout_text(&self) -> Result<Option<String>, PinError> {
        let path = self.map(&maps::LAYOUT);
        if !path.exists() {
            return Ok(None);
        }
        let map = MapData::from_pin(&path);
        let map = map.map_err(|error| PinError::Map { path: path.clone(), error })?;
        let text: LayoutText = syscall::lookup(map.fd().as_fd(), &0_u32)
            .map_err(|error| PinError::file(&path, error))?;
        let bytes: &[u8] = bytemuck::cast_slice(&text);
        let written = bytes.iter().copied().take_while(|byte| *byte != 0).collect();
        let text = String::from_utf8(written).map_err(|error| {
            PinError::file(&path, io::Error::new(ErrorKind::InvalidData, error))
        })?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}
