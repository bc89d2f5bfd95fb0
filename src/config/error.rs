//! What is wrong with a configuration: all of it, one line each.
//!
//! An error names the setting, where it was written, what was found and what is allowed. It never
//! holds a secret: values of `store.options` are told by their type alone.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::key::Key;
use super::setting::Setting;
use super::store::{StoreUrl, named};

/// Everything that is wrong with a configuration; its `Display` is one line for each error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn new(errors: Vec<ConfigError>) -> Self {
        Self(errors)
    }

    /// The errors: those of the file by line, then the environment's, then the flags'.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// One thing that is wrong; its `Display` is one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{origin}: {}{problem}", prefix(key))]
pub struct ConfigError {
    origin: Origin,
    key: String,
    problem: Problem,
}

impl ConfigError {
    pub(super) fn new(origin: Origin, key: &Key, problem: Problem) -> Self {
        Self {
            origin,
            key: key.to_string(),
            problem,
        }
    }

    /// For a file in which no setting can be told from another.
    pub(super) fn syntax(origin: Origin, message: &str) -> Self {
        Self {
            origin,
            key: String::new(),
            problem: Problem::syntax(message),
        }
    }

    /// The setting (`ftp.listen`) or section (`[ftp]`); empty if the file is not TOML.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where it was written.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

fn prefix(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!("{key}: ")
    }
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the configuration file.
    File {
        /// The file's path, as it was given.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// In the environment variable of this name.
    Environment(String),
    /// On the command line, by this flag.
    Flag(&'static str),
}

impl Origin {
    /// How this source spells a key, so that a suggestion can be copied.
    pub(super) fn spell(&self, key: &Key) -> String {
        match self {
            Self::Environment(_) => key.variable().escape_debug().to_string(),
            Self::File { .. } | Self::Flag(_) => key.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "{}", name.escape_debug()),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// What is wrong, without where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Problem {
    #[error("{found}; allowed: {allowed}")]
    Value { found: String, allowed: String },
    #[error("no such setting{}", did_you_mean(suggestion.as_deref()))]
    UnknownSetting { suggestion: Option<String> },
    #[error("no such section{}", did_you_mean(suggestion.as_deref()))]
    UnknownSection { suggestion: Option<String> },
    #[error("this is a section: write its settings below a line that names it in brackets")]
    NotASection,
    #[error("cannot read {path:?}: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("set by {} too", other.escape_debug())]
    SetTwice { other: String },
    #[error("not TOML: {message}")]
    Syntax { message: String },
}

impl Problem {
    /// What is wrong with the name of the store that a section is for, if anything is.
    pub(super) fn of_store_name(section: &str) -> Option<Self> {
        let name = named::objection(section)?;
        Some(Self::Value {
            found: format!("found {name:?}"),
            allowed: named::ALLOWED.to_owned(),
        })
    }

    /// What is wrong with a store that has a name and no URL.
    pub(super) fn no_url() -> Self {
        Self::Value {
            found: "found nothing".to_owned(),
            allowed: StoreUrl::allowed(),
        }
    }

    /// What the TOML parser says, on one line.
    pub(super) fn syntax(message: &str) -> Self {
        Self::Syntax {
            message: message.replace('\n', ", ").replace(char::is_control, "?"),
        }
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion
        .map(|it| format!("; did you mean {it}?"))
        .unwrap_or_default()
}
