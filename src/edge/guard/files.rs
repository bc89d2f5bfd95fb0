//! The verbs that look at or change the tree without moving a file.

use std::pin::pin;

use crate::ftp::{PathVerb, Reply, Request};
use crate::session::{EntryKind, FtpPath};

use super::super::command::SessionVerb;
use super::settings::times_are_the_buckets;
use super::{End, Guard, Next, has_room, no_session};

/// What a client has named.
struct Named {
    path: FtpPath,
    /// Its name can only be a directory's.
    as_directory: bool,
}

impl Guard {
    pub(super) async fn session_verb(
        &mut self,
        session: SessionVerb,
        verb: &'static str,
        argument: &[u8],
    ) -> Result<Next, End> {
        let reply = match session {
            SessionVerb::Stat if argument.is_empty() => self.status(None),
            SessionVerb::Stat => return self.status_of(verb, argument).await,
            SessionVerb::Mdtm => self.mdtm(argument).await?,
            SessionVerb::Path(path_verb) => self.with_path(path_verb, argument).await?,
            // `execute` has taken these two.
            SessionVerb::User | SessionVerb::Pass => Reply::new(503, "Bad sequence of commands"),
        };
        self.reply(verb, reply).await
    }

    async fn with_path(&mut self, verb: PathVerb, argument: &[u8]) -> Result<Reply, End> {
        match self.named(verb, argument) {
            Ok(named) => self.ask(verb, named).await,
            Err(reply) => Ok(reply),
        }
    }

    fn named(&self, verb: PathVerb, argument: &[u8]) -> Result<Named, Reply> {
        let path = match verb {
            PathVerb::Dele | PathVerb::Mdtm | PathVerb::Size => self.file_path(argument, 550)?,
            _ => self.path(argument)?,
        };
        let as_directory = FtpPath::names_directory(&self.name(argument)?);
        Ok(Named { path, as_directory })
    }

    /// Asks the session behind, and says it in our words.
    async fn ask(&mut self, verb: PathVerb, named: Named) -> Result<Reply, End> {
        if verb == PathVerb::Rnto {
            match self.rename_from.take() {
                None => return Ok(Reply::new(503, "Send RNFR first")),
                Some(EntryKind::File) if named.as_directory => return Ok(not_a_directory(553)),
                Some(_) => {}
            }
        }
        let request = Request::Path(verb, &named.path);
        let reply = self.call(request).await?;
        if let Some(failure) = self.session.take_failure() {
            return Ok(Reply::new(failure.code, failure.text));
        }
        Ok(self.in_our_words(verb, named, reply))
    }

    /// The session's reply, however long the store takes. If the client leaves, the store is not asked again for it;
    /// lines that come wait for their turn.
    async fn call(&mut self, request: Request<'_>) -> Result<Reply, End> {
        let link = self.link.as_mut().ok_or_else(no_session)?;
        let mut call = pin!(link.call(request));
        let gone = self.session.gone();
        loop {
            let may_listen = !gone.is_cancelled() && has_room(&self.waiting);
            tokio::select! {
                biased;
                reply = &mut call => return Ok(reply?),
                line = self.connection.line(), if may_listen => match line {
                    Ok(line) => self.waiting.push_back(line),
                    // It may have closed its half only: it is answered all the same.
                    Err(_) => gone.cancel(),
                },
            }
        }
    }

    fn in_our_words(&mut self, verb: PathVerb, named: Named, reply: Reply) -> Reply {
        let Named { path, as_directory } = named;
        match verb {
            PathVerb::Cwd if reply.is_success() => {
                self.cwd = path;
                Reply::new(
                    250,
                    format!("{} is the current directory", self.cwd.quoted()),
                )
            }
            PathVerb::Mkd if reply.is_success() => {
                Reply::new(257, format!("{} created", path.quoted()))
            }
            PathVerb::Rnfr if reply.code == 350 => self.rename_source(as_directory),
            PathVerb::Dele | PathVerb::Rmd if reply.is_success() => Reply::new(250, "Deleted"),
            PathVerb::Rnto if reply.is_success() => Reply::new(250, "Renamed"),
            PathVerb::Mlst => self.facts(&path, as_directory, reply),
            PathVerb::Size | PathVerb::Mdtm => self.of_a_file(reply),
            _ => reply,
        }
    }

    /// libunftp has taken it as the source. If we do not, the one before it is none either.
    fn rename_source(&mut self, as_directory: bool) -> Reply {
        let found = self.session.take_found();
        let kind = found.map_or(EntryKind::File, |(entry, _)| entry.kind);
        if as_directory && kind == EntryKind::File {
            self.rename_from = None;
            return not_a_directory(550);
        }
        self.rename_from = Some(kind);
        Reply::new(350, "Now send RNTO")
    }

    /// RFC 3659, section 7: one line of facts, indented, with the whole path.
    fn facts(&self, path: &FtpPath, as_directory: bool, reply: Reply) -> Reply {
        let Some((entry, facts)) = self.session.take_found() else {
            return reply;
        };
        if as_directory && !entry.is_directory() {
            return not_a_directory(550);
        }
        let line = format!("{facts}{path}");
        Reply::multi(250, vec!["Listing".to_owned(), line, "End".to_owned()])
    }

    /// `SIZE` and `MDTM` are of files; a directory has neither here.
    fn of_a_file(&self, reply: Reply) -> Reply {
        match self.session.take_found() {
            Some((entry, _)) if entry.is_directory() => {
                Reply::new(550, "That is a directory, not a file")
            }
            _ => reply,
        }
    }

    /// `MDTM 20260102030405 name` is how some clients set a time, unless there is a file of that
    /// name.
    async fn mdtm(&mut self, argument: &[u8]) -> Result<Reply, End> {
        let reply = self.with_path(PathVerb::Mdtm, argument).await?;
        if !reply.is_success() && sets_a_time(argument) {
            return Ok(times_are_the_buckets());
        }
        Ok(reply)
    }
}

fn not_a_directory(code: u16) -> Reply {
    Reply::new(code, "That is not a directory")
}

fn sets_a_time(argument: &[u8]) -> bool {
    let digits = argument
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    digits == 14 && argument.get(14) == Some(&b' ')
}
