//! `USER` and `PASS`, and starting over with `REIN`.

use std::sync::Arc;

use tokio::time::Instant;

use crate::ftp::{Reply, Request};
use crate::session::{FtpPath, LoginOutcome, Refusal};

use super::super::bandwidth::SessionRates;
use super::early::Early;
use super::{End, Guard, Next};

/// Longest user name, in bytes.
const MAX_USER: usize = 128;

impl Guard {
    /// `USER`: a second one starts over, as RFC 959 has it, with a fresh session behind.
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
        if let Some(refusal) = self.refuse_clear_login(&name) {
            return self.reply("USER", refusal).await;
        }
        let mut link = self.edge.ftp.open(Arc::clone(&self.session)).await?;
        let mut reply = link.call(Request::User(&name)).await?;
        self.link = Some(link);
        if reply.code == 331 {
            reply = Reply::new(331, "Password, please");
        }
        if self.edge.ftp.knows_by_certificate(&name, &self.session) {
            return self.log_in_by_certificate(&name).await;
        }
        self.user_name = Some(name);
        self.reply("USER", reply).await
    }

    /// RFC 2228, section 3: 232, no password is needed.
    async fn log_in_by_certificate(&mut self, name: &str) -> Result<Next, End> {
        let welcome = Reply::new(232, "Welcome, your certificate is known");
        self.log_in("USER", name, "", welcome).await
    }

    /// `PASS`: the answer to a wrong password and to an unknown user is the same.
    pub(super) async fn pass(&mut self, argument: &[u8]) -> Result<Next, End> {
        if self.session.user().is_some() {
            return self
                .reply("PASS", Reply::new(503, "You are logged in already"))
                .await;
        }
        let Some(name) = self.user_name.take() else {
            return self.reply("PASS", Reply::new(503, "Send USER first")).await;
        };
        let password = match self.words(argument) {
            Ok(password) => password,
            Err(reply) => return self.reply("PASS", reply).await,
        };
        let welcome = Reply::new(230, "Welcome");
        self.log_in("PASS", &name, &password, welcome).await
    }

    async fn log_in(
        &mut self,
        verb: &'static str,
        name: &str,
        password: &str,
        welcome: Reply,
    ) -> Result<Next, End> {
        // Users may have become stricter since `USER`.
        if let Some(refusal) = self.refuse_clear_login(name) {
            return self.reply(verb, refusal).await;
        }
        let asked = Instant::now();
        let reply = self.link()?.call(Request::Pass(password)).await?;
        // The wait for a hashing slot is ours, not the client's.
        self.login_until += asked.elapsed();
        let place = self.take_permit();
        self.record_login(name, place);
        if let Err(refusal) = place {
            return Err(self.turn_away(refusal));
        }
        if reply.is_success() && self.session.user().is_some() {
            return self.reply(verb, welcome).await;
        }
        self.refuse_login(verb).await
    }

    async fn refuse_login(&mut self, verb: &'static str) -> Result<Next, End> {
        self.session.log_out();
        self.failed_logins += 1;
        let limit = self.edge.config.limits.login_failures_per_connection;
        let next = self.reply(verb, Reply::new(530, "Login incorrect")).await?;
        if limit > 0 && self.failed_logins >= limit {
            return Err(End::Said(Reply::new(
                421,
                "Too many failed logins, good-bye",
            )));
        }
        Ok(next)
    }

    /// A place among the user's sessions, if the password was right.
    fn take_permit(&mut self) -> Result<(), Refusal> {
        let Some(user) = self.session.user() else {
            return Ok(());
        };
        let place = self.edge.registry.log_in(&user);
        self.place = Some(place.inspect_err(|_| self.session.log_out())?);
        self.early = Early::default();
        self.rates = self.edge.bandwidth.rates_for(&user);
        Ok(())
    }

    fn record_login(&self, name: &str, place: Result<(), Refusal>) {
        let Some(LoginOutcome(outcome)) = self.session.take_login() else {
            return;
        };
        let outcome = place.map_or("too_many_sessions", |()| outcome);
        self.edge.metrics.logins.with_label_values(&[outcome]).inc();
        let (session, peer) = (self.session.id(), self.session.peer());
        let tls = self.session.secured().map(|secured| secured.protocol);
        if outcome == LoginOutcome::ACCEPTED.0 {
            tracing::info!(%session, %peer, user = name, tls, outcome, "login");
        } else {
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
