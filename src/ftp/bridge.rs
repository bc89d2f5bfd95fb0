//! What libunftp calls to log a client in.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use unftp_core::auth::{
    AuthenticationError, Credentials, Principal, UserDetail, UserDetailError, UserDetailProvider,
};

use crate::auth::Authenticator;
use crate::session::{LoginOutcome, Session};

/// Logs one session's client in: it knows the real peer, which libunftp does not.
#[derive(Debug)]
pub(super) struct LoginBridge {
    authenticator: Arc<Authenticator>,
    session: Arc<Session>,
}

impl LoginBridge {
    pub(super) fn new(authenticator: Arc<Authenticator>, session: Arc<Session>) -> Self {
        Self {
            authenticator,
            session,
        }
    }
}

#[async_trait]
impl unftp_core::auth::Authenticator for LoginBridge {
    async fn authenticate(
        &self,
        username: &str,
        credentials: &Credentials,
    ) -> Result<Principal, AuthenticationError> {
        let password = credentials.password.as_deref().unwrap_or_default();
        let peer = self.session.peer().ip();
        let secured = self.session.secured();
        let names = secured
            .as_ref()
            .map_or(&[][..], |secured| &secured.certificate_names);
        match self
            .authenticator
            .authenticate(username, password, peer, names)
            .await
        {
            Ok(user) => {
                let username = user.name.clone();
                self.session
                    .record_login(LoginOutcome::ACCEPTED, Some(user));
                Ok(Principal { username })
            }
            Err(error) => {
                self.session
                    .record_login(LoginOutcome(error.outcome()), None);
                Err(AuthenticationError::BadPassword)
            }
        }
    }
}

/// The user as libunftp knows it: a name. What it may do is in the session.
#[derive(Debug)]
pub(super) struct SessionUser(String);

impl fmt::Display for SessionUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl UserDetail for SessionUser {}

/// Turns a logged-in name into libunftp's user.
#[derive(Debug)]
pub(super) struct UserBridge;

#[async_trait]
impl UserDetailProvider for UserBridge {
    type User = SessionUser;

    async fn provide_user_detail(&self, login: &Principal) -> Result<SessionUser, UserDetailError> {
        Ok(SessionUser(login.username.clone()))
    }
}
