//! From a row of another layout to one of this build's, field by field.

use std::collections::BTreeMap;

use lb_common::fields::Field;

use crate::pins::Span;

/// How a row of one layout becomes one of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conversion {
    moves: Vec<(Span, Span)>,
    /// Bytes of a row that comes of it.
    size: usize,
}

impl Conversion {
    /// From rows with the fields `theirs` to rows of `size` bytes with the fields `ours`; also returns the names of
    /// fields that are only among `ours`, which become zero.
    #[must_use]
    pub fn new<'a>(
        theirs: &BTreeMap<String, Span>,
        ours: impl IntoIterator<Item = &'a Field>,
        size: usize,
    ) -> (Self, Vec<&'static str>) {
        let (mut moves, mut missing) = (Vec::new(), Vec::new());
        for field in ours {
            match theirs.get(field.name) {
                Some(there) => moves.push((*there, Span::from(field))),
                None => missing.push(field.name),
            }
        }
        (Self { moves, size }, missing)
    }

    /// The row that comes of `row`, of whose places `place` is meant; it becomes the first one. `None` if a value does not
    /// fit, or a field is not within `row`.
    #[must_use]
    pub fn of(&self, row: &[u8], place: u32) -> Option<Vec<u8>> {
        let mut converted = vec![0; self.size];
        for (from, to) in &self.moves {
            let first = from.bit + place * from.stride;
            for done in (0..from.bits).step_by(WORD as usize) {
                let value = bits(row, first + done, WORD.min(from.bits - done))?;
                let room = to.bits.saturating_sub(done).min(WORD);
                if room < WORD && value >> room != 0 {
                    return None;
                }
                set_bits(&mut converted, to.bit + done, value)?;
            }
        }
        Some(converted)
    }
}

/// Bits that are moved at once.
const WORD: u32 = u64::BITS;

/// `count` bits of `row`, at most [`WORD`], from bit `first` on.
#[must_use]
pub fn bits(row: &[u8], first: u32, count: u32) -> Option<u64> {
    let mut bytes = [0; size_of::<u128>()];
    let (start, end) = (first as usize / 8, (first + count).div_ceil(8) as usize);
    let there = row.get(start..end)?;
    bytes.get_mut(..there.len())?.copy_from_slice(there);
    let value = u128::from_le_bytes(bytes) >> (first % 8) & ((1 << count) - 1);
    u64::try_from(value).ok()
}

/// Sets the bits of `value` in `row`, which are zero there.
fn set_bits(row: &mut [u8], first: u32, value: u64) -> Option<()> {
    let bytes = (u128::from(value) << (first % 8)).to_le_bytes();
    for (index, byte) in bytes.into_iter().enumerate().filter(|(_, byte)| *byte != 0) {
        *row.get_mut(first as usize / 8 + index)? |= byte;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn field(name: &'static str, bit: u32, bits: u32) -> Field {
        Field { name, bit, bits, stride: 0 }
    }

    fn spans(fields: &[Field]) -> BTreeMap<String, Span> {
        fields.iter().map(|field| (field.name.to_owned(), field.into())).collect()
    }

    #[test]
    fn fields_are_found_by_their_names_wherever_they_are() {
        let theirs = [field("a", 0, 8), field("b", 8, 16), field("gone", 24, 8)];
        let ours = [field("b", 0, 32), field("new", 32, 8), field("a", 41, 8)];
        let (conversion, missing) = Conversion::new(&spans(&theirs), &ours, 7);
        assert_eq!(missing, ["new"]);
        let converted = conversion.of(&[0x81, 0x34, 0x12, 0xff], 0).unwrap();
        assert_eq!(converted, [0x34, 0x12, 0, 0, 0, 0x81 << 1, 1]);
    }

    #[test]
    fn a_value_that_does_not_fit_is_not_cut() {
        let (conversion, _) =
            Conversion::new(&spans(&[field("a", 0, 16)]), &[field("a", 0, 12)], 2);
        assert_eq!(conversion.of(&[0xff, 0x0f], 0), Some(vec![0xff, 0x0f]));
        assert_eq!(conversion.of(&[0xff, 0x1f], 0), None);
        assert_eq!(conversion.of(&[0xff], 0), None);
    }

    #[test]
    fn each_place_of_a_bucket_is_converted() {
        let theirs = Field { stride: 16, ..field("a", 8, 8) };
        let (conversion, _) = Conversion::new(&spans(&[theirs]), &[field("a", 0, 8)], 1);
        assert_eq!(conversion.of(&[1, 2, 3, 4], 0), Some(vec![2]));
        assert_eq!(conversion.of(&[1, 2, 3, 4], 1), Some(vec![4]));
        assert_eq!(conversion.of(&[1, 2, 3, 4], 2), None);
    }
}
