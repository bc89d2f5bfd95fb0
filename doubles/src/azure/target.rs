//! What an address names: a container, a blob in it, and the parameters of the query.

use percent_encoding::percent_decode_str;

use super::failure::{Failure, INVALID_URI};

const LONGEST_NAME: usize = 1024;
const MOST_SEGMENTS: usize = 254;

/// A container or, with a key, a blob.
pub(crate) struct Target {
    pub(crate) container: String,
    pub(crate) key: String,
}

impl Target {
    pub(crate) fn parse(path: &str) -> Result<Self, Failure> {
        let path = normal(&decoded(path)?);
        let (container, key) = path.split_once('/').unwrap_or((&path, ""));
        Ok(Self {
            container: container.to_owned(),
            key: key.to_owned(),
        })
    }

    pub(crate) fn check_name(&self) -> Result<(), Failure> {
        // Azure counts characters as .NET does.
        let is_short = self.key.encode_utf16().count() <= LONGEST_NAME;
        let is_flat = self.key.split('/').count() <= MOST_SEGMENTS;
        let is_text = !self.key.contains('\0');
        (is_short && is_flat && is_text)
            .then_some(())
            .ok_or(INVALID_URI)
    }
}

/// Azure reads paths as .NET does: a backslash is a slash, dots climb, and no segment ends with one.
fn normal(path: &str) -> String {
    let path = path.replace('\\', "/");
    let path = path.strip_prefix('/').unwrap_or(&path);
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment.trim_end_matches('.')),
        }
    }
    segments.join("/")
}

/// The parameters of a query, in their order.
#[derive(Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Result<Self, Failure> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = form_decoded(name)?.to_ascii_lowercase();
            Ok((name, form_decoded(value)?))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        let pair = pairs.find(|(known, _)| known == name);
        pair.map(|(_, value)| value.as_str())
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The first parameter that isn't among `known`.
    pub(crate) fn unknown(&self, known: &[&str]) -> Option<&str> {
        let mut names = self.0.iter().map(|(name, _)| name.as_str());
        names.find(|name| !known.contains(name))
    }
}

/// In queries a plus is a space, in paths it is a plus.
fn form_decoded(text: &str) -> Result<String, Failure> {
    decoded(&text.replace('+', " "))
}

pub(crate) fn decoded(text: &str) -> Result<String, Failure> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| INVALID_URI)
}
