//! Bucketferry is an FTP gateway: what old programs upload by FTP goes straight into a bucket.
//!
//! **A `226` means the whole file is in the bucket, durable; anything else means the bucket is as
//! it was before.** Everything here serves that sentence.
//!
//! # The way of the data
//!
//! ```text
//! client ══ edge ══════════════════════ storage ══ object_store ══ bucket
//!              └─ control ─ ftp (libunftp) ─┘
//! ```
//!
//! - [`edge`] owns every socket that faces a client: listeners, admission, the guard of each
//!   control connection, passive ports, data connections.
//! - [`ftp`] is libunftp, the FTP session itself. One private session serves each client over a
//!   loopback pair; it never sees a client's socket.
//! - [`storage`] maps FTP's verbs onto objects. The bytes of a transfer go straight from the
//!   client's data connection into it, and never through libunftp.
//!
//! [`session`] is where they meet. [`config`] and [`auth`] say what is allowed, [`telemetry`] and
//! [`admin`] show what happens, [`supervise`] keeps long-lived tasks running, [`shutdown`] ends it. `docs/architecture.md` tells the rest.

pub mod address;
pub mod admin;
pub mod auth;
pub mod cluster;
pub mod config;
pub mod edge;
pub mod ftp;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod gateway;
mod kubernetes;
pub mod listening;
pub mod memory;
mod retry;
#[cfg(test)]
mod rooms;
pub mod session;
pub mod shutdown;
pub mod storage;
pub mod supervise;
pub mod telemetry;
