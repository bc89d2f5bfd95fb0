//! What the guard asks of libunftp, each in the one form that its parser accepts.
//!
//! A line it rejects ends its session, so no client's line is ever passed on: arguments are typed,
//! paths are absolute and normalised, and nothing here can hold a line end.

use std::fmt;

use crate::session::FtpPath;

/// One command to libunftp.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// `USER`, with a name that stands for whoever has logged in.
    User,
    /// `PASS`, with no password.
    Pass,
    /// A verb with a path.
    Path(PathVerb, &'a FtpPath),
}

/// The verbs that take a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the FTP verb of its name")]
pub enum PathVerb {
    Cwd,
    Dele,
    Mdtm,
    Mkd,
    Mlst,
    Rmd,
    Rnfr,
    Rnto,
    Size,
    Stat,
}

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("USER client\r\n"),
            Self::Pass => f.write_str("PASS -\r\n"),
            Self::Path(verb, path) => write!(f, "{} {path}\r\n", verb.name()),
        }
    }
}

impl PathVerb {
    fn name(self) -> &'static str {
        match self {
            Self::Cwd => "CWD",
            Self::Dele => "DELE",
            Self::Mdtm => "MDTM",
            Self::Mkd => "MKD",
            Self::Mlst => "MLST",
            Self::Rmd => "RMD",
            Self::Rnfr => "RNFR",
            Self::Rnto => "RNTO",
            Self::Size => "SIZE",
            Self::Stat => "STAT",
        }
    }
}
