//! One page of a listing as Azure writes it.

use chrono::DateTime;
use serde::Deserialize;

use crate::storage::store::azure::xml::without_mark;
use crate::storage::store::description::Carries;
use crate::storage::store::keys::{Object, Page, bare};

/// What Azure answers; of it, what we need.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    blobs: Blobs,
    next_marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blobs {
    #[serde(default)]
    blob: Vec<Blob>,
    #[serde(default)]
    blob_prefix: Vec<Prefix>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Prefix {
    name: Name,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blob {
    name: Name,
    properties: Properties,
}

/// A name with characters that XML can't hold comes percent-encoded, and says so.
#[derive(Debug, Deserialize)]
struct Name {
    #[serde(rename = "@Encoded")]
    encoded: Option<bool>,
    #[serde(rename = "$text", default)]
    text: String,
}

#[derive(Debug, Deserialize)]
struct Properties {
    #[serde(rename = "Content-Length", default)]
    length: u64,
    #[serde(rename = "Last-Modified")]
    modified: String,
    #[serde(rename = "Etag")]
    e_tag: Option<String>,
    /// On accounts with a hierarchical namespace: `file` or `directory`.
    #[serde(rename = "ResourceType")]
    resource: Option<String>,
    #[serde(rename = "AccessTier")]
    tier: Option<String>,
    #[serde(rename = "AccessTierInferred")]
    is_tier_inferred: Option<bool>,
    #[serde(rename = "TagCount", default)]
    tags: u64,
}

impl Name {
    fn text(self) -> String {
        if self.encoded != Some(true) {
            return self.text;
        }
        percent_encoding::percent_decode_str(&self.text)
            .decode_utf8_lossy()
            .into_owned()
    }
}

impl Properties {
    fn carries(&self) -> Carries {
        let tier = self.tier.as_deref();
        Carries {
            class: Carries::named(tier.filter(|_| self.is_tier_inferred != Some(true))),
            is_tagged: self.tags > 0,
            is_restored: false,
        }
    }
}

impl Blob {
    fn object(self) -> Option<Object> {
        let mut key = self.name.text();
        if self.properties.resource.as_deref() == Some("directory") {
            // What is a marker elsewhere.
            key.push('/');
        }
        let modified = DateTime::parse_from_rfc2822(&self.properties.modified).ok()?;
        let carries = self.properties.carries();
        Some(Object {
            key,
            size: self.properties.length,
            modified: modified.into(),
            e_tag: self.properties.e_tag.map(|e_tag| bare(&e_tag).to_owned()),
            generation: None,
            carries,
        })
    }
}

/// Reads it.
pub(crate) fn parse(body: &[u8]) -> Result<Page, quick_xml::DeError> {
    let answer: Answer = quick_xml::de::from_reader(without_mark(body))?;
    let prefixes = answer.blobs.blob_prefix.into_iter();
    Ok(Page {
        objects: answer
            .blobs
            .blob
            .into_iter()
            .filter_map(Blob::object)
            .collect(),
        prefixes: prefixes.map(|prefix| prefix.name.text()).collect(),
        unnamable: 0,
        next: answer.next_marker.filter(|marker| !marker.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_of_azure_are_read() {
        let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>\
            <Blob><Name>in/a b</Name><Properties><Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT</Last-Modified>\
            <Etag>0x8D1</Etag><Content-Length>3</Content-Length></Properties></Blob>\
            <Blob><Name Encoded=\"true\">in/a%0Ab</Name><Properties><Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT\
            </Last-Modified><Content-Length>3</Content-Length></Properties></Blob>\
            <Blob><Name>in/real</Name><Properties><Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT</Last-Modified>\
            <Content-Length>0</Content-Length><ResourceType>directory</ResourceType></Properties></Blob>\
            <BlobPrefix><Name>in/sub/</Name></BlobPrefix></Blobs><NextMarker>m</NextMarker></EnumerationResults>";
        let page = parse(body.as_bytes()).unwrap();
        let keys: Vec<_> = page.objects.iter().map(|object| &object.key).collect();
        assert_eq!(keys, ["in/a b", "in/a\nb", "in/real/"]);
        assert_eq!(page.objects[0].e_tag.as_deref(), Some("0x8D1"));
        assert_eq!(
            (page.prefixes, page.next.as_deref()),
            (vec!["in/sub/".to_owned()], Some("m"))
        );
        let end = "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>";
        assert!(parse(end.as_bytes()).unwrap().next.is_none());
    }
}
