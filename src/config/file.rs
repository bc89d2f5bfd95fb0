//! Settings from the TOML file.

use serde::Deserialize;
use toml::de::{DeString, DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Value};

use super::error::{ConfigError, Origin, Problem};
use super::key::{Assignment, Key};
use super::sections::Config;
use super::setting::{Setting, Written};
use super::store::{StoreOptions, named};
use super::{ConfigFile, secret, unknown_section};

/// What the file sets, in the order of its lines; if it is not TOML, only that.
pub(super) fn assignments(file: &ConfigFile) -> Vec<Result<Assignment, ConfigError>> {
    let (document, errors) = DeTable::parse_recoverable(&file.text);
    if !errors.is_empty() {
        return errors
            .iter()
            .map(|error| Err(syntax_error(file, error)))
            .collect();
    }
    let mut reader = Reader {
        file,
        read: Vec::new(),
    };
    for (name, value) in document.into_inner() {
        reader.section(&name, value);
    }
    reader.in_order()
}

fn syntax_error(file: &ConfigFile, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start);
    ConfigError::syntax(origin(file, at), error.message())
}

/// The place of a byte of the file.
fn origin(file: &ConfigFile, at: usize) -> Origin {
    let newlines = file
        .text
        .bytes()
        .take(at)
        .filter(|byte| *byte == b'\n')
        .count();
    Origin::File {
        path: file.path.clone(),
        line: newlines + 1,
    }
}

/// Goes through the file's tables, and remembers where each thing was found.
struct Reader<'a> {
    file: &'a ConfigFile,
    read: Vec<(usize, Result<Assignment, ConfigError>)>,
}

impl Reader<'_> {
    fn section(&mut self, name: &Spanned<DeString<'_>>, value: Spanned<DeValue<'_>>) {
        let at = name.span().start;
        let origin = origin(self.file, at);
        let section = Key::new(name.get_ref(), "");
        if section.section == "stores" {
            return self.stores(at, &section, value);
        }
        if Config::default().section_mut(&section.section).is_none() {
            return self.push(at, Err(unknown_section(&section, origin)));
        }
        self.settings(at, &section, value);
    }

    /// `[stores.NAME]`, for each name.
    fn stores(&mut self, at: usize, section: &Key, value: Spanned<DeValue<'_>>) {
        let Some(stores) = self.table(at, section, value) else {
            return;
        };
        for (name, value) in stores {
            let at = name.span().start;
            let section = Key::new(&named::section_of(name.get_ref()), "");
            let problem = Problem::of_store_name(&section.section);
            match problem {
                Some(problem) => {
                    let error = ConfigError::new(origin(self.file, at), &section, problem);
                    self.push(at, Err(error));
                }
                None => self.settings(at, &section, value),
            }
        }
    }

    fn settings(&mut self, at: usize, section: &Key, value: Spanned<DeValue<'_>>) {
        let Some(settings) = self.table(at, section, value) else {
            return;
        };
        if settings.is_empty() && named::is_named(&section.section) {
            let url = Key::new(&section.section, "url");
            let error = ConfigError::new(origin(self.file, at), &url, Problem::no_url());
            self.push(at, Err(error));
        }
        for (name, value) in settings {
            let key = Key::new(&section.section, name.get_ref());
            self.setting(name.span().start, key, value);
        }
    }

    /// What is in a section, or nothing and an error.
    fn table<'a>(
        &mut self,
        at: usize,
        section: &Key,
        value: Spanned<DeValue<'a>>,
    ) -> Option<DeTable<'a>> {
        if let DeValue::Table(table) = value.into_inner() {
            return Some(table);
        }
        let error = ConfigError::new(origin(self.file, at), section, Problem::NotASection);
        self.push(at, Err(error));
        None
    }

    fn setting(&mut self, at: usize, key: Key, value: Spanned<DeValue<'_>>) {
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(options) if key.is_options() => {
                for (name, value) in options {
                    self.value(
                        name.span().start,
                        Key::option(&key.section, name.get_ref()),
                        value,
                    );
                }
            }
            value => self.value(at, key, Spanned::new(span, value)),
        }
    }

    fn value(&mut self, at: usize, key: Key, value: Spanned<DeValue<'_>>) {
        let origin = origin(self.file, at);
        let assignment = match read_value(&key, value) {
            Ok(value) => Ok(Assignment::new(key, Written::Toml(value), origin)),
            Err(problem) => Err(ConfigError::new(origin, &key, problem)),
        };
        self.push(at, assignment);
    }

    fn push(&mut self, at: usize, assignment: Result<Assignment, ConfigError>) {
        self.read.push((at, assignment));
    }

    fn in_order(mut self) -> Vec<Result<Assignment, ConfigError>> {
        self.read.sort_by_key(|(at, _)| *at);
        self.read
            .into_iter()
            .map(|(_, assignment)| assignment)
            .collect()
    }
}

/// The value, fetched from its file if it is an option of the store that says `{ file = "…" }`.
fn read_value(key: &Key, value: Spanned<DeValue<'_>>) -> Result<Value, Problem> {
    let value = Value::deserialize(ValueDeserializer::from(value));
    match value.map_err(|error| Problem::syntax(error.message()))? {
        Value::Table(table) if key.option.is_some() => secret_file(&table),
        value => Ok(value),
    }
}

fn secret_file(table: &toml::Table) -> Result<Value, Problem> {
    match table.get("file") {
        Some(Value::String(path)) if table.len() == 1 => secret::read(path).map(Value::String),
        _ => Err(Problem::Value {
            found: "found a table".to_owned(),
            allowed: StoreOptions::allowed(),
        }),
    }
}
