//! `PORT` and `EPRT`: the client names where we shall connect to.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::ftp::Reply;
use crate::telemetry::LineKind;

use super::super::active::{Target, TargetError};
use super::super::command::EdgeVerb;
use super::super::data::Arranged;
use super::super::shared::Edge;
use super::Guard;

impl Guard {
    pub(super) async fn active(&mut self, verb: EdgeVerb, argument: &[u8]) -> Reply {
        if self.epsv_all {
            return Reply::new(501, "EPSV ALL was said, use EPSV");
        }
        if !self.edge.config.active.enabled {
            return Reply::new(502, "Active mode is off, use passive mode (PASV or EPSV)");
        }
        let client = self.session.peer().ip();
        let target = match verb {
            EdgeVerb::Port => Target::of_port(argument, client),
            _ => Target::of_eprt(argument, client),
        };
        match target {
            Ok(target) => self.arrange_active(target).await,
            Err(error) => self.refuse_target(error, argument),
        }
    }

    /// What an earlier `PASV` or `PORT` has arranged is forgotten first.
    async fn arrange_active(&mut self, target: Target) -> Reply {
        self.data = None;
        let Some(permit) = self.edge.descriptors.transfer().await else {
            return self.no_permit();
        };
        let own = self.session.socket().ip();
        let from = SocketAddr::new(own, self.edge.config.active.source_port);
        let buffers = self.edge.socket_memory.buffers();
        self.data = Some(Arranged::active(target, from, buffers, permit));
        self.data_until = Instant::now() + self.edge.config.passive.accept_timeout;
        Reply::new(
            200,
            format!("The next transfer connects to your port {}", target.port()),
        )
    }

    fn refuse_target(&self, error: TargetError, argument: &[u8]) -> Reply {
        if let Some(reason) = error.bounce() {
            let refused = &self.edge.metrics.active_targets_refused;
            refused.with_label_values(&[reason]).inc();
            if self.logs(LineKind::ActiveTargetRefused) {
                tracing::warn!(
                    session = %self.session.id(),
                    peer = %self.session.peer(),
                    asked = %argument[..argument.len().min(80)].escape_ascii(),
                    reason,
                    "active data connection to somebody else refused"
                );
            }
        }
        Reply::new(error.code(), error.to_string())
    }

    /// What a transfer without a data connection hears.
    pub(super) fn nothing_arranged(&self) -> &'static str {
        if self.edge.config.active.enabled {
            "Send PASV, EPSV, PORT or EPRT first"
        } else {
            "Send PASV or EPSV first"
        }
    }
}

impl Edge {
    /// How long a data connection may take to be there.
    pub(super) fn patience(&self, data: &Arranged) -> Duration {
        if data.is_active() {
            self.config.active.dial_timeout
        } else {
            self.config.passive.accept_timeout
        }
    }
}
