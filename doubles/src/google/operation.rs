//! What can be asked for, and by which parameters and headers.

use std::collections::BTreeMap;

use hyper::{HeaderMap, Method};

/// An operation, by S3's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    HeadBucket,
    ListObjectsV2,
    ListMultipartUploads,
    GetObject,
    HeadObject,
    PutObject,
    DeleteObject,
    CopyObject,
    Compose,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
}

/// Say who asks and when, not what for.
const NEUTRAL: &[&str] = &[
    "x-goog-api-client",
    "x-goog-api-version",
    "x-goog-date",
    "x-goog-user-project",
];

/// Google's conditions on the object that a request is about.
const GENERATIONS: &[&str] = &[
    "x-goog-if-generation-match",
    "x-goog-if-metageneration-match",
];

/// Documented for requests that read data, and for no others.
const READ: &[&str] = &[
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

const HASHES: &[&str] = &["content-md5", "x-goog-hash"];

const COPY: &[&str] = &[
    "x-goog-copy-source",
    "x-goog-copy-source-generation",
    "x-goog-copy-source-if-generation-match",
    "x-goog-copy-source-if-match",
    "x-goog-copy-source-if-metageneration-match",
    "x-goog-copy-source-if-modified-since",
    "x-goog-copy-source-if-none-match",
    "x-goog-copy-source-if-unmodified-since",
    "x-goog-metadata-directive",
];

impl Operation {
    pub(crate) fn asked(
        method: &Method,
        key: &str,
        query: &BTreeMap<String, String>,
        headers: &HeaderMap,
    ) -> Option<Self> {
        if key.is_empty() {
            return Self::on_bucket(method, query);
        }
        let has = |name| query.contains_key(name);
        let operation = match method.as_str() {
            "HEAD" => Self::HeadObject,
            "GET" if has("uploadId") => Self::ListParts,
            "GET" => Self::GetObject,
            "PUT" if has("compose") => Self::Compose,
            "PUT" if has("uploadId") || has("partNumber") => Self::UploadPart,
            "PUT" if headers.contains_key("x-goog-copy-source") => Self::CopyObject,
            "PUT" => Self::PutObject,
            "POST" if has("uploads") => Self::CreateMultipartUpload,
            "POST" if has("uploadId") => Self::CompleteMultipartUpload,
            "DELETE" if has("uploadId") => Self::AbortMultipartUpload,
            "DELETE" => Self::DeleteObject,
            _ => return None,
        };
        Some(operation)
    }

    /// Listings by marker are not asked for by any client here.
    fn on_bucket(method: &Method, query: &BTreeMap<String, String>) -> Option<Self> {
        let list_type = query.get("list-type").map(String::as_str);
        match method.as_str() {
            "HEAD" => Some(Self::HeadBucket),
            "GET" if query.contains_key("uploads") => Some(Self::ListMultipartUploads),
            "GET" if list_type == Some("2") => Some(Self::ListObjectsV2),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HeadBucket => "HeadBucket",
            Self::ListObjectsV2 => "ListObjectsV2",
            Self::ListMultipartUploads => "ListMultipartUploads",
            Self::GetObject => "GetObject",
            Self::HeadObject => "HeadObject",
            Self::PutObject => "PutObject",
            Self::DeleteObject => "DeleteObject",
            Self::CopyObject => "CopyObject",
            Self::Compose => "Compose",
            Self::CreateMultipartUpload => "CreateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::AbortMultipartUpload => "AbortMultipartUpload",
            Self::ListParts => "ListParts",
        }
    }

    /// Whether it gives an object its key.
    pub(crate) fn creates(self) -> bool {
        matches!(
            self,
            Self::PutObject | Self::CopyObject | Self::Compose | Self::CreateMultipartUpload
        )
    }

    pub(crate) fn takes_parameter(self, name: &str) -> bool {
        let parameters: &[&str] = match self {
            Self::HeadBucket | Self::PutObject | Self::CopyObject => &[],
            Self::ListObjectsV2 => &[
                "list-type",
                "prefix",
                "delimiter",
                "max-keys",
                "continuation-token",
                "start-after",
                "encoding-type",
            ],
            Self::ListMultipartUploads => &[
                "uploads",
                "prefix",
                "key-marker",
                "upload-id-marker",
                "max-uploads",
                "encoding-type",
            ],
            Self::GetObject | Self::HeadObject | Self::DeleteObject => &["generation"],
            Self::Compose => &["compose"],
            Self::CreateMultipartUpload => &["uploads"],
            Self::UploadPart => &["uploadId", "partNumber"],
            Self::CompleteMultipartUpload | Self::AbortMultipartUpload => &["uploadId"],
            Self::ListParts => &["uploadId", "max-parts", "part-number-marker"],
        };
        parameters.contains(&name)
    }

    /// Whether it knows what the header wants. Headers that want nothing are none of its business.
    pub(crate) fn takes_header(self, name: &str) -> bool {
        let wants = name.starts_with("x-goog-") || name.starts_with("x-amz-");
        let wants = wants || READ.contains(&name) || ["content-md5", "if-range"].contains(&name);
        if !wants || NEUTRAL.contains(&name) {
            return true;
        }
        if name.starts_with("x-goog-meta-") || name == "x-goog-storage-class" {
            return self.creates();
        }
        self.headers().iter().any(|known| known.contains(&name))
    }

    fn headers(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::GetObject | Self::HeadObject => &[READ, GENERATIONS],
            Self::CopyObject => &[GENERATIONS, COPY],
            // An MD5 of a composite object is ignored, as documented.
            Self::Compose => &[GENERATIONS, &["content-md5"]],
            // Uploads in parts know no conditions: they are ignored, as documented.
            Self::PutObject | Self::UploadPart => &[GENERATIONS, HASHES],
            Self::DeleteObject
            | Self::CreateMultipartUpload
            | Self::CompleteMultipartUpload
            | Self::AbortMultipartUpload => &[GENERATIONS],
            Self::HeadBucket
            | Self::ListObjectsV2
            | Self::ListMultipartUploads
            | Self::ListParts => &[],
        }
    }
}
