//! Sets tracing up: text for people, JSON for collectors, libunftp's slog bridged into it.
//!
//! Promises: no raw control character reaches the log (paths and names can't hold any, other words
//! of a client are escaped where they are logged), and no password does.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};

use slog::Drain;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};

/// Starts logging to standard error, panics included. The first call in a process counts.
pub fn start(log: &Log) {
    let registry = tracing_subscriber::registry().with(filter(log.level));
    let started = if as_json(log.format) {
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(io::stderr);
        registry.with(layer).try_init()
    } else {
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .with_writer(io::stderr);
        registry.with(layer).try_init()
    };
    if started.is_err() {
        tracing::debug!("logging was already set up");
    }
    panic::set_hook(Box::new(log_panic));
}

/// A panic is a line of the log like others: a collector that reads JSON would not take Rust's own lines.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let reason = panic.payload_as_str().unwrap_or("it did not say why");
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(location, reason, backtrace, "a defect: something panicked");
}

fn as_json(format: LogFormat) -> bool {
    match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    }
}

/// Our own lines at the chosen level, those of libraries only from `warn` on: libunftp writes every
/// reply and every argument at the levels below, and warns of each failed command, which we log
/// ourselves and better. rustls warns of what is odd in a client's hello. kube has a line for each request
/// that failed and each watch that ended, of which `address/` tells what matters, once. The spans of unftp-sbe-gcs hold
/// its token.
fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let libraries = level.min(LevelFilter::WARN);
    EnvFilter::new(format!(
        "{libraries},libunftp=error,rustls=error,kube_client=off,bucketferry={level}"
    ))
}

/// A slog logger whose lines go to tracing under the target `libunftp`.
pub fn slog_bridge() -> slog::Logger {
    slog::Logger::root(Bridge.fuse(), slog::o!())
}

struct Bridge;

impl Drain for Bridge {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        let message = record.msg();
        match record.level() {
            slog::Level::Critical | slog::Level::Error => {
                tracing::error!(target: "libunftp", "{message}");
            }
            slog::Level::Warning => tracing::warn!(target: "libunftp", "{message}"),
            slog::Level::Info => tracing::info!(target: "libunftp", "{message}"),
            slog::Level::Debug => tracing::debug!(target: "libunftp", "{message}"),
            slog::Level::Trace => tracing::trace!(target: "libunftp", "{message}"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    /// What libraries write below a warning has passwords and tokens in it.
    #[test]
    fn no_level_lets_the_lines_of_libraries_in() {
        let registry = tracing_subscriber::registry().with(filter(LogLevel::Trace));
        tracing::subscriber::with_default(registry, || {
            assert!(tracing::enabled!(target: "bucketferry", Level::TRACE));
            assert!(!tracing::enabled!(target: "unftp_sbe_gcs", Level::INFO));
            assert!(!tracing::enabled!(target: "libunftp", Level::INFO));
            assert!(tracing::enabled!(target: "unftp_sbe_gcs", Level::WARN));
        });
    }
}
