//! The values that the labels of counters have, so that each series is there, at 0, before it is first
//! counted: the rate of a series that begins with its first event does not show that event.
//!
//! `docs/operations.md` tells what they mean.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec};

/// A label's name and all its values; none, if those are too many to begin with.
pub(super) type Label = (&'static str, &'static [&'static str]);

pub(super) const DIRECTION: Label = ("direction", &["upload", "download", "list"]);

/// Of transfers whose rate can be limited.
pub(super) const THROTTLED: Label = ("direction", &["upload", "download"]);

pub(super) const REFUSAL: Label = (
    "reason",
    &[
        "max_sessions",
        "gave_way",
        "max_sessions_per_ip",
        "max_sessions_per_user",
        "connections_per_second_per_ip",
        "logins_waiting",
        "commands_before_login",
        "not_ftp",
        "open_files",
        "proxy_headers_awaited",
        "address_denied",
        "shutting_down",
    ],
);

pub(super) const LOGIN: Label = (
    "outcome",
    &[
        "accepted",
        "wrong_password",
        "wrong_certificate",
        "tls_required",
        "address_not_allowed",
        "disabled",
        "not_yet_valid",
        "expired",
        "unknown_user",
        "locked_out",
        "too_many_sessions",
        "unavailable",
    ],
);

/// Why a login holds no more.
pub(super) const LAPSE: Label = (
    "reason",
    &[
        "removed",
        "password_changed",
        "wrong_certificate",
        "tls_required",
        "address_not_allowed",
        "disabled",
        "not_yet_valid",
        "expired",
    ],
);

pub(super) const TRANSFER: Label = (
    "outcome",
    &[
        "complete",
        "quit_before_reply",
        "client_abort",
        "control_lost",
        "data_lost",
        "no_data_connection",
        "tls_handshake",
        "tls_not_resumed",
        "stalled",
        "size_mismatch",
        "shutdown",
        "login_lapsed",
        "not_found",
        "no_bucket",
        "name",
        "exists",
        "not_empty",
        "conflict",
        "replaced",
        "not_permitted",
        "too_large",
        "restart",
        "unsupported",
        "store_denied",
        "archived",
        "store_credentials",
        "store_unreachable",
        "store_full",
        "store_error",
        "memory_short",
        "listing_memory_short",
        "unresolved",
        "corrupt",
        "internal",
    ],
);

pub(super) const LOOKUP: Label = ("outcome", &["answered", "failed"]);
pub(super) const CONNECTION: Label = ("connection", &["control", "data"]);
pub(super) const HANDSHAKE: Label = ("outcome", &["full", "resumed", "failed", "refused"]);
pub(super) const RELOAD: Label = ("outcome", &["reloaded", "failed"]);
pub(super) const TARGET: Label = ("reason", &["address", "port"]);

/// Tasks that begin again after a panic; [`Task`](crate::supervise::Task) has the others too.
pub(super) const TASK: Label = (
    "task",
    &[
        "address",
        "admin",
        "cluster",
        "drain",
        "log_summaries",
        "probe",
        "sweep",
        "tls",
        "upload_chunks",
        "upload_memory",
        "users",
        "withdrawal",
    ],
);

pub(super) const PROXY_HEADER: Label = (
    "reason",
    &["stranger", "missing", "timeout", "too_long", "invalid"],
);

/// Stores have the names that the configuration gives them; one begins when it is opened.
pub(super) const STORE: Label = ("store", &[]);

/// One for each verb of FTP, and of each class of reply.
pub(super) const VERB: Label = ("verb", &[]);
pub(super) const CLASS: Label = ("class", &[]);
pub(super) const OPERATION: Label = ("operation", &[]);
pub(super) const REQUEST: Label = ("outcome", &[]);

/// Counters with labels.
#[derive(Debug)]
pub struct Counters {
    counters: IntCounterVec,
    by: &'static [Label],
}

impl Counters {
    pub(super) fn new(counters: IntCounterVec, by: &'static [Label]) -> Self {
        let counters = Self { counters, by };
        counters.begin(&mut Vec::new());
        counters
    }

    /// The counter with these values of its labels, in their order.
    #[must_use]
    pub fn with_label_values(&self, values: &[&str]) -> IntCounter {
        let mut labels = self.by.iter().zip(values);
        debug_assert!(
            labels.all(|((_, known), value)| known.is_empty() || known.contains(value)),
            "{values:?} begin at no 0, they are not in labels.rs"
        );
        self.counters.with_label_values(values)
    }

    /// All series, as they are now.
    #[must_use]
    pub fn collect(&self) -> Vec<MetricFamily> {
        self.counters.collect()
    }

    /// Makes all series that begin with these values.
    fn begin(&self, values: &mut Vec<&'static str>) {
        match self.by.get(values.len()) {
            None => drop(self.counters.with_label_values(values)),
            Some((_, known)) => {
                for value in *known {
                    values.push(value);
                    self.begin(values);
                    values.pop();
                }
            }
        }
    }
}
