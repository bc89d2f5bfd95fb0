//! The storage classes of objects, and their tags.

use s3s::dto::{StorageClass, Tag, TagSet};
use s3s::{S3Result, s3_error};

use crate::bucket::{Attributes, Object, STANDARD};
use crate::tags::{self, Tags};

/// The other classes that a bucket has. Those of Outposts, Snow and directory buckets are none of its own.
const OTHERS: [&str; 7] = [
    StorageClass::REDUCED_REDUNDANCY,
    StorageClass::STANDARD_IA,
    StorageClass::ONEZONE_IA,
    StorageClass::INTELLIGENT_TIERING,
    StorageClass::GLACIER,
    StorageClass::DEEP_ARCHIVE,
    StorageClass::GLACIER_IR,
];

/// The class that a request names, unless that is the one that it would have anyway.
pub(crate) fn class_asked(class: Option<&StorageClass>) -> S3Result<Option<String>> {
    match class.map(StorageClass::as_str) {
        None | Some(STANDARD) => Ok(None),
        Some(other) if OTHERS.contains(&other) => Ok(Some(other.to_owned())),
        Some(_) => Err(s3_error!(
            InvalidStorageClass,
            "The storage class you specified is not valid"
        )),
    }
}

/// What readers of an object are told: nothing of the class that most have.
pub(crate) fn class_told(attributes: &Attributes) -> Option<StorageClass> {
    attributes.storage_class.clone().map(StorageClass::from)
}

/// The tags that a request brings in a header.
pub(crate) fn tags_asked(header: Option<&str>) -> S3Result<Tags> {
    let tags = tags::read(header.unwrap_or_default());
    let tags = tags.ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates."
        )
    })?;
    checked(tags)
}

/// The tags that a request brings in its body.
pub(crate) fn tags_in(set: TagSet) -> S3Result<Tags> {
    let count = set.len();
    let pairs = set
        .into_iter()
        .map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()));
    let tags: Tags = pairs.collect();
    if tags.len() < count {
        return Err(s3_error!(
            InvalidTag,
            "Cannot provide multiple Tags with the same key"
        ));
    }
    checked(tags)
}

fn checked(tags: Tags) -> S3Result<Tags> {
    if tags::fit(&tags) {
        return Ok(tags);
    }
    Err(s3_error!(
        InvalidTag,
        "An object has at most 10 tags, with names of 1 to 128 and values of at most 256 characters."
    ))
}

pub(crate) fn tag_set(tags: &Tags) -> TagSet {
    let tag = |(name, value): (&String, &String)| Tag {
        key: Some(name.clone()),
        value: Some(value.clone()),
    };
    tags.iter().map(tag).collect()
}

/// How many tags an object has, if any: nobody is told of none.
pub(crate) fn tag_count(attributes: &Attributes) -> Option<i32> {
    let count = attributes.tags.len() as i32;
    (count > 0).then_some(count)
}

/// Nobody reads what lies in an archive.
pub(crate) fn check_online(object: &Object) -> S3Result<()> {
    let class = object.attributes.storage_class.as_deref();
    let is_archived =
        class.is_some_and(|it| [StorageClass::GLACIER, StorageClass::DEEP_ARCHIVE].contains(&it));
    if is_archived {
        return Err(s3_error!(
            InvalidObjectState,
            "The operation is not valid for the object's storage class"
        ));
    }
    Ok(())
}
