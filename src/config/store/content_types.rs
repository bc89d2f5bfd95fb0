//! Which content types files are stored with, by the ends of their names.

use std::collections::BTreeMap;

use toml::Value;

use crate::config::setting::{Setting, found, found_type};

/// The longest end of a name, in characters.
const LONGEST_END: usize = 32;

/// Content types by what follows the last dot of a name, in lower case. Each is one of RFC 9110, `type/subtype`, perhaps
/// with parameters, in ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentTypes(BTreeMap<String, String>);

impl ContentTypes {
    /// The type for names that end so, in whatever case.
    #[must_use]
    pub fn get(&self, end: &str) -> Option<&str> {
        self.0.get(&end.to_lowercase()).map(String::as_str)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn from_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a Value)>) -> Result<Self, String> {
        let pair = |(end, value): (&str, &Value)| {
            let content_type = value.as_str().ok_or_else(|| found(value))?;
            if !is_end(end) {
                return Err(format!("found the end {end:?}"));
            }
            if !is_content_type(content_type) {
                return Err(found(value));
            }
            Ok((end.to_lowercase(), content_type.to_owned()))
        };
        pairs.map(pair).collect::<Result<_, _>>().map(Self)
    }
}

fn is_end(end: &str) -> bool {
    let takes = |c: char| !c.is_control() && !['.', '/', ',', '='].contains(&c);
    (1..=LONGEST_END).contains(&end.chars().count()) && end.chars().all(takes)
}

/// RFC 9110, 8.3.1; what is a token is not looked at more closely than a header needs it.
fn is_content_type(text: &str) -> bool {
    let main = text.split(';').next().unwrap_or_default().trim_end();
    let is_token = |part: &str| {
        let takes = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        !part.is_empty() && part.chars().all(takes)
    };
    let has_both = main
        .split_once('/')
        .is_some_and(|(kind, rest)| is_token(kind) && is_token(rest));
    has_both && text.chars().all(|c| c == ' ' || c.is_ascii_graphic())
}

impl Setting for ContentTypes {
    fn allowed() -> String {
        "a table whose keys are ends of names, such as `xml`, and whose values are content types, such as \
         `application/xml`; or one text such as `xml=application/xml,edi=application/EDIFACT`"
            .to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::Table(table) => {
                Self::from_pairs(table.iter().map(|(end, value)| (end.as_str(), value)))
            }
            Value::String(text) if text.trim().is_empty() => Ok(Self::default()),
            Value::String(text) => {
                let pairs: Option<Vec<_>> = text
                    .split(',')
                    .map(|pair| pair.split_once('='))
                    .map(|pair| pair.map(|(end, it)| (end.trim(), Value::String(it.trim().into()))))
                    .collect();
                let pairs = pairs.ok_or_else(|| found(value))?;
                Self::from_pairs(pairs.iter().map(|(end, value)| (*end, value)))
            }
            _ => Err(found_type(value)),
        }
    }

    fn show(&self) -> Value {
        let pairs = self.0.iter();
        let pairs = pairs.map(|(end, it)| (end.clone(), Value::String(it.clone())));
        Value::Table(pairs.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ContentTypes, String> {
        ContentTypes::parse(&Value::String(text.to_owned()))
    }

    #[test]
    fn types_are_found_by_the_ends_of_names() {
        let types = parse("XML=application/xml, edi = application/EDIFACT; charset=utf-8").unwrap();
        assert_eq!(types.get("xml"), Some("application/xml"));
        assert_eq!(types.get("Edi"), Some("application/EDIFACT; charset=utf-8"));
        assert_eq!(types.get("csv"), None);
        assert_eq!(ContentTypes::parse(&types.show()), Ok(types));
        assert_eq!(parse(""), Ok(ContentTypes::default()));
    }

    #[test]
    fn what_no_header_can_say_is_refused() {
        for text in [
            "xml", "xml=", "xml=xml", "xml=a/", "x.y=a/b", "=a/b", "x=a/b\nc", "x=a/ü",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
