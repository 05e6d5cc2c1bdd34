//! A query as serde sees it: a map whose values are read as the types of the fields ask for.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::slice::Iter;

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

use super::Query;
use crate::api::response::text;

/// Why a value does not fit.
#[derive(Debug)]
pub struct QueryError {
    pub why: String,
    /// `why` is a whole sentence; otherwise it follows `name=value`.
    whole: bool,
}

impl QueryError {
    fn whole(why: String) -> Self {
        Self { why, whole: true }
    }
}

impl Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for QueryError {}

impl serde::de::Error for QueryError {
    fn custom<T: Display>(why: T) -> Self {
        Self { why: why.to_string(), whole: false }
    }

    fn unknown_variant(_variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!(" is not one of {}", expected.join(", ")))
    }
}

/// The fields of a parameter struct, without a value of it.
pub fn names_of<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Names<'n>(&'n mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = QueryError;

        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, QueryError> {
            Err(QueryError::whole(String::new()))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, QueryError> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names: &'static [&'static str] = &[];
    // It always fails: the names are all that it is for.
    let _ = T::deserialize(Names(&mut names));
    names
}

/// A query as the fields of a struct, those that were given.
pub struct Fields<'q, 'a> {
    query: &'q Query<'a>,
    left: Iter<'static, &'static str>,
    /// The field whose value comes next.
    name: &'static str,
}

impl<'q, 'a> Fields<'q, 'a> {
    pub fn of_struct<T: DeserializeOwned>(query: &'q Query<'a>) -> Self {
        Self { query, left: names_of::<T>().iter(), name: "" }
    }
}

impl<'de> Deserializer<'de> for Fields<'_, '_> {
    type Error = QueryError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        visitor.visit_map(self)
    }

    /// A request without parameters of its own.
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = QueryError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, QueryError> {
        let given = |name: &&&'static str| self.query.given.iter().any(|(given, _)| *given == **name);
        let Some(name) = self.left.find(given) else { return Ok(None) };
        self.name = name;
        let name: StrDeserializer<'_, QueryError> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, QueryError> {
        let (name, given) = (self.name, &self.query.given[..]);
        seed.deserialize(Value { name, given }).map_err(|error| {
            let value = given.iter().find(|(given, _)| *given == name).and_then(|(_, value)| value.as_deref());
            match (error.whole, value) {
                (false, Some(value)) => QueryError::whole(format!("{name}={}{}", text::brief(value), error.why)),
                _ => error,
            }
        })
    }
}

/// All that was given for one parameter.
struct Value<'q, 'a> {
    name: &'static str,
    given: &'q [(&'static str, Option<Cow<'a, str>>)],
}

impl<'q> Value<'q, '_> {
    fn values(&self) -> impl Iterator<Item = Option<&'q str>> + use<'q> {
        let (name, given) = (self.name, self.given);
        given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value.as_deref())
    }

    /// The only one. The outer value is always there.
    fn once(&self) -> Result<Option<&'q str>, QueryError> {
        let mut values = self.values();
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            _ => Err(QueryError::whole(format!("the query parameter {} is repeated; give it once", self.name))),
        }
    }

    fn non_empty(&self) -> Result<&'q str, QueryError> {
        let name = self.name;
        let value = self.once()?.filter(|value| !value.is_empty());
        value.ok_or_else(|| QueryError::whole(format!("the query parameter {name} needs a value: {name}=…")))
    }
}

impl<'de> Deserializer<'de> for Value<'_, '_> {
    type Error = QueryError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        visitor.visit_str(self.non_empty()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        let name = self.name;
        let value = self.once()?.ok_or_else(|| {
            QueryError::whole(format!("the query parameter {name} needs a value, which may be empty: {name}="))
        });
        visitor.visit_str(value?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        match self.once()? {
            None | Some("1" | "true") => visitor.visit_bool(true),
            Some(value) => Err(QueryError::whole(format!(
                "the query parameter {} is a switch: it takes no value, 1 or true, not {}; leave it out for no",
                self.name,
                text::quoted(value)
            ))),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        let number = self.non_empty()?.parse();
        visitor.visit_i64(number.map_err(|_| serde::de::Error::custom(" is not an integer of 64 bits"))?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, QueryError> {
        visitor.visit_enum(self.non_empty()?.into_deserializer())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        let texts = self.values().map(Option::unwrap_or_default);
        visitor.visit_seq(SeqDeserializer::new(texts))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 u8 u16 u32 u64 f32 f64 char str bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct map struct identifier ignored_any
    }
}
