//! The layout of pinned maps, as text beside them: so a release reads what another one has written, be it older or newer.

use std::collections::BTreeMap;
use std::fmt::Write;

use lb_common::address::Family;
use lb_common::conntrack::table;
use lb_common::fields::Field;
use lb_common::layout::VERSION;
use lb_common::maps::{self, Capacity};

/// What the maps of a release look like.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Layout {
    /// Its version; 0 if that is not known.
    pub version: u32,
    maps: BTreeMap<String, Rows>,
}

/// A line of a layout that does not say what it should.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {number} of its layout cannot be read: `{line}`")]
pub struct LayoutError {
    number: usize,
    line: String,
}

/// What the rows of one map look like.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rows {
    /// Places of a value that is a bucket; 1 of any other.
    pub places: u32,
    /// The fields of a key, by name.
    pub key: BTreeMap<String, Span>,
    /// The fields of a value, by name.
    pub value: BTreeMap<String, Span>,
}

/// Where a field is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Where it begins, in bits.
    pub bit: u32,
    /// How many bits it has.
    pub bits: u32,
    /// Bits from one place to the next.
    pub stride: u32,
}

impl From<&Field> for Span {
    fn from(field: &Field) -> Self {
        Self { bit: field.bit, bits: field.bits, stride: field.stride }
    }
}

impl Layout {
    /// This build's, as text: lines of words. The kind and the sizes of each map are part of it, as two builds that
    /// differ in these cannot share maps.
    #[must_use]
    pub fn own_text() -> String {
        let mut text = format!("version {VERSION}\n");
        for map in maps::pinned() {
            let fixed = if let Capacity::Fixed(entries) = map.capacity { entries } else { 0 };
            let (places, value) = value_fields(map);
            let [key_size, value_size] = [map.key_size, map.value_size];
            let kind = map.kind;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "map {} {places} {kind:?} {fixed} {key_size} {value_size}",
                map.name
            );
            for (part, fields) in [("key", vec![map.key]), ("value", value)] {
                for Field { name, bit, bits, stride } in fields.into_iter().flatten() {
                    let _ = writeln!(text, "{part} {name} {bit} {bits} {stride}");
                }
            }
        }
        text
    }

    /// What `text` says. Lines of another kind than those that [`Layout::own_text`] writes, and words behind theirs, are
    /// skipped: a later release may have more.
    ///
    /// # Errors
    /// [`LayoutError`], for the first line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, LayoutError> {
        let mut layout = Self::default();
        let mut last = None;
        for (index, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            layout
                .read(&words, &mut last)
                .ok_or_else(|| LayoutError { number: index + 1, line: line.into() })?;
        }
        Ok(layout)
    }

    /// Takes in the words of a line, which are about the map called `last` unless they name another; `None` if they cannot
    /// be read.
    fn read(&mut self, words: &[&str], last: &mut Option<String>) -> Option<()> {
        match *words {
            ["version", version, ..] => self.version = version.parse().ok()?,
            ["map", name, places, ..] => {
                let rows = Rows { places: places.parse().ok()?, ..Rows::default() };
                self.maps.insert(name.into(), rows);
                *last = Some(name.into());
            }
            [part @ ("key" | "value"), name, bit, bits, stride, ..] => {
                let rows = self.maps.get_mut(last.as_ref()?)?;
                let fields = if part == "key" { &mut rows.key } else { &mut rows.value };
                let [bit, bits, stride] = [bit, bits, stride].map(|word| word.parse().ok());
                fields.insert(name.into(), Span { bit: bit?, bits: bits?, stride: stride? });
            }
            ["version" | "map" | "key" | "value", ..] => return None,
            [..] => {}
        }
        Some(())
    }

    /// What the rows of the map called `name` look like; `None` if this layout has no such map.
    #[must_use]
    pub fn rows(&self, name: &str) -> Option<&Rows> {
        self.maps.get(name)
    }
}

/// How many places the values of `map` have, and their fields.
#[must_use]
pub fn value_fields(map: &maps::Map) -> (u32, Vec<&'static [Field]>) {
    let tables = [&maps::CONNTRACK, &maps::HALF_OPEN];
    let is_of = |family| tables.iter().any(|tables| tables.of(family).name == map.name);
    match Family::ALL.into_iter().find(|family| is_of(*family)) {
        Some(family) => (table::WAYS, table::fields(family).to_vec()),
        None => (1, vec![map.value]),
    }
}

#[cfg(test)]
mod tests {
    use lb_common::maps::LayoutText;

    use super::*;

    #[test]
    fn the_text_of_a_layout_fits_and_says_where_each_field_is() {
        let text = Layout::own_text();
        assert!(text.len() <= size_of::<LayoutText>(), "{} bytes", text.len());
        let layout = Layout::parse(&text).unwrap();
        assert_eq!(layout.version, VERSION);
        for map in maps::pinned() {
            let rows = layout.rows(map.name).unwrap();
            let (places, value) = value_fields(map);
            assert_eq!(rows.places, places);
            let spans = |fields: &[Field]| -> BTreeMap<String, Span> {
                fields.iter().map(|field| (field.name.to_owned(), field.into())).collect()
            };
            assert_eq!(rows.key, spans(map.key));
            assert_eq!(rows.value, spans(&value.concat()), "{}", map.name);
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_one_of_another_kind_is_skipped() {
        let text = Layout::own_text();
        let more = text.replace("version", "note of a later release\nversion");
        assert_eq!(Layout::parse(&more), Layout::parse(&text));
        for (broken, number) in [
            ("key a 0 8 0", 1),
            ("version 4\nmap FRONTENDS_V4", 2),
            ("map A 1\nvalue b 0 eight 0", 2),
            ("map A one", 1),
        ] {
            let error = Layout::parse(broken).unwrap_err().to_string();
            assert!(error.contains(&format!("line {number} ")), "{error}");
        }
    }

    #[test]
    fn no_two_fields_of_a_row_overlap() {
        for map in maps::pinned() {
            let (places, value) = value_fields(map);
            let mut taken = vec![false; map.value_size as usize * 8];
            for field in value.concat() {
                for place in 0..places {
                    let first = field.bit + place * field.stride;
                    for bit in first..first + field.bits {
                        let was = std::mem::replace(&mut taken[bit as usize], true);
                        assert!(!was, "{} {} {place}", map.name, field.name);
                    }
                }
            }
        }
    }
}
