//! The reference of all settings, as Markdown.
//!
//! Everything in it but the introduction comes from the declarations in `sections.rs`.

use super::declare::{Description, Section};
use super::key::Key;
use super::sections::Config;

const INTRODUCTION: &str = r#"<!-- Made from src/config/sections.rs; after a change there: BLESS=1 cargo test config -->

# Configuration

Bucketferry runs without any configuration, for a trial on one host. What you set comes from these
places; a later one wins:

1. the defaults on this page,
2. the TOML file that `--config` names,
3. the environment,
4. the flags of the command line.

`bucketferry check --config FILE` tells everything that is wrong, in all of these places at once. A
section or setting that does not exist is an error, never ignored; and a wrong value is one even where
another place overrides it.

## How values are written

In the file, a setting stands below the name of its section:

```toml
[ftp]
listen = ["0.0.0.0:21", "[::]:21"]
idle_timeout = "10m"

[store]
url = "s3://deliveries/incoming"

[store.options]
aws_endpoint = "https://minio.example.com:9000"
aws_secret_access_key = { file = "/run/secrets/minio" }
```

- **Durations** are texts with a unit: `"500ms"`, `"30s"`, `"5m"`, `"1h 30m"`.
- **Sizes** are texts with a unit, or bare numbers of bytes. `KiB`, `MiB`, `GiB` and `TiB` count by
  1024; `KB`, `MB`, `GB` and `TB` by 1000.
- **Lists** are lists of TOML, or one text with commas.
- Where a setting can be absent, this is written `"none"`.

## The environment

`BUCKETFERRY_` + section + `__` + setting, in capitals: `BUCKETFERRY_FTP__LISTEN=0.0.0.0:21,[::]:21`.
Values are written without quotes. Names without the double underscore are not read, because
Kubernetes sets such names itself.

Put `_FILE` after any of these names to have the value read from a file:
`BUCKETFERRY_STORE__OPTIONS__AWS_SECRET_ACCESS_KEY_FILE=/run/secrets/minio`. A newline at the end of
the file is left out. Where `_FILE` is a part of the name itself, as in `aws_web_identity_token_file`,
it stays one. In the configuration file, options of the store can be read from files too, as above.
"#;

/// What follows `[store]`.
const STORES: &str = r#"## `[stores.NAME]`

More stores, each with all settings of [`[store]`](#store) under a name: up to 63 lower-case letters, digits and
single `_` between them, beginning with a letter. `url` has no default here. A user's `home` or mount in the users file is in such a store by
`NAME:/PREFIX`, and else in the one of `[store]`, whose name is `default`.

```toml
[store]
url = "s3://deliveries"

[stores.archive]
url = "gs://our-archive/ftp"
options = { google_service_account = "/run/secrets/archive.json" }
```

Add one when some users, or some folders of a user, belong into another bucket. All stores share the memory and the
limits of the gateway. In the environment, `BUCKETFERRY_STORES__ARCHIVE__URL` sets `stores.archive.url`.
"#;

/// All settings with their defaults and limits, as Markdown: the text of `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let config = Config::default();
    let sections = config.sections().into_iter();
    let sections: Vec<_> = sections
        .map(|it| match it.name() {
            "store" => format!("{}\n{STORES}", section(it)),
            _ => section(it),
        })
        .collect();
    format!(
        "{INTRODUCTION}\n{}\n\n{}",
        contents(&config),
        sections.join("\n")
    )
}

/// Links to the sections' headings, by the anchors that GitHub gives them.
fn contents(config: &Config) -> String {
    let names = config.sections().into_iter().map(Section::name);
    let links: Vec<_> = names.map(|name| format!("[`[{name}]`](#{name})")).collect();
    format!("Sections: {}", links.join(" "))
}

fn section(section: &dyn Section) -> String {
    let settings: Vec<_> = section
        .settings()
        .iter()
        .map(|it| setting(section.name(), it))
        .collect();
    let body = if settings.is_empty() {
        "No settings in this version.\n".to_owned()
    } else {
        settings.join("\n")
    };
    format!("## `[{}]`\n\n{}\n\n{body}", section.name(), section.doc())
}

fn setting(section: &str, setting: &Description) -> String {
    let Description {
        name,
        allowed,
        value,
        doc,
    } = setting;
    let key = Key::new(section, name);
    let variable = if key.is_options() {
        Key::option(section, "NAME").variable()
    } else {
        key.variable()
    };
    format!(
        "### `{key}`\n\n{doc}\n\n\
         - Default: `{value}`\n\
         - Allowed: {allowed}\n\
         - Environment: `{variable}`\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `BLESS=1` in the environment it writes the page instead.
    #[test]
    fn the_page_says_what_the_code_does() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(page, reference()).unwrap();
        }
        let written = std::fs::read_to_string(page).unwrap_or_default();
        assert!(
            written == reference(),
            "docs/configuration.md is out of date: run BLESS=1 cargo test config"
        );
    }

    #[test]
    fn every_setting_says_when_to_change_it() {
        for section in Config::default().sections() {
            for setting in section.settings() {
                assert!(
                    setting.doc.contains("\nChange it "),
                    "{}.{}",
                    section.name(),
                    setting.name
                );
            }
        }
    }
}
