//! Signatures of requests: AWS Signature Version 4, as `object_store`'s authorizer makes them.
//!
//! The key of a signature is derived from the secret key by four HMACs, and stays the same for a day. `object_store`
//! derives it for every request, and formats much on the way: of a small file's instructions, that was a quarter. Here
//! the key is kept.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue,
    USER_AGENT,
};
use object_store::aws::AwsCredential;
use object_store::client::HttpRequest;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "s3";
const SCOPE_END: &str = "aws4_request";

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const PAYLOAD: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const REQUEST_PAYER: HeaderName = HeaderName::from_static("x-amz-request-payer");

/// Clients and proxies add or change these on the way, so no signature covers them.
const NOT_COVERED: [HeaderName; 4] = [AUTHORIZATION, CONTENT_LENGTH, HOST, USER_AGENT];

/// What a canonical query escapes: all but what RFC 3986 calls unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Signs requests to one region.
pub(crate) struct Authorizer {
    region: String,
    /// Whether signatures cover the payload.
    payloads: bool,
    /// Whether requests say that whoever asks pays.
    request_payer: bool,
    kept: Mutex<Option<DayKey>>,
}

/// The key of one day's signatures, and what it was derived from.
#[derive(Clone)]
struct DayKey {
    credential: Arc<AwsCredential>,
    day: String,
    key: hmac::Key,
}

impl Authorizer {
    pub(crate) fn new(region: String, payloads: bool, request_payer: bool) -> Self {
        Self {
            region,
            payloads,
            request_payer,
            kept: Mutex::default(),
        }
    }

    /// Adds the headers that a signature needs, and the signature. `digest` is the SHA-256 of the body; without it the
    /// body is empty, or not covered.
    ///
    /// # Errors
    /// When the credential has bytes that no header can hold.
    pub(crate) fn authorize(
        &self,
        request: &mut HttpRequest,
        digest: Option<&[u8]>,
        credential: &Arc<AwsCredential>,
        now: DateTime<Utc>,
    ) -> Result<(), InvalidHeaderValue> {
        let time = now.format("%Y%m%dT%H%M%SZ").to_string();
        let (day, _) = time.split_once('T').unwrap_or((&time, ""));
        let payload = self.payload(digest);
        let headers = request.headers_mut();
        if let Some(token) = &credential.token {
            headers.insert(TOKEN, token.parse()?);
        }
        headers.insert(DATE, time.parse()?);
        headers.insert(PAYLOAD, payload.parse()?);
        if self.request_payer {
            headers.insert(REQUEST_PAYER, HeaderValue::from_static("requester"));
        }
        let covered = Covered::of(request);
        let canonical = hex(digest_of(canonical(request, &covered, &payload).as_bytes()).as_ref());
        let scope = format!("{day}/{}/{SERVICE}/{SCOPE_END}", self.region);
        let signed = format!("{ALGORITHM}\n{time}\n{scope}\n{canonical}");
        let signature = hmac::sign(&self.key(credential, day), signed.as_bytes());
        let signature = hex(signature.as_ref());
        let (key_id, names) = (&credential.key_id, covered.names);
        let authorization = format!(
            "{ALGORITHM} Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
        );
        request
            .headers_mut()
            .insert(AUTHORIZATION, authorization.try_into()?);
        Ok(())
    }

    /// What a signature says of the payload.
    fn payload(&self, digest: Option<&[u8]>) -> Cow<'static, str> {
        match digest {
            _ if !self.payloads => "UNSIGNED-PAYLOAD".into(),
            Some(digest) => hex(digest).into(),
            None => hex(digest_of(b"").as_ref()).into(),
        }
    }

    fn key(&self, credential: &Arc<AwsCredential>, day: &str) -> hmac::Key {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(kept) if kept.is_for(credential, day) => kept.key.clone(),
            _ => {
                let key = derive(&credential.secret_key, day, &self.region);
                *kept = Some(DayKey {
                    credential: Arc::clone(credential),
                    day: day.to_owned(),
                    key: key.clone(),
                });
                key
            }
        }
    }
}

impl DayKey {
    fn is_for(&self, credential: &Arc<AwsCredential>, day: &str) -> bool {
        let is_same = Arc::ptr_eq(&self.credential, credential) || self.credential == *credential;
        is_same && self.day == day
    }
}

/// The headers that a signature covers.
struct Covered {
    /// `a;b`
    names: String,
    /// A line for each, in the order of their names.
    lines: String,
}

impl Covered {
    fn of(request: &HttpRequest) -> Self {
        let authority = request.uri().authority().map_or("", |all| all.as_str());
        let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let mut headers = covered(request.headers());
        headers.push((HOST.as_str(), host.into()));
        // Values of one name stay in their order.
        headers.sort_by_key(|(name, _)| *name);
        let (mut names, mut lines) = (String::with_capacity(256), String::with_capacity(1024));
        for values in headers.chunk_by(|(one, _), (next, _)| one == next) {
            for (at, (name, value)) in values.iter().enumerate() {
                if at == 0 {
                    names.extend([name, ";"]);
                    lines.extend([name, ":"]);
                } else {
                    lines.push(',');
                }
                push_words(&mut lines, value);
            }
            lines.push('\n');
        }
        names.pop();
        Self { names, lines }
    }
}

fn covered(headers: &HeaderMap) -> Vec<(&str, Cow<'_, str>)> {
    let covered = headers
        .iter()
        .filter(|(name, _)| !NOT_COVERED.contains(name));
    covered
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect()
}

/// With one space between words, and none around them.
fn push_words(line: &mut String, value: &str) {
    // Nearly all values are one word, and looking for Unicode spaces is slow.
    if value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return line.push_str(value);
    }
    for (at, word) in value.split_whitespace().enumerate() {
        if at > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
}

/// The request as both sides write it down to sign it.
fn canonical(request: &HttpRequest, covered: &Covered, payload: &str) -> String {
    let (method, uri) = (request.method().as_str(), request.uri());
    let query = uri.query().map(canonical_query).unwrap_or_default();
    let (path, lines, names) = (uri.path(), &covered.lines, &covered.names);
    [method, path, &query, lines, names, payload].join("\n")
}

fn canonical_query(query: &str) -> String {
    let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    let pairs = form_urlencoded::parse(query.as_bytes());
    let mut pairs: Vec<_> = pairs
        .map(|(name, value)| (escaped(&name), escaped(&value)))
        .collect();
    pairs.sort_unstable();
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join("&")
}

fn derive(secret_key: &str, day: &str, region: &str) -> hmac::Key {
    let secret = format!("AWS4{secret_key}");
    let first = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    [day, region, SERVICE, SCOPE_END]
        .iter()
        .fold(first, |key, word| {
            let next = hmac::sign(&key, word.as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, next.as_ref())
        })
}

fn digest_of(bytes: &[u8]) -> aws_lc_rs::digest::Digest {
    digest(&SHA256, bytes)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use http::{Method, Request};
    use object_store::aws::AwsAuthorizer;
    use object_store::client::HttpRequestBody;

    use super::*;

    const REGION: &str = "us-east-1";

    fn credential(secret_key: &str, token: Option<&str>) -> Arc<AwsCredential> {
        Arc::new(AwsCredential {
            key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_key: secret_key.to_owned(),
            token: token.map(str::to_owned),
        })
    }

    fn request(method: Method, url: &str, headers: &[(&'static str, &str)]) -> HttpRequest {
        let mut request = Request::new(HttpRequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_static(name);
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request
    }

    /// The example of a `GET` in AWS's own documentation of signatures in headers.
    #[test]
    fn the_documented_example_has_the_documented_signature() {
        let credential = credential("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None);
        let url = "https://examplebucket.s3.amazonaws.com/test.txt";
        let mut request = request(Method::GET, url, &[("range", "bytes=0-9")]);
        let date = Utc.with_ymd_and_hms(2013, 5, 24, 0, 0, 0).unwrap();
        let authorizer = Authorizer::new(REGION.to_owned(), true, false);
        authorizer
            .authorize(&mut request, None, &credential, date)
            .unwrap();
        assert_eq!(
            request.headers()[AUTHORIZATION],
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    /// Ours and `object_store`'s headers for the same request in the same second.
    fn both(
        make: impl Fn() -> HttpRequest,
        digest: Option<&[u8]>,
        token: Option<&str>,
        [payloads, request_payer]: [bool; 2],
    ) -> [HeaderMap; 2] {
        let credential = credential("secret", token);
        let authorizer = Authorizer::new(REGION.to_owned(), payloads, request_payer);
        loop {
            let [mut ours, mut theirs] = [make(), make()];
            authorizer
                .authorize(&mut ours, digest, &credential, Utc::now())
                .unwrap();
            AwsAuthorizer::new(&credential, SERVICE, REGION)
                .with_sign_payload(payloads)
                .with_request_payer(request_payer)
                .try_authorize(&mut theirs, digest)
                .unwrap();
            if ours.headers()[DATE] == theirs.headers()[DATE] {
                return [ours, theirs].map(|request| request.headers().clone());
            }
        }
    }

    #[test]
    fn signatures_are_those_of_object_store() {
        let urls = [
            "http://127.0.0.1:9000/bucket/in/a%20b%2Bc//d",
            "https://bucket.s3.amazonaws.com/",
            "https://bucket.s3.amazonaws.com/%C3%A4/?list-type=2&prefix=a%2Fb%20c&delimiter=%2F&x=1%2B2",
            "https://s3.example/bucket?uploads",
            "https://s3.example/bucket/key?uploadId=b&partNumber=2&uploadId=a&empty=",
        ];
        let headers = [
            ("content-type", "text/plain;  charset=utf-8"),
            ("content-length", "1024"),
            ("user-agent", "somebody"),
            ("x-amz-meta-ftp-user", " Juergen  M "),
            ("x-amz-meta-two", "b"),
            ("x-amz-meta-two", "a"),
            ("if-none-match", "*"),
        ];
        let digest = digest_of(b"content");
        for url in urls {
            for method in [Method::PUT, Method::GET, Method::DELETE] {
                for digest in [None, Some(digest.as_ref())] {
                    for token in [None, Some("token+/=")] {
                        for flags in [[false, false], [true, true]] {
                            let make = || request(method.clone(), url, &headers);
                            let [ours, theirs] = both(make, digest, token, flags);
                            assert_eq!(ours, theirs, "{method} {url}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_key_is_that_of_the_day_and_the_credential() {
        let kept = Authorizer::new(REGION.to_owned(), false, false);
        let noon = Utc.with_ymd_and_hms(2026, 1, 2, 12, 0, 0).unwrap();
        let next_day = noon + chrono::Days::new(1);
        let (old, new) = (credential("old", None), credential("new", None));
        for (credential, now) in [
            (&old, noon),
            (&old, noon),
            (&old, next_day),
            (&new, next_day),
            (&credential("new", None), next_day),
            (&old, noon),
        ] {
            let signed = |authorizer: &Authorizer| {
                let mut request = request(Method::PUT, "http://store/bucket/key", &[]);
                authorizer
                    .authorize(&mut request, None, credential, now)
                    .unwrap();
                request.headers()[AUTHORIZATION].clone()
            };
            let fresh = Authorizer::new(REGION.to_owned(), false, false);
            assert_eq!(signed(&kept), signed(&fresh));
        }
    }
}
