//! From a file's text to its objects. A file holds YAML documents separated by `---`, as kubectl
//! splits them; a document is an object or a List of objects; JSON is YAML.
//!
//! A document is read twice: first for what it and the items of a List are, then each object as
//! its own type, so that an error has the line it is in.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{
    Deserializer as YamlDeserializer, Error as YamlError, Options, Spanned, UserMessageFormatter,
};

use super::object::{Kind, Object};

/// What a file holds.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Contents {
    /// The objects, each with the line it begins at.
    pub(super) objects: Vec<(u64, Object)>,
    /// What Weir does not read: the line it begins at and its kind.
    pub(super) skipped: Vec<(u64, String)>,
}

/// Why a file cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mistake {
    /// The line, from 1.
    pub(super) line: u64,
    /// What is wrong with it.
    pub(super) reason: String,
}

/// The objects of a file.
///
/// # Errors
///
/// The first mistake: nothing of a file with a mistake is taken.
pub(super) fn parse(text: &str) -> Result<Contents, Mistake> {
    let mut contents = Contents::default();
    for document in documents(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        document.read_into(&mut contents)?;
    }
    Ok(contents)
}

/// One document, and how many lines of the file stand before it.
struct Document<'a> {
    lines_before: u64,
    text: &'a str,
}

/// Splits at lines that begin with `---`, which YAML allows nowhere within a document (YAML 1.2.2,
/// 9.1.2). The marker stays with the document it begins.
fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut lines_before) = (0, 0);
    let mut offset = 0;
    for (line, line_text) in (0..).zip(text.split_inclusive('\n')) {
        if is_marker(line_text) && offset > 0 {
            documents.extend(document(&text[start..offset], lines_before));
            (start, lines_before) = (offset, line);
        }
        offset += line_text.len();
    }
    documents.extend(document(&text[start..], lines_before));
    documents
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// `None` for what comes before the first marker if that is comments and directives alone.
fn document(text: &str, lines_before: u64) -> Option<Document<'_>> {
    let is_idle = |line: &str| line.trim().is_empty() || line.starts_with(['#', '%']);
    (!text.lines().all(is_idle)).then_some(Document { lines_before, text })
}

/// What comes first about a document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
}

/// What comes first about the items of a List.
#[derive(Deserialize)]
struct ListHead {
    #[serde(default)]
    items: Vec<Spanned<Head>>,
}

impl Document<'_> {
    fn read_into(&self, contents: &mut Contents) -> Result<(), Mistake> {
        let Some(head) =
            self.parse(|deserializer| Option::<Spanned<Head>>::deserialize(deserializer))?
        else {
            return Ok(());
        };
        let line = self.line(head.referenced.line());
        let Some(kind) = head.value.kind else {
            return Err(Mistake { line, reason: "an object without a kind".into() });
        };
        if let Some(item_kind) = kind.strip_suffix("List") {
            return self.read_list(item_kind, contents);
        }
        let kind = Kind::of(head.value.api_version.as_deref(), &kind);
        let object = self.parse(|deserializer| kind.read(deserializer))?;
        contents.add(line, &kind, object)
    }

    /// The items of a List say what they are; those of a `ServiceList`, as the API server sends it,
    /// do not.
    fn read_list(&self, item_kind: &str, contents: &mut Contents) -> Result<(), Mistake> {
        let heads = self.parse(|deserializer| ListHead::deserialize(deserializer))?.items;
        let kinds: Vec<Kind> = heads
            .iter()
            .map(|head| {
                let kind = head.value.kind.as_deref().unwrap_or(item_kind);
                Kind::of(head.value.api_version.as_deref(), kind)
            })
            .collect();
        let objects = self.parse(|deserializer| deserializer.deserialize_map(List(&kinds)))?;
        for ((head, kind), object) in heads.iter().zip(&kinds).zip(objects) {
            contents.add(self.line(head.referenced.line()), kind, object)?;
        }
        Ok(())
    }

    fn line(&self, line_of_document: u64) -> u64 {
        self.lines_before + line_of_document.max(1)
    }

    fn parse<T>(
        &self,
        read: impl for<'e> FnOnce(YamlDeserializer<'_, 'e>) -> Result<T, YamlError>,
    ) -> Result<T, Mistake> {
        serde_saphyr::with_deserializer_from_str_with_options(self.text, options(), read)
            .map_err(|error| self.mistake(&error))
    }

    fn mistake(&self, error: &YamlError) -> Mistake {
        let mut reason = error.render_with_formatter(&UserMessageFormatter);
        let location = error.location();
        let line = location.map_or(1, |location| location.line());
        if let Some(location) = location {
            let suffix = format!(" at line {}, column {}", location.line(), location.column());
            reason = reason.strip_suffix(&suffix).unwrap_or(&reason).into();
        }
        let nth = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
        if let Some(text) =
            self.text.lines().nth(nth).map(str::trim).filter(|text| !text.is_empty())
        {
            let shown: String = text.chars().take(60).collect();
            reason = format!("{reason}, in `{shown}`");
        }
        Mistake { line: self.line(line), reason }
    }
}

/// As large as a cluster's whole state may be; but aliases, which kubectl never writes, may not make
/// a small file large. Snippets are left out because a warning has the line already.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 1_000_000_000,
            max_nodes: 1_000_000_000,
            max_total_scalar_bytes: 1 << 32,
            max_total_comment_bytes: 1 << 32,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 50_000 },
        with_snippet: false,
    }
}

/// Reads the field `items`, each item as the kind it was found to be.
struct List<'a>(&'a [Kind]);

impl<'de> Visitor<'de> for List<'_> {
    type Value = Vec<Option<Object>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a List")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                objects = map.next_value_seed(Items(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(objects)
    }
}

struct Items<'a>(&'a [Kind]);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = Vec<Option<Object>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<Option<Object>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the items of a List")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::with_capacity(self.0.len());
        for kind in self.0 {
            objects.extend(items.next_element_seed(Item(kind))?);
        }
        Ok(objects)
    }
}

struct Item<'a>(&'a Kind);

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = Option<Object>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.read(deserializer)
    }
}

impl Contents {
    /// Whether the file held nothing at all, not even what Weir skips.
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.skipped.is_empty()
    }

    fn add(&mut self, line: u64, kind: &Kind, object: Option<Object>) -> Result<(), Mistake> {
        match object {
            None => self.skipped.push((line, kind.word().into())),
            Some(object) if object.is_named() => self.objects.push((line, object)),
            Some(_) => {
                return Err(Mistake {
                    line,
                    reason: format!("a {} without metadata.name", kind.word()),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
