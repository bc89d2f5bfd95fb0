//! What each operation may have done, and when.
//!
//! | operation | atoms |
//! |---|---|
//! | `STOR`, `APPE`, `REST`, `STOU`, `DELE` | one change |
//! | `RNTO` of a file | a copy, then the source goes, unless another has written it meanwhile |
//! | `RNTO` of a directory | the same for each file in it |
//! | `RETR`, `SIZE` | a look |
//!
//! What was answered with success must be in the order, between call and reply. What ended `unresolved` took effect
//! before its reply or never. So did what was asked for by a client that hung up, but there the end of the command
//! counts. Of one whose gateway was killed, the end is that of the store's longest lateness: a dead gateway asks for
//! nothing more, but what it has asked for last is still done.
//!
//! # The two exceptions
//! Conditions can't keep out a try that arrives late if, by then,
//!
//! 1. the name is absent again (or still), and it was absent when the change was decided on;
//! 2. it holds the same content again (or still) as when the change was decided on.
//!
//! With [`Exceptions::Allowed`], each change has a second pair of atoms for such a try: one that decides, before the
//! reply, and one that arrives whenever the names are as they were then. And one whose answer was lost may be made again
//! before its reply, if by then nothing is at the name: others may have taken away what the first try has brought.

use std::collections::BTreeMap;

use crate::content::{Chunk, Content};
use crate::history::{Doubt, History, NEVER, Outcome, Record, Seen, Time};
use crate::plan::Verb;

/// A name of the model, by number.
pub(crate) type Key = usize;

/// One moment of an operation.
#[derive(Debug, Clone)]
pub(crate) struct Atom {
    /// The operation, by its place in the history.
    pub(crate) record: usize,
    pub(crate) effect: Effect,
    /// Whether it has happened for sure.
    pub(crate) must: bool,
    pub(crate) call: Time,
    pub(crate) end: Time,
    /// It can't come before this one.
    pub(crate) after: Option<usize>,
}

#[derive(Debug, Clone)]
pub(crate) enum Effect {
    See {
        key: Key,
        sight: Sight,
    },
    Change(Change),
    /// A change is decided on, by what is at its names.
    Decide(Change),
    /// A change is made once more at a name where nothing is.
    Again(Change),
    /// A late try: as [`Effect::Decide`] has seen the names.
    Arrive {
        decided: usize,
        change: Change,
    },
    /// The first half of a rename. Not after the second.
    Copy {
        change: Change,
        left: Option<usize>,
    },
    /// The second half of a rename: the source goes.
    Leave(Leave),
}

#[derive(Debug, Clone)]
pub(crate) struct Leave {
    pub(crate) copy: usize,
    pub(crate) from: Key,
    /// Whether the source may be gone, or never have been there.
    pub(crate) may_lack: bool,
    /// Whether the source may stay without a copy: it was written meanwhile.
    pub(crate) may_stay: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Write {
        key: Key,
        content: Content,
        only_new: bool,
    },
    /// Adds to what is there, or to its first bytes.
    Append {
        key: Key,
        at: Option<usize>,
        chunk: Chunk,
    },
    Delete {
        key: Key,
    },
    Copy {
        from: Key,
        to: Key,
        only_new: bool,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Sight {
    Nothing,
    Content(Content),
    Size(usize),
}

/// The store has carried a late request out by then, in microseconds after it told of it.
pub(crate) const MOMENT: Time = 50_000;

/// Whether late tries may arrive that no condition keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceptions {
    Forbidden,
    Allowed,
}

/// The atoms about some names that renames join.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) names: Vec<String>,
    pub(crate) atoms: Vec<Atom>,
}

impl Change {
    /// The names that it depends on and changes.
    pub(crate) fn names(&self) -> (Key, Key) {
        match self {
            Self::Write { key, .. } | Self::Append { key, .. } | Self::Delete { key } => {
                (*key, *key)
            }
            Self::Copy { from, to, .. } => (*from, *to),
        }
    }
}

/// Takes a history apart. `deny` says that nothing may be replaced.
pub(crate) fn groups(history: &History, deny: bool, exceptions: Exceptions) -> Vec<Group> {
    let names = names(history);
    let joined = join(history, &names);
    let mut groups = BTreeMap::<usize, Vec<String>>::new();
    for (name, group) in names.iter().zip(&joined) {
        groups.entry(*group).or_default().push(name.clone());
    }
    let maker = |names: Vec<String>| {
        let mut maker = Maker {
            history,
            deny,
            exceptions,
            group: Group {
                names,
                atoms: Vec::new(),
            },
        };
        for number in 0..history.records.len() {
            maker.take(number);
        }
        maker.group
    };
    groups.into_values().map(maker).collect()
}

/// All files that any operation is about.
pub(crate) fn names(history: &History) -> Vec<String> {
    let mut names: Vec<_> = history.records.iter().flat_map(files_of).collect();
    for record in &history.records {
        if let Verb::RenameDirectory { from, to } = &record.verb {
            let moved: Vec<_> = names
                .iter()
                .filter_map(|name| moved(name, from, to))
                .collect();
            names.extend(moved);
        }
    }
    names.sort();
    names.dedup();
    names
}

fn files_of(record: &Record) -> Vec<String> {
    match (&record.verb, &record.outcome) {
        (Verb::Unique { .. }, Outcome::Done(Seen::Name(name))) => vec![name.clone()],
        (
            Verb::Store { key, .. }
            | Verb::Append { key, .. }
            | Verb::Restart { key, .. }
            | Verb::Retrieve { key }
            | Verb::Size { key }
            | Verb::Delete { key },
            _,
        ) => vec![key.clone()],
        (Verb::Rename { from, to }, _) => vec![from.clone(), to.clone()],
        _ => Vec::new(),
    }
}

/// The name of a file after its directory was renamed.
pub(crate) fn moved(name: &str, from: &str, to: &str) -> Option<String> {
    let rest = name.strip_prefix(from)?.strip_prefix('/')?;
    Some(format!("{to}/{rest}"))
}

/// Renames join names to groups. For each name, the number of its group, which is that of its first name.
fn join(history: &History, names: &[String]) -> Vec<usize> {
    let mut group: Vec<usize> = (0..names.len()).collect();
    let place = |name: &str| names.iter().position(|known| known == name);
    let mut join = |a: &str, b: &str| {
        let (Some(a), Some(b)) = (place(a), place(b)) else {
            return;
        };
        let (low, high) = (group[a].min(group[b]), group[a].max(group[b]));
        for of in &mut group {
            if *of == high {
                *of = low;
            }
        }
    };
    for record in &history.records {
        match &record.verb {
            Verb::Rename { from, to } => join(from, to),
            Verb::RenameDirectory { from, to } => {
                for name in names {
                    if let Some(moved) = moved(name, from, to) {
                        join(name, &moved);
                    }
                }
            }
            _ => {}
        }
    }
    group
}

struct Maker<'a> {
    history: &'a History,
    deny: bool,
    exceptions: Exceptions,
    group: Group,
}

impl Maker<'_> {
    fn take(&mut self, number: usize) {
        let record = &self.history.records[number];
        let is_refused = record.outcome == Outcome::Refused;
        match &record.verb {
            // One call, which is done or not.
            Verb::Rename { .. } | Verb::RenameDirectory { .. }
                if is_refused && self.history.is_folder => {}
            Verb::Store { key, chunk } => self.write(number, key, *chunk, self.deny),
            Verb::Unique { chunk, .. } => {
                if let Outcome::Done(Seen::Name(name)) = &record.outcome {
                    self.write(number, name, *chunk, true);
                }
            }
            Verb::Append { key, chunk } => self.append(number, key, None, *chunk),
            Verb::Restart { key, at, chunk } => self.append(number, key, Some(*at), *chunk),
            Verb::Retrieve { key } | Verb::Size { key } => self.see(number, key),
            Verb::Delete { key } => self.delete(number, key),
            Verb::Rename { from, to } => self.rename(number, from, to),
            Verb::RenameDirectory { from, to } => self.rename_directory(number, from, to),
            Verb::MakeDirectory { .. }
            | Verb::RemoveDirectory { .. }
            | Verb::List { .. }
            | Verb::Names { .. } => {}
        }
    }

    fn write(&mut self, number: usize, name: &str, chunk: Chunk, only_new: bool) {
        let Some(key) = self.key(name) else { return };
        let content = Content::of(chunk);
        let change = Change::Write {
            key,
            content,
            only_new,
        };
        self.change(number, &change);
    }

    fn append(&mut self, number: usize, name: &str, at: Option<usize>, chunk: Chunk) {
        let Some(key) = self.key(name) else { return };
        if self.deny {
            let change = Change::Write {
                key,
                content: Content::of(chunk),
                only_new: true,
            };
            return self.change(number, &change);
        }
        self.change(number, &Change::Append { key, at, chunk });
    }

    fn delete(&mut self, number: usize, name: &str) {
        let Some(key) = self.key(name) else { return };
        if self.history.records[number].outcome == Outcome::Missing {
            self.look(number, key, Sight::Nothing);
        }
        self.change(number, &Change::Delete { key });
    }

    fn see(&mut self, number: usize, name: &str) {
        let Some(key) = self.key(name) else { return };
        let sight = match &self.history.records[number].outcome {
            Outcome::Done(Seen::Content(content)) => Sight::Content(content.clone()),
            Outcome::Done(Seen::Size(size)) => Sight::Size(*size),
            Outcome::Missing => Sight::Nothing,
            _ => return,
        };
        self.look(number, key, sight);
    }

    fn look(&mut self, number: usize, key: Key, sight: Sight) {
        self.push(number, Effect::See { key, sight }, true, None);
    }

    fn change(&mut self, number: usize, change: &Change) {
        let record = &self.history.records[number];
        if record.may_be_done() {
            let effect = Effect::Change(change.clone());
            self.push(number, effect, record.is_done(), None);
            self.late(number, change, None);
        }
    }

    fn rename(&mut self, number: usize, from: &str, to: &str) {
        let (Some(from), Some(to)) = (self.key(from), self.key(to)) else {
            return;
        };
        let record = &self.history.records[number];
        match &record.outcome {
            Outcome::Missing => self.look(number, from, Sight::Nothing),
            Outcome::TakenAway => {
                self.look(number, from, Sight::Nothing);
                self.copy(number, from, to, self.deny);
            }
            Outcome::Refused => {
                self.copy(number, from, to, self.deny);
            }
            Outcome::Done(_) | Outcome::Unresolved | Outcome::Unheard => {
                let copy = self.copy(number, from, to, self.deny);
                self.group.atoms[copy].must = record.is_done();
                let leave = Leave {
                    copy,
                    from,
                    may_lack: false,
                    may_stay: false,
                };
                self.leave(number, leave, record.is_done());
            }
        }
    }

    /// A copy that may have been made, and after which the source may have stayed.
    fn copy(&mut self, number: usize, from: Key, to: Key, only_new: bool) -> usize {
        let change = Change::Copy { from, to, only_new };
        let effect = Effect::Copy {
            change: change.clone(),
            left: None,
        };
        let copy = self.push(number, effect, false, None);
        self.late(number, &change, None);
        copy
    }

    fn leave(&mut self, number: usize, leave: Leave, must: bool) {
        let (copy, from, may_lack) = (leave.copy, leave.from, leave.may_lack);
        let after = (!may_lack).then_some(copy);
        let leave = self.push(number, Effect::Leave(leave), must, after);
        if let Effect::Copy { left, .. } = &mut self.group.atoms[copy].effect {
            *left = Some(leave);
        }
        self.late(number, &Change::Delete { key: from }, Some(copy));
    }

    /// Whatever it was answered, each file is under the old name, the new one, or both. Of one that succeeded, no file
    /// stays that was not written meanwhile.
    fn rename_directory(&mut self, number: usize, from: &str, to: &str) {
        let names = self.group.names.clone();
        for (key, name) in names.iter().enumerate() {
            let Some(target) = moved(name, from, to).and_then(|moved| self.key(&moved)) else {
                continue;
            };
            let copy = self.copy(number, key, target, true);
            let leave = Leave {
                copy,
                from: key,
                may_lack: true,
                may_stay: self.is_written_during(number, name),
            };
            self.leave(number, leave, self.history.records[number].is_done());
        }
    }

    fn is_written_during(&self, number: usize, name: &str) -> bool {
        let during = &self.history.records[number];
        let records = self.history.records.iter().enumerate();
        let others = records.filter(|(other, _)| *other != number);
        others
            .filter(|(_, record)| record.call <= during.reply && record.reply >= during.call)
            .any(|(_, record)| match &record.verb {
                Verb::Store { key, .. } | Verb::Append { key, .. } | Verb::Restart { key, .. } => {
                    key == name
                }
                Verb::Rename { to, .. } => to == name,
                Verb::RenameDirectory { to, .. } => name.starts_with(to.as_str()),
                _ => false,
            })
    }

    /// Further tries of a change. Of one that its client knows the end of, those that the store tells of; else, any.
    fn late(&mut self, number: usize, change: &Change, after: Option<usize>) {
        if self.exceptions == Exceptions::Forbidden {
            return;
        }
        let record = &self.history.records[number];
        let (call, reply) = (record.call, record.reply);
        let is_known = !matches!(record.outcome, Outcome::Unresolved | Outcome::Unheard);
        let doubts = self.doubts(change, call);
        let late = doubts.iter().filter(|doubt| doubt.is_late);
        let mut arrivals: Vec<_> = late.map(|doubt| (doubt.at, doubt.at + MOMENT)).collect();
        if !is_known {
            arrivals = vec![(call, NEVER)];
        }
        if !arrivals.is_empty() {
            let decided = self.push(number, Effect::Decide(change.clone()), false, after);
            for span in arrivals {
                let change = change.clone();
                self.push_in(number, Effect::Arrive { decided, change }, span);
            }
        }
        // Under load, a request may take too long by itself.
        let too_long = call.saturating_add(self.history.patience);
        let first = doubts.iter().map(|doubt| doubt.at).chain([too_long]).min();
        if let Some(first) = first.filter(|first| *first < reply) {
            self.push_in(number, Effect::Again(change.clone()), (first, reply));
        }
    }

    /// What may have made the gateway try a change again.
    fn doubts(&self, change: &Change, since: Time) -> Vec<Doubt> {
        let name = &self.group.names[change.names().1];
        let doubts = self.history.doubts.iter();
        let doubts = doubts.filter(|doubt| doubt.is_about(name) && doubt.at > since);
        doubts.cloned().collect()
    }

    fn push_in(&mut self, record: usize, effect: Effect, (call, end): (Time, Time)) {
        let pushed = self.push(record, effect, false, None);
        let atom = &mut self.group.atoms[pushed];
        (atom.call, atom.end) = (call, end);
    }

    fn push(&mut self, record: usize, effect: Effect, must: bool, after: Option<usize>) -> usize {
        let of = &self.history.records[record];
        self.group.atoms.push(Atom {
            record,
            effect,
            must,
            call: of.call,
            end: of.reply,
            after,
        });
        self.group.atoms.len() - 1
    }

    fn key(&self, name: &str) -> Option<Key> {
        self.group.names.iter().position(|known| known == name)
    }
}
