//! All users at one moment, each with the hash of their password.
//!
//! Promises: no two users share a name; a table never changes (a reload makes a new one).
//! Must not: hand out a hash to anything outside this room, or show one.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    hint,
    sync::Arc,
    time::{Duration, SystemTime},
};

use secrecy::SecretString;

use crate::config::{ByteSize, RequireTls, Store, StoreName, Uncarried, Upload};

use super::{
    access::Client,
    fault::{Faults, UserFault, UsersFileErrors, shown},
    password::{Fingerprint, PasswordHash},
    user::User,
    users_file,
};

/// The users who may log in.
#[derive(Debug, Default)]
pub struct UserTable {
    accounts: HashMap<String, Account>,
    /// As they stand in the file.
    in_order: Vec<Arc<User>>,
    /// Those who have a hash, which unknown names borrow.
    lenders: Vec<Lender>,
}

/// A user and what their password is compared with.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) user: Arc<User>,
    /// `None` if the client's certificate is enough.
    pub(super) hash: Option<PasswordHash>,
}

/// A user whose hash may be borrowed.
#[derive(Debug)]
struct Lender {
    name: String,
    fingerprint: Fingerprint,
}

impl Lender {
    /// How much an unknown name wants to borrow from it. Only whoever knows the hash can tell, and it is the same at
    /// each gateway and after each start.
    fn weight(&self, borrower: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.fingerprint.bytes().hash(&mut hasher);
        borrower.hash(&mut hasher);
        hasher.finish()
    }
}

/// What a login is compared with.
pub(super) struct Candidate<'table> {
    /// The user, if the name is known.
    pub(super) account: Option<&'table Account>,
    /// The user's hash, or some other user's.
    pub(super) hash: &'table PasswordHash,
}

impl Candidate<'_> {
    /// Whether the user has no password: the certificate is enough.
    pub(super) fn without_password(&self) -> bool {
        self.account.is_some_and(|account| account.hash.is_none())
    }
}

impl Account {
    /// What tells the password from one before it; `None` if there is none.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.hash.as_ref().map(PasswordHash::fingerprint)
    }
}

impl UserTable {
    /// Reads the text of a users file. `docs/users.example.toml` shows what may stand in one.
    ///
    /// # Errors
    /// [`UsersFileErrors`]: all that is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, UsersFileErrors> {
        users_file::read(text).map(Self::from_accounts)
    }

    /// Users given as name and password, who may do everything everywhere. Their hashes are cheap
    /// to compute: they only ever live in memory.
    ///
    /// # Errors
    /// [`UsersFileErrors`]: all names and passwords that can't be.
    pub fn from_plain<P: Into<SecretString>>(
        users: Vec<(String, P)>,
    ) -> Result<Self, UsersFileErrors> {
        let secret = |(name, password): (String, P)| (name, password.into());
        users_file::read_plain(users.into_iter().map(secret)).map(Self::from_accounts)
    }

    /// Whether the user of this name needs no password, because of the client's certificate. Not if the client is
    /// refused all the same: it is to hear of that as others do.
    pub(super) fn is_known_by_certificate(&self, name: &str, client: &Client) -> bool {
        self.accounts.get(name).is_some_and(|account| {
            let is_known = account.hash.is_none() && account.user.takes(&client.certificate);
            is_known && account.user.refusal(client, SystemTime::now()).is_none()
        })
    }

    /// The user of this name, as the table has it.
    pub(super) fn account(&self, name: &str) -> Option<&Account> {
        self.accounts.get(name)
    }

    /// Who can never log in, and why: on a gateway that does TLS or not, and asks clients for certificates or
    /// not. Each is a line for the operator.
    pub fn never_in(&self, encrypts: bool, asks: bool) -> Vec<String> {
        let now = SystemTime::now();
        let reason = |user: &User| {
            let wants_tls = user.require_tls.is_some_and(|it| it > RequireTls::None);
            if user.certificate.is_some() && !(encrypts && asks) {
                Some("has a `certificate`, but clients are not asked for any: see tls.client_auth")
            } else if wants_tls && !encrypts {
                Some("has `require_tls`, but there is no TLS: see tls.certificate")
            } else if user.access.expires.is_some_and(|end| end <= now) {
                Some("has expired: see its `expires`")
            } else {
                None
            }
        };
        let users = self.accounts.values().map(|account| &account.user);
        let mut lines: Vec<_> = users
            .filter_map(|user| {
                let reason = reason(user)?;
                Some(format!("user {:?} can't log in: it {reason}", user.name))
            })
            .collect();
        lines.sort_unstable();
        lines
    }

    /// Everybody, with the longest time between two uploads that is expected: those of whom any is come first,
    /// then the others, as they stand in the file.
    pub fn senders(&self) -> Vec<(String, Option<Duration>)> {
        let mut users: Vec<_> = self.in_order.iter().collect();
        users.sort_by_key(|user| user.expect_every.is_none());
        users
            .into_iter()
            .map(|user| (user.name.clone(), user.expect_every))
            .collect()
    }

    /// A line for the operator if uploads are expected of more users than the first `most`, which have metrics.
    pub fn unwatched(&self, most: usize) -> Option<String> {
        let senders = self.senders();
        let mut unwatched = senders
            .iter()
            .skip(most)
            .filter(|(_, every)| every.is_some());
        let (first, _) = unwatched.next()?;
        let count = 1 + unwatched.count();
        Some(format!(
            "{count} users with `expect_every` are not watched, the first is {first:?}: \
             admin.max_user_series is {most}"
        ))
    }

    /// The memory that the dearest hash needs, in KiB.
    pub(super) fn hashing_kib(&self) -> u32 {
        let hashes = self.accounts.values().filter_map(|it| it.hash.as_ref());
        let largest = hashes.map(PasswordHash::kib).max();
        largest.unwrap_or(PasswordHash::Never.kib())
    }

    /// Whether every hash can be verified in `limits.hashing_memory`.
    ///
    /// # Errors
    /// [`UsersFileErrors`]: a user whose hash needs more.
    pub(super) fn fits(&self, hashing_memory: ByteSize) -> Result<(), UsersFileErrors> {
        let kib = |account: &&Account| account.hash.as_ref().map_or(0, PasswordHash::kib);
        let dearest = self.accounts.values().max_by_key(kib);
        match dearest.filter(|account| u64::from(kib(account)) * 1024 > hashing_memory.0) {
            None => Ok(()),
            Some(account) => Err(UserFault {
                user: Some(format!("{:?}", account.user.name)),
                key: Some("password_hash".to_owned()),
                found: format!(
                    "an argon2 hash with m={}, which takes {} to verify",
                    kib(&account),
                    ByteSize(u64::from(kib(&account)) * 1024)
                ),
                allowed: format!("up to limits.hashing_memory, which is {hashing_memory}"),
            }
            .into()),
        }
    }

    /// That each home and each mount is in one of these stores, which can keep what the user's objects carry.
    ///
    /// # Errors
    /// [`UsersFileErrors`]: those that are not.
    pub(super) fn lies_in(
        &self,
        stores: &BTreeMap<StoreName, Store>,
        upload: &Upload,
    ) -> Result<(), UsersFileErrors> {
        let mut faults = Faults::default();
        let names: Vec<_> = stores.keys().map(StoreName::as_str).collect();
        let allowed = format!("a store of the configuration: {}", names.join(", "));
        for user in self.users() {
            let name = shown(&user.name);
            for (path, there) in user.everywhere() {
                let place = match path.as_str() {
                    "/" => "home".to_owned(),
                    path => format!("mount of {path}"),
                };
                let Some(store) = stores.get(&there.home.store) else {
                    let found = format!("in the store {}, which there is not", there.home.store);
                    faults.note(Some(&name), &place, &found, &allowed);
                    continue;
                };
                let carried = {
                    let tags = upload.tags.with(&there.tags);
                    store.check_carried(there.storage_class.as_ref(), &tags, upload.verify)
                };
                if let Err(Uncarried {
                    setting,
                    found,
                    allowed,
                }) = carried
                {
                    faults.note(
                        Some(&name),
                        setting,
                        &format!("{found}, the {place}"),
                        &allowed,
                    );
                }
            }
        }
        faults.into_result(())
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Every user, as they stand in the file.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.in_order.iter().map(AsRef::as_ref)
    }

    /// Whether nobody may log in.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    pub(super) fn from_accounts(accounts: Vec<Account>) -> Self {
        let lender = |account: &Account| {
            let fingerprint = account.fingerprint()?;
            let name = account.user.name.clone();
            Some(Lender { name, fingerprint })
        };
        let lenders = accounts.iter().filter_map(lender).collect();
        let by_name = |account: Account| (account.user.name.clone(), account);
        Self {
            in_order: accounts
                .iter()
                .map(|account| Arc::clone(&account.user))
                .collect(),
            accounts: accounts.into_iter().map(by_name).collect(),
            lenders,
        }
    }

    /// What a login as `name` is compared with. Takes as long for an unknown name as for a known
    /// one, and so does the comparison, because an unknown name borrows the hash of a real user.
    pub(super) fn candidate(&self, name: &str) -> Candidate<'_> {
        // Looked for even if nobody needs it, and out of the optimizer's sight: it takes time.
        let decoy = hint::black_box(self.decoy(name));
        let account = self.accounts.get(name);
        let own = account.and_then(|account| account.hash.as_ref());
        Candidate {
            account,
            hash: own.unwrap_or(decoy),
        }
    }

    /// The hash that an unknown name borrows. In a table of hashes that cost differently, all of them get borrowed, as
    /// often as they are there. It is the same one each time, at every gateway that has this file, and nearly always
    /// after a change of the file too (rendezvous hashing): a name whose cost changed would be an unknown one.
    fn decoy(&self, name: &str) -> &PasswordHash {
        let lender = self.lenders.iter().max_by_key(|lender| lender.weight(name));
        let account = lender.and_then(|lender| self.accounts.get(&lender.name));
        let hash = account.and_then(|account| account.hash.as_ref());
        hash.unwrap_or(&PasswordHash::Never)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn table(names: &[String]) -> UserTable {
        let account = |name: &String| Account {
            user: Arc::new(User::unrestricted(name.clone())),
            // The hash says whose it is, so that a test can see who lent it.
            hash: Some(PasswordHash::Bcrypt(name.clone())),
        };
        UserTable::from_accounts(names.iter().map(account).collect())
    }

    fn lender(table: &UserTable, name: &str) -> String {
        match table.candidate(name).hash {
            PasswordHash::Bcrypt(lender) => lender.clone(),
            _ => "nobody".to_owned(),
        }
    }

    fn names(count: u32) -> Vec<String> {
        (0..count).map(|number| format!("user{number}")).collect()
    }

    #[test]
    fn a_known_name_gets_its_own_hash() {
        let table = table(&names(5));
        for name in names(5) {
            assert_eq!(table.candidate(&name).account.unwrap().user.name, name);
            assert_eq!(lender(&table, &name), name);
        }
    }

    #[test]
    fn unknown_names_borrow_from_everybody_and_each_from_the_same() {
        let table = table(&names(5));
        // Also at another gateway, and after another start.
        let again = self::table(&names(5));
        let lenders = |table: &UserTable| -> Vec<String> {
            (0..200)
                .map(|number| lender(table, &format!("unknown{number}")))
                .collect()
        };
        assert_eq!(lenders(&table), lenders(&again));
        assert_eq!(lenders(&table).into_iter().collect::<HashSet<_>>().len(), 5);
        assert!(table.candidate("unknown").account.is_none());
    }

    #[test]
    fn one_user_more_changes_few_loans() {
        let (before, after) = (table(&names(20)), table(&names(21)));
        let is_changed = |number: &u32| {
            let name = format!("unknown{number}");
            lender(&before, &name) != lender(&after, &name)
        };
        assert!(
            (0..1000).filter(is_changed).count() < 150,
            "about one in 21 is expected"
        );
    }

    #[test]
    fn senders_of_whom_something_is_expected_come_first_then_the_file_decides() {
        let hash = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m";
        let user = |name: &str, more: &str| {
            format!("[[user]]\nname = \"{name}\"\npassword_hash = \"{hash}\"\n{more}\n")
        };
        let every = "expect_every = \"26h\"";
        let file = [
            user("z", ""),
            user("a", ""),
            user("y", every),
            user("b", every),
        ]
        .concat();
        let table = UserTable::parse(&file).unwrap();
        let names: Vec<_> = table.senders().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["y", "b", "z", "a"]);
        assert_eq!(table.senders()[0].1, Some(Duration::from_hours(26)));
        assert_eq!(table.unwatched(2), None);
        let line = table.unwatched(1).unwrap();
        assert!(
            line.starts_with("1 users with `expect_every`") && line.contains("\"b\""),
            "{line}"
        );
    }

    #[test]
    fn an_empty_table_has_a_hash_of_its_own() {
        let table = UserTable::default();
        let candidate = table.candidate("anna");
        assert!(candidate.account.is_none());
        assert!(matches!(candidate.hash, PasswordHash::Never));
    }

    #[test]
    fn debug_shows_no_hash() {
        let table = UserTable::from_plain(vec![("anna".into(), "secret")]).unwrap();
        let shown = format!("{table:?}");
        assert!(
            shown.contains("anna") && !shown.contains('$') && !shown.contains("secret"),
            "{shown}"
        );
    }
}
