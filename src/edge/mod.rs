//! Every socket that faces a client.
//!
//! [`Edge::bind`] opens the listeners; [`BoundEdge::serve`] admits connections, each to a guard of its
//! own, until the gateway drains. The guard is the FTP server that the client sees: it answers what
//! concerns the connection itself, hands the rest to the [`ftp`](crate::ftp) session behind it, and
//! keeps a transfer's data connection out of libunftp's reach.

mod active;
mod bandwidth;
mod buffers;
mod command;
mod connection;
mod control;
mod data;
mod descriptors;
mod ending;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod guard;
mod lines;
mod listener;
mod passive;
mod proxy_protocol;
mod shared;
mod sockets;
mod tls;

pub use descriptors::{Descriptors, StoreConnections, raise_open_files};
pub use lines::Lines;
pub use listener::{BindError, BoundEdge};
pub use shared::{Edge, Parts};
pub use tls::{Tls, TlsError};
