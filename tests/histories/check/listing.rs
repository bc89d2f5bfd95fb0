//! Listings: each shows every name that was settled before it began, and none that was gone by then.

use crate::check::atoms::{MOMENT, moved, names};
use crate::history::{History, NEVER, Outcome, Record, Seen, Time};
use crate::plan::Verb;

/// What is wrong with the listings of a history.
pub(crate) fn check(history: &History) -> Vec<String> {
    let names = names(history);
    let mut wrong = Vec::new();
    for listing in &history.records {
        let (Verb::List { path } | Verb::Names { path }) = &listing.verb else {
            continue;
        };
        let shown = match &listing.outcome {
            Outcome::Done(Seen::Names(names)) => names.as_slice(),
            Outcome::Missing => &[],
            _ => continue,
        };
        for name in names.iter().filter(|name| is_in(name, path)) {
            let is_shown = shown.contains(name);
            if !is_shown && is_there(history, name, listing) {
                wrong.push(format!("{name} is there, and not in: {listing}"));
            }
            if is_shown && is_gone(history, name, listing) {
                wrong.push(format!("{name} is gone, and in: {listing}"));
            }
        }
        let unknown = shown.iter().filter(|name| !names.contains(*name));
        for name in unknown.filter(|name| !is_of_unique(history, name)) {
            wrong.push(format!("nobody has ever written {name}: {listing}"));
        }
    }
    wrong
}

fn is_in(name: &str, path: &str) -> bool {
    name.strip_prefix(path)
        .and_then(|rest| rest.strip_prefix('/'))
        .is_some_and(|rest| !rest.contains('/'))
}

/// A `STOU` whose client has not heard its name, in whatever directory it is by now.
fn is_of_unique(history: &History, name: &str) -> bool {
    let file = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let mut records = history.records.iter();
    records.any(|record| match &record.verb {
        Verb::Unique { key, .. } => file(name).starts_with(&file(key)),
        _ => false,
    })
}

/// Whether a name was settled before the listing began, and nothing took it away before its end.
fn is_there(history: &History, name: &str, listing: &Record) -> bool {
    let is_settled = |write: &Span| write.is_sure && write.end < listing.call;
    let last = writes(history, name)
        .into_iter()
        .filter(is_settled)
        .max_by_key(|write| write.call);
    last.is_some_and(|write| {
        let mut removals = removals(history, name).into_iter();
        // What began before the write ended may have come after it.
        removals.all(|removal| removal.end < write.call || removal.call > listing.reply)
    })
}

/// Whether a name was gone before the listing began, and nothing brought it back before its end.
fn is_gone(history: &History, name: &str, listing: &Record) -> bool {
    let written = writes(history, name);
    let is_settled = |removal: &Span| removal.is_sure && removal.end < listing.call;
    let last = removals(history, name)
        .into_iter()
        .filter(is_settled)
        .max_by_key(|removal| removal.call);
    let since = last.map_or(0, |removal| removal.call);
    // One that no condition keeps out: whether it may is looked at with the other operations.
    let mut doubts = history.doubts.iter();
    let comes_late = doubts.any(|doubt| {
        let is_since = doubt.at + MOMENT >= since && doubt.at <= listing.reply;
        doubt.is_late && doubt.name.as_deref() == Some(name) && is_since
    });
    let mut written = written.into_iter();
    !comes_late && written.all(|write| write.end < since || write.call > listing.reply)
}

/// When something may have happened to a name.
struct Span {
    call: Time,
    end: Time,
    is_sure: bool,
}

impl Span {
    fn of(record: &Record) -> Self {
        let is_sure = record.is_done();
        Self {
            call: record.call,
            // A late try may arrive.
            end: if is_sure { record.reply } else { NEVER },
            is_sure,
        }
    }
}

fn writes(history: &History, name: &str) -> Vec<Span> {
    let spans = history.records.iter().filter_map(|record| {
        let span = Span::of(record);
        match &record.verb {
            Verb::Store { key, .. } | Verb::Append { key, .. } | Verb::Restart { key, .. } => {
                (key == name && record.may_be_done()).then_some(span)
            }
            Verb::Unique { .. } => {
                (record.outcome == Outcome::Done(Seen::Name(name.to_owned()))).then_some(span)
            }
            Verb::Rename { to, .. } => {
                // Its copy may be there although it has failed.
                (to == name && record.outcome != Outcome::Missing).then_some(span)
            }
            Verb::RenameDirectory { from, to } => moved(name, to, from).map(|_| Span {
                is_sure: false,
                ..span
            }),
            _ => None,
        }
    });
    spans.collect()
}

fn removals(history: &History, name: &str) -> Vec<Span> {
    let spans = history.records.iter().filter_map(|record| {
        let span = Span::of(record);
        match &record.verb {
            Verb::Delete { key } => (key == name && record.may_be_done()).then_some(span),
            // Not sure: what was written meanwhile stays.
            Verb::Rename { from, .. } => (from == name && record.may_be_done()).then_some(Span {
                is_sure: false,
                ..span
            }),
            Verb::RenameDirectory { from, to } => moved(name, from, to).map(|_| Span {
                is_sure: false,
                ..span
            }),
            _ => None,
        }
    });
    spans.collect()
}
