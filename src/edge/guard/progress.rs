//! How far a transfer has come, and what may happen to it.

use crate::ftp::Reply;
use crate::session::Event;

use super::super::connection::{Line, Lost};
use super::super::proxy_protocol::DataSocket;
use super::candidates::Ended;

/// How far a transfer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The storage opens the object.
    Opening,
    /// The client's data connection is awaited.
    Connecting,
    /// The client has been told 150, and its data connection is being encrypted.
    Securing,
    /// The storage has the client's stream.
    Moving,
    /// The storage is done; libunftp has the last word.
    Done,
}

/// What happened next.
pub(super) enum Happened {
    Event(Option<Event>),
    Connected(std::io::Result<DataSocket>),
    Secured(Ended),
    Line(Result<Line, Lost>),
    Ended(Reply),
    Cancelled,
    Lapsed,
    Settled,
    Silent,
}
