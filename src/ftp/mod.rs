//! The FTP session itself, driven through libunftp: the only room that names it.
//!
//! libunftp never sees a client. Each session has a libunftp server of its own at the other end of
//! a connected pair of loopback sockets, whose authenticator and storage close over the
//! [`Session`]. The guard calls it through [`Link`] as if it were a function: a [`Request`] in, a
//! [`Reply`] out.

mod backend;
mod bridge;
mod link;
mod plugin;
mod reply;
mod request;
mod transfer;

pub use link::{Link, LinkError};
pub use plugin::open_gcs;
pub use reply::Reply;
pub use request::{PathVerb, Request};

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use libunftp::{Server, ServerBuilder};
use secrecy::SecretString;
use tokio::sync::Semaphore;

use crate::auth::{Authenticator, Client, LoginError, Standing};
use crate::session::Session;
use crate::storage::Verbs;

use backend::Backend;
use bridge::{LoginBridge, SessionUser, UserBridge};
use transfer::{Command, TransferHandler};

/// libunftp's own idle timeout is out of the way: the guard's counts.
const NEVER: Duration = Duration::from_hours(10 * 365 * 24);

/// How many sessions are opened at once: each needs a listener for a moment, which is counted nowhere.
const OPENED_AT_ONCE: usize = 16;

/// What every session's libunftp is made of.
#[derive(Debug)]
pub struct Ftp {
    authenticator: Arc<Authenticator>,
    storage: Arc<dyn Verbs>,
    logger: slog::Logger,
    opening: Semaphore,
    transfer_command: Command,
}

impl Ftp {
    /// Sessions that log in through `authenticator` and store in `storage`.
    #[must_use]
    pub fn new(
        authenticator: Authenticator,
        storage: Arc<dyn Verbs>,
        logger: slog::Logger,
    ) -> Self {
        Self {
            authenticator: Arc::new(authenticator),
            storage,
            logger,
            opening: Semaphore::new(OPENED_AT_ONCE),
            transfer_command: Command::random(),
        }
    }

    /// Whether this session's client needs no password to be the user of this name, because of its
    /// certificate.
    #[must_use]
    pub fn knows_by_certificate(&self, name: &str, session: &Session) -> bool {
        let client = client_of(session);
        !client.certificate.is_empty() && self.authenticator.knows_by_certificate(name, &client)
    }

    /// Whether this session's client may log in so. The session is as it was: the caller decides.
    ///
    /// # Errors
    /// When it may not; the client must not learn why.
    pub async fn authenticate(
        &self,
        session: &Session,
        name: &str,
        password: SecretString,
    ) -> Result<Standing, LoginError> {
        let client = client_of(session);
        self.authenticator
            .authenticate(name, password, client)
            .await
    }

    /// Opens a libunftp session for this client, which has logged in.
    ///
    /// # Errors
    /// When the system has no sockets left, or libunftp does not take the client for logged in.
    pub async fn open(&self, session: Arc<Session>) -> Result<Link, LinkError> {
        let address = random_loopback();
        let (ours, theirs) = {
            // It is never closed.
            let _turn = self.opening.acquire().await.map_err(io::Error::other)?;
            link::pair(address).await?
        };
        let server = self.server(session).map_err(io::Error::other)?;
        // The server ends when its end of the pair is closed, that is, with the link.
        tokio::spawn(server.service(theirs));
        Link::logged_in(ours, self.transfer_command.clone()).await
    }

    fn server(
        &self,
        session: Arc<Session>,
    ) -> Result<Server<Backend, SessionUser>, libunftp::ServerError> {
        let login = LoginBridge::new(Arc::clone(&session));
        let transfers = TransferHandler::new(Arc::clone(&session));
        let storage = Arc::clone(&self.storage);
        let backend = Box::new(move || Backend::new(Arc::clone(&storage), Arc::clone(&session)));
        ServerBuilder::<Backend, SessionUser>::with_user_detail_provider(
            backend,
            Arc::new(UserBridge),
        )
        .authenticator(Arc::new(login))
        .site_command(self.transfer_command.to_string(), transfers)
        .idle_session_timeout(NEVER.as_secs())
        .logger(self.logger.clone())
        .build()
    }
}

/// The session's client, as far as a login depends on it.
fn client_of(session: &Session) -> Client {
    let client = Client::in_clear(session.peer().ip());
    match session.secured() {
        None => client,
        Some(secured) => Client {
            is_encrypted: true,
            certificate: secured.certificate.clone(),
            ..client
        },
    }
}

/// A random address for one session's private sockets, so that no one of them runs out of ports.
fn random_loopback() -> Ipv4Addr {
    let [a, b, c]: [u8; 3] = rand::random();
    // Neither 127.0.0.x, where others live, nor a broadcast address.
    Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254))
}
