//! One page of a listing as S3 writes it, and Google in S3's manner: every key as it is.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::storage::store::description::Carries;
use crate::storage::store::keys::{Object, Page, Query, bare};

/// What S3 answers; of it, what we need.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    contents: Vec<Content>,
    #[serde(default)]
    common_prefixes: Vec<CommonPrefix>,
    next_continuation_token: Option<String>,
    /// Says that keys are percent-encoded; not every store obeys the wish.
    encoding_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Content {
    key: String,
    size: u64,
    last_modified: DateTime<Utc>,
    #[serde(rename = "ETag")]
    e_tag: Option<String>,
    /// Google's.
    generation: Option<String>,
    storage_class: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CommonPrefix {
    prefix: String,
}

/// The parameters that ask for a page.
#[derive(Debug)]
pub(crate) struct Parameters<'a> {
    limit: String,
    query: Query<'a>,
}

pub(crate) fn query<'a>(query: &Query<'a>) -> Parameters<'a> {
    Parameters {
        limit: query.limit.to_string(),
        query: *query,
    }
}

impl Parameters<'_> {
    /// In order, as the signature wants them.
    pub(crate) fn pairs(&self) -> Vec<(&str, &str)> {
        let token = self.query.token.map(|token| ("continuation-token", token));
        let delimiter = self.query.grouped.then_some(("delimiter", "/"));
        let all = [
            ("encoding-type", "url"),
            ("list-type", "2"),
            ("max-keys", &self.limit),
            ("prefix", self.query.prefix),
        ];
        token.into_iter().chain(delimiter).chain(all).collect()
    }
}

pub(crate) fn parse(body: &[u8]) -> Result<Page, quick_xml::DeError> {
    let answer: Answer = quick_xml::de::from_reader(body)?;
    let encoded = answer.encoding_type.as_deref() == Some("url");
    let objects = answer.contents.into_iter().map(|content| Object {
        key: decode(content.key, encoded),
        size: content.size,
        modified: content.last_modified.into(),
        e_tag: content.e_tag.map(|e_tag| bare(&e_tag).to_owned()),
        generation: content.generation,
        carries: Carries {
            class: Carries::of_class(content.storage_class.as_deref()),
            // Tags are copied with the object, or there are none.
            is_tagged: false,
            is_restored: false,
        },
    });
    let prefixes = answer.common_prefixes.into_iter();
    Ok(Page {
        objects: objects.collect(),
        prefixes: prefixes
            .map(|common| decode(common.prefix, encoded))
            .collect(),
        unnamable: 0,
        next: answer.next_continuation_token,
    })
}

pub(crate) fn decode(key: String, encoded: bool) -> String {
    if !encoded {
        return key;
    }
    let spaced = key.replace('+', "%20");
    percent_encoding::percent_decode_str(&spaced)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(inside: &str) -> Page {
        let body = format!("<ListBucketResult>{inside}</ListBucketResult>");
        parse(body.as_bytes()).unwrap()
    }

    fn object(key: &str) -> String {
        format!(
            "<Contents><Key>{key}</Key><Size>3</Size><ETag>&quot;ab&quot;</ETag>\
             <LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
        )
    }

    #[test]
    fn objects_and_prefixes_are_told_apart() {
        let inside = object("in/")
            + &object("in/a b.txt")
            + "<CommonPrefixes><Prefix>in/sub/</Prefix></CommonPrefixes>";
        let page = page_of(&inside);
        let keys: Vec<_> = page.objects.iter().map(|object| &object.key).collect();
        assert_eq!(keys, ["in/", "in/a b.txt"]);
        assert_eq!(page.objects[1].e_tag.as_deref(), Some("ab"));
        assert_eq!(page.prefixes, ["in/sub/"]);
    }

    #[test]
    fn keys_are_decoded_where_they_are_encoded() {
        let inside = "<EncodingType>url</EncodingType>".to_owned()
            + &object("in/a%0Ab")
            + &object("in/50%25+off")
            + "<CommonPrefixes><Prefix>in//</Prefix></CommonPrefixes>";
        let page = page_of(&inside);
        assert_eq!(page.objects[0].key, "in/a\nb");
        assert_eq!(page.objects[1].key, "in/50% off");
        assert_eq!(page.prefixes, ["in//"]);
        assert_eq!(page_of(&object("a%20b")).objects[0].key, "a%20b");
    }

    /// Stores that don't encode keys write what XML does not allow.
    #[test]
    fn control_characters_are_read_as_well() {
        let page = page_of(&(object("a\u{7}") + &object("b&#x7;") + &object("c")));
        let keys: Vec<_> = page.objects.iter().map(|object| &object.key).collect();
        assert_eq!(keys, ["a\u{7}", "b\u{7}", "c"]);
    }

    #[test]
    fn google_tells_generations() {
        let inside = "<Contents><Key>a</Key><Generation>1360887697105000</Generation>\
            <MetaGeneration>1</MetaGeneration><Size>0</Size>\
            <LastModified>2013-02-15T00:21:37.106Z</LastModified></Contents>";
        let generation = page_of(inside).objects[0].generation.clone();
        assert_eq!(generation.as_deref(), Some("1360887697105000"));
    }

    #[test]
    fn the_next_page_has_a_token() {
        let page = page_of("<NextContinuationToken>t</NextContinuationToken>");
        assert_eq!(page.next.as_deref(), Some("t"));
        assert!(parse(b"<html>no</html").is_err());
    }
}
