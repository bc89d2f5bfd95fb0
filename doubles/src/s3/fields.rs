//! S3's requests and answers repeat the same fields in many types; these macros copy them.

/// The attributes in a request of any kind that creates an object, but for its class and its tags: these can be wrong.
macro_rules! attributes {
    ($input:ident) => {
        Attributes {
            cache_control: $input.cache_control.clone(),
            content_disposition: $input.content_disposition.clone(),
            content_encoding: $input.content_encoding.clone(),
            content_language: $input.content_language.clone(),
            content_type: $input.content_type.clone(),
            expires: $input.expires.clone(),
            metadata: $input.metadata.clone(),
            ..Attributes::default()
        }
    };
}

/// The checksums that a request brings.
macro_rules! checksum {
    ($input:expr) => {
        Checksum {
            checksum_crc32: $input.checksum_crc32.clone(),
            checksum_crc32c: $input.checksum_crc32c.clone(),
            checksum_crc64nvme: $input.checksum_crc64nvme.clone(),
            checksum_sha1: $input.checksum_sha1.clone(),
            checksum_sha256: $input.checksum_sha256.clone(),
            checksum_type: None,
        }
    };
}

/// Puts the checksums into an answer.
macro_rules! carry {
    ($checksum:expr => $output:ident) => {
        $output.checksum_crc32 = $checksum.checksum_crc32.clone();
        $output.checksum_crc32c = $checksum.checksum_crc32c.clone();
        $output.checksum_crc64nvme = $checksum.checksum_crc64nvme.clone();
        $output.checksum_sha1 = $checksum.checksum_sha1.clone();
        $output.checksum_sha256 = $checksum.checksum_sha256.clone();
    };
}

/// What a reader wants to hold of the object.
macro_rules! preconditions {
    ($input:ident) => {
        Preconditions {
            if_match: $input.if_match.as_ref(),
            if_none_match: $input.if_none_match.as_ref(),
            if_modified_since: $input.if_modified_since.as_ref(),
            if_unmodified_since: $input.if_unmodified_since.as_ref(),
        }
    };
}

/// What a copy wants to hold of its source.
macro_rules! source_preconditions {
    ($input:ident) => {
        Preconditions {
            if_match: $input.copy_source_if_match.as_ref(),
            if_none_match: $input.copy_source_if_none_match.as_ref(),
            if_modified_since: $input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: $input.copy_source_if_unmodified_since.as_ref(),
        }
    };
}

/// What `GetObject` and `HeadObject` both say of an object.
macro_rules! description {
    ($output:ident, $object:ident, $span:ident, $tells:expr) => {{
        let attributes = $object.attributes.clone();
        let mut output = $output {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: attributes.cache_control,
            content_disposition: attributes.content_disposition,
            content_encoding: attributes.content_encoding,
            content_language: attributes.content_language,
            content_length: Some(($span.range.end - $span.range.start) as i64),
            content_range: $span.header.clone(),
            content_type: attributes.content_type.or_else(|| Some("binary/octet-stream".to_owned())),
            e_tag: Some($object.etag()),
            expires: attributes.expires,
            last_modified: Some($object.modified.into()),
            metadata: attributes.metadata,
            storage_class: class_told(&$object.attributes),
            ..Default::default()
        };
        // A checksum is of the whole object: it would mislead who asked for a range.
        if $tells && $span.header.is_none() {
            carry!(all_of($object) => output);
        }
        output
    }};
}
