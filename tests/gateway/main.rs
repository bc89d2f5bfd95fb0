//! Real gateways on free ports, real sockets, real stores: what the gateway promises, tried from
//! outside.
//!
//! Each module is a promise, each test one sentence of it. Most gateways run inside this process;
//! where signals or memory matter, the binary does ([`support::process`]).

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that can't be set up has failed"
)]

mod support;

mod active;
mod admin;
mod advertised;
mod appends;
mod bandwidth;
mod burst;
mod carried;
mod commands;
mod commit;
mod counts;
mod credentials;
mod cut_off;
mod downloads;
mod drain;
mod folder;
mod hostile;
mod limits;
mod listing;
mod login;
mod matrix;
mod memory;
mod names;
mod open_files;
mod proxy_protocol;
mod renames;
mod replies;
mod resume;
mod resume_contested;
mod resume_elsewhere;
mod rights;
mod senders;
mod service;
mod settle;
mod slow_store;
mod stores;
mod supervision;
mod tls;
mod transfers;
mod tree;
