//! Which operation a request asks for. What this double doesn't know it refuses.

use hyper::{HeaderMap, Method};

use super::failure::{
    Failure, INVALID_URI, invalid_parameter, not_implemented, unsupported_header,
    unsupported_parameter,
};
use super::target::{Query, Target};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    PutBlob,
    GetBlob,
    GetBlobProperties,
    GetBlobTags,
    DeleteBlob,
    CopyBlob,
    PutBlock,
    PutBlockList,
    GetBlockList,
    ListBlobs,
    GetContainerProperties,
    Batch,
}

impl Operation {
    pub(crate) fn of(
        method: &Method,
        target: &Target,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<Self, Failure> {
        let operation = match (target.container.as_str(), target.key.as_str()) {
            ("", _) => return Err(not_implemented("requests to the account")),
            (_, "") => Self::on_container(method, query),
            (_, _) => Self::on_blob(method, query, headers),
        }?;
        operation.check_parameters(query)?;
        operation.check_headers(headers)?;
        Ok(operation)
    }

    /// S3's name for the same work.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PutBlob => "PutObject",
            Self::GetBlob => "GetObject",
            Self::GetBlobProperties => "HeadObject",
            Self::GetBlobTags => "GetObjectTagging",
            Self::DeleteBlob => "DeleteObject",
            Self::CopyBlob => "CopyObject",
            Self::PutBlock => "UploadPart",
            Self::PutBlockList => "CompleteMultipartUpload",
            Self::GetBlockList => "GetBlockList",
            Self::ListBlobs => "ListObjectsV2",
            Self::GetContainerProperties => "HeadBucket",
            Self::Batch => "DeleteObjects",
        }
    }

    fn on_container(method: &Method, query: &Query) -> Result<Self, Failure> {
        if query.get("restype") != Some("container") {
            return Err(query
                .get("restype")
                .map_or(INVALID_URI, |_| invalid_parameter("restype")));
        }
        match (method.as_str(), query.get("comp")) {
            ("GET", Some("list")) => Ok(Self::ListBlobs),
            ("GET" | "HEAD", None) => Ok(Self::GetContainerProperties),
            ("POST", Some("batch")) => Ok(Self::Batch),
            _ => Err(not_implemented("this request to a container")),
        }
    }

    fn on_blob(method: &Method, query: &Query, headers: &HeaderMap) -> Result<Self, Failure> {
        let is_copy = headers.contains_key("x-ms-copy-source");
        match (method.as_str(), query.get("comp")) {
            ("PUT", None) if is_copy && headers.contains_key("x-ms-blob-type") => {
                Err(not_implemented("Put Blob From URL"))
            }
            ("PUT", None) if is_copy => Ok(Self::CopyBlob),
            ("PUT", None) => Ok(Self::PutBlob),
            ("GET", None) => Ok(Self::GetBlob),
            ("HEAD", None) => Ok(Self::GetBlobProperties),
            ("DELETE", None) => Ok(Self::DeleteBlob),
            ("PUT", Some("block")) if !is_copy => Ok(Self::PutBlock),
            ("PUT", Some("blocklist")) => Ok(Self::PutBlockList),
            ("GET", Some("blocklist")) => Ok(Self::GetBlockList),
            ("GET", Some("tags")) => Ok(Self::GetBlobTags),
            _ => Err(not_implemented("this request to a blob")),
        }
    }

    fn check_parameters(self, query: &Query) -> Result<(), Failure> {
        let unknown = query.unknown(self.parameters());
        unknown.map_or(Ok(()), |name| Err(unsupported_parameter(name)))
    }

    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::PutBlock => &["timeout", "comp", "blockid"],
            Self::PutBlockList | Self::GetBlobTags => &["timeout", "comp"],
            Self::GetBlockList => &["timeout", "comp", "blocklisttype"],
            Self::ListBlobs => &[
                "timeout",
                "restype",
                "comp",
                "prefix",
                "delimiter",
                "marker",
                "maxresults",
                "include",
                "startfrom",
            ],
            Self::GetContainerProperties => &["timeout", "restype"],
            Self::Batch => &["timeout", "restype", "comp"],
            _ => &["timeout"],
        }
    }

    fn check_headers(self, headers: &HeaderMap) -> Result<(), Failure> {
        let mut names = headers.keys().map(hyper::header::HeaderName::as_str);
        let unknown = names.find(|name| !self.knows(name));
        unknown.map_or(Ok(()), |name| Err(unsupported_header(name)))
    }

    /// Azure's own headers mean something each: one that isn't heeded must not be taken.
    fn knows(self, name: &str) -> bool {
        let general = [
            "x-ms-date",
            "x-ms-version",
            "x-ms-client-request-id",
            "x-ms-return-client-request-id",
        ];
        if is_condition(name) {
            return self.has_conditions();
        }
        if !name.starts_with("x-ms-") || general.contains(&name) {
            return true;
        }
        match self {
            Self::PutBlob => {
                is_attribute(name) || ["x-ms-blob-type", "x-ms-content-crc64"].contains(&name)
            }
            Self::PutBlockList => is_attribute(name) || name == "x-ms-content-crc64",
            Self::PutBlock => name == "x-ms-content-crc64",
            Self::GetBlob => name == "x-ms-range",
            Self::DeleteBlob => name == "x-ms-delete-snapshots",
            Self::CopyBlob => {
                name.starts_with("x-ms-meta-")
                    || name.starts_with("x-ms-source-if-")
                    || name == "x-ms-copy-source"
                    || is_label(name)
            }
            _ => false,
        }
    }

    fn has_conditions(self) -> bool {
        matches!(
            self,
            Self::PutBlob
                | Self::GetBlob
                | Self::GetBlobProperties
                | Self::DeleteBlob
                | Self::CopyBlob
                | Self::PutBlockList
        )
    }
}

fn is_condition(name: &str) -> bool {
    let conditions = [
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
    ];
    conditions.contains(&name)
}

fn is_attribute(name: &str) -> bool {
    let attributes = [
        "x-ms-blob-cache-control",
        "x-ms-blob-content-disposition",
        "x-ms-blob-content-encoding",
        "x-ms-blob-content-language",
        "x-ms-blob-content-md5",
        "x-ms-blob-content-type",
    ];
    name.starts_with("x-ms-meta-") || attributes.contains(&name) || is_label(name)
}

/// The tier and the tags, which a copy is given too.
fn is_label(name: &str) -> bool {
    ["x-ms-access-tier", "x-ms-tags"].contains(&name)
}
