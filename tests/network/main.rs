//! Hosts of their own, networks between them, and real clients: how data connections fare behind NAT,
//! firewalls and load balancers.
//!
//! Each test builds its hosts as network namespaces, joins them by cables (veth), and gives them addresses,
//! routes and nftables rules. The gateway is the real binary, the clients are curl, lftp and Python's ftplib.
//! `docs/active-and-passive.md` draws these very setups.
//!
//! This takes root: `make test-network`. Elsewhere the tests say that they were skipped, and in CI
//! (`CI=true`) they fail. Whatever happens in a test, its hosts and what runs on them are gone after it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that can't be set up has failed"
)]

mod support;

mod active;
mod balancer;
mod cluster;
mod firewall;
mod ipv6;
mod nat;
