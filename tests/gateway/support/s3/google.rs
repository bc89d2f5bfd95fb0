//! Google's XML API: that of S3, with other names for its headers, and generations where S3 has tags.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};

/// Whoever has it may do everything.
pub(super) const TOKEN: &str = "ferry-token";

const CONDITION: &str = "x-goog-if-generation-match";
const GENERATION: &str = "x-goog-generation";

/// Makes a request S3's. Here, a generation is a tag without its quotes; 0 is no object.
pub(super) fn read(headers: &mut HeaderMap) {
    let token = headers.remove(AUTHORIZATION);
    if token.is_none_or(|token| token != format!("Bearer {TOKEN}")) {
        // No signature that S3 knows: it refuses.
        headers.insert(AUTHORIZATION, HeaderValue::from_static("none"));
    }
    if let Some(generation) = headers.remove(CONDITION) {
        let generation = generation.to_str().expect("a generation");
        if generation == "0" {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        } else {
            let tag = format!("\"{generation}\"");
            headers.insert(IF_MATCH, tag.parse().expect("a tag"));
        }
    }
    rename(headers, "x-goog-", "x-amz-");
}

/// Makes an answer Google's.
pub(super) fn write(headers: &mut HeaderMap) {
    rename(headers, "x-amz-", "x-goog-");
    if let Some(tag) = headers.get(ETAG).and_then(|tag| tag.to_str().ok()) {
        let generation = tag.trim_matches('"').parse().expect("a generation");
        headers.insert(GENERATION, generation);
    }
}

fn rename(headers: &mut HeaderMap, from: &str, to: &str) {
    let named: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(from))
        .cloned()
        .collect();
    for name in named {
        let renamed = name.as_str().replacen(from, to, 1);
        let renamed: HeaderName = renamed.parse().expect("a header");
        let values: Vec<_> = headers.get_all(&name).iter().cloned().collect();
        headers.remove(&name);
        for value in values {
            headers.append(renamed.clone(), value);
        }
    }
}
