//! The users file: what an operator wrote, checked, and all that is wrong with it in one report.
//!
//! Promises:
//! - All faults are found in one go, each with the user, the key, what was found and what is
//!   allowed. (A text that is no TOML has one fault, for nothing else can be told of it.)
//! - A key that is not known is a fault: a misspelt `permissions` must not mean "all of them".
//! - A file without any user is a fault unless it says `user = []`, so that a file caught while
//!   it is being written locks nobody out.
//! - No fault shows a password hash, or anything that might be one.
//!
//! Must not: read files, or change who may log in.

mod mounts;

use std::{collections::HashMap, sync::Arc};

use secrecy::{ExposeSecret, SecretString};
use toml::{Table, Value};

use super::{
    access::{
        ALLOWED_DISABLED, ALLOWED_NETWORKS, ALLOWED_REQUIRE_TLS, ALLOWED_TIMES, Access, disabled,
        networks, require_tls, time,
    },
    allowance::{ALLOWED_RATES, ALLOWED_SESSIONS, Allowance, rate, sessions},
    certificate_name::{ALLOWED_CERTIFICATES, certificate_name},
    expectation::{ALLOWED_EXPECTATIONS, expect_every, unfit},
    fault::{Faults, UserFault, UsersFileErrors, kind, shown, without_secrets},
    password::{ALLOWED_HASHES, ALLOWED_PASSWORDS, PasswordHash},
    permissions::{self, Permission, Permissions},
    table::Account,
    user::{ALLOWED_HOMES, ALLOWED_NAMES, Place, User, is_valid_name},
};
use crate::config::{ByteSize, ObjectMetadata, ObjectTags, Overwrite, StorageClass};

/// The keys of a `[[user]]` table.
const KEYS: [&str; 20] = [
    "name",
    "password_hash",
    "home",
    "mount",
    "permissions",
    "overwrite",
    "max_size",
    "require_tls",
    "certificate",
    "allow",
    "disabled",
    "not_before",
    "expires",
    "max_sessions",
    "upload_rate",
    "download_rate",
    "expect_every",
    "metadata",
    "tags",
    "storage_class",
];

/// Reads the text of a users file.
///
/// # Errors
/// [`UsersFileErrors`]: all that is wrong with it.
pub(super) fn read(text: &str) -> Result<Vec<Account>, UsersFileErrors> {
    let file = text
        .parse::<Table>()
        .map_err(|error| not_toml(text, &error))?;
    let mut reader = Reader::default();
    reader.file(&file);
    reader.faults.into_result(reader.accounts)
}

/// Checks users given as name and password, and hashes the passwords for memory only.
///
/// # Errors
/// [`UsersFileErrors`]: all names and passwords that can't be.
pub(super) fn read_plain(
    users: impl Iterator<Item = (String, SecretString)>,
) -> Result<Vec<Account>, UsersFileErrors> {
    let mut reader = Reader::default();
    for (number, (name, password)) in (1..).zip(users) {
        reader.plain_user(number, name, password.expose_secret());
    }
    reader.faults.into_result(reader.accounts)
}

/// The fault of a text that is no TOML. The parser's own report quotes the line, which may hold a
/// hash, so only the place and the message are taken, which is one of its fixed phrases.
fn not_toml(text: &str, error: &toml::de::Error) -> UserFault {
    let start = error.span().map_or(0, |span| span.start);
    let line = text
        .bytes()
        .take(start)
        .filter(|&byte| byte == b'\n')
        .count()
        + 1;
    UserFault {
        user: None,
        key: None,
        found: format!("line {line} is no TOML ({})", error.message()),
        allowed: "TOML with a [[user]] table for each user".to_owned(),
    }
}

/// Collects accounts and faults.
#[derive(Default)]
struct Reader {
    accounts: Vec<Account>,
    faults: Faults,
    /// Each name seen, with the number of its user.
    names: HashMap<String, usize>,
}

impl Reader {
    fn file(&mut self, file: &Table) {
        for key in file.keys().filter(|key| *key != "user") {
            self.faults.note(None, key, "no known key", "user");
        }
        let allowed = "a [[user]] table for each user, or `user = []` if nobody may log in";
        match file.get("user") {
            Some(Value::Array(users)) => (1..)
                .zip(users)
                .for_each(|(number, user)| self.user(number, user)),
            Some(other) => self.faults.note(None, "user", kind(other), allowed),
            None => self.faults.note(None, "user", "missing", allowed),
        }
    }

    fn user(&mut self, number: usize, value: &Value) {
        let Value::Table(table) = value else {
            return self
                .faults
                .note(Some(&number.to_string()), "user", kind(value), "a table");
        };
        let name = table
            .get("name")
            .and_then(Value::as_str)
            .filter(|name| is_valid_name(name));
        if let Some(name) = name {
            self.claim_name(number, name);
        }
        let user = name.map_or(number.to_string(), shown);
        let mut entry = Entry {
            user,
            table,
            faults: &mut self.faults,
        };
        entry.refuse_unknown_keys();
        self.accounts.extend(entry.account());
    }

    fn plain_user(&mut self, number: usize, name: String, password: &str) {
        if !is_valid_name(&name) {
            return self.faults.note(
                Some(&number.to_string()),
                "name",
                &shown(&name),
                ALLOWED_NAMES,
            );
        }
        self.claim_name(number, &name);
        match PasswordHash::in_memory(password) {
            Ok(hash) => self.accounts.push(Account {
                user: User::unrestricted(name).into(),
                hash: Some(hash),
            }),
            Err(error) => {
                let found = format!("not usable: {error}");
                self.faults
                    .note(Some(&shown(&name)), "password", &found, ALLOWED_PASSWORDS);
            }
        }
    }

    fn claim_name(&mut self, number: usize, name: &str) {
        let first = *self.names.entry(name.to_owned()).or_insert(number);
        if first != number {
            let found = format!("{}, which is user {first} already", shown(name));
            self.faults
                .note(Some(&number.to_string()), "name", &found, ALLOWED_NAMES);
        }
    }
}

/// One `[[user]]` table being read.
struct Entry<'a> {
    /// How the user is called in faults.
    user: String,
    table: &'a Table,
    faults: &'a mut Faults,
}

impl Entry<'_> {
    fn refuse_unknown_keys(&mut self) {
        for key in self
            .table
            .keys()
            .filter(|key| !KEYS.contains(&key.as_str()))
        {
            self.faults
                .note(Some(&self.user), key, "no known key", &KEYS.join(", "));
        }
    }

    /// The account, or `None` if there is not even a name and a hash.
    fn account(&mut self) -> Option<Account> {
        // All keys are read before the first `?`, so that all faults are found.
        let name = self.required("name", ALLOWED_NAMES, name);
        let certificate = self.optional("certificate", ALLOWED_CERTIFICATES, certificate_name);
        let hash = self.password_hash();
        let home = self.optional("home", ALLOWED_HOMES, mounts::home);
        let words = format!("a list of any of {}", permissions::known_words());
        let permissions = self.optional("permissions", &words, permissions);
        let overwrite = self.optional("overwrite", "\"allow\" or \"deny\"", overwrite);
        let max_size = self.optional("max_size", "a size such as \"10 MiB\"", max_size);
        let require_tls = self.optional("require_tls", ALLOWED_REQUIRE_TLS, require_tls);
        let allowance = Allowance {
            max_sessions: self.optional("max_sessions", ALLOWED_SESSIONS, sessions),
            upload_rate: self.optional("upload_rate", ALLOWED_RATES, rate),
            download_rate: self.optional("download_rate", ALLOWED_RATES, rate),
        };
        let permissions = permissions.unwrap_or_else(Permissions::by_default);
        let access = self.access();
        let metadata = self.optional("metadata", ObjectMetadata::ALLOWED, metadata);
        let tags = self.optional("tags", ObjectTags::ALLOWED, tags);
        let storage_class = self.optional("storage_class", StorageClass::ALLOWED, storage_class);
        let expect_every = self.optional("expect_every", ALLOWED_EXPECTATIONS, expect_every);
        let mut user = User {
            name: name.unwrap_or_default(),
            home: home.unwrap_or_else(|| Place::in_default("/")),
            shows_at: String::new(),
            mounts: Vec::new(),
            permissions,
            overwrite,
            max_size,
            require_tls,
            certificate,
            access,
            allowance,
            metadata: metadata.unwrap_or_default(),
            tags: tags.unwrap_or_default(),
            storage_class,
            expect_every,
        };
        self.mount_all(&mut user);
        self.check_expectation(&user);
        if user.name.is_empty() {
            return None;
        }
        Some(Account {
            user: Arc::new(user),
            hash: hash?,
        })
    }

    fn check_expectation(&mut self, user: &User) {
        if user.expect_every.is_some()
            && let Some((found, allowed)) = unfit(user)
        {
            self.faults
                .note(Some(&self.user), "expect_every", &found, allowed);
        }
    }

    fn access(&mut self) -> Access {
        let access = Access {
            allow: self
                .optional("allow", ALLOWED_NETWORKS, networks)
                .unwrap_or_default(),
            disabled: self
                .optional("disabled", ALLOWED_DISABLED, disabled)
                .unwrap_or_default(),
            not_before: self.optional("not_before", ALLOWED_TIMES, time),
            expires: self.optional("expires", ALLOWED_TIMES, time),
        };
        if let (Some(begin), Some(end)) = (access.not_before, access.expires)
            && begin >= end
        {
            let found = "no later than `not_before`";
            self.faults
                .note(Some(&self.user), "expires", found, "a later time");
        }
        access
    }

    /// Who is known by a certificate may do without a password. The inner `None` is that.
    #[expect(
        clippy::option_option,
        reason = "no hash is not the same as a wrong one"
    )]
    fn password_hash(&mut self) -> Option<Option<PasswordHash>> {
        if self.table.contains_key("certificate") && !self.table.contains_key("password_hash") {
            return Some(None);
        }
        self.required("password_hash", ALLOWED_HASHES, password_hash)
            .map(Some)
    }

    fn required<T>(&mut self, key: &str, allowed: &str, read: Read<T>) -> Option<T> {
        if !self.table.contains_key(key) {
            self.faults.note(Some(&self.user), key, "missing", allowed);
        }
        self.optional(key, allowed, read)
    }

    fn optional<T>(&mut self, key: &str, allowed: &str, read: Read<T>) -> Option<T> {
        match read(self.table.get(key)?) {
            Ok(value) => Some(value),
            Err(found) => {
                self.faults.note(Some(&self.user), key, &found, allowed);
                None
            }
        }
    }
}

/// Reads a value, or says what was found instead.
type Read<T> = fn(&Value) -> Result<T, String>;

fn name(value: &Value) -> Result<String, String> {
    let name = text(value)?;
    is_valid_name(name)
        .then(|| name.to_owned())
        .ok_or_else(|| shown(name))
}

fn password_hash(value: &Value) -> Result<PasswordHash, String> {
    PasswordHash::parse(text(value)?).map_err(|unfit| unfit.to_string())
}

fn permissions(value: &Value) -> Result<Permissions, String> {
    let words = value.as_array().ok_or_else(|| kind(value).to_owned())?;
    let unknown: Vec<String> = words
        .iter()
        .filter_map(|word| permission(word).err())
        .collect();
    if unknown.is_empty() {
        words.iter().map(permission).collect()
    } else {
        Err(format!("a list with {}", unknown.join(", ")))
    }
}

fn permission(value: &Value) -> Result<Permission, String> {
    let word = text(value)?;
    word.parse().map_err(|_| shown(word))
}

fn overwrite(value: &Value) -> Result<Overwrite, String> {
    match text(value)? {
        "allow" => Ok(Overwrite::Allow),
        "deny" => Ok(Overwrite::Deny),
        other => Err(shown(other)),
    }
}

fn metadata(value: &Value) -> Result<ObjectMetadata, String> {
    let table = value.as_table().ok_or_else(|| kind(value).to_owned())?;
    let found = ObjectMetadata::from_table(table);
    found.map_err(|found| without_secrets(found.trim_start_matches("found ")))
}

fn tags(value: &Value) -> Result<ObjectTags, String> {
    let table = value.as_table().ok_or_else(|| kind(value).to_owned())?;
    let found = ObjectTags::from_table(table);
    found.map_err(|found| without_secrets(found.trim_start_matches("found ")))
}

fn storage_class(value: &Value) -> Result<StorageClass, String> {
    let name = text(value)?;
    StorageClass::new(name).ok_or_else(|| shown(name))
}

fn max_size(value: &Value) -> Result<ByteSize, String> {
    let size = text(value)?;
    size.parse().map_err(|_: String| shown(size))
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| kind(value).to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::certificate_name::CertificateName;
    use super::*;
    use crate::config::RequireTls;

    /// `x`, by bcrypt at its lowest cost.
    const HASH: &str = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m";

    fn user(lines: &str) -> String {
        format!("[[user]]\nname = \"anna\"\npassword_hash = \"{HASH}\"\n{lines}\n")
    }

    fn only_user(text: &str) -> Arc<User> {
        let accounts = read(text).unwrap();
        assert_eq!(accounts.len(), 1);
        Arc::clone(&accounts[0].user)
    }

    /// The lines of the report.
    fn report(text: &str) -> Vec<String> {
        read(text)
            .unwrap_err()
            .to_string()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn assert_one_fault(text: &str, wanted: &str) {
        let report = report(text);
        assert_eq!(report.len(), 1, "{report:#?}");
        assert!(report[0].starts_with(wanted), "{report:#?}");
    }

    #[test]
    fn the_defaults_allow_everything() {
        assert_eq!(*only_user(&user("")), User::unrestricted("anna".into()));
    }

    #[test]
    fn every_key_is_read() {
        let text = user(
            "home = \"/scans/\"\npermissions = [\"list\", \"write\"]\noverwrite = \"deny\"\nmax_size = \"10 MiB\"\n\
             require_tls = \"all\"\ncertificate = \"scanner-3.example\"\n\
             allow = [\"192.0.2.0/24\"]\ndisabled = true\nexpires = \"2030-01-31T18:00:00+01:00\"\n\
             max_sessions = 3\nupload_rate = \"1 MiB\"\ndownload_rate = \"2 MiB\"\nexpect_every = \"26h\"\n\
             metadata = { source = \"bank\" }\ntags = { kind = \"scan\" }\nstorage_class = \"Cool\"",
        );
        let expected = User {
            name: "anna".into(),
            home: Place::in_default("/scans"),
            shows_at: String::new(),
            mounts: Vec::new(),
            permissions: [Permission::List, Permission::Write].into_iter().collect(),
            overwrite: Some(Overwrite::Deny),
            max_size: Some(ByteSize(10 << 20)),
            require_tls: Some(RequireTls::All),
            certificate: Some(CertificateName::Dns("scanner-3.example".into())),
            access: Access {
                allow: vec!["192.0.2.0/24".parse().unwrap()],
                disabled: true,
                not_before: None,
                expires: Some(humantime::parse_rfc3339("2030-01-31T17:00:00Z").unwrap()),
            },
            allowance: Allowance {
                max_sessions: Some(3),
                upload_rate: Some(ByteSize::mib(1)),
                download_rate: Some(ByteSize::mib(2)),
            },
            metadata: ObjectMetadata::from_table(&"source = 'bank'".parse().unwrap()).unwrap(),
            tags: ObjectTags::from_table(&"kind = 'scan'".parse().unwrap()).unwrap(),
            storage_class: StorageClass::new("Cool"),
            expect_every: Some(Duration::from_hours(26)),
        };
        assert_eq!(*only_user(&text), expected);
        assert_eq!(
            *only_user(&user("overwrite = \"allow\""))
                .overwrite
                .as_ref()
                .unwrap(),
            Overwrite::Allow
        );
        assert_eq!(
            only_user(&user("permissions = []")).permissions,
            Permissions::none()
        );
    }

    #[test]
    fn every_fault_names_user_key_found_and_allowed() {
        for (line, wanted) in [
            (
                "home = \"a/..\"",
                "user \"anna\": `home` is \"a/..\"; allowed: an absolute path",
            ),
            (
                "home = \"\"",
                "user \"anna\": `home` is \"\"; allowed: an absolute path",
            ),
            (
                "home = 7",
                "user \"anna\": `home` is an integer; allowed: an absolute path",
            ),
            (
                "permissions = [\"write\", \"fly\", 1]",
                "user \"anna\": `permissions` is a list with \"fly\", an integer; \
                 allowed: a list of any of list, read, write, delete, rename, mkdir, release",
            ),
            (
                "permissions = \"all\"",
                "user \"anna\": `permissions` is a text; allowed: a list of",
            ),
            (
                "overwrite = true",
                "user \"anna\": `overwrite` is a boolean; allowed: \"allow\" or \"deny\"",
            ),
            (
                "overwrite = \"no\"",
                "user \"anna\": `overwrite` is \"no\"; allowed: \"allow\" or \"deny\"",
            ),
            (
                "max_size = \"big\"",
                "user \"anna\": `max_size` is \"big\"; allowed: a size such as",
            ),
            (
                "max_sessions = 0",
                "user \"anna\": `max_sessions` is 0; allowed: a whole number from 1",
            ),
            (
                "upload_rate = \"1023\"",
                "user \"anna\": `upload_rate` is \"1023\"; allowed: the bytes a second as a size",
            ),
            (
                "download_rate = 5000",
                "user \"anna\": `download_rate` is an integer; allowed: the bytes a second",
            ),
            (
                "expect_every = \"59s\"",
                "user \"anna\": `expect_every` is \"59s\"; allowed: a duration such as",
            ),
            (
                "expect_every = \"367days\"",
                "user \"anna\": `expect_every` is \"367days\"; allowed: a duration such as",
            ),
            (
                "expect_every = 26",
                "user \"anna\": `expect_every` is an integer; allowed: a duration such as",
            ),
            (
                "permissions = [\"read\"]\nexpect_every = \"26h\"",
                "user \"anna\": `expect_every` is set for a user who may not upload; allowed: `expect_every` for",
            ),
            (
                "certificate = \"scanner 3\"",
                "user \"anna\": `certificate` is \"scanner 3\"; allowed: a name of a client's certificate with \
                 its kind: \"dns:",
            ),
            (
                "allow = [\"192.0.2.0/33\"]",
                "user \"anna\": `allow` is a list with \"192.0.2.0/33\"; allowed: a list of networks",
            ),
            (
                "disabled = 1",
                "user \"anna\": `disabled` is an integer; allowed: true or false",
            ),
            (
                "expires = 2030-01-31",
                "user \"anna\": `expires` is \"2030-01-31\"; allowed: a time with its offset",
            ),
            (
                "not_before = 2030-01-31T00:00:00Z\nexpires = 2030-01-31T01:00:00+01:00",
                "user \"anna\": `expires` is no later than `not_before`; allowed: a later time",
            ),
            (
                "permission = []",
                "user \"anna\": `permission` is no known key; allowed: name, password_hash,",
            ),
        ] {
            assert_one_fault(&user(line), wanted);
        }
    }

    #[test]
    fn all_faults_come_in_one_report() {
        let text = "extra = 1\n[[user]]\nhome = \"x\"\n[[user]]\nname = \"b\"\npassword_hash = \"plain\"\n\
                    [[user]]\nname = \"b\"\npassword_hash = \"$2b$04$bad\"\nmax_size = 5\n";
        let report = report(text);
        let wanted = [
            "`extra` is no known key; allowed: user",
            "user 1: `name` is missing",
            "user 1: `password_hash` is missing",
            "user 1: `home` is \"x\"",
            "user \"b\": `password_hash` is not a password hash that is understood",
            "user 3: `name` is \"b\", which is user 2 already",
            "user \"b\": `password_hash` is a malformed bcrypt hash",
            "user \"b\": `max_size` is an integer",
        ];
        assert_eq!(report.len(), wanted.len(), "{report:#?}");
        for (line, wanted) in report.iter().zip(wanted) {
            assert!(line.starts_with(wanted), "{line}\n{wanted}");
        }
    }

    #[test]
    fn names_are_checked() {
        let named =
            |name: &str| format!("[[user]]\nname = \"{name}\"\npassword_hash = \"{HASH}\"\n");
        for bad in ["", "a\\tb", &"a".repeat(129)] {
            assert_one_fault(&named(bad), "user 1: `name` is \"");
        }
    }

    #[test]
    fn a_file_without_users_must_say_so() {
        assert!(read("user = []").unwrap().is_empty());
        for missing in ["", "# nothing yet\n"] {
            assert_one_fault(
                missing,
                "`user` is missing; allowed: a [[user]] table for each user, or `user = []`",
            );
        }
        assert_one_fault("user = 5", "`user` is an integer");
        assert_one_fault("user = [5]", "user 1: `user` is an integer");
        assert_one_fault("[user]\nname = \"anna\"", "`user` is a table");
    }

    #[test]
    fn no_report_shows_a_hash() {
        let secret = &HASH[8..];
        for text in [
            format!("[[user]]\npassword_hash = {HASH}\n"),
            format!("[[user]]\npassword_hash = \"{HASH}\n"),
            format!("[[user]]\npassword_hash = \"{HASH}\"\npassword_hash = \"{HASH}\"\n"),
            user(&format!("home = \"{HASH}\"")),
            user(&format!(
                "overwrite = \"{HASH}\"\nmax_size = \"{HASH}\"\npermissions = [\"{HASH}\"]"
            )),
            user(&format!("\"{HASH}\" = 1")),
            user(&format!("password_hash.x = \"{HASH}\"")),
            format!("[[user]]\nname = \"a\"\npassword_hash = \"{HASH}x\"\n"),
            format!("[[user]]\nname = \"anna:{HASH}\"\n"),
        ] {
            let errors = read(&text).unwrap_err();
            assert!(!errors.to_string().contains(secret), "{errors}");
            assert!(!format!("{errors:?}").contains(secret), "{errors:?}");
        }
        assert_one_fault("\n\n[[user]\n", "line 3 is no TOML (");
    }

    #[test]
    fn plain_users_are_checked_too() {
        let plain = |users: &[(&str, &str)]| {
            let owned = |&(name, password): &(&str, &str)| (name.to_owned(), password.into());
            read_plain(users.iter().map(owned))
        };
        assert!(
            plain(&[("anna", "secret")]).unwrap()[0]
                .hash
                .as_ref()
                .unwrap()
                .verify("secret", &mut crate::auth::password::HashMemory::new())
                .unwrap()
        );
        let errors = plain(&[("", "x"), ("anna", ""), ("bert", "x"), ("bert", "y")]).unwrap_err();
        let lines: Vec<String> = errors.faults().iter().map(UserFault::to_string).collect();
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert!(lines[0].starts_with("user 1: `name` is \"\""), "{lines:#?}");
        assert!(
            lines[1].starts_with("user \"anna\": `password` is not usable: the password is empty"),
            "{lines:#?}"
        );
        assert!(
            lines[2].starts_with("user 4: `name` is \"bert\", which is user 3 already"),
            "{lines:#?}"
        );
    }

    #[test]
    fn homes_and_mounts_lie_in_stores() {
        let text = user(
            "home = \"eu_1:/a/\"\npermissions = [\"list\"]\n[[user.mount]]\npath = \"/in/\"\nstore = \"old\"\n\
             prefix = \"/b\"\npermissions = [\"write\"]\n[[user.mount]]\npath = \"/in/deep\"",
        );
        let anna = only_user(&text);
        let places = anna.places().into_iter();
        let places: Vec<_> = places
            .map(|(path, place)| format!("{path} {place}"))
            .collect();
        assert_eq!(places, ["/ eu_1:/a", "/in old:/b", "/in/deep /"]);
        let (there, _) = anna.at("/in/x");
        assert_eq!(there.permissions, [Permission::Write].into_iter().collect());
        let (there, _) = anna.at("/in/deep/x");
        assert_eq!(there.permissions, anna.permissions);
    }

    #[test]
    fn metadata_that_can_not_be_is_told_without_what_may_be_a_secret() {
        for (lines, wanted) in [
            ("metadata = 1", "user \"anna\": `metadata` is an integer"),
            (
                "metadata = { A = \"x\" }",
                "user \"anna\": `metadata` is the name",
            ),
            (
                "metadata = { a = \"{x}$2b$04$secret\" }",
                "user \"anna\": `metadata` is \\\"{x}$…;",
            ),
        ] {
            assert_one_fault(&user(lines), wanted);
        }
    }

    #[test]
    fn what_is_no_mount_is_told_by_its_number() {
        for (lines, wanted) in [
            ("home = \"Eu:/a\"", "user \"anna\": `home` is \"Eu:/a\""),
            ("home = \"eu:a\"", "user \"anna\": `home` is \"eu:a\""),
            ("mount = 1", "user \"anna\": `mount` is an integer"),
            ("mount = [1]", "user \"anna\": `mount 1` is an integer"),
            ("[[user.mount]]", "user \"anna\": `mount 1.path` is missing"),
            (
                "[[user.mount]]\npath = \"/\"",
                "user \"anna\": `mount 1.path` is \"/\"",
            ),
            (
                "[[user.mount]]\npath = \"/a/../b\"",
                "user \"anna\": `mount 1.path` is \"/a/../b\"",
            ),
            (
                "[[user.mount]]\npath = \"/a\"\nprefix = \"b\"",
                "user \"anna\": `mount 1.prefix` is \"b\"",
            ),
            (
                "[[user.mount]]\npath = \"/a\"\nstore = \"A\"",
                "user \"anna\": `mount 1.store` is \"A\"",
            ),
            (
                "[[user.mount]]\npath = \"/a\"\nhome = \"/\"",
                "user \"anna\": `mount 1.home` is no known key",
            ),
            (
                "[[user.mount]]\npath = \"/a\"\npermissions = [\"fly\"]",
                "user \"anna\": `mount 1.permissions` is a list with \"fly\"",
            ),
            (
                "[[user.mount]]\npath = \"/a\"\n[[user.mount]]\npath = \"/a/\"",
                "user \"anna\": `mount 2.path` is \"/a\", which is mounted already",
            ),
        ] {
            assert_one_fault(&user(lines), wanted);
        }
    }

    #[test]
    fn the_example_in_the_docs_is_right() {
        let accounts = read(include_str!("../../docs/users.example.toml")).unwrap();
        assert!(accounts.len() >= 3);
    }
}
