//! What the cloud does with objects: their storage class, and the tags that its rules go by. And which store knows them.

use std::collections::BTreeMap;
use std::fmt;

use toml::Value;

use crate::config::setting::{Setting, found, found_type, text};
use crate::config::store::places::{is_value, without_places};
use crate::config::{Driver, Store, Verify};

/// As many tags are taken: S3 and Azure have no more.
pub const MOST_TAGS: usize = 10;

/// The longest name of a tag, in characters.
const LONGEST_NAME: usize = 128;

/// The longest value of a tag, in characters.
pub const LONGEST_TAG: usize = 256;

/// What a store does with an object that it keeps: where it keeps it, and at what price.
///
/// Its name is the cloud's own, of at most 64 letters, digits, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageClass(String);

impl StorageClass {
    /// What may be written, for messages.
    pub const ALLOWED: &'static str = "the name of one in the cloud's own spelling, such as `STANDARD_IA` (S3), `NEARLINE` \
        (Google) or `Cool` (Azure)";

    /// A class of this name, if one can have it.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let takes = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let is_one = (1..=64).contains(&name.len()) && name.chars().all(takes);
        is_one.then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StorageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for StorageClass {
    fn allowed() -> String {
        Self::ALLOWED.to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        Self::new(text(value)?).ok_or_else(|| found(value))
    }

    fn show(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// Tags of objects by name. In values, `{user}`, `{peer}`, `{session}` and `{home}` stand for those of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectTags(BTreeMap<String, String>);

impl ObjectTags {
    /// What may be written, for messages.
    pub const ALLOWED: &'static str = "a table of up to 10, whose keys have up to 128 characters and whose values up to 256, of \
        letters, digits, spaces and `+-.:=_/`, no key beginning with `aws:`, and in values `{user}`, `{peer}`, `{session}` and `{home}`";

    /// Each with its value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These, with those in the place of any of the same name.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        let mut both = self.clone();
        both.0.extend(others.0.clone());
        both
    }

    /// Reads a table.
    ///
    /// # Errors
    /// What was found that can't be.
    pub fn from_table(table: &toml::Table) -> Result<Self, String> {
        if table.len() > MOST_TAGS {
            return Err(format!("found {} of them", table.len()));
        }
        let pair = |(name, value): (&String, &Value)| {
            let is_name = (1..=LONGEST_NAME).contains(&name.chars().count())
                && !name.to_ascii_lowercase().starts_with("aws:")
                && name.trim() == name
                && name.chars().all(is_in_tags);
            if !is_name {
                return Err(format!("found the name {name:?}"));
            }
            let text = value.as_str().ok_or_else(|| found(value))?;
            let is_short = text.chars().count() <= LONGEST_TAG;
            if !is_short || !is_value(text) || !without_places(text).chars().all(is_in_tags) {
                return Err(found(value));
            }
            Ok((name.clone(), text.to_owned()))
        };
        let pairs: Result<_, _> = table.iter().map(pair).collect();
        Ok(Self(pairs?))
    }
}

/// Whether every cloud that has tags takes this in them.
#[must_use]
pub fn is_in_tags(c: char) -> bool {
    c.is_ascii_alphanumeric() || " +-.:=_/".contains(c)
}

impl Setting for ObjectTags {
    fn allowed() -> String {
        Self::ALLOWED.to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::Table(table) => Self::from_table(table),
            _ => Err(found_type(value)),
        }
    }

    fn show(&self) -> Value {
        let pairs = self.0.iter();
        let pairs = pairs.map(|(name, value)| (name.clone(), Value::String(value.clone())));
        Value::Table(pairs.collect())
    }
}

/// What a store can't keep with its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncarried {
    /// `storage_class` or `tags`.
    pub setting: &'static str,
    /// What was found.
    pub found: String,
    /// What the store would take.
    pub allowed: String,
}

/// Google's classes; the last three are given to nothing new.
const GOOGLE: [&str; 7] = [
    "STANDARD",
    "NEARLINE",
    "COLDLINE",
    "ARCHIVE",
    "MULTI_REGIONAL",
    "REGIONAL",
    "DURABLE_REDUCED_AVAILABILITY",
];

/// Azure's classes, which it calls access tiers.
const AZURE: [&str; 4] = ["Hot", "Cool", "Cold", "Archive"];

/// Classes of S3 and Azure whose objects have to be restored before they can be read.
const ARCHIVES: [&str; 3] = ["GLACIER", "DEEP_ARCHIVE", "Archive"];

/// Whether objects of a class have to be restored before they can be read.
#[must_use]
pub fn is_archive(class: &str) -> bool {
    ARCHIVES.contains(&class)
}

impl Store {
    /// What this store can't keep of a class and of tags, where what is stored is verified like this.
    ///
    /// # Errors
    /// The first of the two that it can't.
    pub fn check_carried(
        &self,
        class: Option<&StorageClass>,
        tags: &ObjectTags,
        verify: Verify,
    ) -> Result<(), Uncarried> {
        if let Some(class) = class.filter(|it| is_archive(it.as_str()))
            && verify == Verify::ReadBack
        {
            return Err(Uncarried {
                setting: "storage_class",
                found: format!("{:?} beside upload.verify = \"read-back\"", class.as_str()),
                allowed: "a class whose objects can be read at once".to_owned(),
            });
        }
        let scheme = self.url.as_url().scheme();
        let is_own = self.driver == Driver::ObjectStore;
        if let Some(class) = class {
            let classes: &[&str] = match scheme {
                "s3" => return self.check_tags(tags),
                "gs" if is_own => &GOOGLE,
                "az" => &AZURE,
                _ => &[],
            };
            if !classes.contains(&class.as_str()) {
                return Err(Uncarried {
                    setting: "storage_class",
                    found: format!("{:?} for {}", class.as_str(), self.described()),
                    allowed: if classes.is_empty() {
                        "none there".to_owned()
                    } else {
                        format!("one of {}", classes.join(", "))
                    },
                });
            }
        }
        self.check_tags(tags)
    }

    fn check_tags(&self, tags: &ObjectTags) -> Result<(), Uncarried> {
        let count = tags.iter().count();
        if count > MOST_TAGS {
            return Err(Uncarried {
                setting: "tags",
                found: format!("{count} with those of upload.tags"),
                allowed: format!("{MOST_TAGS} together"),
            });
        }
        if tags.is_empty() || matches!(self.url.as_url().scheme(), "s3" | "az") {
            return Ok(());
        }
        Err(Uncarried {
            setting: "tags",
            found: format!("tags for {}", self.described()),
            allowed: "none there: only S3 and Azure have any".to_owned(),
        })
    }

    /// What kind of store it is, for messages.
    fn described(&self) -> String {
        match self.driver {
            Driver::ObjectStore => format!("a {}:// store", self.url.as_url().scheme()),
            driver @ Driver::UnftpSbeGcs => format!("store.driver {:?}", driver.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Result<ObjectTags, String> {
        ObjectTags::from_table(&text.parse().unwrap())
    }

    #[test]
    fn what_every_cloud_takes_in_tags_is_taken() {
        let both = tags("project = 'Scans 2+'\n'a:b/c' = '{user}/{home}'").unwrap();
        assert_eq!(ObjectTags::parse(&both.show()), Ok(both.clone()));
        let more = both.with(&tags("project = 'x'\nz = '-'").unwrap());
        assert_eq!(more.iter().count(), 3);
        assert!(more.iter().any(|it| it == ("project", "x")));
    }

    #[test]
    fn what_no_tag_can_be_is_refused() {
        for text in [
            "a = 1",
            "a = ''",
            "a = 'ü'",
            "'' = 'a'",
            "' a' = 'a'",
            "'ä' = 'a'",
            "'aws:a' = 'x'",
            "a = 'x@y'",
            "a = '{name}'",
            "a = '{user'",
            "a = \"a\\nb\"",
        ] {
            assert!(tags(text).is_err(), "{text}");
        }
        let many: Vec<_> = (0..11).map(|n| format!("a{n} = 'x'")).collect();
        assert_eq!(tags(&many.join("\n")), Err("found 11 of them".to_owned()));
        assert!(tags(&format!("a = '{}'", "x".repeat(257))).is_err());
    }

    fn store(url: &str, driver: Driver) -> Store {
        Store {
            url: Setting::parse(&Value::String(url.to_owned())).unwrap(),
            driver,
            ..Store::default()
        }
    }

    #[test]
    fn classes_and_tags_are_for_stores_that_have_them() {
        let class = |name: &str| StorageClass::new(name).unwrap();
        let (none, some) = (ObjectTags::default(), tags("a = 'b'").unwrap());
        let own = Driver::ObjectStore;
        for (url, driver, name, with_tags) in [
            ("s3://b", own, "STANDARD_IA", true),
            ("s3://b", own, "my-class", true),
            ("az://b", own, "Cool", true),
            ("gs://b", own, "NEARLINE", false),
        ] {
            let (store, class) = (store(url, driver), class(name));
            let read = Verify::ReadBack;
            let alone = store.check_carried(Some(&class), &none, read);
            assert_eq!(alone, Ok(()), "{url}");
            let tagged = store.check_carried(Some(&class), &some, read);
            assert_eq!(tagged.is_ok(), with_tags, "{url}");
        }
        for (url, driver, name) in [
            ("az://b", own, "COOL"),
            ("gs://b", own, "Cool"),
            ("gs://b", Driver::UnftpSbeGcs, "NEARLINE"),
            ("./folder", own, "STANDARD"),
            ("memory:///", own, "STANDARD"),
        ] {
            let (store, class) = (store(url, driver), class(name));
            let refused = store.check_carried(Some(&class), &none, Verify::Checksum);
            let refused = refused.unwrap_err();
            assert_eq!(refused.setting, "storage_class", "{url}");
            assert!(refused.found.contains(name), "{}", refused.found);
        }
        for (url, name) in [("s3://b", "GLACIER"), ("az://b", "Archive")] {
            let (store, class) = (store(url, own), class(name));
            let check = |verify| store.check_carried(Some(&class), &none, verify);
            assert_eq!(check(Verify::Checksum), Ok(()));
            assert!(
                check(Verify::ReadBack)
                    .unwrap_err()
                    .found
                    .contains("read-back")
            );
        }
        let folder = store("./folder", own).check_carried(None, &some, Verify::Checksum);
        assert_eq!(folder.unwrap_err().setting, "tags");
    }

    #[test]
    fn names_of_classes_fit_into_headers() {
        assert!(StorageClass::new("").is_none());
        assert!(StorageClass::new("a b").is_none());
        assert!(StorageClass::new(&"a".repeat(65)).is_none());
    }
}
