//! Limits that a setting's type alone does not keep.

use std::ops::RangeInclusive;

use toml::Value;

use super::setting::Setting;

/// Which values of its type a setting takes.
pub(super) trait Rule<T> {
    /// What an operator may write, for messages and the reference.
    fn allowed(&self) -> String;
    /// Whether the setting takes this value.
    fn admits(&self, value: &T) -> bool;
}

/// Every value of the type: the rule of a setting that names none.
pub(super) struct Anything;

impl<T: Setting> Rule<T> for Anything {
    fn allowed(&self) -> String {
        T::allowed()
    }

    fn admits(&self, _: &T) -> bool {
        true
    }
}

impl<T: Setting + PartialOrd> Rule<T> for RangeInclusive<T> {
    fn allowed(&self) -> String {
        format!(
            "{}, from {} to {}",
            T::allowed(),
            plain(self.start()),
            plain(self.end())
        )
    }

    fn admits(&self, value: &T) -> bool {
        self.contains(value)
    }
}

/// `none` is always taken.
impl<T: Setting + PartialOrd> Rule<Option<T>> for RangeInclusive<T> {
    fn allowed(&self) -> String {
        format!("`none`, or {}", Rule::<T>::allowed(self))
    }

    fn admits(&self, value: &Option<T>) -> bool {
        value.as_ref().is_none_or(|value| self.contains(value))
    }
}

/// A value as it is written, without quotes.
fn plain(value: &impl Setting) -> String {
    match value.show() {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A list with at least one item.
pub(super) struct NotEmpty;

impl<T: Setting> Rule<Vec<T>> for NotEmpty {
    fn allowed(&self) -> String {
        format!("{}; at least one", Vec::<T>::allowed())
    }

    fn admits(&self, value: &Vec<T>) -> bool {
        !value.is_empty()
    }
}

/// A text that fits into one line of an FTP reply.
pub(super) struct OneLine;

impl OneLine {
    const MAX_CHARACTERS: usize = 200;
}

impl Rule<String> for OneLine {
    fn allowed(&self) -> String {
        format!(
            "a text of at most {} characters, none of them a control character",
            Self::MAX_CHARACTERS
        )
    }

    fn admits(&self, value: &String) -> bool {
        value.chars().count() <= Self::MAX_CHARACTERS && !value.contains(char::is_control)
    }
}

/// The label of a character encoding, in the WHATWG's spelling or in capitals.
pub(super) struct Charset;

impl Charset {
    /// `utf-8` is here too: then nothing is left to fall back to.
    const LABELS: [&str; 36] = [
        "windows-1250",
        "windows-1251",
        "windows-1252",
        "windows-1253",
        "windows-1254",
        "windows-1255",
        "windows-1256",
        "windows-1257",
        "windows-1258",
        "windows-874",
        "iso-8859-1",
        "iso-8859-2",
        "iso-8859-3",
        "iso-8859-4",
        "iso-8859-5",
        "iso-8859-6",
        "iso-8859-7",
        "iso-8859-8",
        "iso-8859-9",
        "iso-8859-10",
        "iso-8859-11",
        "iso-8859-13",
        "iso-8859-14",
        "iso-8859-15",
        "iso-8859-16",
        "ibm866",
        "koi8-r",
        "koi8-u",
        "macintosh",
        "gbk",
        "gb18030",
        "big5",
        "euc-jp",
        "shift_jis",
        "euc-kr",
        "utf-8",
    ];
}

impl Rule<String> for Charset {
    fn allowed(&self) -> String {
        format!(
            "one of {}",
            Self::LABELS.map(|label| format!("`{label}`")).join(", ")
        )
    }

    fn admits(&self, value: &String) -> bool {
        Self::LABELS
            .iter()
            .any(|label| label.eq_ignore_ascii_case(value))
    }
}
