//! The tags of objects: names with values, which S3 and Azure keep beside the metadata.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// S3 and Azure agree on how many an object has, and how long they are.
const MOST: usize = 10;
const LONGEST_NAME: usize = 128;
const LONGEST_VALUE: usize = 256;

/// Values by name.
pub(crate) type Tags = BTreeMap<String, String>;

/// The tags in a header, written as forms are sent: `a=b&c=d`. Nothing if they are no text, or a name is there twice.
pub(crate) fn read(header: &str) -> Option<Tags> {
    let mut tags = Tags::new();
    for pair in header.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if tags.insert(decoded(name)?, decoded(value)?).is_some() {
            return None;
        }
    }
    Some(tags)
}

/// Whether they are few enough, and each short enough.
pub(crate) fn fit(tags: &Tags) -> bool {
    tags.len() <= MOST && tags.iter().all(|(name, value)| fits(name, value))
}

/// Both clouds keep text in UTF-16, and count so.
fn fits(name: &str, value: &str) -> bool {
    let len = |text: &str| text.encode_utf16().count();
    (1..=LONGEST_NAME).contains(&len(name)) && len(value) <= LONGEST_VALUE
}

fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    let text = percent_decode_str(&text).decode_utf8().ok()?;
    Some(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::{Tags, fit, read};

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn tags_are_read_as_a_form() {
        for (header, pairs) in [
            ("", &[] as &[_]),
            ("a=b&c=d", &[("a", "b"), ("c", "d")]),
            ("c=d&a=b&", &[("a", "b"), ("c", "d")]),
            ("a", &[("a", "")]),
            ("a+b%2Bc=%C3%A9%3D%26=x", &[("a b+c", "é=&=x")]),
        ] {
            assert_eq!(read(header), Some(tags(pairs)), "{header}");
        }
        for header in ["a=1&a=2", "a=%FF"] {
            assert_eq!(read(header), None, "{header}");
        }
    }

    #[test]
    fn tags_are_few_and_short() {
        let (name, value) = ("n".repeat(128), "é".repeat(256));
        assert!(fit(&tags(&[(&name, &value), ("a", "")])));
        assert!(!fit(&tags(&[(&format!("{name}n"), "")])));
        assert!(!fit(&tags(&[("a", &format!("{value}é"))])));
        assert!(!fit(&tags(&[("", "x")])));
        let many = |count: usize| {
            let numbered = |number: usize| (number.to_string(), String::new());
            (0..count).map(numbered).collect()
        };
        assert!(fit(&many(10)));
        assert!(!fit(&many(11)));
    }
}
