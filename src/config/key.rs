//! The name of a setting, and the value that one source gives it.

use std::fmt;

use toml::Value;

use super::error::Origin;
use super::setting::Written;
use super::store::named;

/// The one setting of a store that is a table: whoever writes `store.options.NAME` sets one option in it.
const OPTIONS: &str = "options";

/// The section of the default store, and what those of the others are below.
const STORE: &str = "store";
const STORES: &str = "stores";

/// What every variable that may be ours begins with.
const VARIABLE_PREFIX: &str = "BUCKETFERRY_";

/// What parts a section from its setting in a variable's name.
const VARIABLE_SEPARATOR: &str = "__";

/// `section.name`, or `store.options.OPTION`, where the section of a store may be `stores.NAME`; not necessarily one that exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) section: String,
    /// Empty where only a section was named.
    pub(super) name: String,
    /// The store's own name for what is set, in `store.options`.
    pub(super) option: Option<String>,
}

/// One value for one setting, from one source.
pub(super) struct Assignment {
    pub(super) key: Key,
    pub(super) written: Written,
    pub(super) origin: Origin,
}

impl Assignment {
    pub(super) fn new(key: Key, written: Written, origin: Origin) -> Self {
        let written = match &key.option {
            Some(option) => Written::Toml(table_of_one(option, written)),
            None => written,
        };
        Self {
            key,
            written,
            origin,
        }
    }
}

impl Key {
    pub(super) fn new(section: &str, name: &str) -> Self {
        Self {
            section: section.to_owned(),
            name: name.to_owned(),
            option: None,
        }
    }

    /// An option of the store whose section this is.
    pub(super) fn option(section: &str, name: &str) -> Self {
        Self {
            option: Some(name.to_owned()),
            ..Self::new(section, OPTIONS)
        }
    }

    /// `ftp.listen`
    pub(super) fn from_dotted(dotted: &str) -> Self {
        Self::split(dotted, ".")
    }

    /// `BUCKETFERRY_FTP__LISTEN`; `None` if the variable is not ours.
    pub(super) fn from_variable(variable: &str) -> Option<Self> {
        let rest = variable.strip_prefix(VARIABLE_PREFIX)?;
        let ours = variable.contains(VARIABLE_SEPARATOR);
        ours.then(|| Self::split(&rest.to_lowercase(), VARIABLE_SEPARATOR))
    }

    /// The environment variable that sets this key.
    pub(super) fn variable(&self) -> String {
        let parts = self.parts().join(VARIABLE_SEPARATOR);
        let parts = match parts
            .strip_prefix(STORES)
            .and_then(|rest| rest.strip_prefix('.'))
        {
            Some(rest) => format!("{STORES}{VARIABLE_SEPARATOR}{rest}"),
            None => parts,
        };
        format!("{VARIABLE_PREFIX}{}", parts.to_uppercase())
    }

    /// Whether this is the setting whose members are options of the store.
    pub(super) fn is_options(&self) -> bool {
        let is_store = self.section == STORE || named::is_named(&self.section);
        is_store && self.name == OPTIONS
    }

    /// The key without a `_file` at its end: what a file with that name's value would set.
    pub(super) fn without_file_suffix(&self) -> Option<Self> {
        let mut stripped = self.clone();
        let last = stripped.option.as_mut().unwrap_or(&mut stripped.name);
        *last = last
            .strip_suffix("_file")
            .filter(|rest| !rest.is_empty())?
            .to_owned();
        Some(stripped)
    }

    fn parts(&self) -> Vec<&str> {
        let parts = [Some(&self.section), Some(&self.name), self.option.as_ref()];
        let written = parts.into_iter().flatten().map(String::as_str);
        written.filter(|part| !part.is_empty()).collect()
    }

    fn split(text: &str, separator: &str) -> Self {
        let (section, name) = text.split_once(separator).unwrap_or((text, ""));
        if section == STORES {
            let (store, name) = name.split_once(separator).unwrap_or((name, ""));
            return Self::in_section(&named::section_of(store), name, separator);
        }
        Self::in_section(section, name, separator)
    }

    fn in_section(section: &str, name: &str, separator: &str) -> Self {
        let key = Self::new(section, name);
        match name.split_once(separator) {
            Some((_, "")) | None => key,
            Some((name, option)) if Self::new(section, name).is_options() => {
                Self::option(section, option)
            }
            _ => key,
        }
    }
}

/// As in the file: `ftp.listen`, or `[ftp]` for a whole section. Escaped, because a key in quotes
/// may hold anything, and an error is one line.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dotted = self.parts().join(".");
        match self.name.as_str() {
            "" => write!(f, "[{}]", dotted.escape_debug()),
            _ => write!(f, "{}", dotted.escape_debug()),
        }
    }
}

fn table_of_one(name: &str, written: Written) -> Value {
    let value = match written {
        Written::Toml(value) => value,
        Written::Text(text) => Value::String(text),
    };
    Value::Table([(name.to_owned(), value)].into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_dotted_names_are_two_spellings() {
        for (dotted, variable) in [
            ("ftp.listen", "BUCKETFERRY_FTP__LISTEN"),
            (
                "store.options.aws_endpoint",
                "BUCKETFERRY_STORE__OPTIONS__AWS_ENDPOINT",
            ),
            ("stores.eu_1.url", "BUCKETFERRY_STORES__EU_1__URL"),
            (
                "stores.eu_1.options.aws_endpoint",
                "BUCKETFERRY_STORES__EU_1__OPTIONS__AWS_ENDPOINT",
            ),
        ] {
            let key = Key::from_dotted(dotted);
            assert_eq!(key.to_string(), dotted);
            assert_eq!(key.variable(), variable);
            assert_eq!(Key::from_variable(variable), Some(key));
        }
    }

    #[test]
    fn only_stores_have_options() {
        assert_eq!(
            Key::from_dotted("store.options.aws_region"),
            Key::option("store", "aws_region")
        );
        assert_eq!(Key::from_dotted("ftp.listen.port").option, None);
    }

    #[test]
    fn variables_without_the_double_underscore_are_not_ours() {
        assert_eq!(Key::from_variable("BUCKETFERRY_PORT"), None);
        assert_eq!(Key::from_variable("BUCKETFERRY_SERVICE_HOST"), None);
        assert_eq!(Key::from_variable("FTP__LISTEN"), None);
    }
}
