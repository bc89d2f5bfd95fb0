//! A page of a listing (`ListObjectsV2`).

use std::fmt::Write;

use super::bucket::Bucket;
use super::request::Request;
use super::synthetic::Many;

/// S3 puts no more on a page.
const MAX_KEYS: usize = 1000;

/// When every object was last changed.
const MODIFIED: &str = "2026-01-01T00:00:00.000Z";

/// What is asked for.
struct Query<'a> {
    prefix: &'a str,
    delimiter: &'a str,
    /// The last key or common prefix of the page before.
    after: &'a str,
    max_keys: usize,
}

/// A page in the making.
struct Page<'a> {
    query: &'a Query<'a>,
    entries: String,
    count: usize,
    last: String,
    truncated: bool,
}

pub(super) fn list(bucket: &Bucket, request: &Request) -> String {
    let parameter = |name| request.parameter(name).unwrap_or_default();
    let wanted = request.parameter("max-keys").and_then(|n| n.parse().ok());
    let token = parameter("continuation-token");
    let query = Query {
        prefix: parameter("prefix"),
        delimiter: parameter("delimiter"),
        after: if token.is_empty() {
            parameter("start-after")
        } else {
            token
        },
        max_keys: wanted.unwrap_or(MAX_KEYS).min(MAX_KEYS),
    };
    let mut page = Page {
        query: &query,
        entries: String::with_capacity(256 * query.max_keys),
        count: 0,
        last: String::new(),
        truncated: false,
    };
    let start = query.prefix.max(query.after);
    match Many::of(query.prefix) {
        Some(many) => {
            let mut keys = many.from(start);
            while keys.next().is_some_and(|(key, size)| page.take(&key, size)) {}
        }
        None => bucket.walk(start, |key, size| page.take(key, size)),
    }
    page.finish()
}

impl Page<'_> {
    /// Adds a key, unless it belongs to another page. Returns whether more may come.
    fn take(&mut self, key: &str, size: u64) -> bool {
        let Query {
            prefix,
            delimiter,
            after,
            ..
        } = *self.query;
        let Some(below) = key.strip_prefix(prefix) else {
            return false;
        };
        let common = match below.find(delimiter) {
            Some(at) if !delimiter.is_empty() => Some(&key[..prefix.len() + at + delimiter.len()]),
            _ => None,
        };
        let name = common.unwrap_or(key);
        // Keys come in order, so a common prefix that was told already is the last one.
        if name <= after || (common.is_some() && name == self.last) {
            return true;
        }
        if self.count == self.query.max_keys {
            self.truncated = true;
            return false;
        }
        self.write(name, common.is_none().then_some(size));
        true
    }

    fn write(&mut self, name: &str, size: Option<u64>) {
        self.count += 1;
        self.last.clear();
        self.last.push_str(name);
        let name = escape(name);
        // Writing into a string can't fail.
        let _ = match size {
            Some(size) => write!(
                self.entries,
                "<Contents><Key>{name}</Key><LastModified>{MODIFIED}</LastModified>\
                 <ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag><Size>{size}</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>"
            ),
            None => write!(
                self.entries,
                "<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"
            ),
        };
    }

    fn finish(self) -> String {
        let next = if self.truncated {
            let last = escape(&self.last);
            format!("<NextContinuationToken>{last}</NextContinuationToken>")
        } else {
            String::new()
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Prefix>{prefix}</Prefix>\
             <KeyCount>{count}</KeyCount><MaxKeys>{max}</MaxKeys><IsTruncated>{truncated}</IsTruncated>\
             {entries}{next}</ListBucketResult>",
            prefix = escape(self.query.prefix),
            count = self.count,
            max = self.query.max_keys,
            truncated = self.truncated,
            entries = self.entries,
        )
    }
}

/// Text as XML takes it.
pub(super) fn escape(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"']) {
        return text.into();
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;").into()
}

#[cfg(test)]
mod tests {
    use super::super::bucket::Condition;
    use super::*;

    fn page(keys: &[&str], prefix: &str, after: &str, max_keys: usize) -> (String, String, bool) {
        let bucket = Bucket::new(false);
        for key in keys {
            let object = bucket.object(1, Vec::new());
            bucket.put(key, object, &Condition::default()).unwrap();
        }
        let query = Query {
            prefix,
            delimiter: "/",
            after,
            max_keys,
        };
        let mut page = Page {
            query: &query,
            entries: String::new(),
            count: 0,
            last: String::new(),
            truncated: false,
        };
        bucket.walk(prefix.max(after), |key, size| page.take(key, size));
        (page.entries.clone(), page.last.clone(), page.truncated)
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repetition() {
        let keys = ["a", "b/1", "b/2", "c", "d"];
        let mut after = String::new();
        let mut seen = Vec::new();
        loop {
            let (_, last, truncated) = page(&keys, "", &after, 1);
            seen.push(last.clone());
            after = last;
            if !truncated {
                break;
            }
        }
        assert_eq!(seen, ["a", "b/", "c", "d"]);
    }

    #[test]
    fn only_what_lies_below_the_prefix_is_listed() {
        let (entries, _, truncated) = page(&["a", "b/1", "b/2/x", "c"], "b/", "", 10);
        assert!(entries.contains("<Key>b/1</Key>"));
        assert!(entries.contains("<Prefix>b/2/</Prefix>"));
        assert!(!entries.contains("<Key>c</Key>"));
        assert!(!truncated);
    }
}
