//! Requests: each comes while somebody waits for it, or for the first time. One that is sent again although its client has
//! its reply or is gone should not have been sent.

use crate::history::{Asked, History, Outcome, Record};
use crate::plan::Verb;

/// The requests that nobody was waiting for.
pub(crate) fn check(history: &History) -> Vec<String> {
    let waits = |asked: &Asked| {
        let mut records = history.records.iter();
        records.any(|record| may_ask(record, &asked.name) && is_in_time(history, record, asked))
    };
    let asked = history.asked.iter().filter(|asked| !waits(asked));
    asked
        .map(|Asked { at, words, .. }| {
            format!("at {at} µs the store was asked for {words}, and nobody was waiting for it")
        })
        .collect()
}

/// A command goes on without its client, but it does not try anything again. What a rename notes at the marker of a
/// directory it takes away in the end, by the same request.
fn is_in_time(history: &History, record: &Record, asked: &Asked) -> bool {
    let goes_on = record.outcome == Outcome::Unheard && record.call <= asked.at;
    let is_before = |other: &&Asked| (record.call..asked.at).contains(&other.at);
    let mut before = history.asked.iter().filter(is_before);
    let is_marker = asked.name.ends_with('/');
    let is_first = is_marker || !before.any(|before| before.words == asked.words);
    (record.call..=record.last_try).contains(&asked.at) || (goes_on && is_first)
}

/// Whether an operation may have the store change this object.
fn may_ask(record: &Record, name: &str) -> bool {
    match &record.verb {
        Verb::Store { key, .. } | Verb::Append { key, .. } | Verb::Restart { key, .. } => {
            name == key
        }
        Verb::Unique { key, .. } => match &record.outcome {
            // It asks for other names first, until one is free.
            Outcome::Refused => true,
            _ => name.starts_with(key),
        },
        Verb::Delete { key } => name == key || is_marker_of(name, key),
        Verb::Rename { from, to } => name == from || name == to || is_marker_of(name, from),
        Verb::RenameDirectory { from, to } => {
            is_in(name, from) || is_in(name, to) || is_marker_of(name, from)
        }
        Verb::MakeDirectory { path } | Verb::RemoveDirectory { path } => {
            name.starts_with(path) || is_marker_of(name, path)
        }
        Verb::Retrieve { .. } | Verb::Size { .. } | Verb::List { .. } | Verb::Names { .. } => false,
    }
}

/// A directory that loses its last child gets a marker.
fn is_marker_of(name: &str, child: &str) -> bool {
    (name.is_empty() || name.ends_with('/')) && child.starts_with(name)
}

fn is_in(name: &str, directory: &str) -> bool {
    let rest = name.strip_prefix(directory);
    rest.is_some_and(|rest| rest.starts_with('/'))
}
