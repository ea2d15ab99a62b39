//! Which objects of one kind exist. After a list it finds what is gone: that is all a watch has to
//! remember, since the model itself notices what has not changed.

use std::collections::BTreeSet;

use super::client::Read;
use super::kind::Watched;
use super::update::WatchUpdate;
use crate::model::{Name, Warning};

/// The names of the objects that exist.
#[derive(Debug, Default)]
pub(super) struct Store {
    names: BTreeSet<Name>,
    /// Those of the list under way.
    listed: BTreeSet<Name>,
}

impl Store {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// A list begins.
    pub(super) fn begin_list(&mut self) {
        self.listed.clear();
    }

    /// A list has ended: what it did not show is gone.
    pub(super) fn end_list<K: Watched>(&mut self) -> WatchUpdate {
        let listed = std::mem::take(&mut self.listed);
        let before = std::mem::replace(&mut self.names, listed);
        let gone = before.into_iter().filter(|name| !self.names.contains(name));
        let mut update = WatchUpdate::of(K::KIND);
        for name in gone {
            update.forget(&name);
            update.changes.push(K::gone(name));
        }
        update
    }

    /// A page of the list under way.
    pub(super) fn page<K: Watched>(&mut self, items: Vec<Read<K>>) -> WatchUpdate {
        let mut update = WatchUpdate::of(K::KIND);
        for item in items {
            let name = self.insert(item, &mut update);
            self.listed.insert(name);
        }
        update
    }

    /// An object exists, and is so.
    pub(super) fn exists<K: Watched>(&mut self, read: Read<K>, update: &mut WatchUpdate) {
        self.insert(read, update);
    }

    /// An object is gone.
    pub(super) fn gone<K: Watched>(&mut self, read: Read<K>, update: &mut WatchUpdate) {
        let name = match read {
            Read::Object(object) => object.name(),
            Read::Unreadable { namespace, name, .. } => Name::new(namespace, name),
        };
        self.names.remove(&name);
        update.forget(&name);
        update.changes.push(K::gone(name));
    }

    /// What cannot be read stays as it was.
    fn insert<K: Watched>(&mut self, read: Read<K>, update: &mut WatchUpdate) -> Name {
        let (name, warnings) = match read {
            Read::Object(object) => {
                let (change, warnings) = object.convert();
                update.changes.push(change);
                (object.name(), warnings)
            }
            Read::Unreadable { namespace, name, reason } => {
                let name = Name::new(namespace, name);
                (name.clone(), vec![unreadable::<K>(&name, &reason)])
            }
        };
        update.warnings.push((name.clone(), warnings));
        self.names.insert(name.clone());
        name
    }
}

fn unreadable<K: Watched>(name: &Name, reason: &str) -> Warning {
    let about = if name.namespace.is_empty() { name.name.to_string() } else { name.to_string() };
    Warning {
        about: format!("{} {about}", K::KIND.word()),
        text: format!(
            "it cannot be read ({reason}) and stays as it was last read: correct it, or report this \
             if kubectl accepts it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;

    use super::*;
    use crate::model::Change;

    fn service(name: &str) -> Read<Service> {
        let mut service = Service::default();
        service.metadata.namespace = Some("default".into());
        service.metadata.name = Some(name.into());
        Read::Object(service)
    }

    fn gone(update: &WatchUpdate) -> Vec<&str> {
        let names = update.changes.iter().filter_map(|change| {
            if let Change::ServiceGone(name) = change { Some(&*name.name) } else { None }
        });
        names.collect()
    }

    #[test]
    fn what_a_later_list_does_not_show_is_gone() {
        let mut store = Store::default();
        store.begin_list();
        store.page(vec![service("a"), service("b")]);
        assert_eq!(gone(&store.end_list::<Service>()), [""; 0]);
        store.begin_list();
        store.page(vec![service("b"), service("c")]);
        assert_eq!(gone(&store.end_list::<Service>()), ["a"]);
    }

    #[test]
    fn a_list_that_breaks_off_removes_nothing_and_forgets_nothing() {
        let mut store = Store::default();
        store.begin_list();
        store.page(vec![service("a"), service("b")]);
        store.end_list::<Service>();
        store.begin_list();
        store.page(vec![service("c")]);
        store.begin_list();
        store.page(vec![service("a")]);
        assert_eq!(gone(&store.end_list::<Service>()), ["b", "c"]);
    }

    #[test]
    fn an_object_that_cannot_be_read_stays_as_it_was_with_a_warning() {
        let mut store = Store::default();
        store.begin_list();
        store.page(vec![service("a")]);
        store.end_list::<Service>();
        store.begin_list();
        let unreadable = Read::<Service>::Unreadable {
            namespace: "default".into(),
            name: "a".into(),
            reason: "a string where a number belongs".into(),
        };
        let update = store.page(vec![unreadable]);
        assert_eq!(update.changes, []);
        let warning = &update.warnings[0].1[0];
        assert_eq!(warning.about, "Service default/a");
        assert!(warning.text.contains("a string where a number belongs"), "{warning}");
        assert_eq!(gone(&store.end_list::<Service>()), [""; 0]);
    }
}
