//! A map by path that is small while it holds little: most hosts have one path or a few.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

type Hashed<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// How many paths are compared one after the other. Beyond it they are hashed.
const FEW: usize = 8;

/// From a path to what there is of it. The cost of a look-up does not grow with the number of paths.
#[derive(Clone, Debug)]
pub(super) enum ByPath<K, V> {
    /// In no order; at most [`FEW`].
    Few(Vec<(K, V)>),
    /// More than that, once; it stays hashed when paths go.
    Many(Box<Hashed<K, V>>),
}

impl<K, V> Default for ByPath<K, V> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<K: Borrow<str> + Eq + Hash, V> ByPath<K, V> {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    pub(super) fn get(&self, path: &str) -> Option<&V> {
        match self {
            Self::Few(few) => {
                few.iter().find(|(key, _)| key.borrow() == path).map(|(_, value)| value)
            }
            Self::Many(many) => many.get(path),
        }
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = (&K, &V)> + '_> {
        match self {
            Self::Few(few) => Box::new(few.iter().map(|(key, value)| (key, value))),
            Self::Many(many) => Box::new(many.iter()),
        }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        match self {
            Self::Few(few) => {
                if let Some((_, there)) = few.iter_mut().find(|(other, _)| *other == key) {
                    *there = value;
                } else if few.len() < FEW {
                    // Room for more would nearly always be room for nothing.
                    few.reserve_exact(1);
                    few.push((key, value));
                } else {
                    let all = few.drain(..).chain([(key, value)]).collect();
                    *self = Self::Many(Box::new(all));
                }
            }
            Self::Many(many) => drop(many.insert(key, value)),
        }
    }

    pub(super) fn remove(&mut self, path: &str) {
        match self {
            Self::Few(few) => few.retain(|(key, _)| key.borrow() != path),
            Self::Many(many) => drop(many.remove(path)),
        }
    }

    /// The length of the longest path in bytes; 0 without any.
    pub(super) fn bytes_max(&self) -> usize {
        let longest = |keys: &mut dyn Iterator<Item = &K>| {
            keys.map(|key| key.borrow().len()).max().unwrap_or(0)
        };
        match self {
            Self::Few(few) => longest(&mut few.iter().map(|(key, _)| key)),
            Self::Many(many) => longest(&mut many.keys()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(
            steps in proptest::collection::vec(("/[a-z]", any::<Option<u8>>()), 0..60),
        ) {
            let mut paths = ByPath::<Box<str>, u8>::default();
            let mut oracle = BTreeMap::new();
            for (path, value) in steps {
                match value {
                    Some(value) => {
                        paths.insert(path.as_str().into(), value);
                        oracle.insert(path, value);
                    }
                    None => {
                        paths.remove(&path);
                        oracle.remove(&path);
                    }
                }
                prop_assert_eq!(paths.is_empty(), oracle.is_empty());
                prop_assert_eq!(paths.bytes_max(), oracle.keys().map(String::len).max().unwrap_or(0));
                for path in ('a'..='z').map(|letter| format!("/{letter}")) {
                    prop_assert_eq!(paths.get(&path), oracle.get(&path));
                }
            }
        }
    }
}
