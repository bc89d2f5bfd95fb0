//! What the operator wrote, turned into what the program uses.
//!
//! Four sources are laid over each other: the defaults, the TOML file, the environment, the command
//! line's flags. [`Config::load`] reads them all and either returns a [`Config`] in which every
//! value is valid, or one report of everything that is wrong, wherever it was written. A value that
//! a later source overrides must be valid all the same.
//!
//! Each setting is declared once, in `sections.rs`: its meaning, type, limits and default. Parsing,
//! the struct's field and `docs/configuration.md` ([`reference()`]) come from that declaration.
//!
//! This room reads no environment and no arguments of its own accord (they are passed in, see
//! [`Sources`]), opens no file but those that secrets are read from, and prints no secret: not in
//! an error, not in `Debug`.

#[macro_use]
mod declare;
#[macro_use]
mod words;

mod consistency;
mod environment;
mod error;
mod file;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod key;
mod network;
mod reference;
mod rule;
mod secret;
mod sections;
mod setting;
mod settle;
mod size;
mod store;
mod suggest;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use self::error::{ConfigError, ConfigErrors, Origin};
pub(crate) use self::network::can_be_reached;
pub use self::network::{
    AddressOverrides, PassiveAddress, PodName, PortRange, PortShare, ServiceName,
};
pub use self::reference::reference;
pub use self::secret::read_guarded;
pub use self::sections::{
    Active, Admin, Cluster, Config, Download, Ftp, Limits, Log, Passive, Shutdown, Store, Tls,
    Upload, Users,
};
pub use self::settle::Settle;
pub use self::size::ByteSize;
pub use self::store::{
    ContentTypes, Driver, LONGEST_TAG, MOST_TAGS, ObjectMetadata, ObjectTags, StorageClass,
    StoreName, StoreOptions, StoreUrl, Uncarried, is_archive, is_in_tags,
};
pub use self::words::{
    ClientAuth, Conditions, ControlLoss, Create, LogFormat, LogLevel, MissingDirectories,
    OnRemoval, Overwrite, ProxyHeader, ReadyNeedsStore, RequireTls, TlsVersion, Verify,
};

use self::error::Problem;
use self::key::{Assignment, Key};
use self::setting::Written;
use self::store::named;

/// Everything that was written, by source; a later field wins over an earlier one.
///
/// It may hold secrets in the clear, so it has no `Debug`.
#[derive(Clone, Default)]
pub struct Sources {
    /// The TOML file, if one was named.
    pub file: Option<ConfigFile>,
    /// The environment as it is: variables that are not ours are ignored.
    pub environment: Vec<(String, String)>,
    /// The settings given as flags, in the order in which they were given.
    pub flags: Vec<Flag>,
}

/// The configuration file, already read.
#[derive(Clone)]
pub struct ConfigFile {
    /// Where it was read from, for error messages.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// A setting given on the command line.
#[derive(Clone)]
pub struct Flag {
    /// The flag as it is typed: `--listen`.
    pub flag: &'static str,
    /// The setting that it sets: `ftp.listen`.
    pub key: &'static str,
    /// What followed the flag; read as a value of the environment is.
    pub value: String,
}

impl Config {
    /// Lays the sources over the defaults.
    ///
    /// # Errors
    ///
    /// All that is wrong in any source, in the order of the sources and of the file's lines.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut config = Self::default();
        let assignments = sources.assignments();
        let without_url = without_url(assignments.iter().flatten());
        let written = assignments.iter().flatten();
        let origins = written.map(|it| (it.key.clone(), it.origin.clone()));
        let origins = origins.collect();
        let mut errors: Vec<_> = assignments
            .into_iter()
            .filter_map(|assignment| assignment.and_then(|it| config.apply(it)).err())
            .chain(without_url)
            .collect();
        if errors.is_empty() {
            errors = consistency::contradictions(&config, &origins);
        }
        if errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors::new(errors))
        }
    }

    fn apply(&mut self, assignment: Assignment) -> Result<(), ConfigError> {
        let Assignment {
            key,
            written,
            origin,
        } = assignment;
        if let Some(problem) = Problem::of_store_name(&key.section) {
            let section = Key::new(&key.section, "");
            return Err(ConfigError::new(origin, &section, problem));
        }
        let Some(section) = self.section_mut(&key.section) else {
            return Err(unknown_section(&key, origin));
        };
        match section.set(&key.name, &written) {
            Some(Ok(())) => Ok(()),
            Some(Err(problem)) => Err(ConfigError::new(origin, &key, problem)),
            None => Err(unknown_setting(&key, origin)),
        }
    }
}

impl Sources {
    /// What each source sets, or why it can't be told; lowest precedence first.
    fn assignments(&self) -> Vec<Result<Assignment, ConfigError>> {
        let file = self.file.iter().flat_map(file::assignments);
        let environment = environment::assignments(&self.environment);
        let flags = self.flags.iter().map(|flag| Ok(Assignment::from(flag)));
        file.chain(environment).chain(flags).collect()
    }
}

impl From<&Flag> for Assignment {
    fn from(flag: &Flag) -> Self {
        let written = Written::Text(flag.value.clone());
        Self::new(Key::from_dotted(flag.key), written, Origin::Flag(flag.flag))
    }
}

/// An error for each store that has a name and no URL.
fn without_url<'a>(assignments: impl Iterator<Item = &'a Assignment>) -> Vec<ConfigError> {
    let mut stores = BTreeMap::new();
    let named = assignments.filter(|it| named::is_named(&it.key.section));
    for Assignment { key, origin, .. } in named {
        let (_, has_url) = stores.entry(&key.section).or_insert((origin, false));
        *has_url |= key.name == "url";
    }
    let without = stores.into_iter().filter(|(_, (_, has_url))| !has_url);
    let errors = without.map(|(section, (origin, _))| {
        ConfigError::new(origin.clone(), &Key::new(section, "url"), Problem::no_url())
    });
    errors.collect()
}

/// The error for a section that does not exist, or for a setting written outside of any.
fn unknown_section(key: &Key, origin: Origin) -> ConfigError {
    let suggestion = suggest::section(key).map(|near| origin.spell(&near));
    let section = Key::new(&key.section, "");
    ConfigError::new(origin, &section, Problem::UnknownSection { suggestion })
}

/// The error for a setting that its section does not have.
fn unknown_setting(key: &Key, origin: Origin) -> ConfigError {
    let suggestion = suggest::setting(key).map(|near| origin.spell(&near));
    ConfigError::new(origin, key, Problem::UnknownSetting { suggestion })
}
