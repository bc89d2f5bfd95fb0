//! What a client may do before it has logged in: not much, and not for long.
//!
//! A web page can have its reader's browser send requests to any port, with commands in them
//! (cross-protocol attacks, ALPACA). What speaks another protocol is turned away before such a line
//! comes.

use crate::ftp::Reply;
use crate::session::Refusal;
use crate::telemetry::LineKind;

use super::{End, Guard};

/// So many unknown commands come from no FTP client.
const MAX_UNKNOWN_COMMANDS: u32 = 10;

/// What has come since the last login, or the connection.
#[derive(Debug, Default)]
pub(super) struct Early {
    commands: u32,
    unknown: u32,
}

impl Guard {
    /// Counts a line before the login.
    ///
    /// # Errors
    /// When it is one too many.
    pub(super) fn hear_early(&mut self) -> Result<(), End> {
        if self.session.user().is_some() {
            return Ok(());
        }
        self.early.commands += 1;
        if self.early.commands > self.edge.config.limits.commands_before_login {
            return Err(self.turn_away(Refusal::TooManyCommands));
        }
        Ok(())
    }

    /// Counts a line before the login that is no command of FTP.
    ///
    /// # Errors
    /// When it is HTTP, or one too many.
    pub(super) fn hear_unknown(&mut self, line: &[u8]) -> Result<(), End> {
        if self.session.user().is_some() {
            return Ok(());
        }
        self.early.unknown += 1;
        if self.early.unknown >= MAX_UNKNOWN_COMMANDS || is_http(line) {
            return Err(self.turn_away(Refusal::NotFtp));
        }
        Ok(())
    }

    /// Counts a client that has to go, and says why. One that gives way has been counted already.
    pub(super) fn turn_away(&self, refusal: Refusal) -> End {
        if refusal != Refusal::GaveWay {
            self.count_refusal(refusal);
        }
        End::Said(Reply::new(421, refusal.text()))
    }

    fn count_refusal(&self, refusal: Refusal) {
        let reason = refusal.label();
        let refused = &self.edge.metrics.sessions_refused;
        refused.with_label_values(&[reason]).inc();
        if self.logs(LineKind::SessionRefused) {
            tracing::info!(
                session = %self.session.id(),
                peer = %self.session.peer(),
                reason,
                "session refused"
            );
        }
    }
}

/// Whether it is the first line of a request: `GET / HTTP/1.1`.
fn is_http(line: &[u8]) -> bool {
    let last = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next();
    last.is_some_and(|word| word.starts_with(b"HTTP/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_browsers_are_known() {
        assert!(is_http(b"GET / HTTP/1.1"));
        assert!(is_http(b"POST /USER%20a HTTP/1.0 "));
        assert!(!is_http(b"GET /HTTP/1.1/"));
        assert!(!is_http(b""));
    }
}
