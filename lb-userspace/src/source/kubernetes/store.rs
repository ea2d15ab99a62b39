//! Which objects of one kind have been told. After a list it says what is gone: that is all the
//! memory a watch needs, since the model itself notices what has not changed.

use std::collections::BTreeSet;

use super::aggregate::News;
use super::client::Read;
use super::kind::Watched;
use crate::model::{Name, Warning};

/// The names that have been told.
#[derive(Debug, Default)]
pub(super) struct Known {
    names: BTreeSet<Name>,
    /// Those of the list under way.
    listed: BTreeSet<Name>,
}

impl Known {
    /// A list begins.
    pub(super) fn begin_list(&mut self) {
        self.listed.clear();
    }

    /// A list has ended: what it did not show is gone.
    pub(super) fn end_list<K: Watched>(&mut self) -> News {
        let listed = std::mem::take(&mut self.listed);
        let before = std::mem::replace(&mut self.names, listed);
        let gone = before.into_iter().filter(|name| !self.names.contains(name));
        let mut news = News::of(K::KIND);
        for name in gone {
            news.forget(&name);
            news.changes.push(K::gone(name));
        }
        news
    }

    /// A page of the list under way.
    pub(super) fn page<K: Watched>(&mut self, items: Vec<Read<K>>) -> News {
        let mut news = News::of(K::KIND);
        for item in items {
            let name = self.take(item, &mut news);
            self.listed.insert(name);
        }
        news
    }

    /// An object exists, and is so.
    pub(super) fn exists<K: Watched>(&mut self, read: Read<K>, news: &mut News) {
        self.take(read, news);
    }

    /// An object is gone.
    pub(super) fn gone<K: Watched>(&mut self, read: Read<K>, news: &mut News) {
        let name = match read {
            Read::Object(object) => object.name(),
            Read::Unreadable { namespace, name, .. } => Name::new(namespace, name),
        };
        self.names.remove(&name);
        news.forget(&name);
        news.changes.push(K::gone(name));
    }

    /// What cannot be read stays as it was, and stays known.
    fn take<K: Watched>(&mut self, read: Read<K>, news: &mut News) -> Name {
        let (name, warnings) = match read {
            Read::Object(object) => {
                let (change, warnings) = object.convert();
                news.changes.push(change);
                (object.name(), warnings)
            }
            Read::Unreadable { namespace, name, reason } => {
                let name = Name::new(namespace, name);
                (name.clone(), vec![unreadable::<K>(&name, &reason)])
            }
        };
        news.warnings.push((name.clone(), warnings));
        self.names.insert(name.clone());
        name
    }
}

fn unreadable<K: Watched>(name: &Name, reason: &str) -> Warning {
    let about = if name.namespace.is_empty() { name.name.clone() } else { name.to_string() };
    Warning {
        about: format!("{} {about}", K::KIND.word()),
        text: format!(
            "it cannot be read ({reason}) and stays as it was last known: correct it, or report this \
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

    fn gone(news: &News) -> Vec<&str> {
        let names = news.changes.iter().filter_map(|change| {
            if let Change::ServiceGone(name) = change { Some(name.name.as_str()) } else { None }
        });
        names.collect()
    }

    #[test]
    fn what_a_later_list_does_not_show_is_gone() {
        let mut known = Known::default();
        known.begin_list();
        known.page(vec![service("a"), service("b")]);
        assert_eq!(gone(&known.end_list::<Service>()), [""; 0]);
        known.begin_list();
        known.page(vec![service("b"), service("c")]);
        assert_eq!(gone(&known.end_list::<Service>()), ["a"]);
    }

    #[test]
    fn a_list_that_breaks_off_removes_nothing_and_forgets_nothing() {
        let mut known = Known::default();
        known.begin_list();
        known.page(vec![service("a"), service("b")]);
        known.end_list::<Service>();
        known.begin_list();
        known.page(vec![service("c")]);
        known.begin_list();
        known.page(vec![service("a")]);
        assert_eq!(gone(&known.end_list::<Service>()), ["b", "c"]);
    }

    #[test]
    fn an_object_that_cannot_be_read_stays_as_it_was_with_a_warning() {
        let mut known = Known::default();
        known.begin_list();
        known.page(vec![service("a")]);
        known.end_list::<Service>();
        known.begin_list();
        let unreadable = Read::<Service>::Unreadable {
            namespace: "default".into(),
            name: "a".into(),
            reason: "a string where a number belongs".into(),
        };
        let news = known.page(vec![unreadable]);
        assert_eq!(news.changes, []);
        let warning = &news.warnings[0].1[0];
        assert_eq!(warning.about, "Service default/a");
        assert!(warning.text.contains("a string where a number belongs"), "{warning}");
        assert_eq!(gone(&known.end_list::<Service>()), [""; 0]);
    }
}
