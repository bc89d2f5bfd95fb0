//! The FTP command on whose behalf the store is asked.
//!
//! A client that is gone hears no reply, and may have come back to do the same again. So a request of its command is
//! not tried again: a late try could undo what the next command did. The command is ambient, as a tracing span is,
//! because every request needs it and no verb decides by it. Tasks that a command spawns are not part of it.

use tokio_util::sync::CancellationToken;

tokio::task_local! {
    static GIVEN_UP: CancellationToken;
}

/// Does the storage's part of a command. Once `given_up` is cancelled, none of its requests is tried again.
///
/// No `async fn`: that would hold the work twice, as its argument and as what it awaits.
pub(crate) fn on_behalf_of<T>(
    given_up: CancellationToken,
    work: impl Future<Output = T>,
) -> impl Future<Output = T> {
    GIVEN_UP.scope(given_up, work)
}

/// Whether the command was given up.
pub(crate) fn is_given_up() -> bool {
    GIVEN_UP
        .try_with(CancellationToken::is_cancelled)
        .unwrap_or(false)
}

/// Waits until the command is given up. Work without a command never is.
pub(crate) async fn given_up() {
    match GIVEN_UP.try_with(CancellationToken::clone) {
        Ok(given_up) => given_up.cancelled().await,
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_belongs_to_the_innermost_command() {
        assert!(!is_given_up());
        let (outer, inner) = (CancellationToken::new(), CancellationToken::new());
        outer.cancel();
        let work = on_behalf_of(inner, async { is_given_up() });
        let outer = on_behalf_of(outer, async { (is_given_up(), work.await) });
        assert_eq!(outer.await, (true, false));
    }
}
