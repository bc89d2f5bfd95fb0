//! A login, and whether it still holds: the users change while people are logged in.
//!
//! Promises: a login holds exactly as long as the same client could log in again, with the same password, by the users
//! that are in force.
//! Must not: end sessions; the edge does.

use std::future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time;

use super::access::{Client, Denied};
use super::password::Fingerprint;
use super::reload::Users;
use super::table::Account;
use super::user::User;

/// How far ahead a moment is trusted: clocks are put right.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A login that was let in.
#[derive(Debug)]
pub struct Standing {
    user: Arc<User>,
    client: Client,
    /// Of the hash that the password was compared with; `None` if the certificate was enough.
    fingerprint: Option<Fingerprint>,
    users: Users,
}

/// Why a login holds no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// There is no such user any more.
    Removed,
    /// The user has another password.
    PasswordChanged,
    /// The user is there, and the client may not be it.
    Denied(Denied),
}

impl Lapse {
    /// The label of a metric: `removed`, `password_changed`, or that of a [`Denied`].
    pub fn label(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::PasswordChanged => "password_changed",
            Self::Denied(denied) => denied.label(),
        }
    }
}

impl Standing {
    pub(super) fn new(account: &Account, client: Client, users: Users) -> Self {
        Self {
            user: Arc::clone(&account.user),
            client,
            fingerprint: account.fingerprint(),
            users,
        }
    }

    /// The user, as it was at the login.
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// Why the login holds no more; `None` if it does.
    pub fn lapse(&self) -> Option<Lapse> {
        let users = self.users.current();
        let Some(account) = users.account(&self.user.name) else {
            return Some(Lapse::Removed);
        };
        if account.fingerprint() != self.fingerprint {
            return Some(Lapse::PasswordChanged);
        }
        if !account.user.takes(&self.client.certificate) {
            return Some(Lapse::Denied(Denied::WrongCertificate));
        }
        let refusal = account.user.refusal(&self.client, SystemTime::now());
        refusal.map(Lapse::Denied)
    }

    /// Waits until the login holds no more. Safe to cancel.
    pub async fn lapsed(&self) -> Lapse {
        let mut changes = self.users.changes();
        loop {
            if let Some(lapse) = self.lapse() {
                return lapse;
            }
            tokio::select! {
                // The users that are held here keep the sender.
                _ = changes.changed() => {}
                () = self.next_moment() => {}
            }
        }
    }

    /// Waits until time alone may have ended the login.
    async fn next_moment(&self) {
        let users = self.users.current();
        let account = users.account(&self.user.name);
        let Some(end) = account.and_then(|account| account.user.access.expires) else {
            return future::pending().await;
        };
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        time::sleep(left.min(LONGEST_WAIT)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::authenticator::Authenticator;
    use super::super::lockout::LockoutPolicy;
    use super::super::table::UserTable;

    use super::*;

    /// `x`, by bcrypt at its lowest cost.
    const HASH: &str = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m";

    fn users(lines: &str) -> UserTable {
        table(HASH, lines)
    }

    fn table(hash: &str, lines: &str) -> UserTable {
        let text = format!("[[user]]\nname = \"anna\"\npassword_hash = \"{hash}\"\n{lines}\n");
        UserTable::parse(&text).unwrap()
    }

    /// A login of `anna`, and the users by which it holds.
    async fn login() -> (Standing, Users) {
        let users = Users::from(users(""));
        let policy = LockoutPolicy {
            failures: 0,
            failures_per_address: 0,
            lockout: Duration::ZERO,
        };
        let door = Authenticator::new(users.clone(), policy, crate::config::ByteSize::mib(64));
        let client = Client::in_clear("192.0.2.1".parse().unwrap());
        let login = door.authenticate("anna", "x".into(), client).await;
        (login.unwrap(), users)
    }

    #[tokio::test]
    async fn a_login_holds_as_long_as_the_client_could_log_in_again() {
        let (login, in_force) = login().await;
        let other_hash = bcrypt::hash("x", 4).unwrap();
        for (table, reason) in [
            (users(""), None),
            (users("home = \"/elsewhere\"\npermissions = []"), None),
            (users("expires = 2999-01-01T00:00:00Z"), None),
            (users("allow = [\"192.0.2.0/24\"]"), None),
            (UserTable::default(), Some("removed")),
            (table(&other_hash, ""), Some("password_changed")),
            (users("disabled = true"), Some("disabled")),
            (users("expires = 2001-01-01T00:00:00Z"), Some("expired")),
            (
                users("not_before = 2999-01-01T00:00:00Z"),
                Some("not_yet_valid"),
            ),
            (
                users("allow = [\"192.0.3.0/24\"]"),
                Some("address_not_allowed"),
            ),
            (users("require_tls = \"control\""), Some("tls_required")),
            (
                users("certificate = \"a.example\""),
                Some("wrong_certificate"),
            ),
        ] {
            in_force.put_in_force(table);
            assert_eq!(login.lapse().map(Lapse::label), reason);
        }
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_a_change_and_of_the_end_of_time() {
        let (login, in_force) = login().await;
        let soon = SystemTime::now() + Duration::from_millis(300);
        let soon = humantime::format_rfc3339_millis(soon);
        let waits = login.lapsed();
        let changes = async {
            time::sleep(Duration::from_millis(20)).await;
            in_force.put_in_force(users("home = \"/elsewhere\""));
            in_force.put_in_force(users(&format!("expires = \"{soon}\"")));
        };
        let within = time::timeout(
            Duration::from_secs(10),
            futures::future::join(waits, changes),
        );
        let (lapse, ()) = within.await.unwrap();
        assert_eq!(lapse, Lapse::Denied(Denied::Expired));
        in_force.put_in_force(UserTable::default());
        assert_eq!(login.lapsed().await, Lapse::Removed);
    }
}
