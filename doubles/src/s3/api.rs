//! The S3 operations: each request becomes a question to the [`Bucket`], each result an answer of S3.

use std::sync::{Arc, Mutex, MutexGuard};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures::stream;
use hyper::header::HeaderValue;
#[allow(
    clippy::wildcard_imports,
    reason = "an operation is all types of its own"
)]
use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::classes::{
    check_online, class_asked, class_told, tag_count, tag_set, tags_asked, tags_in,
};
use super::request::{
    Claims, Preconditions, Span, all_of, check_crc64nvme, check_part_number, conditions_in,
    copy_range, named_parts, read_token, receive,
};
use super::spelling::Spelling;
use crate::bucket::{
    Attributes, Bucket, Conditions, Content, Object as Stored, Part as StoredPart, Query,
};
use crate::tags::Tags;

/// What one request copies at most.
const LARGEST_COPY: u64 = 5 << 30;

/// Entries on a page, unless fewer are asked for.
const PAGE: i32 = 1000;

/// The service, with its one bucket.
pub(crate) struct Api {
    pub(crate) name: &'static str,
    pub(crate) bucket: Arc<Mutex<Bucket>>,
}

#[async_trait::async_trait]
impl S3 for Api {
    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.check_name(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let attributes = Attributes {
            storage_class: class_asked(input.storage_class.as_ref())?,
            tags: tags_asked(input.tagging.as_deref())?,
            ..attributes!(input)
        };
        let claims = Claims {
            md5: input.content_md5,
            checksum: self.claimed(checksum!(input)),
            trailers: request.trailing_headers,
        };
        self.check_claims(&claims)?;
        let (content, checksum) = receive(input.body, claims).await?;
        let object = Stored::new(content, attributes, checksum);
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
        };
        let mut bucket = self.bucket(&input.bucket)?;
        let is_directory = input.key.ends_with('/') && object.content.len > 0;
        if is_directory && bucket.refuses_content_of_directories {
            return Err(directory_contains_data());
        }
        bucket.put(&input.key, object, &conditions)?;
        let object = bucket.object(&input.key)?;
        let mut output = PutObjectOutput {
            e_tag: Some(object.etag()),
            ..Default::default()
        };
        carry!(object.checksum => output);
        output.version_id = bucket.version(&input.key);
        Ok(S3Response::new(output))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        let object = bucket.object(&input.key)?;
        check_online(object)?;
        preconditions!(input).check(object)?;
        let span = Span::new(input.range, object.content.len)?;
        let tells = tells(&bucket, input.checksum_mode.as_ref());
        let mut output = description!(GetObjectOutput, object, span, tells);
        output.tag_count = tag_count(&object.attributes);
        output.body = Some(blob(&object.content.slice(&span.range)));
        output.version_id = bucket.version(&input.key);
        Ok(S3Response::new(output))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        let object = bucket.object(&input.key)?;
        preconditions!(input).check(object)?;
        let span = Span::new(input.range, object.content.len)?;
        let tells = tells(&bucket, input.checksum_mode.as_ref());
        let mut output = description!(HeadObjectOutput, object, span, tells);
        output.version_id = bucket.version(&input.key);
        let mut response = S3Response::new(output);
        if let Some(count) = tag_count(&object.attributes) {
            // The type of the answer doesn't know it yet.
            let count = HeaderValue::from(count);
            response.headers.insert("x-amz-tagging-count", count);
        }
        Ok(response)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let mut bucket = self.bucket(&input.bucket)?;
        let is_gone = bucket.deletes_what_is_gone && !bucket.objects.contains_key(&input.key);
        let expected = input
            .if_match
            .filter(|_| !bucket.deletes_anyway && !is_gone);
        if let Some(expected) = expected {
            bucket.check_deletion(&input.key, &expected)?;
        }
        // Without a condition, S3 says nothing about whether there was something to delete.
        let version_id = bucket.remove(&input.key);
        Ok(S3Response::new(DeleteObjectOutput {
            delete_marker: version_id.is_some().then_some(true),
            version_id,
            ..Default::default()
        }))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        let mut bucket = self.bucket(&bucket)?;
        if delete.objects.is_empty() || delete.objects.len() > 1000 {
            return Err(s3_error!(
                MalformedXML,
                "One to 1000 keys can be deleted at once."
            ));
        }
        let mut deleted = Vec::new();
        let mut errors = Vec::new();
        for object in delete.objects {
            let there = bucket.objects.get(&object.key);
            let changed = |expected: &ETag| there.is_some_and(|it| it.etag != expected.value());
            if object.e_tag.as_ref().is_some_and(changed) && !bucket.deletes_anyway {
                errors.push(Error {
                    key: Some(object.key),
                    code: Some("PreconditionFailed".to_owned()),
                    ..Default::default()
                });
                continue;
            }
            let version = bucket.remove(&object.key);
            deleted.push(DeletedObject {
                delete_marker: version.is_some().then_some(true),
                delete_marker_version_id: version,
                key: Some(object.key),
                ..Default::default()
            });
        }
        let deleted = (!delete.quiet.unwrap_or(false)).then_some(deleted);
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted,
            errors: Some(errors),
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let resume_after = input
            .continuation_token
            .as_deref()
            .map(read_token)
            .transpose()?;
        let max_keys = input.max_keys.unwrap_or(PAGE).clamp(0, PAGE);
        let page = self.bucket(&input.bucket)?.list(&Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            start_after: input.start_after.as_deref().unwrap_or_default(),
            resume_after: resume_after.as_deref(),
            limit: max_keys as usize,
        });
        let spell = Spelling::new(input.encoding_type.as_ref());
        let contents: Vec<_> = page
            .objects
            .iter()
            .map(|(key, object)| spell.object(key, object))
            .collect();
        let common_prefixes: Vec<_> = page
            .prefixes
            .iter()
            .map(|prefix| spell.prefix(prefix))
            .collect();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(spell.key(&input.prefix.unwrap_or_default())),
            delimiter: input.delimiter.map(|delimiter| spell.key(&delimiter)),
            start_after: input.start_after.map(|key| spell.key(&key)),
            max_keys: Some(max_keys),
            key_count: Some((contents.len() + common_prefixes.len()) as i32),
            continuation_token: input.continuation_token,
            is_truncated: Some(page.resume_after.is_some()),
            next_continuation_token: page.resume_after.map(|key| BASE64.encode(key)),
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            encoding_type: input.encoding_type,
            ..Default::default()
        }))
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let conditions = conditions_in(&request.headers)?;
        // AWS does not ask for it here; moto does.
        self.check_claims(&Claims {
            md5: request.headers.get("content-md5").map(|_| String::new()),
            checksum: Checksum::default(),
            trailers: None,
        })?;
        let input = request.input;
        let mut bucket = self.bucket(&input.bucket)?;
        let source = self.source(&bucket, &input.copy_source)?;
        if !bucket.copies_any_version {
            source_preconditions!(input).check_source(source)?;
        }
        if source.content.len > LARGEST_COPY {
            return Err(s3_error!(
                InvalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source"
            ));
        }
        let replace = input
            .metadata_directive
            .as_ref()
            .is_some_and(|is| is.as_str() == MetadataDirective::REPLACE);
        let retag = input
            .tagging_directive
            .as_ref()
            .is_some_and(|is| is.as_str() == TaggingDirective::REPLACE);
        let described = if replace {
            attributes!(input)
        } else {
            source.attributes.clone()
        };
        let attributes = Attributes {
            // The source's is not copied, whatever else is.
            storage_class: class_asked(input.storage_class.as_ref())?,
            tags: if retag {
                tags_asked(input.tagging.as_deref())?
            } else {
                source.attributes.tags.clone()
            },
            ..described
        };
        let copy = Stored::new(source.content.clone(), attributes, source.checksum.clone());
        let result = CopyObjectResult {
            e_tag: Some(copy.etag()),
            last_modified: Some(copy.modified.into()),
            ..Default::default()
        };
        bucket.put(&input.key, copy, &conditions)?;
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            version_id: bucket.version(&input.key),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        let attributes = Attributes {
            storage_class: class_asked(input.storage_class.as_ref())?,
            tags: tags_asked(input.tagging.as_deref())?,
            ..attributes!(input)
        };
        let mut bucket = self.bucket(&input.bucket)?;
        let upload_id = bucket.begin(&input.key, attributes);
        bucket.upload(&input.key, &upload_id)?.has_checksum = input.checksum_algorithm.is_some();
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            checksum_algorithm: input.checksum_algorithm,
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        check_part_number(input.part_number)?;
        let claims = Claims {
            checksum: self.claimed(checksum!(input)),
            md5: input.content_md5,
            trailers: request.trailing_headers,
        };
        self.check_claims(&claims)?;
        let (content, checksum) = receive(input.body, claims).await?;
        let part = StoredPart::new(content, checksum.clone());
        let mut output = UploadPartOutput {
            e_tag: Some(part.etag()),
            ..Default::default()
        };
        carry!(checksum => output);
        let mut bucket = self.bucket(&input.bucket)?;
        bucket
            .upload(&input.key, &input.upload_id)?
            .parts
            .insert(input.part_number, part);
        Ok(S3Response::new(output))
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = request.input;
        check_part_number(input.part_number)?;
        let mut bucket = self.bucket(&input.bucket)?;
        let has_checksum = bucket.upload(&input.key, &input.upload_id)?.has_checksum;
        let source = self.source(&bucket, &input.copy_source)?;
        // Which one is looked at first, S3's documents don't say; versitygw begins with the range.
        let range = copy_range(input.copy_source_range.as_deref(), source.content.len)?;
        if !bucket.copies_any_version {
            source_preconditions!(input).check_source(source)?;
        }
        let mut part = StoredPart::copied(source.content.slice(&range));
        if has_checksum && bucket.takes_sums_of_sources {
            part.checksum.checksum_crc64nvme = all_of(source).checksum_crc64nvme;
        }
        let result = CopyPartResult {
            e_tag: Some(part.etag()),
            checksum_crc64nvme: part.checksum.checksum_crc64nvme.clone(),
            last_modified: Some(part.modified.into()),
            ..Default::default()
        };
        bucket
            .upload(&input.key, &input.upload_id)?
            .parts
            .insert(input.part_number, part);
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let mut claimed = input.checksum_crc64nvme;
        let uploads = input.multipart_upload.iter();
        let mut parts = uploads.flat_map(|upload| upload.parts.iter().flatten());
        let all_have_sums = parts.all(|part| part.checksum_crc64nvme.is_some());
        let named = named_parts(input.multipart_upload)?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
        };
        let mut bucket = self.bucket(&input.bucket)?;
        claimed = claimed.filter(|_| !bucket.ignores_checksums);
        let has_checksum = bucket.upload(&input.key, &input.upload_id)?.has_checksum;
        if bucket.wants_sums_of_parts && has_checksum && !all_have_sums {
            return Err(s3_error!(InvalidPart, "A part has no checksum."));
        }
        let takes_anything = has_checksum && bucket.takes_sums_of_sources;
        if let Some(claimed) = claimed.as_ref().filter(|_| !takes_anything) {
            let whole = bucket.assembled(&input.key, &input.upload_id, &named)?;
            check_crc64nvme(claimed, &whole)?;
        }
        bucket.complete(&input.key, &input.upload_id, &named, &conditions)?;
        if takes_anything && let Some(object) = bucket.objects.get_mut(&input.key) {
            object.checksum.checksum_crc64nvme.clone_from(&claimed);
        }
        let object = bucket.object(&input.key)?;
        let told = claimed.and_then(|_| all_of(object).checksum_crc64nvme);
        let told = told.map(|told| {
            if bucket.tells_sums_of_sums {
                format!("{told}-{}", named.len())
            } else {
                told
            }
        });
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            checksum_crc64nvme: told,
            version_id: bucket.version(&input.key),
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(object.etag()),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.bucket(&input.bucket)?
            .abort(&input.key, &input.upload_id)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let max_uploads = input.max_uploads.unwrap_or(PAGE).clamp(1, PAGE);
        let spell = Spelling::new(input.encoding_type.as_ref());
        let bucket = self.bucket(&input.bucket)?;
        let matching = bucket.uploads.iter().filter(|((key, id), _)| {
            let after = match (&input.key_marker, &input.upload_id_marker) {
                (Some(marker), Some(id_marker)) => (key, id) > (marker, id_marker),
                (Some(marker), None) => key > marker,
                (None, _) => true,
            };
            after && key.starts_with(input.prefix.as_deref().unwrap_or_default())
        });
        let mut uploads: Vec<_> = matching
            .take(max_uploads as usize + 1)
            .map(|((key, id), upload)| spell.upload(key, id, upload))
            .collect();
        let is_truncated = uploads.len() > max_uploads as usize;
        uploads.truncate(max_uploads as usize);
        let last = uploads.last().filter(|_| is_truncated).cloned();
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix.map(|prefix| spell.key(&prefix)),
            key_marker: input.key_marker.map(|key| spell.key(&key)),
            upload_id_marker: input.upload_id_marker,
            max_uploads: Some(max_uploads),
            is_truncated: Some(is_truncated),
            next_key_marker: last.as_ref().and_then(|last| last.key.clone()),
            next_upload_id_marker: last.and_then(|last| last.upload_id),
            uploads: Some(uploads),
            encoding_type: input.encoding_type,
            ..Default::default()
        }))
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let max_parts = input.max_parts.unwrap_or(PAGE).clamp(1, PAGE);
        let marker = input.part_number_marker.unwrap_or_default();
        let mut bucket = self.bucket(&input.bucket)?;
        let upload = bucket.upload(&input.key, &input.upload_id)?;
        let after = upload.parts.range(marker + 1..);
        let mut parts: Vec<_> = after
            .take(max_parts as usize + 1)
            .map(|(number, part)| part_entry(*number, part))
            .collect();
        let is_truncated = parts.len() > max_parts as usize;
        parts.truncate(max_parts as usize);
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            max_parts: Some(max_parts),
            part_number_marker: Some(marker),
            is_truncated: Some(is_truncated),
            next_part_number_marker: parts
                .last()
                .filter(|_| is_truncated)
                .and_then(|part| part.part_number),
            parts: Some(parts),
            storage_class: Some(upload.attributes.class().to_owned().into()),
            ..Default::default()
        }))
    }

    async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        let object = bucket.object(&input.key)?;
        Ok(S3Response::new(GetObjectTaggingOutput {
            tag_set: tag_set(&object.attributes.tags),
            version_id: bucket.version(&input.key),
        }))
    }

    async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let input = request.input;
        let tags = tags_in(input.tagging.tag_set)?;
        let version_id = self.tag(&input.bucket, &input.key, tags)?;
        Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
    }

    async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let input = request.input;
        let version_id = self.tag(&input.bucket, &input.key, Tags::new())?;
        Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
    }
}

impl Api {
    fn bucket(&self, name: &str) -> S3Result<MutexGuard<'_, Bucket>> {
        self.check_name(name)?;
        Ok(self.bucket.lock().expect("the bucket"))
    }

    /// What a request says of its body, as far as the store looks at it.
    fn claimed(&self, checksum: Checksum) -> Checksum {
        if self.bucket.lock().expect("the bucket").ignores_checksums {
            return Checksum::default();
        }
        checksum
    }

    /// Object Lock wants to know what it locks.
    fn check_claims(&self, claims: &Claims) -> S3Result<()> {
        if claims.md5.is_some() || claims.checksum != Checksum::default() {
            return Ok(());
        }
        if !self.bucket.lock().expect("the bucket").is_locked {
            return Ok(());
        }
        Err(s3_error!(
            InvalidRequest,
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
        ))
    }

    fn check_name(&self, name: &str) -> S3Result<()> {
        let missing = || s3_error!(NoSuchBucket, "The specified bucket does not exist");
        (name == self.name).then_some(()).ok_or_else(missing)
    }

    fn source<'b>(&self, bucket: &'b Bucket, source: &CopySource) -> S3Result<&'b Stored> {
        let CopySource::Bucket {
            bucket: name, key, ..
        } = source
        else {
            return Err(s3_error!(NotImplemented));
        };
        self.check_name(name)?;
        let source = bucket.object(key)?;
        check_online(source)?;
        Ok(source)
    }

    /// Gives an object these tags and no others. It stays the same version. Gives that, where versions are kept.
    fn tag(&self, bucket: &str, key: &str, tags: Tags) -> S3Result<Option<String>> {
        let mut bucket = self.bucket(bucket)?;
        bucket.object(key)?;
        if let Some(object) = bucket.objects.get_mut(key) {
            object.attributes.tags = tags;
        }
        Ok(bucket.version(key))
    }
}

/// Whether the reader of an object wants its checksum, and the store has one.
fn tells(bucket: &Bucket, mode: Option<&ChecksumMode>) -> bool {
    !bucket.ignores_checksums && mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

fn blob(content: &Content) -> StreamingBlob {
    let chunks = content
        .chunks()
        .to_vec()
        .into_iter()
        .map(Ok::<Bytes, std::convert::Infallible>);
    StreamingBlob::wrap(stream::iter(chunks))
}

fn part_entry(number: i32, part: &StoredPart) -> Part {
    let mut entry = Part {
        part_number: Some(number),
        e_tag: Some(part.etag()),
        last_modified: Some(part.modified.into()),
        size: Some(part.content.len as i64),
        ..Default::default()
    };
    carry!(part.checksum => entry);
    entry
}

/// As versitygw says it.
fn directory_contains_data() -> S3Error {
    let code = S3ErrorCode::Custom("DirectoryObjectContainsData".into());
    let mut error = S3Error::with_message(code, "Directory object contains data payload.");
    error.set_status_code(hyper::StatusCode::BAD_REQUEST);
    error
}
