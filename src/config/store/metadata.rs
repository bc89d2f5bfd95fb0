//! What objects carry besides: user metadata, with places for what is known of an upload.

use std::collections::BTreeMap;

use toml::Value;

use crate::config::setting::{Setting, found, found_type};
use crate::config::store::places::is_value;

/// As many are taken: clouds have room for 2 KiB and more.
const MOST: usize = 20;

/// The longest value, in characters.
const LONGEST: usize = 200;

/// Bytes of all names and values: S3 takes 2 KiB, of which the gateway's own and a user's are others.
const MOST_BYTES: usize = 600;

/// Names that the gateway uses, or that begin so.
const OWN: [&str; 3] = ["ferry", "ftp-", "ftp_"];

/// User metadata of objects by name. In values, `{user}`, `{peer}`, `{session}` and `{home}` stand for those of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectMetadata(BTreeMap<String, String>);

impl ObjectMetadata {
    /// What may be written, for messages.
    pub const ALLOWED: &'static str = "a table of up to 20, whose keys are lower-case letters, digits, `-` and `_`, begin with a \
        letter, and neither with `ferry` nor with `ftp-`, and whose values are texts of up to 200 characters, 600 all together, \
        without braces but in `{user}`, `{peer}`, `{session}` and `{home}`";

    /// Each with its value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// These, with those in the place of any of the same name.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        let mut both = self.clone();
        both.0.extend(others.0.clone());
        both
    }

    /// Reads a table.
    ///
    /// # Errors
    /// What was found that can't be.
    pub fn from_table(table: &toml::Table) -> Result<Self, String> {
        if table.len() > MOST {
            return Err(format!("found {} of them", table.len()));
        }
        let pair = |(name, value): (&String, &Value)| {
            if !is_name(name) {
                return Err(format!("found the name {name:?}"));
            }
            let text = value.as_str().ok_or_else(|| found(value))?;
            if text.chars().count() > LONGEST || !is_value(text) {
                return Err(found(value));
            }
            Ok((name.clone(), text.to_owned()))
        };
        let pairs: BTreeMap<_, _> = table.iter().map(pair).collect::<Result<_, _>>()?;
        let bytes: usize = pairs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if bytes > MOST_BYTES {
            return Err(format!("found {bytes} bytes"));
        }
        // They are one name on Azure.
        let alike = pairs.keys().find(|name| {
            let other = name.replace('-', "_");
            **name != other && pairs.contains_key(&other)
        });
        match alike {
            Some(name) => Err(format!("found both {name:?} and the same with `_`")),
            None => Ok(Self(pairs)),
        }
    }
}

fn is_name(name: &str) -> bool {
    let takes = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    let is_own = OWN.iter().any(|own| name.starts_with(own));
    begins && !is_own && name.len() <= 64 && name.chars().all(takes)
}

impl Setting for ObjectMetadata {
    fn allowed() -> String {
        Self::ALLOWED.to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::Table(table) => Self::from_table(table),
            _ => Err(found_type(value)),
        }
    }

    fn show(&self) -> Value {
        let pairs = self.0.iter();
        let pairs = pairs.map(|(name, value)| (name.clone(), Value::String(value.clone())));
        Value::Table(pairs.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ObjectMetadata, String> {
        ObjectMetadata::from_table(&text.parse().unwrap())
    }

    #[test]
    fn what_headers_and_clouds_take_is_taken() {
        let metadata = parse("from = 'ftp {user}@{peer}'\nplace_2 = '{home}'\na-b = 'ü'").unwrap();
        let names: Vec<_> = metadata.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a-b", "from", "place_2"]);
        assert_eq!(
            ObjectMetadata::parse(&metadata.show()),
            Ok(metadata.clone())
        );
        let both = metadata.with(&parse("from = 'bank'").unwrap());
        assert!(both.iter().any(|it| it == ("from", "bank")));
        assert_eq!(both.iter().count(), 3);
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for text in [
            "A = 'a'",
            "1a = 'a'",
            "ferryupload = 'a'",
            "ftp-user = 'a'",
            "'a b' = 'a'",
            "a = 1",
            "a = ''",
            "a = ' '",
            "a = '{name}'",
            "a = ' x'",
            "a-b = 'x'\na_b = 'x'",
            "a = '{user'",
            "a = 'user}'",
            "a = '}{user}'",
            "a = \"a\\nb\"",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let many: Vec<_> = (0..21).map(|n| format!("a{n} = 'x'")).collect();
        assert_eq!(parse(&many.join("\n")), Err("found 21 of them".to_owned()));
        let long = format!("a = '{0}'\nb = '{0}'\nc = '{0}'", "x".repeat(200));
        assert_eq!(parse(&long), Err("found 603 bytes".to_owned()));
    }
}
