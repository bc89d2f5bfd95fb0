//! What an object carries besides its content: what it says of itself, its storage class, and its tags.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::HeaderMap;
use object_store::{Attribute, Attributes, Error, Result, TagSet};
use serde::Deserialize;

use crate::config::StorageClass;
use crate::storage::store::causes::code_of;

/// What is said of an object that is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Description {
    /// Its storage class is one of them.
    pub(crate) attributes: Attributes,
    pub(crate) tags: Tags,
    /// Its class is that of another object, and was asked for by nobody.
    pub(crate) is_class_kept: bool,
}

impl Description {
    /// The same without a class, if it is one that was kept.
    pub(crate) fn without_kept_class(&self) -> Option<Self> {
        let mut plain = self.clone();
        let class = plain.attributes.remove(&Attribute::StorageClass);
        (self.is_class_kept && class.is_some()).then_some(plain)
    }
}

impl From<Attributes> for Description {
    fn from(attributes: Attributes) -> Self {
        Self {
            attributes,
            ..Self::default()
        }
    }
}

/// How a cloud names the headers that describe an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headers {
    /// What those begin with that are about the object, where others of the name are about the request.
    pub(crate) own: &'static str,
    /// What those of metadata begin with.
    pub(crate) metadata: &'static str,
    pub(crate) class: &'static str,
    pub(crate) tags: Option<&'static str>,
}

impl Headers {
    pub(crate) const S3: Self = Self {
        own: "",
        metadata: "x-amz-meta-",
        class: "x-amz-storage-class",
        tags: Some("x-amz-tagging"),
    };
    pub(crate) const GOOGLE: Self = Self {
        own: "",
        metadata: "x-goog-meta-",
        class: "x-goog-storage-class",
        tags: None,
    };
    pub(crate) const AZURE: Self = Self {
        own: "x-ms-blob-",
        metadata: "x-ms-meta-",
        class: "x-ms-access-tier",
        tags: Some("x-ms-tags"),
    };
}

/// Tags of an object, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tags(pub(crate) BTreeMap<String, String>);

/// S3 and Azure write tags alike.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tagging {
    tag_set: AllTags,
}

#[derive(Debug, Deserialize)]
struct AllTags {
    #[serde(rename = "Tag", default)]
    tags: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

impl Tags {
    /// These, or none where the gateway may not read them; that is told once.
    pub(crate) fn if_allowed(read: Result<Self>, told: &AtomicBool) -> Result<Self> {
        match read {
            Err(error) if is_forbidden(&error) => {
                if !told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "not allowed to read the tags of objects, appends and renames lose them");
                }
                Ok(Self::default())
            }
            read => read,
        }
    }

    /// As headers hold them: `a=b&c=d`, percent-encoded. `None` if there are none.
    pub(crate) fn header(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        // Of Azure it is not known that it takes a `+` for a space.
        Some(self.set().encoded().replace('+', "%20"))
    }

    /// As `object_store` takes them.
    pub(crate) fn set(&self) -> TagSet {
        let mut set = TagSet::default();
        for (name, value) in &self.0 {
            set.push(name, value);
        }
        set
    }

    /// Reads them as a store tells them.
    ///
    /// # Errors
    /// When that makes no sense.
    pub(crate) fn read(xml: &[u8]) -> Result<Self, quick_xml::DeError> {
        let told: Tagging = quick_xml::de::from_reader(xml)?;
        let tags = told.tag_set.tags.into_iter();
        Ok(Self(tags.map(|tag| (tag.key, tag.value)).collect()))
    }
}

/// What an object was found to carry that a copy does not have by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Carries {
    /// Its storage class, if that is not what the store gives by itself.
    pub(crate) class: Option<Box<str>>,
    /// Whether it has tags.
    pub(crate) is_tagged: bool,
    /// It was brought back from an archive for a while.
    pub(crate) is_restored: bool,
}

impl Carries {
    /// A class that was told, unless it is what every object has of which nothing was said.
    pub(crate) fn of_class(class: Option<&str>) -> Option<Box<str>> {
        Self::named(class).filter(|it| &**it != S3_STANDARD)
    }

    /// A class that was told, if it can be one.
    pub(crate) fn named(class: Option<&str>) -> Option<Box<str>> {
        StorageClass::new(class?).map(|class| class.as_str().into())
    }

    /// By the headers of an answer about an object, of whatever cloud. `None` if they tell nothing.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let is_inferred = text("x-ms-access-tier-inferred") == Some("true");
        let azures = text(Headers::AZURE.class).filter(|_| !is_inferred);
        let class = Self::of_class(text(Headers::S3.class))
            .or_else(|| Self::named(text(Headers::GOOGLE.class)))
            .or_else(|| Self::named(azures));
        let counts = [text("x-amz-tagging-count"), text("x-ms-tag-count")];
        let is_tagged = counts.into_iter().flatten().any(|count| count != "0");
        let restore = text("x-amz-restore").unwrap_or_default();
        let is_restored = restore.contains("ongoing-request=\"false\"");
        (class.is_some() || is_tagged).then_some(Self {
            class,
            is_tagged,
            is_restored,
        })
    }

    /// Has attributes that were read name the class.
    pub(crate) fn put_on(&self, attributes: &mut Attributes) {
        if let Some(class) = &self.class {
            attributes.insert(Attribute::StorageClass, class.to_string().into());
        }
    }
}

/// Whether this request is not allowed, and others may be. A 403 may also be about who asks.
fn is_forbidden(error: &Error) -> bool {
    let code = code_of(error);
    code.is_some_and(|code| FORBIDDEN.contains(&code.as_str()))
}

const FORBIDDEN: [&str; 4] = [
    "AccessDenied",
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "InsufficientAccountPermissions",
];

/// What S3 gives an object of which nothing was said. Google's `STANDARD` is not always the bucket's own.
const S3_STANDARD: &str = "STANDARD";

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        let pairs = pairs.iter();
        Tags(
            pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn tags_go_into_a_header_and_come_as_xml() {
        assert_eq!(Tags::default().header(), None);
        let some = tags(&[("a b", "1+1=2&"), ("c", "")]);
        assert_eq!(some.header().as_deref(), Some("a%20b=1%2B1%3D2%26&c="));
        let of_s3 = "<?xml version=\"1.0\"?><Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet>\
            <Tag><Key>a b</Key><Value>1+1=2&amp;</Value></Tag><Tag><Key>c</Key><Value/></Tag></TagSet></Tagging>";
        assert_eq!(Tags::read(of_s3.as_bytes()).unwrap(), some);
        let of_azure = "<Tags><TagSet><Tag><Key>x</Key><Value>y</Value></Tag></TagSet></Tags>";
        assert_eq!(
            Tags::read(of_azure.as_bytes()).unwrap(),
            tags(&[("x", "y")])
        );
        assert_eq!(
            Tags::read(b"<Tags><TagSet/></Tags>").unwrap(),
            Tags::default()
        );
        assert!(Tags::read(b"<html").is_err());
    }

    #[test]
    fn what_an_object_carries_is_in_headers_of_each_cloud() {
        let carries = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter();
            let headers = pairs.map(|(name, value)| {
                let name: http::HeaderName = name.parse().unwrap();
                (name, value.parse().unwrap())
            });
            Carries::of(&headers.collect())
        };
        let class = |class: &str, is_tagged| {
            let class = (!class.is_empty()).then(|| class.into());
            Some(Carries {
                class,
                is_tagged,
                is_restored: false,
            })
        };
        assert_eq!(carries(&[]), None);
        assert_eq!(carries(&[("x-amz-storage-class", "STANDARD")]), None);
        let glacier = [
            ("x-amz-storage-class", "GLACIER"),
            ("x-amz-tagging-count", "2"),
        ];
        assert_eq!(carries(&glacier), class("GLACIER", true));
        assert_eq!(carries(&[("x-amz-tagging-count", "0")]), None);
        let standard = [("x-goog-storage-class", "STANDARD")];
        assert_eq!(carries(&standard), class("STANDARD", false));
        let hot = [
            ("x-ms-access-tier", "Hot"),
            ("x-ms-access-tier-inferred", "true"),
        ];
        assert_eq!(carries(&hot), None);
        let restored = [
            ("x-amz-storage-class", "GLACIER"),
            (
                "x-amz-restore",
                "ongoing-request=\"false\", expiry-date=\"x\"",
            ),
        ];
        assert!(carries(&restored).unwrap().is_restored);
        let cool = [("x-ms-access-tier", "Cool"), ("x-ms-tag-count", "1")];
        assert_eq!(carries(&cool), class("Cool", true));
    }
}
