//! What requests of our own carry besides what they ask, as `object_store` adds it to its own: by which key the store
//! encrypts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Method;
use http::header::{HeaderMap, HeaderName as Name, HeaderValue};
use md5::{Digest, Md5};

use crate::storage::store::http::requests::Ask;

const ENCRYPTION: Name = Name::from_static("x-amz-server-side-encryption");
const KMS_KEY: Name = Name::from_static("x-amz-server-side-encryption-aws-kms-key-id");
const BUCKET_KEY: Name = Name::from_static("x-amz-server-side-encryption-bucket-key-enabled");
const CUSTOMER_ALGORITHM: Name =
    Name::from_static("x-amz-server-side-encryption-customer-algorithm");
const CUSTOMER_KEY: Name = Name::from_static("x-amz-server-side-encryption-customer-key");
const CUSTOMER_KEY_MD5: Name = Name::from_static("x-amz-server-side-encryption-customer-key-md5");
const COPY_SOURCE: Name = Name::from_static("x-amz-copy-source");
const SOURCE_ALGORITHM: Name =
    Name::from_static("x-amz-copy-source-server-side-encryption-customer-algorithm");
const SOURCE_KEY: Name = Name::from_static("x-amz-copy-source-server-side-encryption-customer-key");
const SOURCE_KEY_MD5: Name =
    Name::from_static("x-amz-copy-source-server-side-encryption-customer-key-md5");

/// How the store is told to encrypt, by `[store.options]` or the environment.
#[derive(Debug, Default)]
pub(crate) struct Encryption {
    /// `AES256`, `aws:kms`, `aws:kms:dsse`, or `sse-c`.
    pub(crate) kind: Option<String>,
    pub(crate) kms_key: Option<String>,
    pub(crate) bucket_key: bool,
    /// In base64.
    pub(crate) customer_key: Option<String>,
}

/// The headers that requests carry.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Those that write an object.
    writes: HeaderMap,
    /// Those that read one.
    reads: HeaderMap,
    /// Those that copy one, for its source.
    sources: HeaderMap,
}

impl Carried {
    pub(crate) fn new(encryption: &Encryption) -> Self {
        let reads = customer_headers(encryption);
        let mut writes = reads.clone();
        let kind = encryption.kind.as_deref().filter(|kind| *kind != "sse-c");
        insert(&mut writes, ENCRYPTION, kind);
        insert(&mut writes, KMS_KEY, encryption.kms_key.as_deref());
        insert(
            &mut writes,
            BUCKET_KEY,
            encryption.bucket_key.then_some("true"),
        );
        let sources = [
            (CUSTOMER_ALGORITHM, SOURCE_ALGORITHM),
            (CUSTOMER_KEY, SOURCE_KEY),
            (CUSTOMER_KEY_MD5, SOURCE_KEY_MD5),
        ];
        let sources = sources.map(|(of, name)| Some((name, reads.get(of)?.clone())));
        Self {
            writes,
            sources: sources.into_iter().flatten().collect(),
            reads,
        }
    }

    /// The request with all that it has to carry.
    pub(crate) fn on(&self, mut ask: Ask) -> Ask {
        if ask.key.is_empty() {
            return ask;
        }
        if ask.headers.contains_key(COPY_SOURCE) {
            ask.headers.extend(self.sources.clone());
        }
        match ask.method {
            // The upload has said it for all of its parts, but for the key, which nobody keeps.
            Method::PUT if is_part(&ask) => ask.headers.extend(self.reads.clone()),
            Method::PUT => ask.headers.extend(self.writes.clone()),
            Method::POST if is_beginning(&ask) => ask.headers.extend(self.writes.clone()),
            Method::GET | Method::HEAD => ask.headers.extend(self.reads.clone()),
            _ => {}
        }
        ask
    }
}

fn is_beginning(ask: &Ask) -> bool {
    ask.url.query_pairs().any(|(name, _)| name == "uploads")
}

fn is_part(ask: &Ask) -> bool {
    ask.url.query_pairs().any(|(name, _)| name == "partNumber")
}

fn customer_headers(encryption: &Encryption) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(key) = &encryption.customer_key else {
        return headers;
    };
    // What is no base64 `object_store` has refused.
    let md5 = BASE64.encode(Md5::digest(BASE64.decode(key).unwrap_or_default()));
    insert(&mut headers, CUSTOMER_ALGORITHM, Some("AES256"));
    insert(&mut headers, CUSTOMER_KEY, Some(key));
    insert(&mut headers, CUSTOMER_KEY_MD5, Some(&md5));
    if let Some(key) = headers.get_mut(CUSTOMER_KEY) {
        key.set_sensitive(true);
    }
    headers
}

fn insert(headers: &mut HeaderMap, name: Name, value: Option<&str>) {
    // The same values have been headers of `object_store`'s.
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, key: &str) -> Ask {
        Ask::new(method, "http://store/bucket".parse().unwrap(), key)
    }

    #[test]
    fn a_write_says_how_to_encrypt_and_what_it_writes() {
        let carried = Carried::new(&Encryption {
            kind: Some("aws:kms".to_owned()),
            kms_key: Some("key-1".to_owned()),
            bucket_key: true,
            customer_key: None,
        });
        let write = carried.on(ask(Method::PUT, "in/")).headers;
        assert_eq!(write[ENCRYPTION], "aws:kms");
        assert_eq!(write[KMS_KEY], "key-1");
        assert_eq!(write[BUCKET_KEY], "true");
        for other in [
            ask(Method::GET, "in/"),
            ask(Method::DELETE, "in/"),
            ask(Method::GET, ""),
        ] {
            assert!(carried.on(other).headers.is_empty());
        }
        let mut part = ask(Method::PUT, "a").with("x-amz-copy-source", "b/c");
        assert_eq!(carried.on(part.clone()).headers[KMS_KEY], "key-1");
        part.url.set_query(Some("partNumber=1&uploadId=x"));
        assert_eq!(carried.on(part).headers.len(), 1);
    }

    #[test]
    fn a_customers_key_goes_with_reads_too() {
        let carried = Carried::new(&Encryption {
            kind: Some("sse-c".to_owned()),
            customer_key: Some(BASE64.encode([7; 32])),
            ..Encryption::default()
        });
        for method in [Method::PUT, Method::GET] {
            let headers = carried.on(ask(method, "in/")).headers;
            assert_eq!(headers[CUSTOMER_ALGORITHM], "AES256");
            assert!(headers[CUSTOMER_KEY].is_sensitive());
            assert!(headers.contains_key(CUSTOMER_KEY_MD5));
            assert!(!headers.contains_key(ENCRYPTION));
        }
        let copy = ask(Method::PUT, "a").with("x-amz-copy-source", "b/c");
        let headers = carried.on(copy).headers;
        assert_eq!(headers[SOURCE_KEY], headers[CUSTOMER_KEY]);
        assert!(headers[SOURCE_KEY].is_sensitive());
    }
}
