//! The watching task: files on a real disk, changed as editors, shells and ConfigMap volumes do.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;

use super::*;

/// What the source has sent so far.
struct Listener {
    events: Receiver<SourceEvent>,
    cluster: Cluster,
    warnings: Vec<String>,
}

impl Listener {
    fn to(paths: &[&Path]) -> Self {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        let manifests = Manifests::open(&paths).unwrap();
        let (sender, events) = channel(16);
        tokio::spawn(manifests.run(sender));
        Self { events, cluster: Cluster::default(), warnings: Vec::new() }
    }

    /// Receives until what was sent is as it should be.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            match timeout(Duration::from_secs(20), self.events.recv()).await {
                Ok(Some(SourceEvent::Changes(changes))) => {
                    for change in changes {
                        self.cluster.apply(change);
                    }
                }
                Ok(Some(SourceEvent::Warnings(warnings))) => {
                    self.warnings = warnings.iter().map(ToString::to_string).collect();
                }
                Ok(None) => panic!("{what}: the source ended"),
                Err(_) => panic!("not {what}: {:?} {:?}", self.names(), self.warnings),
            }
        }
    }

    fn names(&self) -> Vec<&str> {
        self.cluster.services.keys().map(|name| &*name.name).collect()
    }

    fn has(&self, names: &[&str]) -> bool {
        self.cluster.synced && self.names() == names
    }
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: 10.96.0.1}}\n"
    )
}

fn directory_with(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// As editors save: a new file replaces the old one.
fn save(path: &Path, text: &str) {
    let hidden = path.with_file_name(".being-saved");
    fs::write(&hidden, text).unwrap();
    fs::rename(hidden, path).unwrap();
}

#[tokio::test]
async fn files_are_followed_as_they_come_change_break_heal_and_go() {
    let directory = directory_with(&[("a.yaml", &service("a"))]);
    let (a, b) = (directory.path().join("a.yaml"), directory.path().join("b.yaml"));
    let mut listener = Listener::to(&[directory.path()]);
    listener.until("sent at the start", |it| it.has(&["a"])).await;
    assert_eq!(listener.warnings, [""; 0]);

    fs::write(&b, service("b")).unwrap();
    listener.until("created", |it| it.has(&["a", "b"])).await;

    save(&a, &service("a2"));
    listener.until("edited", |it| it.has(&["a2", "b"])).await;

    save(&a, "kind: Service\nmetadata:\n  name: [\n");
    listener.until("broken", |it| !it.warnings.is_empty()).await;
    assert!(listener.has(&["a2", "b"]));
    assert!(listener.warnings[0].contains("a.yaml:3"), "{:?}", listener.warnings);

    save(&a, &service("a3"));
    listener.until("healed", |it| it.warnings.is_empty() && it.has(&["a3", "b"])).await;

    fs::remove_file(&b).unwrap();
    listener.until("removed", |it| it.has(&["a3"])).await;
}

#[tokio::test]
async fn a_broken_file_at_the_start_holds_everything_until_it_is_mended() {
    let directory = directory_with(&[("a.yaml", "kind: ["), ("b.yaml", &service("b"))]);
    let mut listener = Listener::to(&[directory.path()]);
    listener.until("sent at the start", |it| it.names() == ["b"]).await;
    assert!(!listener.cluster.synced, "what the kernel holds of a.yaml would be taken for gone");
    assert!(listener.warnings[0].contains("a.yaml:1"), "{:?}", listener.warnings);
    save(&directory.path().join("a.yaml"), &service("a"));
    listener.until("healed", |it| it.warnings.is_empty() && it.has(&["a", "b"])).await;
}

#[tokio::test]
async fn a_file_given_by_name_is_followed_through_replacement_and_absence() {
    let directory = directory_with(&[("services", &service("a"))]);
    let path = directory.path().join("services");
    let mut listener = Listener::to(&[&path]);
    listener.until("sent at the start", |it| it.has(&["a"])).await;
    save(&path, &service("b"));
    listener.until("replaced", |it| it.has(&["b"])).await;
    fs::remove_file(&path).unwrap();
    listener.until("gone", |it| it.has(&[]) && it.warnings.len() == 1).await;
    assert!(listener.warnings[0].contains("is gone"), "{:?}", listener.warnings);
    fs::write(&path, service("c")).unwrap();
    listener.until("back", |it| it.has(&["c"]) && it.warnings.is_empty()).await;
}

#[tokio::test]
async fn a_config_map_volume_is_followed_through_its_swaps() {
    let volume = tempfile::tempdir().unwrap();
    let publish = |version: &str, text: &str| {
        let of_version = volume.path().join(version);
        fs::create_dir(&of_version).unwrap();
        fs::write(of_version.join("a.yaml"), text).unwrap();
        symlink(version, volume.path().join("..data_tmp")).unwrap();
        fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).unwrap();
    };
    publish("..1", &service("a"));
    symlink("..data/a.yaml", volume.path().join("a.yaml")).unwrap();
    let mut directory = Listener::to(&[volume.path()]);
    let mut file = Listener::to(&[&volume.path().join("a.yaml")]);
    directory.until("sent at the start", |it| it.has(&["a"])).await;
    file.until("sent at the start", |it| it.has(&["a"])).await;
    for (version, name) in [("..2", "b"), ("..3", "c")] {
        publish(version, &service(name));
        directory.until("swapped", |it| it.has(&[name])).await;
        file.until("swapped", |it| it.has(&[name])).await;
    }
}

#[tokio::test]
async fn a_directory_that_is_gone_for_a_while_keeps_its_objects() {
    let above = tempfile::tempdir().unwrap();
    let (present, away) = (above.path().join("manifests"), above.path().join("away"));
    fs::create_dir(&present).unwrap();
    fs::write(present.join("a.yaml"), service("a")).unwrap();
    let mut listener = Listener::to(&[&present]);
    listener.until("sent at the start", |it| it.has(&["a"])).await;
    fs::rename(&present, &away).unwrap();
    listener.until("away", |it| it.warnings.len() == 1).await;
    assert!(listener.has(&["a"]));
    fs::rename(&away, &present).unwrap();
    listener.until("back", |it| it.warnings.is_empty()).await;
    save(&present.join("a.yaml"), &service("b"));
    listener.until("edited", |it| it.has(&["b"])).await;
}

#[tokio::test]
async fn a_file_written_piece_by_piece_is_taken_when_it_is_whole() {
    let both = format!("{}---\n{}", service("a"), service("b"));
    let directory = directory_with(&[("a.yaml", &both)]);
    let mut listener = Listener::to(&[directory.path()]);
    listener.until("sent at the start", |it| it.has(&["a", "b"])).await;
    let mut file = fs::File::create(directory.path().join("a.yaml")).unwrap();
    for piece in [service("a").as_str(), "---\n", &service("c")] {
        file.write_all(piece.as_bytes()).unwrap();
        file.flush().unwrap();
        tokio::task::yield_now().await;
    }
    drop(file);
    listener.until("whole", |it| it.has(&["a", "c"])).await;
}

#[tokio::test]
async fn the_task_ends_when_nobody_listens() {
    let directory = directory_with(&[]);
    let manifests = Manifests::open(&[directory.path().into()]).unwrap();
    let (sender, events) = channel(16);
    let task = tokio::spawn(manifests.run(sender));
    drop(events);
    timeout(Duration::from_secs(20), task).await.unwrap().unwrap().unwrap();
}
