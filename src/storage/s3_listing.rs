//! One page of `ListObjectsV2`, read by ourselves: every key as it is.

use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{Error, Result};
use serde::Deserialize;

use super::pages::{Found, Page};
use super::signed::SignedS3;

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
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CommonPrefix {
    prefix: String,
}

/// One page of what lies right under `directory`, and the token of the next.
pub(super) async fn page(
    s3: &SignedS3,
    directory: &Path,
    token: Option<&str>,
    max_keys: usize,
) -> Result<(Page, Option<String>)> {
    let prefix = match directory.as_ref() {
        "" => String::new(),
        directory => format!("{directory}/"),
    };
    let max_keys = max_keys.to_string();
    let mut query = vec![
        ("delimiter", "/"),
        ("encoding-type", "url"),
        ("list-type", "2"),
        ("max-keys", &max_keys),
        ("prefix", &prefix),
    ];
    if let Some(token) = token {
        // The signature wants the parameters in order.
        query.insert(0, ("continuation-token", token));
    }
    let body = s3.list(&query).await?;
    parse(&body, &prefix)
}

fn parse(body: &[u8], prefix: &str) -> Result<(Page, Option<String>)> {
    let answer: Answer = quick_xml::de::from_reader(body).map_err(|error| Error::Generic {
        store: "S3",
        source: Box::new(error),
    })?;
    let encoded = answer.encoding_type.as_deref() == Some("url");
    let mut page = Page::default();
    for content in answer.contents {
        let key = decode(content.key, encoded);
        let name = key.strip_prefix(prefix).unwrap_or(&key);
        if name.is_empty() {
            page.marker = true;
        } else {
            page.add(
                name,
                Found::file(content.size, content.last_modified.into()),
            );
        }
    }
    for common in answer.common_prefixes {
        let key = decode(common.prefix, encoded);
        let name = key.strip_prefix(prefix).unwrap_or(&key);
        page.add(name.strip_suffix('/').unwrap_or(name), Found::Directory);
    }
    Ok((page, answer.next_continuation_token))
}

pub(super) fn decode(key: String, encoded: bool) -> String {
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

    fn page_of(inside: &str, prefix: &str) -> Page {
        let body = format!("<ListBucketResult>{inside}</ListBucketResult>");
        parse(body.as_bytes(), prefix).unwrap().0
    }

    fn object(key: &str) -> String {
        format!(
            "<Contents><Key>{key}</Key><Size>3</Size>\
             <LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
        )
    }

    #[test]
    fn markers_files_and_directories_are_told_apart() {
        let inside = object("in/")
            + &object("in/a b.txt")
            + "<CommonPrefixes><Prefix>in/sub/</Prefix></CommonPrefixes>";
        let page = page_of(&inside, "in/");
        assert!(page.marker);
        let names: Vec<_> = page
            .entries
            .iter()
            .map(|entry| entry.name.as_str())
            .collect();
        assert_eq!(names, ["a b.txt", "sub"]);
        assert!(page.entries[1].is_directory());
    }

    #[test]
    fn keys_that_ftp_cannot_show_are_counted() {
        let inside = "<EncodingType>url</EncodingType>".to_owned()
            + &object("in/a%0Ab")
            + &object("in/%2E%2E")
            + &object("in/50%25+off")
            + "<CommonPrefixes><Prefix>in//</Prefix></CommonPrefixes>";
        let page = page_of(&inside, "in/");
        assert_eq!(page.hidden, 3);
        assert_eq!(page.entries[0].name, "50% off");
    }

    #[test]
    fn the_next_page_has_a_token() {
        let body = b"<ListBucketResult><NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
        assert_eq!(parse(body, "").unwrap().1.as_deref(), Some("t"));
        assert!(parse(b"<html>no</html", "").is_err());
    }
}
