//! `home` and `[[user.mount]]` of the users file: where a user's paths lead.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{Entry, permissions, text};
use crate::auth::fault::{kind, shown};
use crate::auth::permissions::{self as words, Permissions};
use crate::auth::user::{Place, User, normalised_home};
use crate::config::StoreName;

/// The keys of a `[[user.mount]]` table.
const KEYS: [&str; 4] = ["path", "store", "prefix", "permissions"];

/// What a mount's path may be, for error messages.
const ALLOWED_PATHS: &str = "an absolute path such as \"/in\", without \".\", \"..\", empty parts or control characters, \
     each path only once, and not \"/\", which is `home`";

/// What a mount's prefix may be, for error messages.
const ALLOWED_PREFIXES: &str = "an absolute path such as \"/\" or \"/orders/new\", without \".\", \"..\", empty parts \
     or control characters";

/// What a mount's store may be, for error messages.
const ALLOWED_STORES: &str =
    "the name of a store in the configuration, such as \"archive\" for [stores.archive]";

/// Mounts of one user: more would make each of its commands slow.
const MOST: usize = 100;

/// One mount, as it is written.
struct Written {
    place: Place,
    permissions: Option<Permissions>,
}

/// Reads a home: `/PREFIX` of the default store, or `NAME:/PREFIX`.
pub(super) fn home(value: &Value) -> Result<Place, String> {
    let written = text(value)?;
    let place = match written.split_once(':') {
        Some((store, prefix)) if !store.contains('/') => {
            StoreName::new(store).zip(normalised_home(prefix))
        }
        _ => normalised_home(written).map(|prefix| (StoreName::default(), prefix)),
    };
    let (store, prefix) = place.ok_or_else(|| shown(written))?;
    Ok(Place { store, prefix })
}

impl Entry<'_> {
    /// Mounts what the table says into the user's home.
    pub(super) fn mount_all(&mut self, user: &mut User) {
        // The outer ones first.
        for (path, mount) in self.mounts() {
            let permissions = mount.permissions.unwrap_or(user.permissions);
            user.mount(&path, mount.place, permissions);
        }
    }

    /// What is to be mounted, by path.
    fn mounts(&mut self) -> BTreeMap<String, Written> {
        let allowed = "a [[user.mount]] table for each mount, 100 at most";
        let tables = match self.table.get("mount") {
            None => return BTreeMap::new(),
            Some(Value::Array(tables)) if tables.len() <= MOST => tables,
            Some(Value::Array(tables)) => {
                let found = format!("a list of {}", tables.len());
                self.faults.note(Some(&self.user), "mount", &found, allowed);
                return BTreeMap::new();
            }
            Some(other) => {
                self.faults
                    .note(Some(&self.user), "mount", kind(other), allowed);
                return BTreeMap::new();
            }
        };
        let mut mounts = BTreeMap::new();
        for (number, value) in (1..).zip(tables) {
            let key = format!("mount {number}");
            let Value::Table(table) = value else {
                self.faults
                    .note(Some(&self.user), &key, kind(value), "a table");
                continue;
            };
            let Some((path, mount)) = self.mount(&key, table) else {
                continue;
            };
            if mounts.contains_key(&path) {
                let found = format!("{}, which is mounted already", shown(&path));
                self.faults.note(
                    Some(&self.user),
                    &format!("{key}.path"),
                    &found,
                    ALLOWED_PATHS,
                );
            }
            mounts.insert(path, mount);
        }
        mounts
    }

    fn mount(&mut self, key: &str, table: &Table) -> Option<(String, Written)> {
        for unknown in table.keys().filter(|name| !KEYS.contains(&name.as_str())) {
            let key = format!("{key}.{unknown}");
            self.faults
                .note(Some(&self.user), &key, "no known key", &KEYS.join(", "));
        }
        if !table.contains_key("path") {
            let key = format!("{key}.path");
            self.faults
                .note(Some(&self.user), &key, "missing", ALLOWED_PATHS);
        }
        let words = format!("a list of any of {}", words::known_words());
        let path = self.of_mount(table, key, "path", ALLOWED_PATHS, path);
        let store = self.of_mount(table, key, "store", ALLOWED_STORES, store);
        let prefix = self.of_mount(table, key, "prefix", ALLOWED_PREFIXES, prefix);
        let permissions = self.of_mount(table, key, "permissions", &words, permissions);
        let place = Place {
            store: store.unwrap_or_default(),
            prefix: prefix.unwrap_or_else(|| "/".to_owned()),
        };
        Some((path?, Written { place, permissions }))
    }

    fn of_mount<T>(
        &mut self,
        table: &Table,
        key: &str,
        name: &str,
        allowed: &str,
        read: super::Read<T>,
    ) -> Option<T> {
        match read(table.get(name)?) {
            Ok(value) => Some(value),
            Err(found) => {
                let key = format!("{key}.{name}");
                self.faults.note(Some(&self.user), &key, &found, allowed);
                None
            }
        }
    }
}

fn path(value: &Value) -> Result<String, String> {
    let path = prefix(value)?;
    if path == "/" {
        Err(shown(&path))
    } else {
        Ok(path)
    }
}

fn prefix(value: &Value) -> Result<String, String> {
    let prefix = text(value)?;
    normalised_home(prefix).ok_or_else(|| shown(prefix))
}

fn store(value: &Value) -> Result<StoreName, String> {
    let name = text(value)?;
    StoreName::new(name).ok_or_else(|| shown(name))
}
