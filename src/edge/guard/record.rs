//! What is written down of a transfer that has ended, and what its client is told.

use std::time::Duration;

use chrono::Local;

use crate::ftp::Reply;
use crate::session::{FtpPath, Outcome, Report, TransferKind};
use crate::telemetry::{LineKind, Uploaded, XferlogEntry};

use super::super::shared::Edge;
use super::Guard;
use super::running::Running;

impl Guard {
    pub(super) fn record(
        &self,
        running: &Running,
        report: &Report,
        verb: &'static str,
        reply: &Reply,
    ) {
        let elapsed = running.started.elapsed();
        let direction = running.transfer.kind().direction();
        let Outcome(outcome) = report.outcome;
        self.edge.count_transfer(direction, report, elapsed);
        let user = self.session.user();
        let path = running.target();
        let (there, rest) = user.as_ref().map_or((None, path.as_str()), |user| {
            let (there, rest) = user.at(path.as_str());
            (Some(&there.home), rest)
        });
        let place = there.map_or_else(|| path.to_string(), |home| home.child(rest));
        let home = user.as_ref().map(|user| &user.home);
        let is_mounted = rest.len() != path.as_str().len();
        let user = user.as_ref().map_or("", |user| &user.name);
        if matches!(running.transfer.kind(), TransferKind::Store(_)) {
            self.edge.metrics.senders.uploaded(Uploaded {
                user,
                outcome,
                bytes: report.bytes,
                is_complete: report.failure.is_none(),
            });
        }
        // A user without any right can ask again and again for what it may not have.
        let is_refused = report.bytes == 0 && reply.code >= 500;
        if is_refused && !self.logs_user(LineKind::TransferRefused, user) {
            return;
        }
        tracing::info!(
            session = %self.session.id(),
            peer = %self.session.peer(),
            user,
            home = home.map(ToString::to_string),
            verb,
            // As a string, which the log quotes: a name must not look like another field.
            path = path.as_str(),
            // Else it is what home and path say.
            place = is_mounted.then_some(place.as_str()),
            bytes = report.bytes,
            seconds = elapsed.as_secs_f64(),
            outcome,
            reply = reply.code,
            crc64nvme = report.crc64nvme.map(|sum| format!("{sum:016x}")),
            "transfer"
        );
        if let Some(xferlog) = &self.edge.xferlog
            && !matches!(running.transfer.kind(), TransferKind::List(_))
        {
            xferlog.write(&XferlogEntry {
                at: Local::now(),
                duration: elapsed,
                peer: self.session.peer().ip(),
                bytes: report.bytes,
                path: &place,
                upload: matches!(running.transfer.kind(), TransferKind::Store(_)),
                user,
                complete: report.failure.is_none(),
            });
        }
    }
}

impl Edge {
    fn count_transfer(&self, direction: &str, report: &Report, elapsed: Duration) {
        let Outcome(outcome) = report.outcome;
        let metrics = &self.metrics;
        metrics
            .transfers
            .with_label_values(&[direction, outcome])
            .inc();
        metrics
            .transferred_bytes
            .with_label_values(&[direction])
            .inc_by(report.bytes);
        if report.failure.is_none() {
            // A histogram is of floats; sizes above 2^53 do not occur.
            #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
            let bytes = report.bytes as f64;
            metrics
                .transfer_bytes
                .with_label_values(&[direction])
                .observe(bytes);
            metrics
                .transfer_seconds
                .with_label_values(&[direction])
                .observe(elapsed.as_secs_f64());
        }
    }
}

/// What the client is told in the end: the storage's failure, or success in our words.
pub(super) fn last_reply(running: &Running, report: &Report) -> Reply {
    if let Some(failure) = &report.failure {
        return Reply::new(failure.code, &failure.text);
    }
    let bytes = report.bytes;
    match running.transfer.kind() {
        TransferKind::Store(_) => {
            let unique = running.unique.as_ref().map(unique_name).unwrap_or_default();
            let sum = report.crc64nvme.map(checksum).unwrap_or_default();
            Reply::new(226, format!("Stored {bytes} bytes{sum}{unique}"))
        }
        TransferKind::Retrieve { .. } => Reply::new(226, format!("Sent {bytes} bytes")),
        TransferKind::List(_) => Reply::new(226, "Listed"),
    }
}

/// By which a client, or who reads its log, can tell that what is stored is what it has sent.
fn checksum(crc64nvme: u64) -> String {
    format!(", crc64nvme {crc64nvme:016x}")
}

/// The end of the words for a `STOU`: Perl's `Net::FTP` looks here for the name, and not in the 150.
fn unique_name(path: &FtpPath) -> String {
    format!(" (unique file name: {})", path.name())
}
