//! The memory that the gateway may take, by use: what each use is limited to, and what all of it comes to.
//!
//! Promises:
//! - Whatever a peer can make grow belongs to one [`Use`], and is bounded by its limit.
//! - A limit is a setting, or a price per session times `limits.max_sessions`. Tests measure the prices.
//!
//! The helper `bucketferry.memory` of the chart counts up the same; a test holds both against each other.

use crate::config::{ByteSize, Config};

/// What memory is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Bytes that clients have sent and the store has not taken.
    Uploads,
    /// Bytes of the store that are read ahead of clients, or that they do not read.
    Downloads,
    /// Pages of listings.
    Listings,
    /// Blocks in which passwords are hashed.
    Hashing,
    /// Sessions, and what a transfer of each needs besides.
    Sessions,
    /// Connections of the admin endpoint.
    Admin,
    /// The kernel's buffers of clients' sockets.
    Sockets,
}

impl Use {
    /// All uses.
    pub const ALL: [Self; 7] = [
        Self::Uploads,
        Self::Downloads,
        Self::Listings,
        Self::Hashing,
        Self::Sessions,
        Self::Admin,
        Self::Sockets,
    ];

    /// Its name in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uploads => "uploads",
            Self::Downloads => "downloads",
            Self::Listings => "listings",
            Self::Hashing => "hashing",
            Self::Sessions => "sessions",
            Self::Admin => "admin",
            Self::Sockets => "sockets",
        }
    }

    /// What decides its limit.
    #[must_use]
    pub const fn decided_by(self) -> &'static str {
        match self {
            Self::Uploads => "upload.memory",
            Self::Downloads => "limits.max_sessions and download.memory",
            Self::Listings => "limits.listing_memory",
            Self::Hashing => "limits.hashing_memory",
            Self::Sessions => "limits.max_sessions",
            Self::Admin => "admin.max_user_series",
            Self::Sockets => "limits.max_sessions and limits.socket_memory",
        }
    }
}

/// Bytes of one session: its task, its TLS, lines that wait, the FTP session behind, and what an upload needs outside of
/// `upload.memory`. Measured at 88 KiB.
pub const SESSION: u64 = 128 << 10;

/// Bytes of one download outside of `download.memory`: what the HTTP client holds of the store's answer while its client
/// does not read, and TLS. Measured at 440 KiB.
pub const DOWNLOAD: u64 = 512 << 10;

/// Bytes of one connection of the admin endpoint: the kernel's buffers, and a head that is read.
pub const ADMIN_CONNECTION: u64 = 160 << 10;

/// Scrapes that are answered at once.
pub const ADMIN_SCRAPES: usize = 8;

/// Bytes of the text of a scrape, without those of users.
const SCRAPE: u64 = 256 << 10;

/// Bytes in it of a user who has had every outcome, with a name of 64 bytes.
const SCRAPED_USER: u64 = 5 << 10;

/// A text in the making, and what it is made of, take as much as this many texts.
const SCRAPE_IN_THE_MAKING: u64 = 4;

/// Connections of the admin endpoint that are open at once.
pub const ADMIN_CONNECTIONS: usize = 64;

/// Receive and send buffer of a control connection, in bytes as they are asked for. The kernel takes twice as much.
pub const CONTROL_BUFFERS: (usize, usize) = (8 << 10, 16 << 10);

/// The least buffer of a data connection in the direction of the transfer. Less makes the kernel drop what arrives.
pub const LEAST_DATA_BUFFER: usize = 64 << 10;

/// Its buffer in the other direction, in which nothing moves but TLS' own messages.
pub const IDLE_DATA_BUFFER: usize = 8 << 10;

/// Bytes of the kernel's buffers of a session's control connection.
pub const CONTROL_SOCKET: u64 = 2 * (CONTROL_BUFFERS.0 + CONTROL_BUFFERS.1) as u64;

/// Bytes of the kernel's buffers of a data connection, at the least.
pub const DATA_SOCKET: u64 = 2 * (LEAST_DATA_BUFFER + IDLE_DATA_BUFFER) as u64;

/// Bytes of the process that depend on no client: code and runtime, measured at 19 MiB after 160 uploads;
/// connections to the store, and what the allocator keeps.
pub const PROGRAM: ByteSize = ByteSize::mib(64);

/// The limit of each use under one configuration.
#[derive(Debug, Clone)]
pub struct Account {
    limits: [(Use, ByteSize); 7],
    least: ByteSize,
}

impl Account {
    /// The limits that follow from the settings.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            limits: Use::ALL.map(|of| (of, limit(of, config.limits.max_sessions, config))),
            least: sum(Use::ALL.map(|of| limit(of, 0, config))),
        }
    }

    /// Each use and its limit.
    pub fn limits(&self) -> impl Iterator<Item = (Use, ByteSize)> + use<> {
        self.limits.into_iter()
    }

    /// What the program and all that sessions share come to, in whole MiB: with less, the gateway can't do what its
    /// settings say.
    #[must_use]
    pub fn least(&self) -> ByteSize {
        self.least
    }

    /// The memory to give the process, the program itself included, in whole MiB.
    #[must_use]
    pub fn total(&self) -> ByteSize {
        sum(self.limits.map(|(_, limit)| limit))
    }
}

/// The program and all of them, in whole MiB.
fn sum(limits: [ByteSize; 7]) -> ByteSize {
    let limits = limits.iter().map(|limit| limit.0);
    let sum = limits.fold(PROGRAM.0, u64::saturating_add);
    ByteSize::mib(sum.div_ceil(1 << 20))
}

fn limit(of: Use, sessions: usize, config: &Config) -> ByteSize {
    let limits = &config.limits;
    let per_session = |price: u64| ByteSize(price.saturating_mul(sessions as u64));
    match of {
        Use::Uploads => config.upload.memory,
        Use::Downloads => {
            let all = per_session(DOWNLOAD).0;
            ByteSize(all.saturating_add(config.download.memory.0))
        }
        Use::Listings => limits.listing_memory,
        Use::Hashing => limits.hashing_memory,
        Use::Sessions => per_session(SESSION),
        Use::Admin => admin(config.admin.max_user_series as u64),
        Use::Sockets => {
            let all = per_session(CONTROL_SOCKET + DATA_SOCKET).0;
            ByteSize(all.saturating_add(limits.socket_memory.0))
        }
    }
}

fn admin(users: u64) -> ByteSize {
    let texts = ADMIN_SCRAPES as u64 + SCRAPE_IN_THE_MAKING;
    let text = SCRAPE + users * SCRAPED_USER;
    ByteSize(ADMIN_CONNECTION * ADMIN_CONNECTIONS as u64 + texts * text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn account(toml: &[(&str, &str)]) -> Account {
        let environment = toml.iter().map(|(key, value)| {
            let name = key.to_uppercase().replace('.', "__");
            (format!("BUCKETFERRY_{name}"), (*value).to_owned())
        });
        let sources = Sources {
            environment: environment.collect(),
            ..Sources::default()
        };
        Account::of(&Config::load(&sources).unwrap())
    }

    #[test]
    fn each_limit_follows_from_its_settings() {
        let before = account(&[]);
        for (of, key, value, more) in [
            (Use::Uploads, "upload.memory", "257 MiB", 1 << 20),
            (Use::Downloads, "download.memory", "65 MiB", 1 << 20),
            (Use::Downloads, "limits.max_sessions", "2001", DOWNLOAD),
            (Use::Listings, "limits.listing_memory", "65 MiB", 1 << 20),
            (Use::Hashing, "limits.hashing_memory", "65 MiB", 1 << 20),
            (Use::Sessions, "limits.max_sessions", "2001", SESSION),
            (
                Use::Sockets,
                "limits.max_sessions",
                "2001",
                CONTROL_SOCKET + DATA_SOCKET,
            ),
            (Use::Sockets, "limits.socket_memory", "129 MiB", 1 << 20),
        ] {
            let after = account(&[(key, value)]);
            let limit = |account: &Account| account.limits().find(|it| it.0 == of).unwrap().1;
            assert_eq!(limit(&after).0, limit(&before).0 + more, "{of:?} by {key}");
            assert!(after.total() > before.total(), "{of:?} by {key}");
        }
    }

    #[test]
    fn the_total_is_what_all_limits_come_to() {
        let account = account(&[]);
        let all: u64 = account.limits().map(|(_, limit)| limit.0).sum();
        let total = account.total().0;
        assert!(total >= all + PROGRAM.0 && total < all + PROGRAM.0 + (1 << 20));
        let per_session = SESSION + DOWNLOAD + CONTROL_SOCKET + DATA_SOCKET;
        let least = account.least().0;
        assert!((total - least).abs_diff(2000 * per_session) < 1 << 20);
    }
}
