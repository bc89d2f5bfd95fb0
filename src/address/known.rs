//! The addresses that a name stands for, as far as that is known.
//!
//! Promises:
//! - What is known is only ever replaced by other addresses, never by nothing.
//! - Each trouble is told once, when it begins, and once more when it is over. The parts of a look have
//!   troubles of their own, so that one that goes well says nothing of the other.
//! - The address in use stays in use for as long as it is among the answers, in whatever order they
//!   come: name servers like to turn them around.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::PassiveAddress;
use crate::telemetry::Metrics;

/// What is known of one name; see the module.
pub(super) struct Known {
    /// As the configuration spells it.
    source: PassiveAddress,
    metrics: Arc<Metrics>,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    /// The one in use first.
    addresses: Vec<Ipv4Addr>,
    /// Why the last look of a part failed, if it did.
    troubles: BTreeMap<Part, String>,
}

/// Part of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Whether the API server tells of the Service.
    Api,
    /// What the Service has been given.
    Service,
    /// What names stand for.
    Names,
}

impl Known {
    /// Nothing is known yet.
    pub(super) fn nothing(source: &PassiveAddress, metrics: &Arc<Metrics>) -> Self {
        let known = Self {
            source: source.clone(),
            metrics: Arc::clone(metrics),
            state: RwLock::default(),
        };
        known.show(&State::default());
        known
    }

    /// What it is that is known, or not yet.
    pub(super) fn source(&self) -> &PassiveAddress {
        &self.source
    }

    /// The address for a client that came to `own`: that one, if it is one of the name's, else the one
    /// in use.
    pub(super) fn address(&self, own: IpAddr) -> Option<Ipv4Addr> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let mut addresses = state.addresses.iter();
        let found = addresses.find(|address| IpAddr::V4(**address) == own);
        found.or(state.addresses.first()).copied()
    }

    /// Takes the addresses of an answer. None at all are no answer.
    pub(super) fn learn(&self, mut addresses: Vec<Ipv4Addr>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = state.addresses.first().copied();
        if let Some(at) = addresses.iter().position(|it| Some(*it) == before) {
            addresses.swap(0, at);
        }
        let Some(address) = addresses.first().copied() else {
            return;
        };
        state.addresses = addresses;
        if before.is_none() {
            // That it is known says enough.
            state.troubles.remove(&Part::Names);
        }
        let all = listed(&state.addresses);
        drop(state);
        self.count("answered");
        let source = &self.source;
        match before {
            None => tracing::info!(%source, %address, all, "the address for PASV is known"),
            Some(before) if before != address => {
                tracing::info!(%source, %address, all, %before, "the address for PASV has changed");
            }
            Some(_) => {}
        }
        if before != Some(address) && address.is_loopback() {
            tracing::warn!(%source, %address, "only programs on this machine can reach that address");
        }
        self.recovered(Part::Names);
    }

    /// Notes that this part went well.
    pub(super) fn recovered(&self, part: Part) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let trouble = state.troubles.remove(&part);
        let is_over = !state.addresses.is_empty() && state.troubles.is_empty();
        self.show(&state);
        drop(state);
        if let Some(trouble) = trouble
            && is_over
        {
            let source = &self.source;
            tracing::info!(%source, was = trouble, "the address for PASV can be looked up again");
        }
    }

    /// Notes that this part failed. Told once, until it fails for another reason.
    pub(super) fn fail(&self, part: Part, trouble: &str) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = state.troubles.insert(part, trouble.to_owned());
        let kept = state.addresses.first().copied();
        self.show(&state);
        drop(state);
        self.count("failed");
        if before.as_deref() == Some(trouble) {
            return;
        }
        let source = &self.source;
        if let Some(kept) = kept {
            tracing::warn!(
                %source,
                error = trouble,
                %kept,
                "can't look up the address for PASV; the last one is kept"
            );
        } else {
            tracing::warn!(
                %source,
                error = trouble,
                "can't look up the address for PASV; clients get 425, EPSV works"
            );
        }
    }

    fn show(&self, state: &State) {
        let source = self.source.to_string();
        let is_known = !state.addresses.is_empty();
        let is_current = is_known && state.troubles.is_empty();
        for (gauges, it_is) in [
            (&self.metrics.passive_address_known, is_known),
            (&self.metrics.passive_address_current, is_current),
        ] {
            let gauge = gauges.with_label_values(&[&source]);
            gauge.set(i64::from(it_is));
        }
    }

    fn count(&self, outcome: &str) {
        let counts = &self.metrics.passive_address_lookups;
        counts.with_label_values(&[outcome]).inc();
    }
}

/// Addresses for people.
pub(super) fn listed(addresses: &[Ipv4Addr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(Ipv4Addr::to_string).collect();
    addresses.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let source = PassiveAddress::Dns("ftp.example.com".to_owned());
        Known::nothing(&source, &Arc::new(Metrics::new().unwrap()))
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(203, 0, 113, last)
    }

    fn learn(known: &Known, addresses: &[u8]) {
        known.learn(addresses.iter().copied().map(ip).collect());
    }

    fn metric(known: &Known) -> i64 {
        let gauges = &known.metrics.passive_address_known;
        gauges.with_label_values(&["dns:ftp.example.com"]).get()
    }

    const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn the_one_in_use_stays_in_use_however_they_are_turned_around() {
        let known = known();
        assert_eq!((known.address(ELSEWHERE), metric(&known)), (None, 0));
        learn(&known, &[2, 1, 3]);
        assert_eq!((known.address(ELSEWHERE), metric(&known)), (Some(ip(2)), 1));
        learn(&known, &[1, 3, 2]);
        assert_eq!(known.address(ELSEWHERE), Some(ip(2)));
        learn(&known, &[3, 1]);
        assert_eq!(known.address(ELSEWHERE), Some(ip(3)));
    }

    #[test]
    fn the_one_that_the_client_came_to_is_the_best() {
        let known = known();
        learn(&known, &[1, 2, 3]);
        assert_eq!(known.address(ip(3).into()), Some(ip(3)));
        assert_eq!(known.address(ip(4).into()), Some(ip(1)));
    }

    #[test]
    fn failures_and_empty_answers_take_nothing_away() {
        let known = known();
        known.fail(Part::Names, "no such name");
        assert_eq!((known.address(ELSEWHERE), metric(&known)), (None, 0));
        learn(&known, &[1]);
        known.fail(Part::Names, "timed out");
        learn(&known, &[]);
        assert_eq!((known.address(ELSEWHERE), metric(&known)), (Some(ip(1)), 1));
    }

    #[test]
    fn it_is_current_while_no_part_is_in_trouble() {
        let known = known();
        let current = || {
            let gauges = &known.metrics.passive_address_current;
            gauges.with_label_values(&["dns:ftp.example.com"]).get()
        };
        assert_eq!(current(), 0);
        known.fail(Part::Service, "forbidden");
        learn(&known, &[1]);
        assert_eq!((current(), metric(&known)), (0, 1));
        known.recovered(Part::Service);
        assert_eq!(current(), 1);
        known.fail(Part::Names, "timed out");
        known.recovered(Part::Service);
        assert_eq!(current(), 0);
        learn(&known, &[1]);
        assert_eq!(current(), 1);
    }
}
