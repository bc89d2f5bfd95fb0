//! Requests of our own to stores: sent, tried again, and their refusals told apart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpErrorKind, HttpRequest, HttpRequestBody,
};
use object_store::{Attribute, Error, PutPayload, Result};
use url::Url;

use crate::storage::store::causes::find;
use crate::storage::store::credentials::{NoCredentials, Renew, STALE};
use crate::storage::store::description::{Description, Headers};
use crate::storage::store::http::attempts::Attempts;
use crate::storage::store::http::command;
use crate::storage::store::http::connector::PatientConnector;

/// The wait before the second attempt; doubled each time, up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(100);

/// The longest wait between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: PutPayload,
    /// The SHA-256 of the body, where the signature needs it.
    pub(crate) digest: Option<[u8; 32]>,
    /// For errors.
    pub(crate) key: String,
    /// What the tries may have done, if it is a change.
    attempts: Arc<Attempts>,
    /// Whether a 409 is waited out: another change of the same key is under way.
    pub(crate) waits_for_others: bool,
    /// A header that can't be said.
    impossible: Option<String>,
}

impl Ask {
    pub(crate) fn new(method: Method, url: Url, key: &str) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: PutPayload::default(),
            digest: None,
            key: key.to_owned(),
            attempts: Arc::default(),
            waits_for_others: true,
            impossible: None,
        }
    }

    /// With a body.
    pub(crate) fn with_body(mut self, body: impl Into<PutPayload>) -> Self {
        self.body = body.into();
        self
    }

    /// Records in `attempts` how each try ends.
    pub(crate) fn telling(mut self, attempts: &Arc<Attempts>) -> Self {
        self.attempts = Arc::clone(attempts);
        self
    }

    /// With what an object carries, as a cloud names it.
    pub(crate) fn describing(mut self, description: &Description, headers: &Headers) -> Self {
        if let (Some(name), Some(tags)) = (headers.tags, description.tags.header()) {
            self = self.with(name, &tags);
        }
        for (attribute, value) in &description.attributes {
            let name = match attribute {
                Attribute::ContentType => "content-type",
                Attribute::CacheControl => "cache-control",
                Attribute::ContentDisposition => "content-disposition",
                Attribute::ContentEncoding => "content-encoding",
                Attribute::ContentLanguage => "content-language",
                Attribute::Metadata(name) => {
                    self = self.with_named(&format!("{}{name}", headers.metadata), value);
                    continue;
                }
                Attribute::StorageClass => {
                    self = self.with(headers.class, value);
                    continue;
                }
                // Nothing else is said of what the gateway writes.
                _ => continue,
            };
            self = self.with_named(&format!("{}{name}", headers.own), value);
        }
        self
    }

    /// With a header. What no header can hold fails when it is sent: it may be a condition.
    pub(crate) fn with(self, name: &'static str, value: &str) -> Self {
        self.with_named(name, value)
    }

    /// The same with a name that was made up.
    pub(crate) fn with_named(mut self, name: &str, value: &str) -> Self {
        match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            // The library can't sign others, though headers can hold them.
            (Ok(name), Ok(value)) if value.to_str().is_ok() => {
                self.headers.insert(name, value);
            }
            _ => self.impossible = Some(name.to_owned()),
        }
        self
    }
}

/// Gives a request its credentials, which change with time.
#[async_trait]
pub(crate) trait Sign: Send + Sync {
    /// `digest` is the SHA-256 of the body, if it was computed.
    async fn sign(&self, request: &mut HttpRequest, digest: Option<&[u8]>) -> Result<()>;
}

/// Sends requests until there is an answer that trying again would not change, or time is over.
pub(crate) struct Sender {
    client: HttpClient,
    retry_timeout: Duration,
    store: &'static str,
    credentials: Arc<dyn Renew>,
}

impl Sender {
    pub(crate) fn new(
        options: &ClientOptions,
        retry_timeout: Duration,
        store: &'static str,
        credentials: Arc<dyn Renew>,
    ) -> Result<Self> {
        Ok(Self {
            client: PatientConnector.connect(options)?,
            retry_timeout,
            store,
            credentials,
        })
    }

    /// The answer to a request that is signed anew for each try.
    pub(crate) async fn send(&self, ask: &Ask, signer: &dyn Sign) -> Result<Response<Bytes>> {
        if let Some(header) = &ask.impossible {
            let source = format!("{header} can't hold what it should say of {}", ask.key).into();
            return Err(Error::Generic {
                store: self.store,
                source,
            });
        }
        let give_up = Instant::now() + self.retry_timeout;
        let (mut wait, mut is_renewed) = (BACKOFF, false);
        loop {
            let began = Instant::now();
            let (error, again) = match self.attempt(ask, signer).await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    if !is_unsupported(&answer) {
                        ask.attempts.failed_with(answer.status());
                    }
                    if is_stale(&answer) && !is_renewed && self.credentials.renew(began) {
                        // Once, however long the first try has taken.
                        is_renewed = true;
                        continue;
                    }
                    (self.refusal(&answer, &ask.key), is_passing(ask, &answer))
                }
                // Whoever gives credentials was waited for.
                Err(error) if find::<NoCredentials>(&error).is_some() => return Err(error),
                Err(error) => (error, true),
            };
            let over = command::is_given_up() || Instant::now() + wait > give_up;
            if !again || over {
                return Err(error);
            }
            tracing::debug!(%error, "store request failed, trying again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = command::given_up() => return Err(error),
            }
            wait = (wait * 2).min(MAX_BACKOFF);
        }
    }

    async fn attempt(&self, ask: &Ask, signer: &dyn Sign) -> Result<Response<Bytes>> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(ask.url.as_str())
            .body(body(&ask.body))
            .map_err(|error| self.generic(error))?;
        let headers = request.headers_mut();
        headers.clone_from(&ask.headers);
        if matches!(ask.method, Method::PUT | Method::POST) {
            // An empty body would go out without one, which Google refuses (411).
            headers.insert(CONTENT_LENGTH, ask.body.content_length().into());
        }
        let digest = ask.digest.as_ref().map(<[u8; 32]>::as_slice);
        signer.sign(&mut request, digest).await?;
        let answer = self.client.execute(request).await.map_err(|error| {
            if error.kind() != HttpErrorKind::Connect {
                ask.attempts.unanswered();
            }
            self.generic(error)
        });
        let (parts, body) = answer?.into_parts();
        let body = body.bytes().await.map_err(|error| {
            ask.attempts.unanswered();
            self.generic(error)
        });
        let mut answer = Response::from_parts(parts, body?);
        if let Some(status) = told_late(&answer) {
            *answer.status_mut() = status;
        }
        Ok(answer)
    }

    /// The error that `object_store` would have given for the same answer.
    fn refusal(&self, answer: &Response<Bytes>, key: &str) -> Error {
        let (path, status) = (key.to_owned(), answer.status());
        let text = String::from_utf8_lossy(answer.body());
        let source = format!("Server returned non-2xx status code: {status}: {text}").into();
        match status {
            StatusCode::NOT_FOUND => Error::NotFound { path, source },
            StatusCode::FORBIDDEN => Error::PermissionDenied { path, source },
            StatusCode::UNAUTHORIZED => Error::Unauthenticated { path, source },
            StatusCode::PRECONDITION_FAILED => Error::Precondition { path, source },
            // Others were at it until the end, or it can't be done at all. That says nothing of what is there.
            StatusCode::CONFLICT
                if is_others_change(answer.body()) || has_code(answer.body(), NEVER) =>
            {
                Error::Generic {
                    store: self.store,
                    source,
                }
            }
            StatusCode::CONFLICT => Error::AlreadyExists { path, source },
            _ if is_unsupported(answer) => Error::NotSupported { source },
            _ => Error::Generic {
                store: self.store,
                source,
            },
        }
    }

    /// An answer that can't be read, or a request that can't be made.
    pub(crate) fn generic(&self, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Generic {
            store: self.store,
            source: Box::new(error),
        }
    }
}

/// A payload of one chunk becomes a plain body: the HTTP client can resend it on a stale connection.
fn body(payload: &PutPayload) -> HttpRequestBody {
    match payload.as_ref() {
        [] => HttpRequestBody::empty(),
        [only] => only.clone().into(),
        _ => payload.clone().into(),
    }
}

/// S3 says 200 before it has copied or put together what may take long. If that fails, the answer is an
/// error all the same.
fn told_late(answer: &Response<Bytes>) -> Option<StatusCode> {
    let body = std::str::from_utf8(answer.body()).ok()?;
    let body = match body.split_once("?>") {
        Some((head, body)) if head.trim_start().starts_with("<?xml") => body,
        _ => body,
    };
    let error = body.trim_start().strip_prefix("<Error>")?;
    if !answer.status().is_success() {
        return None;
    }
    let (_, code) = error.split_once("<Code>")?;
    Some(match code.split_once("</Code>")?.0 {
        "AccessDenied" => StatusCode::FORBIDDEN,
        "NoSuchKey" | "NoSuchUpload" => StatusCode::NOT_FOUND,
        "PreconditionFailed" => StatusCode::PRECONDITION_FAILED,
        "ConditionalRequestConflict" => StatusCode::CONFLICT,
        "NotImplemented" => StatusCode::NOT_IMPLEMENTED,
        "EntityTooSmall" | "InvalidPart" | "InvalidPartOrder" | "InvalidRequest" => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    })
}

/// Whether the same request may succeed a moment later.
fn is_passing(ask: &Ask, answer: &Response<Bytes>) -> bool {
    match answer.status() {
        _ if is_unsupported(answer) => false,
        StatusCode::TOO_MANY_REQUESTS => true,
        // What was damaged on the way may get there whole.
        StatusCode::BAD_REQUEST => has_code(answer.body(), DAMAGED),
        StatusCode::CONFLICT => ask.waits_for_others && is_others_change(answer.body()),
        status => status.is_server_error(),
    }
}

/// Whether the credentials were good once, or may be again.
fn is_stale(answer: &Response<Bytes>) -> bool {
    answer.status() == StatusCode::UNAUTHORIZED || has_code(answer.body(), STALE)
}

/// Whether a store does not know what it is asked for. Azure's emulator says so with a 500.
fn is_unsupported(answer: &Response<Bytes>) -> bool {
    answer.status() == StatusCode::NOT_IMPLEMENTED
        || has_code(answer.body(), &["FeatureNotSupported"])
}

/// What S3 and its kin say to a change of a key that another change is under way of.
fn is_others_change(body: &[u8]) -> bool {
    has_code(body, &["ConditionalRequestConflict", "OperationAborted"])
}

/// What stores say if a payload is not what its checksum says.
const DAMAGED: &[&str] = &[
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
    "Crc64Mismatch",
    "Md5Mismatch",
];

/// What Azure says if a blob can't be read before it is back from the archive, and of tags in an account that has none.
const NEVER: &[&str] = &[
    "BlobArchived",
    "BlobBeingRehydrated",
    "FeatureNotYetSupportedForHierarchicalNamespaceAccounts",
];

/// Whether an answer has one of these codes.
fn has_code(body: &[u8], codes: &[&str]) -> bool {
    let body = String::from_utf8_lossy(body);
    codes
        .iter()
        .any(|code| body.contains(&format!("<Code>{code}</Code>")))
}

/// The address of a key: each byte that is not plain is escaped, slashes are not.
pub(crate) fn url_of(base: &Url, key: &str) -> Url {
    let mut url = base.clone();
    let base = base.path().trim_end_matches('/');
    url.set_path(&format!("{base}/{}", encoded(key)));
    url
}

/// A key as paths of addresses have it.
pub(crate) fn encoded(key: &str) -> impl std::fmt::Display {
    percent_encoding::utf8_percent_encode(key, ESCAPED)
}

/// All but what RFC 3986 calls unreserved, and slashes.
const ESCAPED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// Adds a query with spaces as `%20`, as signatures want them; forms write `+`.
pub(crate) fn with_query(mut url: Url, query: &[(&str, &str)]) -> Url {
    url.query_pairs_mut().extend_pairs(query);
    let escaped = url.query().map(|query| query.replace('+', "%20"));
    url.set_query(escaped.as_deref());
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_also_when_it_is_told_late() {
        let told = |status, body: &'static str| {
            let mut answer = Response::new(Bytes::from_static(body.as_bytes()));
            *answer.status_mut() = status;
            told_late(&answer)
        };
        let error = "<?xml version=\"1.0\"?>\n  <Error><Code>SlowDown</Code></Error>";
        assert_eq!(
            told(StatusCode::OK, error),
            Some(StatusCode::INTERNAL_SERVER_ERROR)
        );
        let condition = "  <Error><Code>PreconditionFailed</Code></Error>";
        assert_eq!(
            told(StatusCode::OK, condition),
            Some(StatusCode::PRECONDITION_FAILED)
        );
        assert_eq!(told(StatusCode::NOT_FOUND, condition), None);
        let deleted = "<DeleteResult><Error><Code>AccessDenied</Code></Error></DeleteResult>";
        assert_eq!(told(StatusCode::OK, deleted), None);
    }
}
