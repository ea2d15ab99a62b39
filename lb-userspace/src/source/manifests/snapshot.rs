//! What the given paths hold at one moment: which files, and the bytes of each.
//!
//! Of a directory, the files *.yaml, *.yml and *.json count, hidden ones and those of
//! subdirectories do not: so a mounted ConfigMap, whose files are links into `..data`, counts once.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::source::error::SourceError;

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// A path of `--manifests`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ManifestPath {
    /// As it was written.
    pub(super) path: PathBuf,
    /// What it was at the start.
    pub(super) is_directory: bool,
}

impl ManifestPath {
    /// The path `path`, which must be there.
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let wrong = |cause| SourceError::Path { path: path.into(), cause };
        let metadata = path.metadata().map_err(wrong)?;
        if !metadata.is_dir() && !metadata.is_file() {
            // A pipe could be read but once, and would be waited for.
            return Err(wrong(io::Error::other("it is neither a file nor a directory")));
        }
        if metadata.is_dir() {
            path.read_dir().map(drop).map_err(wrong)?;
        }
        Ok(Self { path: path.into(), is_directory: metadata.is_dir() })
    }

    /// Its files, sorted.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        if !self.is_directory {
            return Ok(vec![self.path.clone()]);
        }
        let mut files = Vec::new();
        for entry in self.path.read_dir()? {
            let path = entry?.path();
            if counts(&path) && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Whether a file of a directory is one of manifests, by its name.
pub(super) fn counts(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(OsStr::to_str);
    !is_hidden && extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// A file by the number of the path that led to it and its own path: in the order in which files
/// are read, and in which the first of two equal objects counts.
pub(super) type FileKey = (usize, Arc<Path>);

/// What the given paths hold at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// The files there are, each once even if two paths lead to it.
    pub(super) files: Vec<(FileKey, io::Result<Vec<u8>>)>,
    /// Directories that could not be listed, by their number.
    pub(super) unlisted: Vec<(usize, PathBuf, io::Error)>,
    /// Paths that hold no file at all: directories without manifests, files that are gone.
    pub(super) empty: Vec<ManifestPath>,
}

impl Snapshot {
    /// Reads everything.
    pub(super) fn take(given: &[ManifestPath]) -> Self {
        let mut snapshot = Self::default();
        let mut seen = BTreeSet::new();
        for (number, given) in given.iter().enumerate() {
            let files = match given.files() {
                Ok(files) => files,
                Err(error) => {
                    snapshot.unlisted.push((number, given.path.clone(), error));
                    continue;
                }
            };
            let found = files.into_iter().map(|file| snapshot.read(number, file, &mut seen));
            if found.filter(|is_there| *is_there).count() == 0 {
                snapshot.empty.push(given.clone());
            }
        }
        snapshot
    }

    /// Whether the file is there; one that vanished since it was listed is not.
    fn read(&mut self, number: usize, file: PathBuf, seen: &mut BTreeSet<PathBuf>) -> bool {
        let bytes = std::fs::read(&file);
        if bytes.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return false;
        }
        let real = file.canonicalize().unwrap_or_else(|_| file.clone());
        if seen.insert(real) {
            self.files.push(((number, file.into()), bytes));
        }
        true
    }
}

/// The directories in which a change of what `given` hold would be seen: those given, the one each
/// path stands in, and where links lead.
pub(super) fn directories(given: &[ManifestPath]) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for given in given {
        directories.extend(directory_of(&given.path));
        if given.is_directory {
            directories.insert(given.path.clone());
        }
        for file in given.files().unwrap_or_default() {
            let real = file.canonicalize().ok().filter(|real| *real != file);
            directories.extend(real.as_deref().and_then(directory_of));
        }
    }
    directories
}

fn directory_of(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { ".".into() } else { parent.into() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(paths: &[&Path]) -> Vec<String> {
        let given: Vec<ManifestPath> =
            paths.iter().map(|path| ManifestPath::open(path).unwrap()).collect();
        let files = Snapshot::take(&given).files;
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        files.iter().map(|((_, path), _)| name(path)).collect()
    }

    #[test]
    fn of_a_directory_the_visible_manifests_count_sorted() {
        let directory = tempfile::tempdir().unwrap();
        for file in ["b.yaml", "a.yml", "c.json", ".d.yaml", "e.yaml~", "f.txt", "yaml"] {
            fs::write(directory.path().join(file), "").unwrap();
        }
        fs::create_dir(directory.path().join("g.yaml")).unwrap();
        assert_eq!(names(&[directory.path()]), ["a.yml", "b.yaml", "c.json"]);
    }

    #[test]
    fn a_mounted_config_map_counts_once_and_its_swap_is_watched() {
        let directory = tempfile::tempdir().unwrap();
        let version = directory.path().join("..2026_01_01");
        fs::create_dir(&version).unwrap();
        fs::write(version.join("a.yaml"), "").unwrap();
        symlink("..2026_01_01", directory.path().join("..data")).unwrap();
        symlink("..data/a.yaml", directory.path().join("a.yaml")).unwrap();
        assert_eq!(names(&[directory.path()]), ["a.yaml"]);
        let watched = directories(&[ManifestPath::open(directory.path()).unwrap()]);
        assert!(watched.contains(directory.path()));
        assert!(watched.contains(&version.canonicalize().unwrap()));
    }

    #[test]
    fn a_file_that_two_paths_lead_to_is_read_once_and_a_given_file_needs_no_extension() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("a.yaml"), directory.path().join("services"));
        fs::write(&file, "").unwrap();
        fs::write(&other, "").unwrap();
        assert_eq!(names(&[&file, directory.path(), &other]), ["a.yaml", "services"]);
    }

    #[test]
    fn a_path_that_leads_nowhere_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let error =
            ManifestPath::open(&directory.path().join("none.yaml")).unwrap_err().to_string();
        assert!(
            error.contains("none.yaml") && error.contains("give --manifests a file"),
            "{error}"
        );
        let error = ManifestPath::open(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(error.contains("neither a file nor a directory"), "{error}");
    }
}
