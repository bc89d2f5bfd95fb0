//! What an operator can see from outside: metrics and logs.
//!
//! [`Metrics`] is one typed struct that is passed in, never a global; [`logging`] sets tracing up
//! once, [`RepeatedLines`] bounds what strangers can write into the log, and [`xferlog`] writes the classic transfer log. This room knows nothing of the others.

mod labels;
pub mod logging;
mod metrics;
mod repeated;
mod senders;
mod store;
mod xferlog;

pub use labels::Counters;
pub use metrics::{Held, InUse, Metrics, MetricsError};
pub use repeated::{LineKind, RepeatedLines};
pub use senders::{Senders, Uploaded};
pub use store::StoreMetrics;
pub use xferlog::{Xferlog, XferlogEntry};
