//! What rows are made of, for other releases: by the names of fields one release reads what another one wrote.
//!
//! A field keeps its name as long as it keeps its meaning. One that changes its meaning, or the unit it counts in, gets
//! another name.

/// A field of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Where it begins, in bits.
    pub bit: u32,
    /// How many bits it has.
    pub bits: u32,
    /// Bits from one place of a bucket to the next; 0 in rows that have no places.
    pub stride: u32,
}

impl Field {
    /// A field of whole bytes.
    #[must_use]
    pub const fn bytes(name: &'static str, offset: usize, size: usize) -> Self {
        Self { name, bit: offset as u32 * 8, bits: size as u32 * 8, stride: 0 }
    }
}

/// A row, key or value of a map, with its fields.
pub trait Fields {
    /// All of them.
    const FIELDS: &'static [Field];
}

/// A number has one field.
macro_rules! numbers {
    ($($number:ty),+) => {
        $(impl Fields for $number {
            const FIELDS: &'static [Field] = &[Field::bytes("number", 0, size_of::<Self>())];
        })+
    };
}

numbers!(u8, u32, u64);

impl<const N: usize> Fields for [u64; N] {
    const FIELDS: &'static [Field] = &[Field::bytes("words", 0, size_of::<Self>())];
}
