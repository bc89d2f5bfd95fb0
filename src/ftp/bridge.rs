//! What libunftp calls to log a client in.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use unftp_core::auth::{
    AuthenticationError, Credentials, Principal, UserDetail, UserDetailError, UserDetailProvider,
};

use crate::session::Session;

/// Vouches for one session's client, which has logged in before libunftp comes into play.
#[derive(Debug)]
pub(super) struct LoginBridge {
    session: Arc<Session>,
}

impl LoginBridge {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }
}

#[async_trait]
impl unftp_core::auth::Authenticator for LoginBridge {
    async fn authenticate(
        &self,
        _: &str,
        _: &Credentials,
    ) -> Result<Principal, AuthenticationError> {
        let user = self.session.user();
        let user = user.ok_or(AuthenticationError::BadPassword)?;
        Ok(Principal {
            username: user.name.clone(),
        })
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
