//! Where a user's paths lead: into the store of its home, or into what is mounted there.
//!
//! Promises: a path belongs to the innermost mount that it is in, by whole segments. What is mounted is a [`User`] of its
//! own: the same one, as it is there, with a home and permissions of the mount's.
//! Must not: know what a store is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::User;
use crate::auth::permissions::{Permission, Permissions};
use crate::config::{ObjectTags, StoreName};

/// A directory in a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Which store.
    pub store: StoreName,
    /// The directory in it: an absolute, normalised FTP path, `/` or `/a/b`.
    pub prefix: String,
}

impl Place {
    /// A directory in the default store.
    pub(crate) fn in_default(prefix: &str) -> Self {
        Self {
            store: StoreName::default(),
            prefix: prefix.to_owned(),
        }
    }

    /// What a path means here, as the users file would write it.
    #[must_use]
    pub fn child(&self, path: &str) -> String {
        if path.is_empty() {
            return self.to_string();
        }
        format!("{}{path}", self.to_string().trim_end_matches('/'))
    }
}

/// As the users file writes it: `/a/b`, or `NAME:/a/b`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.store.is_default() {
            write!(f, "{}:", self.store)?;
        }
        f.write_str(&self.prefix)
    }
}

/// A place that a user sees at a path of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The path, in the place that it is mounted into: absolute, normalised, not `/`.
    pub path: String,
    /// The user, as it is there.
    pub user: Arc<User>,
}

/// What is between a directory and the mounts below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// It is a mount, where the user may do this.
    Mount(Permissions),
    /// A directory on the way to one.
    OnTheWay,
}

impl User {
    /// The user as it is where a path leads, and what is left of the path there; the empty path is the place itself.
    #[must_use]
    pub fn at<'a>(&'a self, path: &'a str) -> (&'a User, &'a str) {
        let mount = self.mounts.iter().find_map(|mount| {
            let rest = path.strip_prefix(mount.path.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then_some((mount, rest))
        });
        match mount {
            Some((mount, rest)) => mount.user.at(rest),
            None => (self, path),
        }
    }

    /// What lies in a directory of the user's home that leads to a mount, by name.
    #[must_use]
    pub fn leading_to_mounts(&self, directory: &str) -> BTreeMap<&str, Leads> {
        let directory = directory.trim_end_matches('/');
        let below = self.mounts.iter().filter_map(|mount| {
            let rest = mount.path.strip_prefix(directory)?.strip_prefix('/')?;
            Some(match rest.split_once('/') {
                Some((name, _)) => (name, Leads::OnTheWay),
                None => (rest, Leads::Mount(mount.user.permissions)),
            })
        });
        below.collect()
    }

    /// Whether a path of the user's home is that of a mount, or of a directory on the way to one.
    #[must_use]
    pub fn leads_to_mount(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.mounts.iter().any(|mount| {
            let rest = mount.path.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// A path of the user's home as the client has to name it.
    #[must_use]
    pub fn shown(&self, path: &str) -> String {
        if self.shows_at.is_empty() {
            return path.to_owned();
        }
        format!("{}{}", self.shows_at, path.trim_end_matches('/'))
    }

    /// Whether the user may do something in its home, or in any place that is mounted there.
    #[must_use]
    pub fn may_somewhere(&self, permission: Permission) -> bool {
        let mut mounts = self.mounts.iter();
        self.permissions.allows(permission)
            || mounts.any(|mount| mount.user.may_somewhere(permission))
    }

    /// All places that the user can get to, each with its path.
    #[must_use]
    pub fn places(&self) -> Vec<(String, &Place)> {
        let all = self.everywhere().into_iter();
        all.map(|(path, user)| (path, &user.home)).collect()
    }

    /// The user as it is in each place that it can get to, with the path.
    #[must_use]
    pub fn everywhere(&self) -> Vec<(String, &User)> {
        let mut all = vec![("/".to_owned(), self)];
        for mount in &self.mounts {
            let inner = mount.user.everywhere().into_iter();
            all.extend(inner.map(|(path, user)| {
                let path = format!("{}{}", mount.path, path.trim_end_matches('/'));
                (path, user)
            }));
        }
        all
    }

    /// The user with this mounted, too; inside of what is mounted there already, if the path leads there. Outer ones have
    /// to come first.
    pub(in crate::auth) fn mount(&mut self, path: &str, place: Place, permissions: Permissions) {
        let outer = self.mounts.iter_mut().find_map(|mount| {
            let rest = path.strip_prefix(mount.path.as_str())?;
            rest.starts_with('/').then_some((mount, rest))
        });
        if let Some((mount, rest)) = outer {
            Arc::make_mut(&mut mount.user).mount(rest, place, permissions);
            return;
        }
        let mut user = Self {
            home: place,
            permissions,
            shows_at: self.shown(path),
            mounts: Vec::new(),
            ..self.clone()
        };
        if user.home.store != self.home.store {
            // They are for the cloud that the home is in.
            user.tags = ObjectTags::default();
            user.storage_class = None;
        }
        self.mounts.push(Mount {
            path: path.to_owned(),
            user: Arc::new(user),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        let (store, prefix) = text.split_once(':').unwrap();
        Place {
            store: StoreName::new(store).unwrap(),
            prefix: prefix.to_owned(),
        }
    }

    fn anna() -> User {
        let mut anna = User::unrestricted("anna".into());
        let read = [Permission::Read].into_iter().collect();
        anna.mount("/in", place("a:/in"), anna.permissions);
        anna.mount("/x/y/out", place("b:/out"), read);
        anna.mount("/in/deep", place("b:/deep"), read);
        anna
    }

    #[test]
    fn tags_are_for_the_store_of_the_home() {
        let mut anna = User::unrestricted("anna".into());
        anna.tags = ObjectTags::from_table(&"a = 'b'".parse().unwrap()).unwrap();
        anna.mount("/same", Place::in_default("/same"), anna.permissions);
        anna.mount("/in", place("a:/in"), anna.permissions);
        for (path, are_there) in [("/f", true), ("/same/f", true), ("/in/f", false)] {
            assert_eq!(anna.at(path).0.tags.is_empty(), !are_there, "{path}");
        }
    }

    #[test]
    fn a_path_belongs_to_the_innermost_mount_it_is_in() {
        let anna = anna();
        for (path, home, rest) in [
            ("/", "/", "/"),
            ("/inn", "/", "/inn"),
            ("/in", "a:/in", ""),
            ("/in/f", "a:/in", "/f"),
            ("/in/deep", "b:/deep", ""),
            ("/in/deep/d/f", "b:/deep", "/d/f"),
            ("/in/deeper", "a:/in", "/deeper"),
            ("/x/y", "/", "/x/y"),
            ("/x/y/out/f", "b:/out", "/f"),
        ] {
            let (user, left) = anna.at(path);
            assert_eq!(
                (user.home.to_string().as_str(), left),
                (home, rest),
                "{path}"
            );
            assert_eq!(user.name, "anna");
            let full = if path == "/" { "" } else { path };
            assert_eq!(user.shown(left).trim_end_matches('/'), full);
        }
    }

    #[test]
    fn directories_know_what_leads_to_mounts() {
        let anna = anna();
        let all = anna.permissions;
        let names = |directory| anna.leading_to_mounts(directory);
        let root = [("in", Leads::Mount(all)), ("x", Leads::OnTheWay)];
        assert_eq!(names("/"), root.into());
        assert_eq!(names("/x"), [("y", Leads::OnTheWay)].into());
        assert!(names("/in").is_empty(), "that is another user's home");
        let (inner, _) = anna.at("/in");
        assert_eq!(inner.leading_to_mounts("/").len(), 1);
        for (path, leads) in [
            ("/", true),
            ("/x/y", true),
            ("/x/y/out", true),
            ("/x/z", false),
            ("/i", false),
        ] {
            assert_eq!(anna.leads_to_mount(path), leads, "{path}");
        }
    }

    #[test]
    fn all_places_are_told() {
        let anna = anna();
        let places = anna.places().into_iter();
        let places: Vec<_> = places
            .map(|(path, place)| format!("{path} {place}"))
            .collect();
        assert_eq!(
            places,
            ["/ /", "/in a:/in", "/in/deep b:/deep", "/x/y/out b:/out"]
        );
    }
}
