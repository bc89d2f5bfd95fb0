//! The front door: a name, a password and an address in, a user or a refusal out.
//!
//! Promises:
//! - Every login that is not locked out verifies exactly one hash, whether the name is known or
//!   not, so neither the answer nor its time tells which names exist.
//! - The lockout decides before any hash is computed, also for the right password.
//! - A caller may go away at any time: what it had in the queue is taken back, and a verification
//!   that runs already runs on, holds its slot, and counts.
//! - The users are those in force when the hash is verified, not when the caller came.
//!
//! Must not: log; the caller knows the session and logs what came of the login.

use std::{fmt, sync::Arc, time::SystemTime};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use super::{
    access::{Client, Denied},
    hashing::{HashingFailed, HashingSlots},
    lockout::{Attempt, LockedOut, Lockout, LockoutPolicy},
    password::HashMemory,
    reload::Users,
    standing::Standing,
    table::Candidate,
};
use crate::config::ByteSize;

/// Tells who may log in.
pub struct Authenticator {
    users: Users,
    lockout: Arc<Lockout>,
    slots: HashingSlots,
}

/// Why a login was refused. The text may be shown to the client.
#[derive(Debug, Error)]
pub enum LoginError {
    /// Name and password don't go together.
    #[error("login incorrect")]
    Denied(Denied),
    /// Too many failures with this name from this address, or from this address.
    #[error("too many failed logins, try again later")]
    LockedOut,
    /// Nothing could be verified, so nothing was counted either.
    #[error("logins are not possible at the moment")]
    Unavailable(#[source] HashingFailed),
}

impl LoginError {
    /// The outcome as a metric's label: `locked_out`, `unavailable`, or that of a [`Denied`].
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Denied(denied) => denied.label(),
            Self::LockedOut => "locked_out",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// Whether too many others log in at the moment: it says nothing about this login.
    pub fn is_crowded(&self) -> bool {
        matches!(self, Self::Unavailable(HashingFailed::Crowded))
    }
}

impl From<LockedOut> for LoginError {
    fn from(LockedOut: LockedOut) -> Self {
        Self::LockedOut
    }
}

impl From<HashingFailed> for LoginError {
    fn from(failure: HashingFailed) -> Self {
        Self::Unavailable(failure)
    }
}

impl Authenticator {
    /// Has a gauge show the bytes in which passwords are hashed, in use or kept to be used again.
    pub fn show_hashing_memory(&self, gauge: prometheus::IntGauge) {
        self.slots.show_memory(gauge);
    }

    /// Lets `users` in, and locks out by `policy`. Hashes have `hashing_memory` to work in.
    pub fn new(users: Users, policy: LockoutPolicy, hashing_memory: ByteSize) -> Self {
        Self {
            users,
            lockout: Arc::new(Lockout::new(policy)),
            slots: HashingSlots::within(hashing_memory),
        }
    }

    /// Lets as many logins wait for their turn as there may be sessions, and no fewer than 2048.
    #[must_use]
    pub fn for_sessions(mut self, sessions: usize) -> Self {
        self.slots = self.slots.for_sessions(sessions);
        self
    }

    /// Whether `client` may log in as `name` with `password`. Waits for its turn when many log in
    /// at once, and then takes as long as the hash does: milliseconds to seconds.
    ///
    /// # Errors
    /// [`LoginError`]: denied, locked out, or the hash could not be verified.
    pub async fn authenticate(
        &self,
        name: &str,
        password: SecretString,
        client: Client,
    ) -> Result<Standing, LoginError> {
        let attempt = self.lockout.begin(name, client.peer).await?;
        let origin = client.peer.into();
        let login = Login {
            users: self.users.clone(),
            name: name.to_owned(),
            password,
            client,
            attempt,
        };
        let largest = self.users.current().hashing_kib();
        let standing = self
            .slots
            .run(origin, largest, move |memory| login.verify(memory))
            .await??;
        self.slots.note_login(origin);
        Ok(standing)
    }

    /// Whether a client needs no password to be this user, because of its certificate.
    pub fn knows_by_certificate(&self, name: &str, client: &Client) -> bool {
        self.users.current().is_known_by_certificate(name, client)
    }

    /// How many hashes have been verified, or begun to be, since the start.
    pub fn verifications(&self) -> u64 {
        self.slots.begun()
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

/// One login on its way through the slow part. Dropped before it, it was never there.
struct Login {
    users: Users,
    name: String,
    password: SecretString,
    client: Client,
    attempt: Attempt,
}

impl Login {
    fn verify(self, memory: &mut HashMemory) -> Result<Standing, LoginError> {
        let users = self.users.current();
        let candidate = users.candidate(&self.name);
        match (self.denied(&candidate, memory)?, candidate.account) {
            (None, Some(account)) => {
                self.attempt.succeeded();
                Ok(Standing::new(account, self.client, self.users))
            }
            (denied, _) => {
                self.attempt.failed();
                Err(LoginError::Denied(denied.unwrap_or(Denied::UnknownUser)))
            }
        }
    }

    /// Why the client is not let in. The password is looked at first, whatever else speaks against it: the work is the
    /// same.
    fn denied(
        &self,
        candidate: &Candidate,
        memory: &mut HashMemory,
    ) -> Result<Option<Denied>, HashingFailed> {
        let user = candidate.account.map(|account| &account.user);
        let is_taken = user.is_some_and(|user| user.takes(&self.client.certificate));
        let refusal = user.and_then(|user| user.refusal(&self.client, SystemTime::now()));
        let by_certificate = candidate.without_password() && is_taken;
        if by_certificate && refusal.is_none() {
            return Ok(None);
        }
        let is_verified = candidate
            .hash
            .verify(self.password.expose_secret(), memory)?;
        let is_right = by_certificate || is_verified && !candidate.without_password();
        Ok(match user {
            None => Some(Denied::UnknownUser),
            Some(_) if !is_taken => Some(Denied::WrongCertificate),
            Some(_) if !is_right => Some(Denied::WrongPassword),
            Some(_) => refusal,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{future, net::IpAddr, time::Duration};

    use tokio::{task::JoinSet, time};

    use super::*;
    use crate::auth::{
        certificate_name::CertificateName,
        password::PasswordHash,
        table::{Account, UserTable},
        user::User,
    };

    const MEMORY: ByteSize = ByteSize::mib(64);
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const NEVER: LockoutPolicy = policy(0, 0);

    const fn policy(failures: u32, failures_per_address: u32) -> LockoutPolicy {
        LockoutPolicy {
            failures,
            failures_per_address,
            lockout: Duration::from_mins(10),
        }
    }

    /// Two users, `anna` with `right` and `bert` with `other`.
    fn authenticator(policy: LockoutPolicy) -> Arc<Authenticator> {
        let users = [("anna", "right"), ("bert", "other")];
        let users = users.map(|(name, password)| (name.to_owned(), password.to_owned()));
        let table = UserTable::from_plain(users.into()).unwrap();
        Arc::new(Authenticator::new(table.into(), policy, MEMORY))
    }

    async fn log_in(
        door: &Authenticator,
        name: &str,
        password: &str,
    ) -> Result<Standing, LoginError> {
        let client = Client::in_clear(PEER);
        door.authenticate(name, password.into(), client).await
    }

    async fn outcome(door: &Authenticator, name: &str, password: &str) -> &'static str {
        match log_in(door, name, password).await {
            Ok(login) => {
                assert_eq!(login.user().name, name);
                "ok"
            }
            Err(error) => error.outcome(),
        }
    }

    /// The outcomes of `count` logins at once.
    async fn at_once(
        door: &Arc<Authenticator>,
        count: usize,
        login: impl Fn(usize) -> (String, String),
    ) -> Vec<&'static str> {
        let mut logins = JoinSet::new();
        for number in 0..count {
            let (door, (name, password)) = (Arc::clone(door), login(number));
            logins.spawn(async move { outcome(&door, &name, &password).await });
        }
        logins.join_all().await
    }

    fn count(outcomes: &[&str], wanted: &str) -> usize {
        outcomes
            .iter()
            .filter(|outcome| **outcome == wanted)
            .count()
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_opens() {
        let door = authenticator(NEVER);
        assert_eq!(outcome(&door, "anna", "right").await, "ok");
        assert_eq!(outcome(&door, "anna", "other").await, "wrong_password");
        assert_eq!(outcome(&door, "anna", "").await, "wrong_password");
        assert_eq!(outcome(&door, "Anna", "right").await, "unknown_user");
        assert_eq!(outcome(&door, "", "right").await, "unknown_user");
    }

    #[tokio::test]
    async fn an_unknown_name_with_the_password_of_its_decoy_stays_out() {
        let door = authenticator(NEVER);
        for name in 0..20 {
            for password in ["right", "other"] {
                assert_eq!(
                    outcome(&door, &name.to_string(), password).await,
                    "unknown_user"
                );
            }
        }
    }

    #[tokio::test]
    async fn every_login_verifies_one_hash() {
        let (long, odd) = ("x".repeat(1025), "right\0");
        let door = authenticator(NEVER);
        let logins = [
            ("anna", "right"),
            ("anna", "x"),
            ("nobody", "x"),
            ("anna", &long),
            ("anna", odd),
            ("", ""),
        ];
        for (done, (name, password)) in (1..).zip(logins) {
            outcome(&door, name, password).await;
            assert_eq!(door.verifications(), done, "{name:?}");
        }
        let empty = Authenticator::new(UserTable::default().into(), NEVER, MEMORY);
        assert_eq!(outcome(&empty, "anna", "right").await, "unknown_user");
        assert_eq!(empty.verifications(), 1);
    }

    /// Whatever else speaks against a user, its password is looked at first, and a wrong one is what was wrong.
    #[tokio::test]
    async fn users_who_may_not_log_in_cost_as_much_as_those_who_are_unknown() {
        const HASH: &str = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m";
        let kinds = [
            ("tls_required", "require_tls = \"control\""),
            ("address_not_allowed", "allow = [\"198.51.100.0/24\"]"),
            ("disabled", "disabled = true"),
            ("not_yet_valid", "not_before = 2999-01-01T00:00:00Z"),
            ("expired", "expires = 2001-01-01T00:00:00Z"),
        ];
        let user = |(name, line): &(&str, &str)| {
            format!("[[user]]\nname = {name:?}\npassword_hash = {HASH:?}\n{line}\n")
        };
        let bank = "[[user]]\nname = \"bank\"\ncertificate = \"bank.example\"\ndisabled = true\n";
        let text: String = kinds.iter().map(user).chain([bank.to_owned()]).collect();
        let door = Authenticator::new(
            UserTable::parse(&text).unwrap().into(),
            NEVER,
            crate::config::ByteSize(64 << 20),
        );
        let mut done = 0;
        for (name, _) in kinds {
            for (password, expected) in [("wrong", "wrong_password"), ("x", name)] {
                done += 1;
                assert_eq!(outcome(&door, name, password).await, expected);
                assert_eq!(door.verifications(), done, "{name}");
            }
        }
        let client = Client {
            is_encrypted: true,
            certificate: vec![CertificateName::Dns("bank.example".into())],
            ..Client::in_clear(PEER)
        };
        assert!(!door.knows_by_certificate("bank", &client));
        let refused = door.authenticate("bank", "x".into(), client).await;
        assert_eq!(refused.unwrap_err().outcome(), "disabled");
        assert_eq!(outcome(&door, "bank", "x").await, "wrong_certificate");
    }

    #[tokio::test]
    async fn a_client_reads_the_same_for_an_unknown_user_and_a_wrong_password() {
        let door = authenticator(NEVER);
        let unknown = log_in(&door, "nobody", "x").await.unwrap_err();
        let wrong = log_in(&door, "anna", "x").await.unwrap_err();
        assert_ne!(unknown.outcome(), wrong.outcome());
        assert_eq!(unknown.to_string(), wrong.to_string());
    }

    #[tokio::test]
    async fn a_lock_refuses_the_right_password_without_hashing() {
        let door = authenticator(policy(2, 0));
        outcome(&door, "anna", "x").await;
        outcome(&door, "anna", "x").await;
        assert_eq!(outcome(&door, "anna", "right").await, "locked_out");
        assert_eq!(door.verifications(), 2);
        assert_eq!(outcome(&door, "bert", "other").await, "ok");
    }

    #[tokio::test]
    async fn a_success_clears_the_failures_before_it() {
        let door = authenticator(policy(2, 0));
        for _ in 0..3 {
            assert_eq!(outcome(&door, "anna", "x").await, "wrong_password");
            assert_eq!(outcome(&door, "anna", "right").await, "ok");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_ends() {
        let door = authenticator(policy(1, 1));
        outcome(&door, "anna", "x").await;
        time::advance(Duration::from_secs(599)).await;
        assert_eq!(outcome(&door, "anna", "right").await, "locked_out");
        time::advance(Duration::from_secs(1)).await;
        assert_eq!(outcome(&door, "anna", "right").await, "ok");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn parallel_guesses_get_no_more_tries_than_the_limit() {
        for policy in [policy(5, 0), policy(0, 5), policy(5, 7)] {
            let door = authenticator(policy);
            let outcomes = at_once(&door, 100, |_| ("anna".into(), "x".into())).await;
            assert_eq!(count(&outcomes, "wrong_password"), 5);
            assert_eq!(count(&outcomes, "locked_out"), 95);
            assert_eq!(door.verifications(), 5);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn parallel_guesses_at_many_names_are_bounded_by_address() {
        let door = authenticator(policy(5, 7));
        let outcomes = at_once(&door, 100, |number| (format!("name{number}"), "x".into())).await;
        assert_eq!(count(&outcomes, "unknown_user"), 7);
        assert_eq!(door.verifications(), 7);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn parallel_right_logins_all_get_in() {
        let door = authenticator(policy(2, 3));
        let outcomes = at_once(&door, 100, |_| ("anna".into(), "right".into())).await;
        assert_eq!(count(&outcomes, "ok"), 100);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_is_counted_if_its_hash_was_verified() {
        let door = authenticator(policy(1, 0));
        tokio::select! {
            biased;
            _ = log_in(&door, "anna", "x") => {}
            () = future::ready(()) => {} // the first poll has sent the hash on its way
        }
        assert_eq!(door.verifications(), 1);
        assert_eq!(outcome(&door, "anna", "right").await, "locked_out");
    }

    #[tokio::test]
    async fn who_is_logged_in_keeps_what_they_are() {
        let door = authenticator(NEVER);
        let login = log_in(&door, "anna", "right").await.unwrap();
        let before = User::clone(login.user());
        drop(door);
        assert_eq!(**login.user(), before);
    }

    #[tokio::test]
    async fn a_hash_that_fails_is_unavailable_and_not_counted() {
        let user = User::unrestricted("anna".into()).into();
        let hash = Some(PasswordHash::Bcrypt("not a hash".into()));
        let table = UserTable::from_accounts(vec![Account { user, hash }]);
        let door = Authenticator::new(table.into(), policy(1, 1), MEMORY);
        for _ in 0..3 {
            assert_eq!(outcome(&door, "anna", "right").await, "unavailable");
        }
    }

    #[test]
    fn logins_can_be_spawned() {
        fn is_send<T: Send>(_: T) {}
        is_send(log_in(&authenticator(NEVER), "anna", "right"));
    }

    #[test]
    fn debug_shows_no_password() {
        let shown = format!("{:?}", authenticator(NEVER));
        assert!(!shown.contains("right") && !shown.contains('$'), "{shown}");
    }
}
