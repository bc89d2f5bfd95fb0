//! All sessions: how many there are, from where, and whether one more may come.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Origin, OriginCounts, User};

use super::before_login::{BeforeLogin, Number};
use super::frequency::Frequency;

/// How many sessions there may be.
#[derive(Debug, Clone, Copy)]
pub struct Admission {
    /// At once, in all.
    pub max_sessions: usize,
    /// At once, from one address.
    pub max_sessions_per_ip: usize,
    /// At once, of one user who has no limit of its own.
    pub max_sessions_per_user: Option<usize>,
    /// Connections a second from one address; 0 is any number.
    pub connections_per_second_per_ip: u32,
}

/// Why a connection was not let in; the label of a metric and the words of a 421.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `limits.max_sessions` is reached.
    TooManySessions,
    /// The same, and this session has not logged in: it gives way to another origin's.
    GaveWay,
    /// `limits.max_sessions_per_ip` is reached.
    TooManyFromAddress,
    /// `limits.connections_per_second_per_ip` is reached.
    TooOften,
    /// `limits.max_sessions_per_user` is reached, or the user's own limit.
    TooManyOfUser,
    /// Too many logins wait for their turn.
    TooManyLogins,
    /// `limits.commands_before_login` is reached.
    TooManyCommands,
    /// The client speaks another protocol.
    NotFtp,
    /// Running transfers have all the open files that the system allows.
    TooFewOpenFiles,
    /// Too many connections wait for their PROXY header.
    TooManyUnknown,
    /// The address is not in `ftp.allow`, or is in `ftp.deny`.
    AddressDenied,
    /// The gateway is shutting down.
    ShuttingDown,
}

impl Refusal {
    /// The metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::TooManySessions => "max_sessions",
            Self::GaveWay => "gave_way",
            Self::TooManyFromAddress => "max_sessions_per_ip",
            Self::TooOften => "connections_per_second_per_ip",
            Self::TooManyOfUser => "max_sessions_per_user",
            Self::TooManyLogins => "logins_waiting",
            Self::TooManyCommands => "commands_before_login",
            Self::NotFtp => "not_ftp",
            Self::TooFewOpenFiles => "open_files",
            Self::TooManyUnknown => "proxy_headers_awaited",
            Self::AddressDenied => "address_denied",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// What the client is told after `421 `.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::TooManySessions | Self::TooFewOpenFiles | Self::TooManyUnknown => {
                "Too many sessions, try again later"
            }
            Self::GaveWay => "Too many sessions, and you have not logged in; try again later",
            Self::TooManyFromAddress => "Too many sessions from your address, try again later",
            Self::TooOften => "Too many connections from your address, try again later",
            Self::TooManyOfUser => "Too many sessions of this user, try again later",
            Self::TooManyLogins => "Too many logins at the moment, try again later",
            Self::TooManyCommands => "Too many commands before the login, good-bye",
            Self::NotFtp => "This is FTP and nothing else, good-bye",
            Self::AddressDenied => "Your address is not allowed here",
            Self::ShuttingDown => "Gateway is shutting down, try again later",
        }
    }
}

/// The registry of all sessions; clones share it.
#[derive(Debug, Clone)]
pub struct Registry {
    admission: Admission,
    counts: Arc<Mutex<Counts>>,
    frequency: Option<Arc<Mutex<Frequency>>>,
    tasks: TaskTracker,
}

/// Bounded by the number of sessions: an address or a user without one has no entry.
#[derive(Debug)]
struct Counts {
    total: usize,
    by_address: OriginCounts,
    by_user: HashMap<String, usize>,
    before_login: BeforeLogin,
}

/// A session's place; dropping it makes room for another.
#[derive(Debug)]
pub struct Admitted {
    registry: Registry,
    origin: Origin,
    /// Fires under the lock of the counts alone, and then the place is another's.
    gives_way: CancellationToken,
    /// Changes under the lock of the counts alone.
    stage: Mutex<Stage>,
    took_place: bool,
}

/// How far a session has come.
#[derive(Debug)]
enum Stage {
    /// It has not logged in; its number among those that give way.
    Waiting(Number),
    /// Its password is being checked, and it does not give way.
    Checking,
    LoggedIn,
}

/// A session whose password is being checked. Dropping it without a login makes it one of those that give way.
#[derive(Debug)]
pub struct Checking(Arc<Admitted>);

/// A place among the sessions of a user; dropping it makes room for another.
#[derive(Debug)]
pub struct LoggedIn {
    admitted: Arc<Admitted>,
    name: String,
}

impl Registry {
    /// An empty registry with these limits.
    #[must_use]
    pub fn new(admission: Admission) -> Self {
        Self {
            admission,
            counts: Arc::new(Mutex::new(Counts {
                total: 0,
                by_address: OriginCounts::default(),
                by_user: HashMap::new(),
                before_login: BeforeLogin::new(admission.max_sessions),
            })),
            frequency: Frequency::new(admission.connections_per_second_per_ip)
                .map(|frequency| Arc::new(Mutex::new(frequency))),
            tasks: TaskTracker::new(),
        }
    }

    /// A place for one more session from `address`. When all are taken, a session that has not logged in gives way.
    ///
    /// # Errors
    /// When a limit is reached.
    pub fn admit(&self, address: IpAddr) -> Result<Arc<Admitted>, Refusal> {
        let origin = Origin::from(address);
        if !self.is_seldom(origin) {
            return Err(Refusal::TooOften);
        }
        let mut counts = self.counts();
        let limit = self.admission.max_sessions_per_ip;
        if counts.by_address.is_full(origin, limit) {
            return Err(Refusal::TooManyFromAddress);
        }
        let now = Instant::now();
        let took_place = counts.total >= self.admission.max_sessions;
        if took_place {
            let gone = counts.before_login.give_way(origin, now);
            counts.leave(gone.ok_or(Refusal::TooManySessions)?);
        }
        counts.by_address.add(origin);
        counts.total += 1;
        let gives_way = CancellationToken::new();
        let number = counts.before_login.add(origin, gives_way.clone(), now);
        Ok(Arc::new(Admitted {
            registry: self.clone(),
            origin,
            gives_way,
            stage: Mutex::new(Stage::Waiting(number)),
            took_place,
        }))
    }

    /// A place for one more session of `user`, who has logged in.
    ///
    /// # Errors
    /// When the user has no more, or the session has given way.
    pub fn log_in(&self, user: &User, session: &Arc<Admitted>) -> Result<LoggedIn, Refusal> {
        let of_user = user.allowance.max_sessions;
        let most = of_user.or(self.admission.max_sessions_per_user);
        let mut counts = self.counts();
        if session.gives_way.is_cancelled() {
            return Err(Refusal::GaveWay);
        }
        let sessions = counts.by_user.get(&user.name).copied().unwrap_or(0);
        if most.is_some_and(|most| sessions >= most) {
            return Err(Refusal::TooManyOfUser);
        }
        counts.by_user.insert(user.name.clone(), sessions + 1);
        session.change_stage(&mut counts, Stage::LoggedIn);
        Ok(LoggedIn {
            admitted: Arc::clone(session),
            name: user.name.clone(),
        })
    }

    /// Whether connections from there come no more often than they may.
    fn is_seldom(&self, origin: Origin) -> bool {
        self.frequency.as_ref().is_none_or(|frequency| {
            let mut frequency = frequency.lock().unwrap_or_else(PoisonError::into_inner);
            frequency.admits(origin, Instant::now())
        })
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts().total
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tasks that the gateway waits for before it ends: sessions, and what stores and discards
    /// on their behalf.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted {
    /// Fires when the session has to end, because it has not logged in and others need its place.
    #[must_use]
    pub fn gives_way(&self) -> &CancellationToken {
        &self.gives_way
    }

    /// Whether another session gave way to this one.
    #[must_use]
    pub fn took_place(&self) -> bool {
        self.took_place
    }

    /// Keeps the session from giving way while its password is checked, unless its origin has too many of those.
    ///
    /// # Errors
    /// [`Refusal::GaveWay`] if it has given way already.
    pub fn check(self: &Arc<Self>) -> Result<Checking, Refusal> {
        let mut counts = self.registry.counts();
        if self.gives_way.is_cancelled() {
            return Err(Refusal::GaveWay);
        }
        let mut stage = self.stage();
        if let Stage::Waiting(number) = *stage
            && counts.before_login.exempt(self.origin, number)
        {
            *stage = Stage::Checking;
        }
        Ok(Checking(Arc::clone(self)))
    }

    /// One of those that give way, as of now.
    fn wait(&self, counts: &mut Counts) {
        let before_login = &mut counts.before_login;
        let number = before_login.add(self.origin, self.gives_way.clone(), Instant::now());
        self.change_stage(counts, Stage::Waiting(number));
    }

    /// Moves on, out of what the session is counted in.
    fn change_stage(&self, counts: &mut Counts, next: Stage) {
        match std::mem::replace(&mut *self.stage(), next) {
            Stage::Waiting(number) => counts.before_login.remove(number),
            Stage::Checking => counts.before_login.end_exemption(self.origin),
            Stage::LoggedIn => {}
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// A session from there has ended, or has to.
    fn leave(&mut self, origin: Origin) {
        self.total -= 1;
        self.by_address.remove(origin);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.registry.counts();
        if self.gives_way.is_cancelled() {
            return;
        }
        counts.leave(self.origin);
        // A session that is logged in is not in the table.
        self.change_stage(&mut counts, Stage::LoggedIn);
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        let mut counts = self.0.registry.counts();
        let is_checking = matches!(*self.0.stage(), Stage::Checking);
        if is_checking {
            self.0.wait(&mut counts);
        }
    }
}

/// Without its login, the session is one of those that give way.
impl Drop for LoggedIn {
    fn drop(&mut self) {
        let session = &self.admitted;
        let mut counts = session.registry.counts();
        one_less(&mut counts.by_user, &self.name);
        session.wait(&mut counts);
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::auth::Allowance;

    use super::*;

    fn registry(max_sessions: usize, max_sessions_per_ip: usize) -> Registry {
        Registry::new(Admission {
            max_sessions,
            max_sessions_per_ip,
            max_sessions_per_user: Some(2),
            connections_per_second_per_ip: 0,
        })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn user(name: &str, max_sessions: Option<usize>) -> User {
        User {
            allowance: Allowance {
                max_sessions,
                ..Allowance::default()
            },
            ..User::unrestricted(name.to_owned())
        }
    }

    #[test]
    fn limits_hold_in_all_and_by_address() {
        let registry = registry(3, 2);
        let first = registry.admit(address(1)).unwrap();
        let second = registry.admit(address(1)).unwrap();
        let refused = registry.admit(address(1)).unwrap_err();
        assert_eq!(refused, Refusal::TooManyFromAddress);
        let third = registry.admit(address(2)).unwrap();
        let anna = user("anna", Some(10));
        let logins =
            [&first, &second, &third].map(|session| registry.log_in(&anna, session).unwrap());
        let refused = registry.admit(address(3)).unwrap_err();
        assert_eq!(refused, Refusal::TooManySessions);
        drop((logins, first));
        assert!(registry.admit(address(1)).is_ok());
    }

    #[test]
    fn sessions_that_have_not_logged_in_give_way() {
        let registry = registry(3, 3);
        let anna = user("anna", None);
        let [first, second, third] = [1, 1, 1].map(|from| registry.admit(address(from)).unwrap());
        let login = registry.log_in(&anna, &first).unwrap();
        // The oldest of those that have not logged in, as long as their origin has more than the new one's would have.
        let fourth = registry.admit(address(2)).unwrap();
        assert!(fourth.took_place() && !third.took_place());
        assert!(second.gives_way().is_cancelled() && !third.gives_way().is_cancelled());
        assert_eq!(
            registry.log_in(&anna, &second).unwrap_err(),
            Refusal::GaveWay
        );
        assert_eq!(second.check().unwrap_err(), Refusal::GaveWay);
        for from in [1, 2, 3] {
            let refused = registry.admit(address(from)).unwrap_err();
            assert_eq!(refused, Refusal::TooManySessions, "{from}");
        }
        // Whoever has logged out again gives way as well.
        drop(login);
        let _fifth = registry.admit(address(3)).unwrap();
        assert!(third.gives_way().is_cancelled() && !first.gives_way().is_cancelled());
        assert_eq!(registry.len(), 3);
        drop((first, second, third, fourth));
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn a_session_does_not_give_way_while_its_password_is_checked() {
        let registry = registry(3, 3);
        let anna = user("anna", None);
        let [first, second, third] = [1, 1, 1].map(|from| registry.admit(address(from)).unwrap());
        let checking = first.check().unwrap();
        let _fourth = registry.admit(address(2)).unwrap();
        assert!(second.gives_way().is_cancelled() && !first.gives_way().is_cancelled());
        // A wrong password: it gives way again, as the youngest.
        drop(checking);
        let _fifth = registry.admit(address(3)).unwrap();
        assert!(third.gives_way().is_cancelled() && !first.gives_way().is_cancelled());
        // A right one: the end of the check changes nothing.
        let checking = first.check().unwrap();
        let login = registry.log_in(&anna, &first).unwrap();
        drop(checking);
        assert!(matches!(*first.stage(), Stage::LoggedIn));
        drop((login, first));
        assert_eq!(registry.len(), 2);
    }

    #[test]
    fn addresses_without_sessions_are_forgotten() {
        let registry = registry(10, 10);
        drop(registry.admit(address(1)).unwrap());
        assert!(registry.is_empty());
        assert!(registry.counts().by_address.is_empty());
    }

    #[test]
    fn the_rest_of_an_ipv6_address_is_the_clients_own_choice() {
        let registry = registry(100, 1);
        let admit = |address: &str| registry.admit(address.parse().unwrap());
        let _first = admit("2001:db8:0:1::1").unwrap();
        let refused = admit("2001:db8:0:1:ffff::9").unwrap_err();
        assert_eq!(refused, Refusal::TooManyFromAddress);
        assert!(admit("2001:db8:0:2::1").is_ok());
        // Each network has one, and a /48 as many as 64 of them.
        let mut sessions: Vec<_> = (0x100..0x1_0000)
            .filter_map(|network| admit(&format!("2001:db8:1:{network:x}::1")).ok())
            .collect();
        assert_eq!(sessions.len(), 64);
        sessions.pop();
        assert!(admit("2001:db8:1::1").is_ok());
    }

    #[test]
    fn a_user_has_so_many_sessions_or_as_many_as_its_own_limit_says() {
        let registry = registry(10, 10);
        let (anna, bert) = (user("anna", None), user("bert", Some(1)));
        let session = registry.admit(address(1)).unwrap();
        let first = registry.log_in(&anna, &session).unwrap();
        let _second = registry.log_in(&anna, &session).unwrap();
        assert_eq!(
            registry.log_in(&anna, &session).unwrap_err(),
            Refusal::TooManyOfUser
        );
        let bert_is_in = registry.log_in(&bert, &session).unwrap();
        assert_eq!(
            registry.log_in(&bert, &session).unwrap_err(),
            Refusal::TooManyOfUser
        );
        drop((first, bert_is_in));
        assert_eq!(registry.counts().by_user.len(), 1);
        assert!(
            registry.log_in(&anna, &session).is_ok() && registry.log_in(&bert, &session).is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_comes_so_often_and_others_as_well() {
        let registry = Registry::new(Admission {
            max_sessions: 1000,
            max_sessions_per_ip: 1000,
            max_sessions_per_user: None,
            connections_per_second_per_ip: 2,
        });
        for number in 0..4 {
            let refused = registry.admit(address(1)).err();
            let due = (number >= 2).then_some(Refusal::TooOften);
            assert_eq!(refused, due, "{number}");
        }
        assert!(registry.admit(address(2)).is_ok());
        tokio::time::advance(std::time::Duration::from_millis(500)).await;
        assert!(registry.admit(address(1)).is_ok());
        assert!(registry.admit(address(1)).is_err());
    }

    #[test]
    fn a_refused_address_leaves_no_trace() {
        let registry = registry(10, 0);
        registry.admit(address(1)).unwrap_err();
        assert!(registry.counts().by_address.is_empty());
    }
}
