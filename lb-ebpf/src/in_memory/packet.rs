//! A frame in memory.

use crate::packet::{COPIED, LINK_HEADER, Packet, WriteError};

impl Packet for Vec<u8> {
    fn header<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.get_mut(offset..)?.first_chunk_mut()
    }

    fn length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn copy(
        &mut self,
        offset: usize,
        length: u32,
        into: &mut [u8; COPIED],
        at: usize,
    ) -> Result<(), WriteError> {
        let from = self.get(offset..).and_then(|rest| rest.get(..length as usize));
        let into = into.get_mut(at..).and_then(|rest| rest.get_mut(..length as usize));
        into.zip(from).map(|(into, from)| into.copy_from_slice(from)).ok_or(WriteError)
    }

    fn replace(&mut self, from: &[u8; COPIED], length: u32) -> Result<(), WriteError> {
        let with = from.get(..length as usize).ok_or(WriteError)?;
        self.truncate(LINK_HEADER);
        self.extend_from_slice(with);
        Ok(())
    }
}

/// A frame in memory that the kernel is to cut into packets.
#[derive(Debug)]
pub struct Segmented<'a> {
    /// Its bytes.
    pub frame: &'a mut Vec<u8>,
    /// Bytes of transport payload in each packet; 0 for a frame that is not to be cut.
    pub segment: u32,
}

impl Packet for Segmented<'_> {
    fn header<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.frame.header(offset)
    }

    fn length(&self) -> u32 {
        self.frame.length()
    }

    fn segment(&self) -> u32 {
        self.segment
    }

    fn copy(
        &mut self,
        offset: usize,
        length: u32,
        into: &mut [u8; COPIED],
        at: usize,
    ) -> Result<(), WriteError> {
        self.frame.copy(offset, length, into, at)
    }

    fn replace(&mut self, from: &[u8; COPIED], length: u32) -> Result<(), WriteError> {
        self.frame.replace(from, length)
    }
}
