//! A key of the customer's own, by which Azure encrypts blobs and which it does not keep: each request names it.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The headers that name a key, which is in base64.
pub(crate) fn headers(key: &str) -> HeaderMap {
    // What is no base64 `object_store` has refused.
    let bytes = BASE64.decode(key).unwrap_or_default();
    let hash = BASE64.encode(digest(&SHA256, &bytes));
    let named = [
        ("x-ms-encryption-key", key),
        ("x-ms-encryption-key-sha256", &hash),
        ("x-ms-encryption-algorithm", "AES256"),
    ];
    let headers = named.into_iter().filter_map(|(name, value)| {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_static(name), value))
    });
    headers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_with_its_hash_and_shows_in_no_log() {
        let headers = headers(&BASE64.encode([7; 32]));
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["x-ms-encryption-algorithm"], "AES256");
        let hash = BASE64.decode(&headers["x-ms-encryption-key-sha256"]);
        assert_eq!(hash.unwrap().len(), 32);
        assert!(headers.values().all(HeaderValue::is_sensitive));
    }
}
