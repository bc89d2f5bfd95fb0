//! The verbs: one table says what each is called, who answers it, and what it needs.

use secrecy::zeroize::Zeroizing;

use crate::ftp::PathVerb;
use crate::session::ListFormat;

/// What a verb makes the guard do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Answered by the guard.
    Edge(EdgeVerb),
    /// Moves data over a data connection.
    Transfer(TransferVerb),
    /// Asked of the FTP session behind the guard.
    Session(SessionVerb),
}

/// Verbs that the guard answers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the FTP verb of its name")]
pub(super) enum EdgeVerb {
    Abor,
    Acct,
    Allo,
    Auth,
    Ccc,
    Cdup,
    Clnt,
    Epsv,
    Eprt,
    Feat,
    Help,
    Host,
    Mfmt,
    Mode,
    Noop,
    Opts,
    Pasv,
    Pbsz,
    Port,
    Prot,
    Pwd,
    Quit,
    Rein,
    Rest,
    Site,
    Stru,
    Syst,
    Type,
}

/// Verbs that move data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransferVerb {
    Appe,
    List(ListFormat),
    Retr,
    Stor,
    Stou,
}

/// Verbs that the FTP session behind the guard answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionVerb {
    User,
    Pass,
    /// `STAT`, which without a path the guard answers itself.
    Stat,
    /// `MDTM`, which some clients send to set a time.
    Mdtm,
    /// Any other verb with a path.
    Path(PathVerb),
}

/// One verb.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    /// As it is written, in capitals; also its metric label.
    pub(super) name: &'static str,
    /// What to do.
    pub(super) action: Action,
    /// Whether it needs an argument.
    pub(super) argument: Argument,
    /// Whether it may come before the login.
    pub(super) before_login: bool,
}

/// Whether a verb takes an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    /// It must have one.
    Required,
    /// It may have one; where it means nothing, it is ignored.
    Optional,
}

/// The label of a verb that isn't one.
pub(super) const UNKNOWN: &str = "unknown";

const fn spec(name: &'static str, action: Action, argument: Argument) -> Spec {
    Spec {
        name,
        action,
        argument,
        before_login: false,
    }
}

const fn edge(name: &'static str, verb: EdgeVerb, argument: Argument) -> Spec {
    spec(name, Action::Edge(verb), argument)
}

const fn path(name: &'static str, verb: PathVerb, argument: Argument) -> Spec {
    spec(name, Action::Session(SessionVerb::Path(verb)), argument)
}

const fn transfer(name: &'static str, verb: TransferVerb, argument: Argument) -> Spec {
    spec(name, Action::Transfer(verb), argument)
}

const fn session(name: &'static str, verb: SessionVerb, argument: Argument) -> Spec {
    spec(name, Action::Session(verb), argument)
}

const fn early(mut spec: Spec) -> Spec {
    spec.before_login = true;
    spec
}

use Argument::{Optional, Required};

/// Every verb that the gateway knows, in the order in which `HELP` shows them.
pub(super) const VERBS: &[Spec] = &[
    edge("ABOR", EdgeVerb::Abor, Optional),
    edge("ACCT", EdgeVerb::Acct, Required),
    edge("ALLO", EdgeVerb::Allo, Required),
    transfer("APPE", TransferVerb::Appe, Required),
    early(edge("AUTH", EdgeVerb::Auth, Required)),
    edge("CCC", EdgeVerb::Ccc, Optional),
    edge("CDUP", EdgeVerb::Cdup, Optional),
    early(edge("CLNT", EdgeVerb::Clnt, Required)),
    path("CWD", PathVerb::Cwd, Optional),
    path("DELE", PathVerb::Dele, Required),
    edge("EPRT", EdgeVerb::Eprt, Required),
    edge("EPSV", EdgeVerb::Epsv, Optional),
    early(edge("FEAT", EdgeVerb::Feat, Optional)),
    early(edge("HELP", EdgeVerb::Help, Optional)),
    early(edge("HOST", EdgeVerb::Host, Required)),
    transfer("LIST", TransferVerb::List(ListFormat::Long), Optional),
    session("MDTM", SessionVerb::Mdtm, Required),
    edge("MFMT", EdgeVerb::Mfmt, Required),
    path("MKD", PathVerb::Mkd, Required),
    transfer("MLSD", TransferVerb::List(ListFormat::Facts), Optional),
    path("MLST", PathVerb::Mlst, Optional),
    edge("MODE", EdgeVerb::Mode, Required),
    transfer("NLST", TransferVerb::List(ListFormat::Names), Optional),
    early(edge("NOOP", EdgeVerb::Noop, Optional)),
    early(edge("OPTS", EdgeVerb::Opts, Required)),
    early(session("PASS", SessionVerb::Pass, Optional)),
    edge("PASV", EdgeVerb::Pasv, Optional),
    early(edge("PBSZ", EdgeVerb::Pbsz, Required)),
    edge("PORT", EdgeVerb::Port, Required),
    early(edge("PROT", EdgeVerb::Prot, Required)),
    edge("PWD", EdgeVerb::Pwd, Optional),
    early(edge("QUIT", EdgeVerb::Quit, Optional)),
    edge("REIN", EdgeVerb::Rein, Optional),
    edge("REST", EdgeVerb::Rest, Required),
    transfer("RETR", TransferVerb::Retr, Required),
    path("RMD", PathVerb::Rmd, Required),
    path("RNFR", PathVerb::Rnfr, Required),
    path("RNTO", PathVerb::Rnto, Required),
    edge("SITE", EdgeVerb::Site, Required),
    path("SIZE", PathVerb::Size, Required),
    session("STAT", SessionVerb::Stat, Optional),
    transfer("STOR", TransferVerb::Stor, Required),
    transfer("STOU", TransferVerb::Stou, Optional),
    edge("STRU", EdgeVerb::Stru, Required),
    early(edge("SYST", EdgeVerb::Syst, Optional)),
    edge("TYPE", EdgeVerb::Type, Required),
    early(session("USER", SessionVerb::User, Required)),
    edge("XCUP", EdgeVerb::Cdup, Optional),
    path("XCWD", PathVerb::Cwd, Optional),
    path("XMKD", PathVerb::Mkd, Required),
    edge("XPWD", EdgeVerb::Pwd, Optional),
    path("XRMD", PathVerb::Rmd, Required),
];

/// A line, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Command {
    /// Which verb it is.
    pub(super) spec: &'static Spec,
    /// What follows the verb's one space, spaces and all; empty if nothing does.
    pub(super) argument: Zeroizing<Vec<u8>>,
}

/// Why a line is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParseError {
    /// There is no such verb.
    UnknownVerb,
    /// The verb needs an argument.
    ArgumentMissing(&'static Spec),
    /// The line holds NUL or CR, which no name can.
    ControlCharacter,
}

impl Command {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is no command.
    pub(super) fn parse(line: &[u8]) -> Result<Self, ParseError> {
        let line = line.trim_ascii_start();
        if line.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
            return Err(ParseError::ControlCharacter);
        }
        let (verb, argument) = match line.iter().position(|byte| *byte == b' ') {
            Some(space) => (&line[..space], &line[space + 1..]),
            None => (line, &line[line.len()..]),
        };
        let spec = VERBS
            .iter()
            .find(|spec| verb.eq_ignore_ascii_case(spec.name.as_bytes()))
            .ok_or(ParseError::UnknownVerb)?;
        if spec.argument == Required && argument.is_empty() {
            return Err(ParseError::ArgumentMissing(spec));
        }
        let argument = Zeroizing::new(argument.to_vec());
        Ok(Self { spec, argument })
    }
}

impl PartialEq for Spec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Spec {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[u8]) -> (&'static str, Vec<u8>) {
        let command = Command::parse(line).unwrap();
        (command.spec.name, command.argument.to_vec())
    }

    #[test]
    fn verbs_in_any_case_and_arguments_as_they_are() {
        assert_eq!(parse(b"stor a  b "), ("STOR", b"a  b ".to_vec()));
        assert_eq!(parse(b"  NOOP"), ("NOOP", Vec::new()));
        assert_eq!(parse(b"RETR  lead"), ("RETR", b" lead".to_vec()));
        assert_eq!(parse(b"PASS "), ("PASS", Vec::new()));
        assert_eq!(parse(b"STOR \xfc.txt"), ("STOR", b"\xfc.txt".to_vec()));
    }

    #[test]
    fn what_is_no_command_is_said_so() {
        let error = |line| Command::parse(line).unwrap_err();
        assert_eq!(error(b""), ParseError::UnknownVerb);
        assert_eq!(error(b"GET / HTTP/1.1"), ParseError::UnknownVerb);
        assert_eq!(error(b"STOR a\0b"), ParseError::ControlCharacter);
        assert_eq!(error(b"STOR a\rDELE b"), ParseError::ControlCharacter);
        assert!(matches!(error(b"SIZE"), ParseError::ArgumentMissing(spec) if spec.name == "SIZE"));
        assert!(matches!(error(b"SIZE "), ParseError::ArgumentMissing(_)));
    }

    #[test]
    fn the_table_is_sorted_and_without_doubles() {
        assert!(VERBS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn before_login_only_what_a_login_needs() {
        let early: Vec<_> = VERBS
            .iter()
            .filter(|s| s.before_login)
            .map(|s| s.name)
            .collect();
        let expected = "AUTH CLNT FEAT HELP HOST NOOP OPTS PASS PBSZ PROT QUIT SYST USER";
        assert_eq!(early.join(" "), expected);
    }
}
