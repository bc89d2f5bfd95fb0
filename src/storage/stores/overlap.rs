//! Which homes and mounts lie in others: whoever has the outer one sees what is in the inner one, whatever the rights there.

use std::fmt;

use crate::auth::{Place, User};
use crate::config::{Config, Store, StoreName};

/// A home or a mount that lies in another, or is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    inner: String,
    outer: String,
}

/// As a sentence for an operator.
impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "The {} lies in the {}.",
            self.inner,
            self.outer.trim_end_matches(',')
        )
    }
}

/// Where a place is, whatever the names of stores: the bucket, and each directory on the way.
type Way = (String, Vec<String>);

/// Each home and mount that lies in one of another user's, or in another one of its own user's, with the nearest such.
/// Users with the same home are left out: they share it on purpose.
pub fn overlaps<'a>(config: &Config, users: impl Iterator<Item = &'a User>) -> Vec<Overlap> {
    let mut places: Vec<(Way, String)> = users
        .flat_map(|user| {
            let places = user.places().into_iter();
            places
                .filter_map(|(path, place)| Some((way(config, place)?, called(user, &path, place))))
        })
        .collect();
    places.sort();
    let (mut overlaps, mut outer) = (Vec::new(), Vec::<(&Way, &String)>::new());
    for (way, name) in &places {
        while outer.last().is_some_and(|(above, _)| !lies_in(way, above)) {
            outer.pop();
        }
        let mut further_out = outer.iter().rev();
        if let Some((_, outer)) = further_out.find(|(above, _)| *above != way) {
            overlaps.push(Overlap {
                inner: name.clone(),
                outer: (*outer).to_owned(),
            });
        }
        outer.push((way, name));
    }
    overlaps
}

/// Two stores of which one is in the other, or that are the same: by their names. What lies in memory is never the same.
pub fn stores_in_one_place(config: &Config) -> Option<(StoreName, StoreName)> {
    let named = config.stores.iter();
    let named = named.map(|(name, store)| (name.clone(), store));
    let all = std::iter::once((StoreName::default(), &config.store)).chain(named);
    let lasting = all.filter(|(_, store)| store.url.as_url().scheme() != "memory");
    let mut ways: Vec<_> = lasting
        .map(|(name, store)| (way_in(store, "/"), name))
        .collect();
    ways.sort();
    let mut pairs = ways.windows(2);
    let pair = pairs.find(|pair| lies_in(&pair[1].0, &pair[0].0))?;
    Some((pair[0].1.clone(), pair[1].1.clone()))
}

fn lies_in(inner: &Way, outer: &Way) -> bool {
    inner.0 == outer.0 && inner.1.starts_with(&outer.1)
}

fn called(user: &User, path: &str, place: &Place) -> String {
    match path {
        "/" => format!("home {place} of {:?}", user.name),
        path => format!("mount {path} of {:?}, which is {place},", user.name),
    }
}

/// `None` if there is no such store.
fn way(config: &Config, place: &Place) -> Option<Way> {
    let store = if place.store.is_default() {
        &config.store
    } else {
        let mut stores = config.stores.iter();
        stores.find(|(name, _)| **name == place.store)?.1
    };
    Some(way_in(store, &place.prefix))
}

fn way_in(store: &Store, prefix: &str) -> Way {
    let path = format!("{}/{prefix}", store.url.as_url().path());
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    (bucket(store), segments.map(str::to_owned).collect())
}

/// What tells one bucket from another: two clouds may have buckets of one name.
fn bucket(store: &Store) -> String {
    let url = store.url.as_url();
    let host = url.host_str().unwrap_or_default();
    let endpoints = store.options.iter().filter(|(name, _)| {
        name.contains("endpoint") || name.contains("account_name") || name.contains("base_url")
    });
    let endpoints: Vec<_> = endpoints.map(|(_, value)| value).collect();
    format!("{}://{host} {}", url.scheme(), endpoints.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::UserTable;
    use crate::config::{ConfigFile, Sources};

    fn config(text: &str) -> Config {
        let file = ConfigFile {
            path: "ferry.toml".into(),
            text: text.to_owned(),
        };
        let sources = Sources {
            file: Some(file),
            ..Sources::default()
        };
        Config::load(&sources).unwrap()
    }

    fn told(text: &str, users: &str) -> Vec<String> {
        let config = config(text);
        let hash = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m";
        let users = users.replace("HASH", &format!("password_hash = '{hash}'"));
        let table = UserTable::parse(&users).unwrap();
        let overlaps = overlaps(&config, table.users());
        overlaps.iter().map(ToString::to_string).collect()
    }

    const STORES: &str = "[store]\nurl = 's3://a/in'\n[stores.same]\nurl = 's3://a'\n\
        [stores.other]\nurl = 's3://a'\noptions = { aws_endpoint = 'http://x' }\n";

    #[test]
    fn a_home_in_another_is_told_by_bucket_and_segment() {
        let users = "[[user]]\nname = 'a'\nhome = '/x'\nHASH\n[[user]]\nname = 'b'\nhome = '/x/y'\nHASH\n\
            [[user]]\nname = 'c'\nhome = '/xy'\nHASH\n[[user]]\nname = 'd'\nhome = 'other:/in/x/y'\nHASH\n\
            [[user]]\nname = 'e'\nhome = 'same:/in/x/z'\nHASH\n[[user]]\nname = 'f'\nhome = '/x'\nHASH\n";
        let expected = [
            "The home /x/y of \"b\" lies in the home /x of \"f\".",
            "The home same:/in/x/z of \"e\" lies in the home /x of \"f\".",
        ];
        assert_eq!(told(STORES, users), expected);
    }

    #[test]
    fn no_store_lies_in_another() {
        let pair = |urls: [&str; 2]| {
            let text = format!(
                "[store]\nurl = '{}'\n[stores.a]\nurl = '{}'\n",
                urls[0], urls[1]
            );
            let pair = stores_in_one_place(&config(&text))?;
            Some([pair.0.to_string(), pair.1.to_string()])
        };
        for (urls, outer) in [
            (["s3://b", "s3://b"], None),
            (["s3://b", "s3://b/in"], Some("default")),
            (["s3://b/in/x", "s3://b/in/"], Some("a")),
            (["/srv/ftp", "/srv/ftp/sub"], Some("default")),
        ] {
            let found = pair(urls).unwrap_or_else(|| panic!("{urls:?}"));
            assert!(
                outer.is_none_or(|outer| found[0] == outer),
                "{urls:?}: {found:?}"
            );
        }
        for urls in [
            ["s3://b", "s3://c"],
            ["s3://b/in", "s3://b/inn"],
            ["s3://b", "gs://b"],
            ["memory://", "memory://"],
            ["/srv/a", "/srv/b"],
        ] {
            assert_eq!(pair(urls), None, "{urls:?}");
        }
    }

    #[test]
    fn a_mount_in_the_home_of_its_own_user_is_told() {
        let users = "[[user]]\nname = 'a'\nHASH\n[[user.mount]]\npath = '/out'\nstore = 'same'\nprefix = '/in/out'\n\
            [[user.mount]]\npath = '/far'\nstore = 'other'\n";
        let expected =
            ["The mount /out of \"a\", which is same:/in/out, lies in the home / of \"a\"."];
        assert_eq!(told(STORES, users), expected);
    }
}
