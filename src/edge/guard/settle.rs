//! The wait between the end of an upload's data and its commit.
//!
//! Without TLS, the end of a file is the end of its data connection, and a client that dies ends that as well. Its
//! control connection tells the two apart, a moment later. How much patience is right depends on how the data ended.
//! The figures were measured with eight clients; `make test-killed` has them die, `make bench BENCH=settle` tells what
//! the waits cost.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{ControlLoss, Settle};
use crate::session::{Abort, Ended, Grant};

use super::super::ending::Ending;
use super::Guard;
use super::running::Running;

/// The kernel of a client that is killed closes one connection right after the other. Of 300 deaths, the ends were
/// 0.1 ms apart in the median and 9.2 ms at most, with two busy loops beside them on each core of the host.
const APART: Duration = Duration::from_millis(10);

/// A program that ends by an exception takes longer: Python 4 to 8 ms, larger ones some tens. It also covers the
/// hops beyond a balancer, which can't be measured here.
const LAST_BREATH: Duration = Duration::from_millis(100);

/// A client that comes to the end of its file closes at once: of 416 whole files, 409 ended within this time after
/// their last byte. A client that is killed has most likely been waiting for something: to read, or for its pace.
const AT_ONCE: Duration = Duration::from_millis(2);

/// Whoever delays its answers makes its own uploads slow, but no slower than this.
const FAR_AWAY: Duration = Duration::from_secs(1);

/// What clients write at once: powers of two from 512 on, or PHP's `ftp_put`.
const BLOCKS: [u64; 2] = [512, 8190];

/// An upload whose data has ended, and that waits for its commit.
#[derive(Debug)]
pub(super) struct Settling {
    grant: Grant,
    until: Instant,
}

impl Settling {
    /// When the wait is over.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Ends the wait.
    pub(super) fn hurry(&mut self) {
        self.until = Instant::now();
    }
}

/// How an upload's data ended.
#[derive(Debug, Clone, Copy)]
struct Evidence {
    /// It is whole for certain.
    is_proven: bool,
    bytes: u64,
    /// `TYPE A`: lines are sent, not blocks.
    is_text: bool,
    /// How long nothing had come before the end.
    quiet: Duration,
    /// To the client, or to the balancer before it. The kernel has none where it had to ask twice.
    round_trip: Option<Duration>,
    is_behind_proxy: bool,
}

impl Evidence {
    /// How long to wait for the end of the control connection.
    fn patience(self) -> Duration {
        if self.is_proven {
            return Duration::ZERO;
        }
        let round_trip = self.round_trip.filter(|_| !self.is_behind_proxy);
        let apart = round_trip.unwrap_or(LAST_BREATH).clamp(APART, FAR_AWAY);
        if self.may_be_cut_off() {
            apart.max(LAST_BREATH)
        } else {
            apart
        }
    }

    /// A sender that dies by itself leaves whole blocks or lines, or has been waiting for more to send. A file that
    /// ends within a block has most likely ended by itself.
    fn may_be_cut_off(self) -> bool {
        let whole_blocks = BLOCKS.iter().any(|block| self.bytes.is_multiple_of(*block));
        whole_blocks || self.is_text || self.quiet > AT_ONCE
    }
}

impl Guard {
    /// Lets an upload that has all its data wait for its commit.
    pub(super) async fn begin_settling(
        &mut self,
        running: &mut Running,
        ended: Ended,
        grant: Grant,
    ) {
        running.has_ended = true;
        let until = ended.at + self.patience(running, ended);
        running.settling = Some(Settling { grant, until });
        if until <= Instant::now() {
            self.settle(running).await;
        }
    }

    /// The commit barrier: reads what the control connection holds, and lets the upload be published, or not.
    pub(super) async fn settle(&mut self, running: &mut Running) {
        let Some(settling) = running.settling.take() else {
            return;
        };
        self.drain_control(running).await;
        if self.ends_transfers() {
            running.transfer.abort(Abort::LoginLapsed);
        } else if running.may_commit(self.edge.config.on_control_loss) {
            settling.grant.grant();
        } else {
            running.transfer.abort(Abort::ControlLost);
        }
    }

    /// How long to wait, from the end of the data on.
    fn patience(&self, running: &Running, ended: Ended) -> Duration {
        let patience = self.patience_with(running, ended);
        tracing::debug!(
            session = %self.session.id(),
            path = running.target().as_str(),
            bytes = running.transfer.bytes(),
            quiet = ?ended.quiet,
            ?patience,
            "the data of an upload has ended"
        );
        patience
    }

    fn patience_with(&self, running: &Running, ended: Ended) -> Duration {
        match self.edge.config.settle {
            // A client that is dying does not say so.
            _ if running.has_quit_after_its_data() => Duration::ZERO,
            Settle::For(duration) => duration,
            // Whatever becomes of the control connection, the file is published.
            Settle::Auto if self.edge.config.on_control_loss == ControlLoss::Keep => Duration::ZERO,
            Settle::Auto => {
                let evidence = Evidence {
                    is_proven: running.is_proven(),
                    bytes: running.transfer.bytes(),
                    is_text: self.is_text,
                    quiet: ended.quiet,
                    round_trip: running.ending.as_ref().and_then(Ending::round_trip),
                    is_behind_proxy: self.is_behind_proxy,
                };
                evidence.patience()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// A file of 1,000 bytes whose sender is near and closed right after them.
    const ORDINARY: Evidence = Evidence {
        is_proven: false,
        bytes: 1000,
        is_text: false,
        quiet: MILLISECOND,
        round_trip: Some(Duration::from_micros(50)),
        is_behind_proxy: false,
    };

    #[test]
    fn a_file_that_ends_as_files_do_is_waited_for_shortly() {
        assert_eq!(ORDINARY.patience(), 10 * MILLISECOND);
    }

    #[test]
    fn a_proven_end_is_not_waited_for() {
        let proven = Evidence {
            is_proven: true,
            bytes: 0,
            is_behind_proxy: true,
            ..ORDINARY
        };
        assert_eq!(proven.patience(), Duration::ZERO);
    }

    #[test]
    fn a_far_client_is_waited_for_a_round_trip_and_a_second_at_most() {
        let far = |round_trip| Evidence {
            round_trip: Some(round_trip),
            ..ORDINARY
        };
        assert_eq!(far(40 * MILLISECOND).patience(), 40 * MILLISECOND);
        assert_eq!(far(30_000 * MILLISECOND).patience(), 1000 * MILLISECOND);
        let far_and_cut = Evidence {
            bytes: 512,
            ..far(300 * MILLISECOND)
        };
        assert_eq!(far_and_cut.patience(), 300 * MILLISECOND);
    }

    #[test]
    fn what_may_be_cut_off_or_is_unknown_is_waited_for_longer() {
        let sizes =
            [0, 512, 1024, 65_536, 8190, 81_900].map(|bytes| Evidence { bytes, ..ORDINARY });
        let others = [
            Evidence {
                is_text: true,
                ..ORDINARY
            },
            Evidence {
                quiet: 3 * MILLISECOND,
                ..ORDINARY
            },
            Evidence {
                is_behind_proxy: true,
                ..ORDINARY
            },
            Evidence {
                round_trip: None,
                ..ORDINARY
            },
        ];
        for evidence in sizes.into_iter().chain(others) {
            assert_eq!(evidence.patience(), 100 * MILLISECOND, "{evidence:?}");
        }
    }
}
