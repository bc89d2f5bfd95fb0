//! Every metric there is, named `bucketferry_*`, in base units, with labels of bounded cardinality.

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    CounterVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};
use thiserror::Error;

use super::labels::{
    CLASS, CONNECTION, Counters, DIRECTION, HANDSHAKE, LAPSE, LOGIN, LOOKUP, Label, OPERATION,
    PROXY_HEADER, REFUSAL, RELOAD, REQUEST, STORE, TARGET, TASK, THROTTLED, TRANSFER, VERB,
};
use super::senders::Senders;
use crate::memory::{Account, Use};

/// A metric that could not be registered or written; a defect in this file.
#[derive(Debug, Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// All metrics. Fields are public: whoever has the struct counts directly.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Sessions at this moment.
    pub sessions: IntGauge,
    /// Sessions admitted since the start.
    pub sessions_total: IntCounter,
    /// Connections turned away, by `reason`.
    pub sessions_refused: Counters,
    /// Login attempts, by `outcome`.
    pub logins: Counters,
    /// Sessions that ended because their login held no more, by `reason`.
    pub logins_lapsed: Counters,
    /// Commands answered, by `verb` and `class` of the reply (`2xx` ...).
    pub commands: Counters,
    /// Transfers that ended, by `direction` and `outcome`.
    pub transfers: Counters,
    /// Transfers that could not begin, because too few open files were left.
    pub transfers_refused: IntCounter,
    /// Transfers at this moment, by `direction`.
    pub transfers_in_flight: IntGaugeVec,
    /// Bytes of transfers that ended, complete or not, by `direction`.
    pub transferred_bytes: Counters,
    /// Sizes of complete transfers, by `direction`.
    pub transfer_bytes: HistogramVec,
    /// Durations of complete transfers, by `direction`.
    pub transfer_seconds: HistogramVec,
    /// Seconds that transfers have waited because of limits on their rate, by `direction`.
    pub throttled_seconds: CounterVec,
    /// Requests to a `store`, by `operation` and `outcome`.
    pub store_requests: Counters,
    /// Durations of requests to a `store`, by `operation`.
    pub store_request_seconds: HistogramVec,
    /// Unfinished uploads of killed processes that were removed from a `store`.
    pub uploads_swept: Counters,
    /// Memory by `use`, in bytes.
    memory: IntGaugeVec,
    /// What each use is limited to, in bytes.
    memory_limit: IntGaugeVec,
    /// What slow uploads have on disk because memory was short, in bytes.
    pub upload_spilled: IntGauge,
    /// Keys met in listings that no FTP path can name, and that were left out, by `store`.
    pub store_keys_hidden: Counters,
    /// Whether a `store` makes changes on a condition, by `operation`: 1 or 0.
    pub store_conditional_writes: IntGaugeVec,
    /// Whether a `store` answered when last asked: 1 or 0.
    pub store_up: IntGaugeVec,
    /// Passive ports that wait for their client.
    pub passive_ports_in_use: IntGauge,
    /// Passive ports in all; 0 when the system picks them.
    pub passive_ports: IntGauge,
    /// Requests for a passive port while none was free.
    pub passive_ports_exhausted: IntCounter,
    /// Passive ports taken back from the user who held most.
    pub passive_ports_taken_back: IntCounter,
    /// Whether the address for a 227 is known, by the `source` that is asked for it.
    pub passive_address_known: IntGaugeVec,
    /// 1 while the address for `PASV` is known and every look at it goes well, by its source.
    pub passive_address_current: IntGaugeVec,
    /// Looks at what such a source says, by `outcome`.
    pub passive_address_lookups: Counters,
    /// Whether the gateway's slices are as they should be, by `service`: 1 or 0.
    pub endpointslices_current: IntGaugeVec,
    /// What went wrong with the slices.
    pub endpointslice_errors: IntCounter,
    /// Data connections from strangers, refused.
    pub data_connections_refused: IntCounter,
    /// TLS handshakes, by `connection` (`control` or `data`) and `outcome`.
    pub tls_handshakes: Counters,
    /// When the certificate expires, in seconds since 1970; 0 without TLS.
    pub tls_certificate_expiry: IntGauge,
    /// Reloads of the TLS files, by `outcome`.
    pub tls_reloads: Counters,
    /// Whether the TLS files can't be used as they are now: 1 or 0.
    pub tls_files_broken: IntGauge,
    /// Active data connections to somebody else than the client, refused, by `reason`.
    pub active_targets_refused: Counters,
    /// Control connections whose PROXY header has not come yet.
    pub proxy_headers_awaited: IntGauge,
    /// Connections closed because of their PROXY header, or for want of one, by `reason`.
    pub proxy_headers_refused: Counters,
    /// Reloads of the users file, by `outcome`.
    pub users_reloads: Counters,
    /// Users at this moment.
    pub users: IntGauge,
    /// Long-lived tasks that began again after a panic, by `task`.
    pub task_restarts: Counters,
    /// Uploads by user.
    pub senders: Senders,
}

/// One of what a gauge counts, for as long as this lives.
#[derive(Debug)]
pub struct InUse(IntGauge);

impl InUse {
    /// One more.
    #[must_use]
    pub fn one(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }

    /// One more of those with this label.
    #[must_use]
    pub fn one_of(gauges: &IntGaugeVec, label: &str) -> Self {
        Self::one(&gauges.with_label_values(&[label]))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Bytes of what a gauge counts, for as long as this lives.
#[derive(Debug)]
pub struct Held {
    gauge: IntGauge,
    bytes: i64,
}

impl Held {
    /// So many more.
    #[must_use]
    pub fn bytes(gauge: &IntGauge, bytes: u64) -> Self {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        gauge.add(bytes);
        Self {
            gauge: gauge.clone(),
            bytes,
        }
    }

    /// Gives back all but so many.
    pub fn shrink_to(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).min(self.bytes);
        self.gauge.sub(self.bytes - bytes);
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.sub(self.bytes);
    }
}

/// 1 KiB to 64 GiB in steps of 8: scans are kilobytes, backups gigabytes.
const BYTE_BUCKETS: &[f64] = &[
    1024.0,
    8192.0,
    65_536.0,
    524_288.0,
    4_194_304.0,
    33_554_432.0,
    268_435_456.0,
    2_147_483_648.0,
    17_179_869_184.0,
    68_719_476_736.0,
];

/// A store in the same room answers in milliseconds, a camera on a phone network takes hours.
const TRANSFER_BUCKETS: &[f64] = &[
    0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0, 120.0, 600.0, 3600.0, 14_400.0,
];

const REQUEST_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

impl Metrics {
    /// All metrics, at zero, in a registry of their own.
    ///
    /// # Errors
    /// When two metrics share a name.
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let new = Factory {
            registry: &registry,
        };
        let metrics = Self {
            sessions: new.gauge("sessions", "Sessions at this moment.")?,
            sessions_total: new.counter("sessions_total", "Sessions admitted since the start.")?,
            sessions_refused: new.counters(
                "sessions_refused_total",
                "Connections turned away.",
                &[REFUSAL],
            )?,
            logins: new.counters("logins_total", "Login attempts.", &[LOGIN])?,
            logins_lapsed: new.counters(
                "logins_lapsed_total",
                "Sessions that ended because their user may not log in any more.",
                &[LAPSE],
            )?,
            commands: new.counters(
                "commands_total",
                "Commands answered, by verb and class of the reply.",
                &[VERB, CLASS],
            )?,
            transfers: new.counters(
                "transfers_total",
                "Transfers that ended.",
                &[DIRECTION, TRANSFER],
            )?,
            transfers_refused: new.counter(
                "transfers_refused_total",
                "Transfers that could not begin, because too few open files were left.",
            )?,
            transfers_in_flight: new.gauges(
                "transfers_in_flight",
                "Transfers at this moment.",
                &["direction"],
            )?,
            transferred_bytes: new.counters(
                "transferred_bytes_total",
                "Bytes of transfers that ended, complete or not.",
                &[DIRECTION],
            )?,
            transfer_bytes: new.histograms(
                "transfer_size_bytes",
                "Sizes of complete transfers.",
                &["direction"],
                BYTE_BUCKETS,
            )?,
            transfer_seconds: new.histograms(
                "transfer_duration_seconds",
                "Durations of complete transfers.",
                &["direction"],
                TRANSFER_BUCKETS,
            )?,
            throttled_seconds: new.seconds(
                "throttled_seconds_total",
                "Seconds that transfers have waited because of limits on their rate.",
                THROTTLED,
            )?,
            store_requests: new.counters(
                "store_requests_total",
                "Requests to the store.",
                &[STORE, OPERATION, REQUEST],
            )?,
            store_request_seconds: new.histograms(
                "store_request_duration_seconds",
                "Durations of requests to the store.",
                &["store", "operation"],
                REQUEST_BUCKETS,
            )?,
            uploads_swept: new.counters(
                "uploads_swept_total",
                "Unfinished uploads of killed processes that were removed from the store.",
                &[STORE],
            )?,
            memory: new.gauges(
                "memory_bytes",
                "Memory that is in use, or set apart for what is.",
                &["use"],
            )?,
            memory_limit: new.gauges(
                "memory_limit_bytes",
                "The most that each use of memory may come to.",
                &["use"],
            )?,
            upload_spilled: new.gauge(
                "upload_spilled_bytes",
                "What slow uploads have on disk, because memory was short.",
            )?,
            store_keys_hidden: new.counters(
                "store_keys_hidden_total",
                "Keys met in listings that no FTP path can name, and that were left out.",
                &[STORE],
            )?,
            store_conditional_writes: new.gauges(
                "store_conditional_writes",
                "Whether the store makes such changes on a condition: 1 or 0.",
                &["store", "operation"],
            )?,
            store_up: new.gauges(
                "store_up",
                "Whether the store answered when last asked.",
                &["store"],
            )?,
            passive_ports_in_use: new.gauge(
                "passive_ports_in_use",
                "Passive ports that wait for their client.",
            )?,
            passive_ports: new.gauge(
                "passive_ports",
                "Passive ports in all; 0 when the system picks them.",
            )?,
            passive_ports_exhausted: new.counter(
                "passive_ports_exhausted_total",
                "Requests for a passive port that were refused, because none was free.",
            )?,
            passive_ports_taken_back: new.counter(
                "passive_ports_taken_back_total",
                "Passive ports taken back from the user who held most, because none was free.",
            )?,
            passive_address_known: new.gauges(
                "passive_address_known",
                "Whether the address for the reply to PASV is known: 1 or 0.",
                &["source"],
            )?,
            passive_address_current: new.gauges(
                "passive_address_current",
                "Whether the address for the reply to PASV is known and can be looked up: 1 or 0.",
                &["source"],
            )?,
            passive_address_lookups: new.counters(
                "passive_address_lookups_total",
                "Looks at what the address for the reply to PASV is.",
                &[LOOKUP],
            )?,
            endpointslices_current: new.gauges(
                "endpointslices_current",
                "Whether the EndpointSlices of this gateway's pod are as they should be: 1 or 0.",
                &["service"],
            )?,
            endpointslice_errors: new.counter(
                "endpointslice_errors_total",
                "Failures to read or to write EndpointSlices.",
            )?,
            data_connections_refused: new.counter(
                "data_connections_refused_total",
                "Data connections from strangers, refused.",
            )?,
            tls_handshakes: new.counters(
                "tls_handshakes_total",
                "TLS handshakes on control and data connections.",
                &[CONNECTION, HANDSHAKE],
            )?,
            tls_certificate_expiry: new.gauge(
                "tls_certificate_expiry_timestamp_seconds",
                "When the certificate expires, in seconds since 1970; 0 without TLS.",
            )?,
            tls_reloads: new.counters(
                "tls_reloads_total",
                "Reloads of certificate, key or client authorities.",
                &[RELOAD],
            )?,
            tls_files_broken: new.gauge(
                "tls_files_broken",
                "Whether the TLS files can't be used as they are now; the old certificate stays.",
            )?,
            active_targets_refused: new.counters(
                "active_targets_refused_total",
                "Active data connections to somebody else than the client, refused.",
                &[TARGET],
            )?,
            proxy_headers_awaited: new.gauge(
                "proxy_headers_awaited",
                "Control connections whose PROXY header has not come yet.",
            )?,
            proxy_headers_refused: new.counters(
                "proxy_headers_refused_total",
                "Connections closed because of their PROXY header, or for want of one.",
                &[PROXY_HEADER],
            )?,
            users_reloads: new.counters(
                "users_reloads_total",
                "Reloads of the users file.",
                &[RELOAD],
            )?,
            users: new.gauge("users", "Users at this moment.")?,
            task_restarts: new.counters(
                "task_restarts_total",
                "Long-lived tasks that began again after a panic.",
                &[TASK],
            )?,
            senders: new.senders()?,
            registry: registry.clone(),
        };
        new.build_info()?;
        Ok(metrics)
    }

    /// What is in use of one kind of memory.
    #[must_use]
    pub fn memory_of(&self, of: Use) -> IntGauge {
        self.memory.with_label_values(&[of.name()])
    }

    /// Shows the limit of each use, and that nothing is in use yet.
    pub fn show_memory(&self, account: &Account) {
        for (of, limit) in account.limits() {
            let shown = self.memory_limit.with_label_values(&[of.name()]);
            shown.set(i64::try_from(limit.0).unwrap_or(i64::MAX));
            self.memory_of(of).set(0);
        }
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric can't be written.
    pub fn render(&self) -> Result<String, MetricsError> {
        self.senders.refresh();
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

/// Creates metrics with our prefix and registers them.
struct Factory<'a> {
    registry: &'a Registry,
}

impl Factory<'_> {
    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.register(IntGauge::with_opts(opts(name, help))?)
    }

    fn gauges(&self, name: &str, help: &str, by: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.register(IntGaugeVec::new(opts(name, help), by)?)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.register(IntCounter::with_opts(opts(name, help))?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        by: &'static [Label],
    ) -> Result<Counters, MetricsError> {
        let names: Vec<_> = by.iter().map(|(name, _)| *name).collect();
        let counters = self.register(IntCounterVec::new(opts(name, help), &names)?)?;
        Ok(Counters::new(counters, by))
    }

    fn seconds(&self, name: &str, help: &str, by: Label) -> Result<CounterVec, MetricsError> {
        let (label, values) = by;
        let counters = self.register(CounterVec::new(opts(name, help), &[label])?)?;
        for value in values {
            counters.with_label_values(&[value]);
        }
        Ok(counters)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        by: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, MetricsError> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
        self.register(HistogramVec::new(opts, by)?)
    }

    fn senders(&self) -> Result<Senders, MetricsError> {
        let uploads = opts(
            "user_uploads_total",
            "Uploads that ended, of users of the users file.",
        );
        let bytes = opts(
            "user_uploaded_bytes_total",
            "Bytes of uploads that ended, complete or not, of users of the users file.",
        );
        Ok(Senders::new(
            self.register(IntCounterVec::new(uploads, &["user", "outcome"])?)?,
            self.register(IntCounterVec::new(bytes, &["user"])?)?,
            self.gauges(
                "user_last_upload_timestamp_seconds",
                "When the last upload that was stored ended, in seconds since 1970.",
                &["user"],
            )?,
            self.gauges(
                "user_upload_overdue_seconds",
                "How long ago an upload should have come by expect_every of the users file; 0 if none is overdue.",
                &["user"],
            )?,
        ))
    }

    fn build_info(&self) -> Result<(), MetricsError> {
        let opts = opts("build_info", "Always 1; the version is a label.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        self.register(IntGauge::with_opts(opts)?)?.set(1);
        Ok(())
    }

    fn register<M>(&self, metric: M) -> Result<M, MetricsError>
    where
        M: prometheus::core::Collector + Clone + 'static,
    {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("bucketferry_{name}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_rendered_with_prefix_and_labels() {
        let metrics = Metrics::new().unwrap();
        metrics.logins.with_label_values(&["accepted"]).inc();
        let text = metrics.render().unwrap();
        assert!(text.contains("bucketferry_logins_total{outcome=\"accepted\"} 1"));
        assert!(text.contains("bucketferry_build_info{version="));
        assert!(text.contains("process_open_fds"));
    }

    #[test]
    fn two_gateways_in_one_process_do_not_share_metrics() {
        let (one, two) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        one.sessions_total.inc();
        assert_eq!(two.sessions_total.get(), 0);
    }
}
