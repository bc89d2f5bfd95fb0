//! `STAT` with a path: a listing over the control connection, sent page by page as one reply.

use std::pin::pin;

use crate::ftp::{PathVerb, Reply, Request};
use crate::session::{Failure, FtpPath, StatusPage};

use super::super::connection::Lost;
use super::transfer::without_options;
use super::{End, Guard, Next, has_room, no_session};

/// The code of the whole reply.
const CODE: u16 = 213;

impl Guard {
    pub(super) async fn status_of(
        &mut self,
        verb: &'static str,
        argument: &[u8],
    ) -> Result<Next, End> {
        let path = match self.path(without_options(argument)) {
            Ok(path) => path,
            Err(reply) => return self.reply(verb, reply).await,
        };
        let (has_begun, reply) = self.send_pages(&path).await?;
        let failure = self.session.take_failure();
        match (has_begun, failure) {
            (true, None) => {
                let last = self.session.take_last_line().unwrap_or_default();
                let last = Reply::new(CODE, last);
                self.reply(verb, last).await
            }
            (true, Some(failure)) => Err(End::Said(broken_off(&failure))),
            (false, Some(failure)) => {
                let reply = Reply::new(failure.code, failure.text);
                self.reply(verb, reply).await
            }
            (false, None) => self.reply(verb, reply).await,
        }
    }

    /// Sends all pages, each when the one before is on its way. Whether there was one, and what the session behind
    /// says at the end. Lines that come wait for their turn.
    async fn send_pages(&mut self, path: &FtpPath) -> Result<(bool, Reply), End> {
        let mut pages = self.session.await_status();
        let link = self.link.as_mut().ok_or_else(no_session)?;
        let mut call = pin!(link.call(Request::Path(PathVerb::Stat, path)));
        let gone = self.session.gone();
        let mut has_begun = false;
        loop {
            let may_listen = !gone.is_cancelled() && has_room(&self.waiting);
            tokio::select! {
                biased;
                Some(page) = pages.recv() => {
                    let text = wire(path, has_begun, &page);
                    let StatusPage { lines, held } = page;
                    drop(lines);
                    has_begun = true;
                    let sent = self.connection.send(&self.session.encode(&text)).await;
                    drop(held);
                    sent.map_err(|lost| give_up(lost, gone))?;
                }
                reply = &mut call => return Ok((has_begun, reply?)),
                line = self.connection.line(), if may_listen => match line {
                    Ok(line) => self.waiting.push_back(line),
                    // It may have closed its half only: it is answered all the same.
                    Err(_) => gone.cancel(),
                },
            }
        }
    }
}

/// Nobody reads any more: the store is not asked for the rest.
fn give_up(lost: Lost, gone: &tokio_util::sync::CancellationToken) -> End {
    gone.cancel();
    End::Lost(lost)
}

/// The client must not take what it has for the whole, whatever it makes of a last line: the session ends.
fn broken_off(failure: &Failure) -> Reply {
    let text = format!("The listing broke off, good-bye: {}", failure.text);
    Reply::new(421, text)
}

/// The lines of a page amid the reply, and before the first of them how it begins.
fn wire(path: &FtpPath, has_begun: bool, page: &StatusPage) -> String {
    let mut wire = if has_begun {
        String::new()
    } else {
        Reply::first_of_many(CODE, &format!("Status of {path}:"))
    };
    wire.extend(page.lines.iter().map(|line| Reply::amid_many(line)));
    wire
}
