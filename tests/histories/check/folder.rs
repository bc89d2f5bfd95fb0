//! Folders: a call to the system that fails is heard of, and nothing else leaves a doubt.

use crate::failing::Call;
use crate::history::{History, Outcome, Record, Time};

/// What is wrong with what clients of a folder were told.
pub(crate) fn check(history: &History) -> Vec<String> {
    let failures = history.failed.iter();
    let untold = failures.filter(|(at, strike)| {
        let mut during = during(history, *at, strike.gateway);
        strike.must_be_told() && during.all(Record::is_done)
    });
    let untold = untold.map(|(at, strike)| format!("nobody was told at {at} us of {strike:?}"));
    let records = history.records.iter();
    let doubtful = records.filter(|record| record.outcome == Outcome::Unresolved);
    let groundless = doubtful.filter(|record| !has_grounds(history, record));
    let groundless = groundless.map(|record| format!("no call left a doubt: {record}"));
    untold.chain(groundless).collect()
}

/// The operations that a gateway was at.
fn during(history: &History, at: Time, gateway: usize) -> impl Iterator<Item = &Record> {
    let records = history.records.iter();
    let of_gateway = records.filter(move |record| record.gateway == gateway);
    of_gateway.filter(move |record| record.call <= at && at <= record.reply)
}

/// Whether a directory could not be made durable meanwhile.
fn has_grounds(history: &History, doubtful: &Record) -> bool {
    history.failed.iter().any(|(at, strike)| {
        let mut during = during(history, *at, strike.gateway);
        strike.call == Call::Sync && during.any(|record| std::ptr::eq(record, doubtful))
    })
}
