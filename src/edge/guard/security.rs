//! TLS as the client asks for it: `AUTH`, `PBSZ`, `PROT`, `CCC` (RFC 2228, RFC 4217), and what is refused
//! without it.

use tokio::time::Instant;

use crate::config::RequireTls;
use crate::ftp::Reply;
use crate::session::{Abort, TransferKind};
use crate::telemetry::LineKind;

use super::super::connection::Lost;
use super::super::ending::Ending;
use super::super::proxy_protocol::DataSocket;
use super::super::tls::{Accepted, HandshakeError, Purpose, Tls};
use super::candidates::{Candidate, Handshaken};
use super::protection::Protection;
use super::{End, Guard, Next};

impl Guard {
    /// `AUTH TLS`: whoever had logged in before has to do so again, because nobody knows who it was
    /// (RFC 2228, section 3).
    pub(super) async fn auth(&mut self, argument: &[u8]) -> Result<Next, End> {
        let Some(tls) = self.edge.tls.clone() else {
            return self
                .reply("AUTH", Reply::new(502, "TLS is not available here"))
                .await;
        };
        let mechanism = argument.trim_ascii().to_ascii_uppercase();
        let ssl = match mechanism.as_slice() {
            b"TLS" | b"TLS-C" => false,
            b"SSL" | b"TLS-P" if self.edge.config.auth_ssl => true,
            b"SSL" | b"TLS-P" => return self.reply("AUTH", Reply::new(504, "Use AUTH TLS")).await,
            _ => {
                let reply = Reply::new(504, "Only AUTH TLS is known");
                return self.reply("AUTH", reply).await;
            }
        };
        if self.protection.control.is_some() {
            let reply = Reply::new(503, "The connection is encrypted already");
            return self.reply("AUTH", reply).await;
        }
        self.reply("AUTH", Reply::new(234, "Begin the TLS handshake"))
            .await?;
        self.secure(tls, ssl).await?;
        Ok(Next::Command)
    }

    /// On a listener of its own, where the handshake is the first thing. Clients that old take it for
    /// granted that data is encrypted too.
    pub(super) async fn begin_encrypted(&mut self) -> Result<(), End> {
        match self.edge.tls.clone() {
            Some(tls) => self.secure(tls, true).await,
            None => Err(End::Lost(Lost::Closed)),
        }
    }

    /// The handshake. What came before it is forgotten, lines that wait as well.
    async fn secure(&mut self, tls: Tls, private: bool) -> Result<(), End> {
        self.start_over();
        self.waiting.clear();
        let secured = tokio::select! {
            biased;
            () = self.edge.shutdown.draining().cancelled() => return Err(End::Lost(Lost::Closed)),
            secured = tokio::time::timeout_at(self.login_until, self.connection.secure(&tls)) => secured,
        };
        let secured = secured.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let outcome = secured.as_ref().map_or("failed", |control| control.kind);
        self.count_handshake("control", outcome);
        let control = secured.map_err(|error| {
            if self.logs(LineKind::HandshakeFailed) {
                tracing::info!(
                    session = %self.session.id(),
                    peer = %self.session.peer(),
                    %error,
                    "TLS handshake failed"
                );
            }
            End::Lost(Lost::Broken(error))
        })?;
        self.session.secure(control.secured);
        self.protection = Protection {
            control: Some(control.data),
            private,
        };
        Ok(())
    }

    fn count_handshake(&self, connection: &str, outcome: &str) {
        let handshakes = &self.edge.metrics.tls_handshakes;
        handshakes.with_label_values(&[connection, outcome]).inc();
    }

    /// TLS needs no buffer of its own: whatever size is proposed, it is 0 (RFC 4217, section 9).
    pub(super) fn pbsz(&self, argument: &[u8]) -> Reply {
        if self.protection.control.is_none() {
            return Reply::new(503, "Send AUTH TLS first");
        }
        let size = argument.trim_ascii();
        if size.is_empty() || size.len() > 10 || !size.iter().all(u8::is_ascii_digit) {
            return Reply::new(501, "PBSZ needs a size, 0 with TLS");
        }
        Reply::new(200, "PBSZ=0")
    }

    /// `PBSZ` should come before it, but decides nothing, and not every client sends it.
    pub(super) fn prot(&mut self, argument: &[u8]) -> Reply {
        if self.protection.control.is_none() {
            return Reply::new(503, "Send AUTH TLS first");
        }
        match argument.trim_ascii().to_ascii_uppercase().as_slice() {
            b"P" => {
                self.protection.private = true;
                Reply::new(200, "Data connections are encrypted")
            }
            b"C" if self.requires(RequireTls::All) => Reply::new(
                534,
                "Data connections have to be encrypted here, use PROT P",
            ),
            b"C" => {
                self.protection.private = false;
                Reply::new(200, "Data connections are in clear")
            }
            b"S" | b"E" => Reply::new(536, "Only PROT P and PROT C"),
            _ => Reply::new(504, "PROT takes P or C"),
        }
    }

    pub(super) fn ccc(&self) -> Reply {
        match self.protection.control {
            Some(_) => Reply::new(534, "The control connection stays encrypted"),
            None => Reply::new(533, "The control connection is in clear already"),
        }
    }

    /// What `FEAT` says of TLS.
    pub(super) fn security_features(&self) -> &'static [&'static str] {
        match (&self.edge.tls, self.edge.config.auth_ssl) {
            (None, _) => &[],
            (Some(_), false) => &["AUTH TLS", "PBSZ", "PROT"],
            (Some(_), true) => &["AUTH SSL", "AUTH TLS", "PBSZ", "PROT"],
        }
    }

    /// Whether the gateway, or the user who has logged in, wants at least so much encrypted.
    fn requires(&self, part: RequireTls) -> bool {
        let user = self.session.user().and_then(|user| user.require_tls);
        self.edge
            .config
            .require_tls
            .max(user.unwrap_or(RequireTls::None))
            >= part
    }

    /// Why nobody can log in as things are: no password must cross in clear. That some users must not, `USER` does not
    /// tell: it would tell who they are.
    pub(super) fn refuse_clear_login(&self) -> Option<Reply> {
        let required = self.edge.config.require_tls;
        let refused = required >= RequireTls::Control && self.protection.control.is_none();
        refused.then(|| {
            let advice = match &self.edge.tls {
                Some(_) => "Log in over TLS only, send AUTH TLS first",
                None => "Log in over TLS only, and this server has no certificate",
            };
            Reply::new(530, advice)
        })
    }

    /// Why no transfer can begin as things are.
    pub(super) fn refuse_clear_data(&mut self) -> Option<Reply> {
        let refused = self.requires(RequireTls::All) && !self.encrypts_data();
        refused.then(|| {
            self.data = None;
            Reply::new(
                521,
                "Data connections have to be encrypted here, use PROT P",
            )
        })
    }

    pub(super) fn encrypts_data(&self) -> bool {
        self.protection.private && self.protection.control.is_some()
    }

    /// Begins a data connection's handshake, which has to be done by `until`.
    pub(super) fn handshake(
        &self,
        kind: TransferKind,
        stream: DataSocket,
        ending: Option<Ending>,
        until: Instant,
    ) -> Option<Candidate> {
        let tls = self.protection.control.clone()?;
        let purpose = match kind {
            TransferKind::Store(_) => Purpose::Upload,
            TransferKind::Retrieve { .. } | TransferKind::List(_) => Purpose::Download,
        };
        let close_notify = ending.as_ref().map(Ending::close_notify);
        let handshake = tls.accept(stream, purpose, close_notify.cloned().unwrap_or_default());
        let within = tokio::time::timeout_at(until, handshake);
        Some(Candidate {
            arrived: Instant::now(),
            handshake: Box::pin(async move { within.await.ok() }),
            ending,
            ended_before_quit: false,
            place: None,
        })
    }

    /// Counts a data connection's handshake.
    ///
    /// # Errors
    /// When it failed: what becomes of the transfer, if no other connection comes.
    pub(super) fn note_handshake(&self, ended: Handshaken) -> Result<Accepted, Abort> {
        let (session, peer) = (self.session.id(), self.session.peer());
        let (outcome, abort) = match ended {
            Some(Ok(accepted)) => {
                self.count_handshake("data", accepted.kind);
                return Ok(accepted);
            }
            None => {
                if self.logs(LineKind::DataHandshakeFailed) {
                    tracing::info!(%session, %peer, "TLS handshake of a data connection took too long");
                }
                ("failed", Abort::HandshakeFailed)
            }
            Some(Err(error @ HandshakeError::Failed(_))) => {
                if self.logs(LineKind::DataHandshakeFailed) {
                    tracing::info!(%session, %peer, %error, "TLS handshake of a data connection failed");
                }
                ("failed", Abort::HandshakeFailed)
            }
            Some(Err(error)) => {
                if self.logs(LineKind::DataNotResumed) {
                    tracing::warn!(%session, %peer, %error, "data connection refused; see tls.require_session_reuse");
                }
                ("refused", Abort::NotResumed)
            }
        };
        self.count_handshake("data", outcome);
        Err(abort)
    }
}
