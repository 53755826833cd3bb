//! Lists and maps as values of keys: cheap to clone, so that copying a segment does not copy their
//! contents.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::sync::Arc;

/// The content, for writing: copied first if an image shares it.
#[inline]
fn unshare<T: Clone>(shared: &mut Arc<T>) -> &mut T {
    if Arc::get_mut(shared).is_none() {
        *shared = Arc::new(T::clone(shared));
    }
    // It was just found, or made, to be the only one; `shared` is borrowed, so that no other can be
    // made of it.
    Arc::get_mut(shared).expect("this is the only handle")
}

/// A list per key: a `Vec` that is shared with images until it is written to, and serialised as
/// one.
pub struct List<T>(Arc<Vec<T>>);

/// A map per key: a `BTreeMap` that is shared with images until it is written to, and serialised as
/// one.
pub struct Map<K, V>(Arc<BTreeMap<K, V>>);

macro_rules! shared {
    ([$($of:ident),*] [$($bound:tt)*] $name:ident, $content:ty) => {
        impl<$($of),*> Default for $name<$($of),*> {
            fn default() -> Self {
                Self(Arc::new(<$content>::new()))
            }
        }

        impl<$($of),*> Clone for $name<$($of),*> {
            fn clone(&self) -> Self {
                Self(Arc::clone(&self.0))
            }
        }

        impl<$($of),*> Deref for $name<$($of),*> {
            type Target = $content;

            #[inline]
            fn deref(&self) -> &$content {
                &self.0
            }
        }

        impl<$($of: Clone),*> DerefMut for $name<$($of),*> {
            #[inline]
            fn deref_mut(&mut self) -> &mut $content {
                unshare(&mut self.0)
            }
        }

        impl<$($of: PartialEq),*> PartialEq for $name<$($of),*> {
            fn eq(&self, other: &Self) -> bool {
                *self.0 == *other.0
            }
        }

        impl<$($of: Eq),*> Eq for $name<$($of),*> {}

        impl<$($of: fmt::Debug),*> fmt::Debug for $name<$($of),*> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl<$($of),*> From<$content> for $name<$($of),*> {
            fn from(content: $content) -> Self {
                Self(Arc::new(content))
            }
        }

        impl<$($of: Serialize),*> Serialize for $name<$($of),*> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.as_ref().serialize(serializer)
            }
        }

        impl<'de, $($bound)*> Deserialize<'de> for $name<$($of),*> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$content>::deserialize(deserializer).map(Self::from)
            }
        }
    };
}

shared!([T] [T: Deserialize<'de>] List, Vec<T>);
shared!([K, V] [K: Deserialize<'de> + Ord, V: Deserialize<'de>] Map, BTreeMap<K, V>);

impl<T: Clone> List<T> {
    /// Takes the content out: moved if nothing shares it, else a copy.
    pub fn into_inner(self) -> Vec<T> {
        Arc::try_unwrap(self.0).unwrap_or_else(|shared| Vec::clone(&shared))
    }
}

impl<K: Clone, V: Clone> Map<K, V> {
    /// Takes the content out: moved if nothing shares it, else a copy.
    pub fn into_inner(self) -> BTreeMap<K, V> {
        Arc::try_unwrap(self.0).unwrap_or_else(|shared| BTreeMap::clone(&shared))
    }
}
