//! Whether a history makes sense.

mod asked;
pub(crate) mod atoms;
mod folder;
mod listing;
mod search;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use crate::history::History;

use atoms::{Effect, Exceptions, Group};
use search::Verdict;

/// What the checker says of a history.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// What is wrong.
    pub(crate) wrong: Vec<String>,
    /// A try that came late, or once more, while its name was absent.
    pub(crate) absent_again: usize,
    /// The same while its name held the same content.
    pub(crate) equal_again: usize,
    /// Groups of names that have too many orders to look at.
    pub(crate) unknown: usize,
}

/// Checks a history. `deny` says that nothing may be replaced.
pub(crate) fn check(history: &History, deny: bool) -> Judgement {
    let mut judgement = Judgement {
        wrong: history.faults.clone(),
        ..Judgement::default()
    };
    judgement.wrong.extend(listing::check(history));
    judgement.wrong.extend(asked::check(history));
    if history.is_folder {
        judgement.wrong.extend(folder::check(history));
    }
    let strict = atoms::groups(history, deny, Exceptions::Forbidden);
    let lenient = atoms::groups(history, deny, Exceptions::Allowed);
    for (strict, lenient) in strict.iter().zip(&lenient) {
        judgement.judge(history, strict, lenient);
    }
    judgement
}

impl Judgement {
    fn judge(&mut self, history: &History, strict: &Group, lenient: &Group) {
        let (best, names) = match search::search(strict.names.len(), &strict.atoms) {
            Verdict::Order(_) => return,
            Verdict::Unknown => return self.unknown += 1,
            Verdict::None { best, names } => (best, names),
        };
        match search::search(lenient.names.len(), &lenient.atoms) {
            Verdict::Order(order) => self.count_exceptions(lenient, &order),
            Verdict::Unknown => self.unknown += 1,
            Verdict::None { .. } => {
                let names = strict.names.iter().zip(&names);
                self.wrong.push(explain(history, strict, &best, names));
            }
        }
    }

    fn count_exceptions(&mut self, group: &Group, order: &[usize]) {
        let (mut absent, mut equal) = (0, 0);
        let mut there = vec![false; group.names.len()];
        for number in order {
            let (change, is_late) = match &group.atoms[*number].effect {
                Effect::Change(change) | Effect::Copy { change, .. } => (change, false),
                Effect::Arrive { change, .. } | Effect::Again(change) => (change, true),
                Effect::Leave(leave) => {
                    there[leave.from] = false;
                    continue;
                }
                Effect::See { .. } | Effect::Decide(_) => continue,
            };
            let (_, to) = change.names();
            if is_late && there[to] {
                equal += 1;
            } else if is_late {
                absent += 1;
            }
            there[to] = !matches!(change, atoms::Change::Delete { .. });
        }
        self.absent_again += absent;
        self.equal_again += equal;
    }
}

fn explain<'a>(
    history: &History,
    group: &Group,
    best: &[usize],
    names: impl Iterator<Item = (&'a String, &'a Option<crate::content::Content>)>,
) -> String {
    let mut text = "no order of these operations makes sense. As far as one goes:\n".to_owned();
    for number in best {
        let _ = writeln!(text, "    {}", history.records[group.atoms[*number].record]);
    }
    let _ = writeln!(text, "  then there is");
    for (name, content) in names {
        let content = content
            .as_ref()
            .map_or("nothing".to_owned(), ToString::to_string);
        let _ = writeln!(text, "    {name}: {content}");
    }
    let _ = writeln!(text, "  and what is left is");
    for (number, atom) in group.atoms.iter().enumerate() {
        if atom.must && !best.contains(&number) {
            let _ = writeln!(text, "    {}", history.records[atom.record]);
        }
    }
    text
}
