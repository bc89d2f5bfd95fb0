//! What speaks to the bucket, and what may not.

use std::fmt;

use toml::Value;

use crate::config::setting::{Setting, found, text};

/// What speaks to the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The gateway itself, with the `object_store` crate.
    ObjectStore,
    /// The libunftp back-end of that name.
    UnftpSbeGcs,
}

/// The back-ends of libunftp's that can be had, and what was found of each when its `put` was given a client that died
/// half-way. Only who publishes nothing then may be a [`Driver`].
const NOT_FIT: &[(&str, &str)] = &[
    (
        "unftp-sbe-fs",
        "it writes into the file itself: a client that dies leaves half of it under its name",
    ),
    (
        "unftp-sbe-opendal",
        "nobody has tried yet what it leaves of a client that dies",
    ),
];

impl Driver {
    const ALL: [Self; 2] = [Self::ObjectStore, Self::UnftpSbeGcs];

    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ObjectStore => "object_store",
            Self::UnftpSbeGcs => "unftp-sbe-gcs",
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Setting for Driver {
    fn allowed() -> String {
        Self::ALL.map(|driver| format!("`{driver}`")).join(", ")
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let written = text(value)?;
        if let Some(driver) = Self::ALL.into_iter().find(|it| it.as_str() == written) {
            return Ok(driver);
        }
        let unfit = NOT_FIT.iter().find(|(name, _)| *name == written);
        Err(match unfit {
            Some((_, reason)) => format!("{}, which is not fit: {reason}", found(value)),
            None => found(value),
        })
    }

    fn show(&self) -> Value {
        Value::String(self.as_str().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<Driver, String> {
        Driver::parse(&Value::String(name.to_owned()))
    }

    #[test]
    fn a_back_end_that_is_not_fit_is_refused_with_the_reason() {
        let refusal = parse("unftp-sbe-fs").unwrap_err();
        assert!(refusal.contains("half of it"), "{refusal}");
        assert!(!parse("sftp").unwrap_err().contains("not fit"));
        for driver in Driver::ALL {
            assert_eq!(parse(driver.as_str()), Ok(driver));
        }
    }
}
