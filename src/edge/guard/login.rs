//! `USER` and `PASS`, and starting over with `REIN`.

use std::sync::Arc;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use tokio::time::Instant;

use crate::auth::User;
use crate::ftp::Reply;
use crate::session::{FtpPath, Refusal};
use crate::telemetry::LineKind;

use super::super::bandwidth::SessionRates;
use super::early::Early;
use super::{End, Guard, Next};

/// Longest user name, in bytes.
const MAX_USER: usize = 128;

/// The outcome of a login that was let in, as a metric's label.
const ACCEPTED: &str = "accepted";

/// The outcome of a login that was right, and for which the user has too many sessions.
const TOO_MANY_SESSIONS: &str = "too_many_sessions";

impl Guard {
    /// `USER`: a second one starts over, as RFC 959 has it. Whatever the name, the reply is the same, unless the
    /// client's certificate is that user's.
    pub(super) async fn user(&mut self, argument: &[u8]) -> Result<Next, End> {
        let name = match self.words(argument) {
            Ok(name) if name.len() <= MAX_USER => name,
            Ok(_) => {
                return self
                    .reply("USER", Reply::new(501, "User name is too long"))
                    .await;
            }
            Err(reply) => return self.reply("USER", reply).await,
        };
        self.start_over();
        if let Some(refusal) = self.refuse_clear_login() {
            return self.reply("USER", refusal).await;
        }
        if self.edge.ftp.knows_by_certificate(&name, &self.session) {
            return self.log_in_by_certificate(&name).await;
        }
        self.user_name = Some(name);
        self.reply("USER", Reply::new(331, "Password, please"))
            .await
    }

    /// RFC 2228, section 3: 232, no password is needed.
    async fn log_in_by_certificate(&mut self, name: &str) -> Result<Next, End> {
        let welcome = Reply::new(232, "Welcome, your certificate is known");
        self.log_in("USER", name, SecretString::default(), welcome)
            .await
    }

    /// `PASS`: the answer is the same to a wrong password, an unknown user, and a user who may not log in.
    pub(super) async fn pass(&mut self, argument: &[u8]) -> Result<Next, End> {
        if self.session.user().is_some() {
            return self
                .reply("PASS", Reply::new(503, "You are logged in already"))
                .await;
        }
        let Some(name) = self.user_name.take() else {
            return self.reply("PASS", Reply::new(503, "Send USER first")).await;
        };
        // What was decoded is wiped as well; that it takes exactly its length spares a copy.
        let password = match self.words(argument).map(Zeroizing::new) {
            Ok(password) => SecretString::from(Box::<str>::from(password.as_str())),
            Err(reply) => return self.reply("PASS", reply).await,
        };
        let welcome = Reply::new(230, "Welcome");
        self.log_in("PASS", &name, password, welcome).await
    }

    async fn log_in(
        &mut self,
        verb: &'static str,
        name: &str,
        password: SecretString,
        welcome: Reply,
    ) -> Result<Next, End> {
        // The connection may have been encrypted at `USER`.
        if let Some(refusal) = self.refuse_clear_login() {
            return self.reply(verb, refusal).await;
        }
        let checking = self.admitted.check();
        let checking = checking.map_err(|refusal| self.turn_away(refusal))?;
        let asked = Instant::now();
        let login = tokio::select! {
            biased;
            login = self.edge.ftp.authenticate(&self.session, name, password) => login,
            // Of an origin whose passwords are too many to be exempt.
            () = self.admitted.gives_way().cancelled() => return Err(self.turn_away(Refusal::GaveWay)),
        };
        // The wait for a hashing slot is ours, not the client's.
        self.login_until += asked.elapsed();
        let standing = match login {
            Ok(standing) => standing,
            Err(error) => {
                // Whoever does not read the reply is not exempt for that.
                drop(checking);
                self.record_login(name, error.outcome());
                if error.is_crowded() {
                    return Err(self.turn_away(Refusal::TooManyLogins));
                }
                return self.refuse_login(verb).await;
            }
        };
        if let Err(refusal) = self.take_place(standing.user()) {
            self.record_login(name, TOO_MANY_SESSIONS);
            return Err(self.turn_away(refusal));
        }
        drop(checking);
        self.session.log_in(Arc::clone(standing.user()));
        self.standing = Some(Arc::new(standing));
        self.record_login(name, ACCEPTED);
        let link = self.edge.ftp.open(Arc::clone(&self.session)).await?;
        self.link = Some(link);
        self.reply(verb, welcome).await
    }

    async fn refuse_login(&mut self, verb: &'static str) -> Result<Next, End> {
        self.failed_logins += 1;
        let limit = self.edge.config.limits.login_failures_per_connection;
        let next = self.reply(verb, self.incorrect()).await?;
        if limit > 0 && self.failed_logins >= limit {
            return Err(End::Said(Reply::new(
                421,
                "Too many failed logins, good-bye",
            )));
        }
        Ok(next)
    }

    /// What everybody hears who is not let in. In clear it hints at TLS, whoever the user is: it may be one who has to
    /// encrypt.
    fn incorrect(&self) -> Reply {
        let may_encrypt = self.edge.tls.is_some() && self.protection.control.is_none();
        Reply::new(
            530,
            if may_encrypt {
                "Login incorrect; if this user has to log in over TLS, send AUTH TLS first"
            } else {
                "Login incorrect"
            },
        )
    }

    /// A place among the user's sessions, once the password was right.
    fn take_place(&mut self, user: &User) -> Result<(), Refusal> {
        self.place = Some(self.edge.registry.log_in(user, &self.admitted)?);
        self.early = Early::default();
        self.rates = self.edge.bandwidth.rates_for(user);
        Ok(())
    }

    fn record_login(&self, name: &str, outcome: &'static str) {
        self.edge.metrics.logins.with_label_values(&[outcome]).inc();
        let (session, peer) = (self.session.id(), self.session.peer());
        let tls = self.session.secured().map(|secured| secured.protocol);
        if outcome == ACCEPTED {
            tracing::info!(%session, %peer, user = name, tls, outcome, "login");
            return;
        }
        let kind = match outcome {
            TOO_MANY_SESSIONS => LineKind::TooManySessions,
            _ => LineKind::LoginRefused,
        };
        if self.logs_user(kind, name) {
            tracing::warn!(%session, %peer, user = name, tls, outcome, "login");
        }
    }

    /// Forgets user, directory and everything else that a login begins with.
    pub(super) fn start_over(&mut self) {
        // Who has not logged in yet gains no time by starting over.
        if self.session.user().is_some() {
            self.login_until = Instant::now() + self.edge.config.ftp.login_timeout;
        }
        self.session.start_over();
        self.standing = None;
        self.place = None;
        self.rates = SessionRates::default();
        self.link = None;
        self.user_name = None;
        self.cwd = FtpPath::root();
        self.data = None;
        self.epsv_all = false;
        self.restart = 0;
        self.announced = None;
        self.is_text = true;
        self.rename_from = None;
    }

    /// An argument that is neither path nor number: text without control characters.
    pub(super) fn words(&self, argument: &[u8]) -> Result<String, Reply> {
        match self.session.decode(argument) {
            Some(words) if !words.chars().any(char::is_control) => Ok(words.into_owned()),
            Some(_) => Err(Reply::new(501, "Control characters are not allowed")),
            None => Err(Reply::new(501, "Not in UTF-8")),
        }
    }
}
