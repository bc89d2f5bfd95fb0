//! Who asks: a request is signed with the account's key, over its method, headers, path and query.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::{HeaderMap, Method, Uri};
use sha2::Sha256;

use super::failure::{
    Failure, INVALID_AUTHENTICATION, NO_AUTHENTICATION, authentication_failed, invalid_header,
    missing_header,
};
use super::headers::text;
use super::target::Query;
use super::{ACCOUNT, KEY};

/// How far a request's clock may be off.
const SKEW: TimeDelta = TimeDelta::minutes(15);

/// Before this version, some answers were different, which nobody has written here.
const OLDEST_VERSION: NaiveDate = NaiveDate::from_ymd_opt(2021, 2, 12).expect("a day");

/// The headers whose values are signed without their names, in this order.
const STANDARD_HEADERS: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// A request, as its signature sees it.
pub(crate) struct Signed<'a> {
    method: &'a Method,
    uri: &'a Uri,
    query: &'a Query,
    headers: &'a HeaderMap,
}

impl<'a> Signed<'a> {
    pub(crate) fn new(
        method: &'a Method,
        uri: &'a Uri,
        query: &'a Query,
        headers: &'a HeaderMap,
    ) -> Self {
        Self {
            method,
            uri,
            query,
            headers,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Failure> {
        let authorization = text(self.headers, "authorization")?.ok_or(NO_AUTHENTICATION)?;
        let shared = authorization.strip_prefix("SharedKey ");
        let shared = shared.and_then(|shared| shared.split_once(':'));
        let (account, signature) = shared.ok_or(INVALID_AUTHENTICATION)?;
        self.check_version()?;
        self.check_date()?;
        self.check_signature(account, signature)
    }

    fn check_version(&self) -> Result<(), Failure> {
        let name = "x-ms-version";
        let version = text(self.headers, name)?.ok_or_else(|| missing_header(name))?;
        let day = NaiveDate::parse_from_str(version, "%Y-%m-%d");
        let is_known = day.is_ok_and(|day| day >= OLDEST_VERSION);
        is_known.then_some(()).ok_or_else(|| invalid_header(name))
    }

    fn check_date(&self) -> Result<(), Failure> {
        let date = match text(self.headers, "x-ms-date")? {
            Some(date) => Some(date),
            None => text(self.headers, "date")?,
        };
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        let date =
            date.ok_or_else(|| authentication_failed("Request date header not specified"))?;
        let is_now = (Utc::now() - date.to_utc()).abs() <= SKEW;
        is_now
            .then_some(())
            .ok_or_else(|| authentication_failed("Request date header too old"))
    }

    fn check_signature(&self, account: &str, signature: &str) -> Result<(), Failure> {
        let signature = BASE64.decode(signature);
        let signature = signature.map_err(|_| INVALID_AUTHENTICATION)?;
        let text = self.string_to_sign();
        if account == ACCOUNT && mac(&text).verify_slice(&signature).is_ok() {
            return Ok(());
        }
        Err(authentication_failed(&format!(
            "The MAC signature found in the HTTP request is not the same as any computed signature. \
             Server used following string to sign: '{text}'."
        )))
    }

    fn string_to_sign(&self) -> String {
        let mut lines = vec![self.method.to_string()];
        lines.extend(STANDARD_HEADERS.map(|name| self.standard(name)));
        lines.extend(self.canonical_headers());
        lines.push(format!("/{ACCOUNT}{}", self.uri.path()));
        lines.extend(self.canonical_query());
        lines.join("\n")
    }

    fn standard(&self, name: &str) -> String {
        let value = joined(self.headers, name);
        match name {
            // Azure's own date wins over the general one.
            "date" if self.headers.contains_key("x-ms-date") => String::new(),
            "content-length" if value == "0" => String::new(),
            _ => value,
        }
    }

    fn canonical_headers(&self) -> Vec<String> {
        let names = self.headers.keys().map(hyper::header::HeaderName::as_str);
        let mut names: Vec<_> = names.filter(|name| name.starts_with("x-ms-")).collect();
        names.sort_unstable();
        let line = |name| format!("{name}:{}", joined(self.headers, name));
        names.into_iter().map(line).collect()
    }

    fn canonical_query(&self) -> Vec<String> {
        let mut values = BTreeMap::<&str, Vec<&str>>::new();
        for (name, value) in self.query.pairs() {
            values.entry(name).or_default().push(value);
        }
        let line = |(name, mut values): (&str, Vec<&str>)| {
            values.sort_unstable();
            format!("{name}:{}", values.join(","))
        };
        values.into_iter().map(line).collect()
    }
}

fn mac(text: &str) -> Hmac<Sha256> {
    let key = BASE64.decode(KEY).expect("a key in base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac
}

/// All values of a header, without the spaces around them.
fn joined(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).iter();
    let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
    values.collect::<Vec<_>>().join(",")
}
