//! How listings spell what they list.

use s3s::dto::{CommonPrefix, EncodingType, MultipartUpload, Object};

use crate::bucket::{Object as Stored, Upload};

/// How keys are written in a listing: as they are, or percent-encoded where the request asks for it.
pub(crate) struct Spelling {
    encode: bool,
}

impl Spelling {
    pub(crate) fn new(encoding: Option<&EncodingType>) -> Self {
        Self {
            encode: encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL),
        }
    }

    pub(crate) fn key(&self, key: &str) -> String {
        if self.encode {
            key.bytes().map(url_encoded).collect()
        } else {
            key.to_owned()
        }
    }

    pub(crate) fn prefix(&self, prefix: &str) -> CommonPrefix {
        CommonPrefix {
            prefix: Some(self.key(prefix)),
        }
    }

    pub(crate) fn object(&self, key: &str, object: &Stored) -> Object {
        Object {
            key: Some(self.key(key)),
            e_tag: Some(object.etag()),
            last_modified: Some(object.modified.into()),
            size: Some(object.content.len as i64),
            storage_class: Some(object.attributes.class().to_owned().into()),
            ..Default::default()
        }
    }

    pub(crate) fn upload(&self, key: &str, id: &str, upload: &Upload) -> MultipartUpload {
        MultipartUpload {
            key: Some(self.key(key)),
            upload_id: Some(id.to_owned()),
            initiated: Some(upload.begun.into()),
            storage_class: Some(upload.attributes.class().to_owned().into()),
            ..Default::default()
        }
    }
}

/// As Java's `URLEncoder` has it, but for the slash.
fn url_encoded(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => {
            char::from(byte).to_string()
        }
        b' ' => "+".to_owned(),
        _ => format!("%{byte:02X}"),
    }
}
