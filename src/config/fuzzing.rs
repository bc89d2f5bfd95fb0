//! The configuration file and the environment, as an operator may have written them.

use std::path::PathBuf;

use toml::{Table, Value};

use super::declare::Section;
use super::sections::Config;
use super::{ConfigFile, Sources};

/// Reads a configuration file and, behind a line of three hyphens, variables of the environment.
///
/// # Panics
/// When a promise is broken.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (text, environment) = text.split_once("\n---\n").unwrap_or((text, ""));
    if reads_files(text, environment) {
        return;
    }
    let variables = environment.lines().filter_map(|line| line.split_once('='));
    let mut sources = source(text.to_owned());
    sources.environment = variables
        .map(|(name, value)| (format!("BUCKETFERRY_{name}"), value.to_owned()))
        .collect();
    match Config::load(&sources) {
        Ok(config) => {
            let written = toml::to_string(&as_written(&config));
            assert!(written.is_ok(), "{written:?}");
            let again = Config::load(&source(written.unwrap_or_default()));
            assert!(again.is_ok(), "{again:?}");
            assert!(again.is_ok_and(|again| again == config));
        }
        Err(errors) => {
            let report = errors.to_string();
            assert!(!report.is_empty());
            let control = |c: char| c.is_control() && c != '\n';
            assert!(!report.contains(control), "{report:?}");
        }
    }
}

/// Whether it may name files with secrets, which are not the fuzzer's to read.
fn reads_files(text: &str, environment: &str) -> bool {
    let option = text.contains("file") && text.contains("options");
    option || text.contains('\\') || environment.to_lowercase().contains("_file")
}

fn source(text: String) -> Sources {
    let file = ConfigFile {
        path: PathBuf::from("ferry.toml"),
        text,
    };
    Sources {
        file: Some(file),
        ..Sources::default()
    }
}

/// All settings as the reference shows them.
fn as_written(config: &Config) -> Table {
    let sections = config.sections().into_iter();
    let mut written: Table = sections
        .map(|section| (section.name().to_owned(), settings(section)))
        .collect();
    let stores = config.stores.iter();
    let stores = stores.map(|(name, store)| (name.to_string(), settings(store)));
    written.insert("stores".to_owned(), Value::Table(stores.collect()));
    written
}

fn settings(section: &dyn Section) -> Value {
    let settings = section.settings().into_iter();
    Value::Table(settings.map(|it| (it.name.to_owned(), it.value)).collect())
}
