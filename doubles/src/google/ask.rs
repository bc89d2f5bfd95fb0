//! A request, read: its operation, its key, its parameters and its headers.

use std::collections::BTreeMap;
use std::str::FromStr;

use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;

use super::operation::Operation;
use super::refusal::{
    Answered, invalid_argument, invalid_uri, missing_content_length, not_implemented,
};

/// A key has at most so many bytes.
const LONGEST_KEY: usize = 1024;

/// What a request asks for.
pub(crate) struct Ask {
    pub(crate) operation: Operation,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) headers: HeaderMap,
    query: BTreeMap<String, String>,
    /// For the log: `big.bin?partNumber=1&uploadId=upload-00000001`.
    pub(crate) described: String,
}

impl Ask {
    pub(crate) fn read(parts: Parts) -> Answered<Self> {
        let Parts {
            method,
            uri,
            headers,
            ..
        } = parts;
        let (bucket, key) = address(uri.path())?;
        let query = parameters(uri.query().unwrap_or_default())?;
        let operation = Operation::asked(&method, &key, &query, &headers);
        let operation =
            operation.ok_or_else(|| not_implemented(&format!("{method} {}", uri.path())))?;
        let ask = Self {
            operation,
            described: describe(&key, &uri),
            bucket,
            key,
            headers,
            query,
        };
        ask.check(&method)?;
        Ok(ask)
    }

    fn check(&self, method: &Method) -> Answered<()> {
        let mut parameters = self.query.keys();
        if let Some(name) = parameters.find(|name| !self.operation.takes_parameter(name)) {
            return Err(not_implemented(name));
        }
        let mut headers = self.headers.keys();
        if let Some(name) = headers.find(|name| !self.operation.takes_header(name.as_str())) {
            return Err(not_implemented(name.as_str()));
        }
        if self.operation.creates() {
            check_key(&self.key)?;
        }
        let has_length = [CONTENT_LENGTH, TRANSFER_ENCODING].map(|n| self.headers.contains_key(n));
        if [Method::PUT, Method::POST].contains(method) && has_length == [false, false] {
            return Err(missing_content_length());
        }
        Ok(())
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    pub(crate) fn required(&self, name: &str) -> Answered<&str> {
        self.parameter(name).ok_or_else(|| invalid_argument(name))
    }

    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Answered<Option<T>> {
        let number = self.parameter(name).map(|text| number(name, text));
        number.transpose()
    }

    /// How many entries of a listing are wanted: all that fit on a page, unless the request says fewer.
    pub(crate) fn limit(&self, name: &str) -> Answered<usize> {
        Ok(self.number(name)?.unwrap_or(PAGE).min(PAGE))
    }
}

/// Entries on a page of a listing.
const PAGE: usize = 1000;

pub(crate) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Answered<Option<&'h str>> {
    let text = headers.get(name).map(|value| value.to_str());
    text.transpose().map_err(|_| invalid_argument(name))
}

pub(crate) fn number_in_header<T: FromStr>(headers: &HeaderMap, name: &str) -> Answered<Option<T>> {
    let number = header(headers, name)?.map(|text| number(name, text));
    number.transpose()
}

fn number<T: FromStr>(name: &str, text: &str) -> Answered<T> {
    let number = text.parse();
    number.map_err(|_| invalid_argument(format!("{name}: {text}")))
}

/// Percent-encoded text, decoded.
pub(crate) fn decoded(text: &str) -> Answered<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| invalid_uri())?.into_owned())
}

/// The bucket and the key in `bucket/key`, both percent-encoded, with or without a slash before.
pub(crate) fn address(path: &str) -> Answered<(String, String)> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    Ok((decoded(bucket)?, decoded(key)?))
}

fn parameters(query: &str) -> Answered<BTreeMap<String, String>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let decode = |text: &str| decoded(&text.replace('+', " "));
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    });
    pairs.collect()
}

fn check_key(key: &str) -> Answered<()> {
    if key.len() > LONGEST_KEY {
        return Err(invalid_argument(
            "The object name must be at most 1024 bytes.",
        ));
    }
    if key == "." || key == ".." || key.contains(['\r', '\n']) {
        return Err(invalid_argument("The object name is not allowed."));
    }
    Ok(())
}

fn describe(key: &str, uri: &Uri) -> String {
    let query = uri.query().map(|query| format!("?{query}"));
    format!("{key}{}", query.unwrap_or_default())
}
