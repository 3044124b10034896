//! The names of the manifests' fields: keys of maps that are one of them need no memory of their own.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
    sync::LazyLock,
};

use super::{
    kinds::Kind,
    schema::{Rule, Shape, shape},
};

/// FNV-1a: the set is fixed, so nobody can choose words that collide.
#[derive(Clone, Copy)]
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

static WORDS: LazyLock<HashSet<&'static str, BuildHasherDefault<Fnv>>> = LazyLock::new(|| {
    let mut words = HashSet::default();
    Kind::ALL.into_iter().for_each(|kind| collect(shape(kind), &mut words));
    words
});

fn collect(shape: &'static Shape, words: &mut HashSet<&'static str, BuildHasherDefault<Fnv>>) {
    match &shape.rule {
        Rule::List { item, .. } => collect(item, words),
        Rule::Forms(forms) => forms.iter().for_each(|form| collect(form, words)),
        Rule::Map(map) => {
            for (name, field) in &map.fields {
                words.insert(name);
                collect(field, words);
            }
            if let Some(rest) = &map.rest {
                collect(rest, words);
            }
        }
        _ => {}
    }
}

/// The same word, for ever; `None` for what is no field of any manifest.
pub(super) fn known(word: &str) -> Option<&'static str> {
    WORDS.get(word).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_all_depths_are_known() {
        for word in ["apiVersion", "metadata", "labels", "redfish", "pxeMember", "maxUnavailable"] {
            assert_eq!(known(word), Some(word));
        }
        assert_eq!(known("no-field"), None);
    }
}
