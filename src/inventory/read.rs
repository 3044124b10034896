//! A tree as serde reads it: straight into the manifests' types, without a copy as JSON between. Pure.
//!
//! As [`Tree::to_json`] has it, a field without a value is a field that is not there.

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor, value::Error,
};

use super::yaml::{Entry, Tree, Value};

/// What the tree says, as `T`; the error is serde's.
pub(super) fn read<T: DeserializeOwned>(tree: &Tree) -> Result<T, String> {
    T::deserialize(tree).map_err(|e| e.to_string())
}

fn said(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|e| e.value.value != Value::Null)
}

impl<'de> Deserializer<'de> for &'de Tree {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(bool) => visitor.visit_bool(*bool),
            Value::Int(int) => match u64::try_from(*int) {
                Ok(natural) => visitor.visit_u64(natural),
                Err(_) => visitor.visit_i64(*int),
            },
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            Value::Map(entries) => visitor.visit_map(Fields { rest: entries.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.value {
            Value::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Value::Map(entries) => {
                let mut fields = said(entries);
                match (fields.next(), fields.next()) {
                    (Some(entry), None) => visitor.visit_enum(Variant(entry)),
                    _ => Err(Error::custom("a map with a single key is wanted")),
                }
            }
            _ => Err(Error::custom(format!("text or a map is wanted, not {}", self.what()))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Items<'de>(std::slice::Iter<'de, Tree>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|item| seed.deserialize(item)).transpose()
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Fields<'de> {
    rest: std::slice::Iter<'de, Entry>,
    value: Option<&'de Tree>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(entry) = self.rest.find(|e| e.value.value != Value::Null) else { return Ok(None) };
        self.value = Some(&entry.value);
        seed.deserialize(serde::de::value::BorrowedStrDeserializer::new(&entry.key)).map(Some)
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value.take().ok_or_else(|| Error::custom("a value without its key"))?;
        seed.deserialize(value)
    }
}

struct Variant<'de>(&'de Entry);

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = &'de Tree;
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, &'de Tree), Error> {
        let name = serde::de::value::BorrowedStrDeserializer::<Error>::new(&self.0.key);
        Ok((seed.deserialize(name)?, &self.0.value))
    }
}

impl<'de> VariantAccess<'de> for &'de Tree {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        Err(Error::custom(format!("a word alone is wanted, not one with {}", self.what())))
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::inventory::{fault::Report, yaml};

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Count {
        Number(u32),
        Text(String),
    }
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Choice {
        Plain,
        With(u8),
        Fields { a: i8 },
    }
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct All {
        text: String,
        #[serde(default)]
        absent: Option<String>,
        float: f64,
        negative: i16,
        truth: bool,
        list: Vec<Option<u8>>,
        map: BTreeMap<String, serde_json::Value>,
        counts: Vec<Count>,
        choices: Vec<Choice>,
    }

    const TEXT: &str = "text: a b\nabsent:\nfloat: 3\nnegative: -7\ntruth: true\nlist: [1, null]\n\
        map: { x: [1, { y: null, z: 2.5 }], gone: null }\ncounts: [3, 25%]\nchoices: [plain, { with: 4 }, { fields: { a: -1 } }]";

    #[test]
    fn it_reads_what_json_between_would_read() {
        let mut report = Report::default();
        let tree = yaml::read(0, TEXT, &mut report).remove(0);
        assert!(report.is_empty());
        let all: All = read(&tree).unwrap();
        assert_eq!(all, serde_json::from_value(tree.to_json()).unwrap());
        assert_eq!(all.choices, [Choice::Plain, Choice::With(4), Choice::Fields { a: -1 }]);
        assert_eq!((all.list, all.absent), (vec![Some(1), None], None));
    }

    #[test]
    fn what_does_not_fit_is_an_error_as_it_is_with_json() {
        for (from, to) in [
            ("text: a b", "text: 3"),
            ("truth: true", "more: true"),
            ("negative: -7", "negative: 70000"),
            ("[plain", "[{ plain: 1 }"),
            ("[plain", "[{ with: 1, fields: 2 }"),
            ("[plain", "[7"),
            ("[3, 25%]", "[-3]"),
        ] {
            let text = TEXT.replacen(from, to, 1);
            let tree = yaml::read(0, &text, &mut Report::default()).remove(0);
            assert!(serde_json::from_value::<All>(tree.to_json()).is_err(), "{to}");
            assert!(read::<All>(&tree).is_err(), "{to}");
        }
    }
}
