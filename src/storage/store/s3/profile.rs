//! Credentials in a file, as AWS's own tools have them: `~/.aws/credentials`, with a section for each profile.
//!
//! Of a profile the keys are taken, and the token, if there is one. Profiles that lead to a role, to a program or to a
//! single sign-on are for people at a console.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use configparser::ini::{Ini, IniDefault};
use object_store::aws::AwsCredential;
use object_store::{Error, Result, StaticCredentialProvider};

use crate::config::StoreOptions;
use crate::storage::store::credentials::Provider;

/// The options that name them, after the variables of AWS's.
pub(crate) const OPTIONS: [&str; 2] = [FILE, PROFILE];

const FILE: &str = "aws_shared_credentials_file";
const PROFILE: &str = "aws_profile";

/// A profile of a file.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) file: PathBuf,
    name: String,
}

impl Profile {
    /// The one that a store's own options name.
    pub(crate) fn of_options(options: &StoreOptions) -> Option<Self> {
        let named = |name: &str| options.get(name).map(str::to_owned);
        let (file, name) = (named(FILE).map(PathBuf::from), named(PROFILE));
        if file.is_none() && name.is_none() {
            return None;
        }
        let variables = || variable(FILE).map(PathBuf::from).or_else(usual);
        Some(Self {
            file: file.or_else(variables).unwrap_or_default(),
            name: name.unwrap_or_else(|| "default".to_owned()),
        })
    }

    /// The one that the environment names, or the default one, if its file is there.
    pub(crate) fn of_environment() -> Option<Self> {
        let file = variable(FILE).map(PathBuf::from).or_else(usual)?;
        file.is_file().then(|| Self {
            file,
            name: variable(PROFILE).unwrap_or_else(|| "default".to_owned()),
        })
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the file can't be read, or has no such profile with keys. It is named, and nothing of what it says.
    pub(crate) fn read(&self) -> Result<Provider<AwsCredential>> {
        let text = std::fs::read_to_string(&self.file);
        let text = text.map_err(|error| self.wrong(&error.to_string()))?;
        let credential = self.credential(&text)?;
        Ok(Arc::new(StaticCredentialProvider::new(credential)))
    }

    fn credential(&self, text: &str) -> Result<AwsCredential> {
        let mut as_written = IniDefault::default();
        as_written.case_sensitive = true;
        as_written.delimiters = vec!['='];
        as_written.inline_comment_symbols = Some(Vec::new());
        let sections = Ini::new_from_defaults(as_written).read(text.to_owned());
        // Its error may quote a line.
        let sections = sections.map_err(|_| self.wrong("it has a line that can't be read"))?;
        let profile = sections.get(&self.name);
        let profile = profile.ok_or_else(|| self.wrong("there is no such profile"))?;
        let key = |name: &str| {
            let value = profile.get(name)?.as_deref().map(str::trim);
            value.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let both = key("aws_access_key_id").zip(key("aws_secret_access_key"));
        let (key_id, secret_key) = both.ok_or_else(|| {
            self.wrong("it has not both aws_access_key_id and aws_secret_access_key, and nothing else is taken")
        })?;
        Ok(AwsCredential {
            key_id,
            secret_key,
            token: key("aws_session_token"),
        })
    }

    fn wrong(&self, what: &str) -> Error {
        Error::Generic {
            store: "S3",
            source: format!("profile {:?} of {}: {what}", self.name, shown(&self.file)).into(),
        }
    }
}

/// An option's name is that of AWS's variable in lower case.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name.to_ascii_uppercase()).ok();
    value.filter(|value| !value.is_empty())
}

fn usual() -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("HOME")?).join(".aws/credentials"))
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# of the batch jobs\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key=a/b+c\\d\"e=\n\n\
        [other]\naws_access_key_id = AKIA2\naws_secret_access_key = x\naws_session_token = t\nregion = eu-west-1\n\
        [role]\nrole_arn = arn:aws:iam::1:role/a\nsource_profile = default\n";

    fn read(profile: &str, text: &str) -> Result<AwsCredential, String> {
        let profile = Profile {
            file: "/etc/credentials".into(),
            name: profile.to_owned(),
        };
        let read = profile.credential(text);
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn keys_are_taken_as_they_are_written() {
        let default = read("default", FILE).unwrap();
        assert_eq!(default.key_id, "AKIA1");
        assert_eq!(default.secret_key, "a/b+c\\d\"e=");
        assert_eq!(default.token, None);
        assert_eq!(read("other", FILE).unwrap().token.as_deref(), Some("t"));
    }

    #[test]
    fn what_is_wrong_is_told_without_secrets() {
        for (profile, text, words) in [
            (
                "none",
                FILE,
                "profile \"none\" of /etc/credentials: there is no such profile",
            ),
            ("role", FILE, "nothing else is taken"),
            (
                "default",
                "[default\naws_secret_access_key = secret",
                "can't be read",
            ),
            (
                "default",
                "[default]\naws_secret_access_key = secret",
                "not both",
            ),
        ] {
            let error = read(profile, text).unwrap_err();
            assert!(
                error.contains(words) && !error.contains("secret\""),
                "{error}"
            );
            assert!(!error.contains("= secret"), "{error}");
        }
    }
}
