//! Names and labels of objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::Name;

/// The object's name, in the namespace `default` where it names none.
pub(crate) fn name(metadata: &ObjectMeta) -> Name {
    let namespace = metadata.namespace.as_deref().filter(|text| !text.is_empty());
    Name::new(namespace.unwrap_or("default"), metadata.name.as_deref().unwrap_or_default())
}

/// Whether an object has a label.
pub(super) fn has_label(metadata: &ObjectMeta, label: &str) -> bool {
    label_value(metadata, label).is_some()
}

/// The value of a label.
pub(super) fn label_value<'a>(metadata: &'a ObjectMeta, label: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(label).map(String::as_str)
}
