//! The end of a login that holds no more: its user was removed or disabled, has expired, or has another password.
//!
//! A transfer that runs is finished first, unless `users.on_removal` says otherwise. What the client has sent behind
//! it is not done any more.

use crate::auth::Lapse;
use crate::config::OnRemoval;
use crate::ftp::Reply;

use super::{End, Guard};

impl Guard {
    /// Looks whether the login still holds.
    ///
    /// # Errors
    /// When it does not: the session has to end.
    pub(super) fn check_standing(&self) -> Result<(), End> {
        let standing = self.standing.as_ref();
        match standing.and_then(|standing| standing.lapse()) {
            Some(lapse) => Err(self.end_of_standing(lapse)),
            None => Ok(()),
        }
    }

    /// Whether the login holds no more, and its transfers end as well.
    pub(super) fn ends_transfers(&self) -> bool {
        let standing = self.standing.as_ref();
        self.edge.config.on_removal == OnRemoval::Abort
            && standing.is_some_and(|standing| standing.lapse().is_some())
    }

    /// Counts a session that has to end, and says so to its client, but not why.
    pub(super) fn end_of_standing(&self, lapse: Lapse) -> End {
        let reason = lapse.label();
        let user = self
            .standing
            .as_ref()
            .map(|standing| standing.user().name.as_str());
        let ended = &self.edge.metrics.logins_lapsed;
        ended.with_label_values(&[reason]).inc();
        tracing::warn!(
            session = %self.session.id(),
            peer = %self.session.peer(),
            user,
            reason,
            "session ended, its login holds no more"
        );
        End::Said(Reply::new(
            421,
            "Your login is not valid any more, good-bye",
        ))
    }
}
