//! The last good state of every file. A file that cannot be read keeps what it held before, and
//! says why; the error goes when it can be read again.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::document::{self, Contents, Mistake};
use super::snapshot::{FileKey, ManifestPath, Snapshot};
use crate::source::warning::{FilePosition, SourceWarning};

/// Every file by its position in the order.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<FileKey, File>,
    /// What is wrong with the paths themselves.
    warnings: Vec<SourceWarning>,
}

#[derive(Debug, Default)]
struct File {
    /// Of the bytes last read, so that a file that was not changed is not parsed again.
    digest: Option<u64>,
    good: Contents,
    warning: Option<SourceWarning>,
}

impl Files {
    /// Takes in what the paths hold now. A file that is gone takes its objects along; a directory
    /// that cannot be listed keeps its files, since they are more likely out of reach than gone.
    pub(super) fn take(&mut self, snapshot: Snapshot) {
        let mut before = std::mem::take(&mut self.files);
        for (key, bytes) in snapshot.files {
            let mut file = before.remove(&key).unwrap_or_default();
            file.take(&key.1, bytes);
            self.files.insert(key, file);
        }
        let is_kept = |number| snapshot.unlisted.iter().any(|(unlisted, ..)| *unlisted == number);
        self.files.extend(before.into_iter().filter(|((number, _), _)| is_kept(*number)));
        let unlisted = snapshot.unlisted.iter().map(|(_, path, error)| unlisted(path, error));
        self.warnings = unlisted.chain(snapshot.empty.iter().map(empty)).collect();
    }

    /// What each file holds, in the order in which the first of two equal objects counts.
    pub(super) fn contents(&self) -> impl Iterator<Item = (&Arc<Path>, &Contents)> {
        self.files.iter().map(|((_, path), file)| (path, &file.good))
    }

    /// What cannot be read.
    pub(super) fn warnings(&self) -> impl Iterator<Item = &SourceWarning> {
        self.warnings.iter().chain(self.files.values().filter_map(|file| file.warning.as_ref()))
    }
}

impl File {
    fn take(&mut self, path: &Arc<Path>, bytes: io::Result<Vec<u8>>) {
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                self.digest = None;
                let reason =
                    format!("cannot be read ({error}): {}", self.what_stays("make it readable"));
                self.warning = Some(SourceWarning::Unreadable {
                    position: FilePosition::whole(&**path),
                    reason,
                });
                return;
            }
        };
        let digest = Some(digest(&bytes));
        if self.digest == digest {
            return;
        }
        self.digest = digest;
        match self.parse(&bytes) {
            Ok(contents) => {
                self.good = contents;
                self.warning = None;
            }
            Err(mistake) => {
                let reason = format!("{}: {}", mistake.reason, self.what_stays("correct the file"));
                self.warning = Some(SourceWarning::Unreadable {
                    position: FilePosition::line(path, mistake.line),
                    reason,
                });
            }
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Contents, Mistake> {
        let text = std::str::from_utf8(bytes).map_err(|error| Mistake {
            line: 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count()
                as u64,
            reason: "not UTF-8 text".into(),
        })?;
        // A shell empties a file before what is to fill it has begun.
        if text.trim().is_empty() && !self.good.is_empty() {
            return Err(Mistake {
                line: 1,
                reason: "empty now (remove the file if its objects are to go)".into(),
            });
        }
        document::parse(text)
    }

    fn what_stays(&self, todo: &str) -> String {
        let stays = if self.good.is_empty() {
            "nothing changes in the kernel before it can be read"
        } else {
            "what it held before stays"
        };
        format!("{stays}; {todo}, and it is read again by itself")
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn unlisted(path: &Path, error: &io::Error) -> SourceWarning {
    SourceWarning::Unreadable {
        position: FilePosition::whole(path),
        reason: format!(
            "cannot be listed ({error}): what its files held before stays; bring the directory back, \
             or restart weir without it"
        ),
    }
}

fn empty(given: &ManifestPath) -> SourceWarning {
    SourceWarning::Unreadable {
        position: FilePosition::whole(&*given.path),
        reason: if given.is_directory {
            "holds no file *.yaml, *.yml or *.json: put one there".into()
        } else {
            "is gone, and its objects with it: bring it back, or restart weir without it".into()
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str =
        "kind: Service\nmetadata: {name: a}\n---\nkind: Service\nmetadata: {name: b}\n";

    fn snapshot(files: &[(&str, &[u8])]) -> Snapshot {
        let files =
            files.iter().map(|(path, bytes)| ((0, Path::new(path).into()), Ok(bytes.to_vec())));
        Snapshot { files: files.collect(), ..Snapshot::default() }
    }

    fn objects(files: &Files) -> usize {
        files.contents().map(|(_, contents)| contents.objects.len()).sum()
    }

    fn warnings(files: &Files) -> Vec<String> {
        files.warnings().map(ToString::to_string).collect()
    }

    #[test]
    fn a_broken_file_keeps_what_it_held_and_heals() {
        let mut files = Files::default();
        files.take(snapshot(&[("a.yaml", GOOD.as_bytes())]));
        assert_eq!((objects(&files), warnings(&files).len()), (2, 0));
        files.take(snapshot(&[("a.yaml", b"kind: Service\nmetadata: {name\n")]));
        assert_eq!(objects(&files), 2);
        assert!(warnings(&files)[0].starts_with("a.yaml:"), "{:?}", warnings(&files));
        assert!(warnings(&files)[0].contains("what it held before stays; correct the file"));
        files.take(snapshot(&[("a.yaml", b"kind: Service\nmetadata: {name: c}\n")]));
        assert_eq!((objects(&files), warnings(&files).len()), (1, 0));
    }

    #[test]
    fn a_file_broken_from_the_start_leaves_the_others_alone() {
        let mut files = Files::default();
        files.take(snapshot(&[("a.yaml", b"{"), ("b.yaml", GOOD.as_bytes())]));
        assert_eq!(objects(&files), 2);
        assert!(
            warnings(&files)[0].contains("nothing changes in the kernel before it can be read")
        );
    }

    #[test]
    fn a_file_that_is_removed_takes_its_objects_along() {
        let mut files = Files::default();
        files.take(snapshot(&[
            ("a.yaml", GOOD.as_bytes()),
            ("b.yaml", b"kind: Pod\nmetadata: {name: a}\n"),
        ]));
        assert_eq!(objects(&files), 3);
        files.take(snapshot(&[("b.yaml", b"kind: Pod\nmetadata: {name: a}\n")]));
        assert_eq!((objects(&files), warnings(&files).len()), (1, 0));
    }

    #[test]
    fn a_file_that_is_emptied_keeps_what_it_held() {
        let mut files = Files::default();
        files.take(snapshot(&[("a.yaml", GOOD.as_bytes())]));
        files.take(snapshot(&[("a.yaml", b" \n")]));
        assert_eq!(objects(&files), 2);
        assert!(warnings(&files)[0].contains("remove the file if its objects are to go"));
    }

    #[test]
    fn files_out_of_reach_keep_what_they_held() {
        let mut files = Files::default();
        files.take(snapshot(&[("d/a.yaml", GOOD.as_bytes())]));
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        files.take(Snapshot {
            files: vec![((0, Path::new("d/a.yaml").into()), Err(denied()))],
            ..Snapshot::default()
        });
        assert_eq!(objects(&files), 2);
        assert!(warnings(&files)[0].contains("make it readable"));
        files.take(Snapshot { unlisted: vec![(0, "d".into(), denied())], ..Snapshot::default() });
        assert_eq!(objects(&files), 2);
        assert!(warnings(&files)[0].contains("bring the directory back"), "{:?}", warnings(&files));
        files.take(snapshot(&[("d/a.yaml", GOOD.as_bytes())]));
        assert_eq!((objects(&files), warnings(&files).len()), (2, 0));
    }

    #[test]
    fn bytes_that_are_no_text_are_told_with_their_line() {
        let mut files = Files::default();
        files.take(snapshot(&[("a.yaml", b"kind: Service\n\xff\n")]));
        assert!(warnings(&files)[0].starts_with("a.yaml:2: not UTF-8 text"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_none_that_are_broken_change_the_last_good_state(bytes: Vec<u8>, cut in 0..GOOD.len()) {
            for bytes in [&bytes, &GOOD.as_bytes()[..cut].to_vec()] {
                let mut files = Files::default();
                files.take(snapshot(&[("a.yaml", GOOD.as_bytes())]));
                files.take(snapshot(&[("a.yaml", bytes)]));
                if !warnings(&files).is_empty() {
                    prop_assert_eq!(objects(&files), 2);
                }
            }
        }
    }
}
