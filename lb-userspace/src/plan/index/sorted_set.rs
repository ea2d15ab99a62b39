//! A set of few values.

/// A set as a list in order: most hold one value or a handful, for which a tree would take ten times the memory.
/// Insertion and removal move what comes after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SortedSet<T>(Vec<T>);

impl<T: Ord> SortedSet<T> {
    /// Adds a value, unless it is there.
    pub fn insert(&mut self, value: T) {
        if let Err(place) = self.0.binary_search(&value) {
            if self.0.len() == self.0.capacity() {
                // By a quarter, and from nothing by one.
                self.0.reserve_exact(self.0.len() / 4 + 1);
            }
            self.0.insert(place, value);
        }
    }

    /// Removes a value, if it is there.
    pub fn remove(&mut self, value: &T) {
        if let Ok(place) = self.0.binary_search(value) {
            self.0.remove(place);
        }
    }

    /// Whether there is no value.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for SortedSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, T> IntoIterator for &'a SortedSet<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_order_and_each_is_there_once() {
        let mut set = SortedSet::default();
        [3, 1, 2, 3, 1].into_iter().for_each(|value| set.insert(value));
        assert_eq!(set.into_iter().collect::<Vec<_>>(), [&1, &2, &3]);
        set.remove(&2);
        set.remove(&2);
        assert_eq!(set.into_iter().collect::<Vec<_>>(), [&1, &3]);
        assert!(!set.is_empty());
        [1, 3].iter().for_each(|value| set.remove(value));
        assert!(set.is_empty());
    }
}
