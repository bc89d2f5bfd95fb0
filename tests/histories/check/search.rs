//! The search of Wing and Gong: is there an order in which all that was seen makes sense?
//!
//! An operation is one atom or several. Each takes effect at one moment between its call and its end. What must have
//! happened has to be in the order; what may have happened can be left out. The order is looked for from the front, by
//! depth first, and no state is looked at twice: a state is what is at the names, which atoms are in the order, and what
//! those that come in two steps have seen.

use std::collections::{HashMap, HashSet};

use crate::check::atoms::{Atom, Change, Effect, Sight};
use crate::content::Content;
use crate::history::Time;

/// As many states are looked at before the search gives up.
const MAX_STATES: usize = 100_000;

/// As many atoms fit into a state.
pub(crate) const MAX_ATOMS: usize = 256;

/// What the search has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An order, by the atoms' numbers.
    Order(Vec<usize>),
    /// None: at best those atoms, in this order, and then these states of the names.
    None {
        best: Vec<usize>,
        names: Vec<Option<Content>>,
    },
    /// There are too many states to tell.
    Unknown,
}

/// Contents by number, so that a state is small. Nothing has the number 0.
#[derive(Debug, Default)]
struct Contents {
    all: Vec<Content>,
    ids: HashMap<Content, Id>,
}

type Id = u32;

const NOTHING: Id = 0;

impl Contents {
    fn id(&mut self, content: Content) -> Id {
        if let Some(id) = self.ids.get(&content) {
            return *id;
        }
        self.all.push(content.clone());
        let id = Id::try_from(self.all.len()).expect("few contents");
        self.ids.insert(content, id);
        id
    }

    fn of(&self, id: Id) -> Option<&Content> {
        let at = usize::try_from(id)
            .expect("a small number")
            .checked_sub(1)?;
        self.all.get(at)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    names: Vec<Id>,
    done: [u64; MAX_ATOMS / 64],
    /// What an atom saw that others depend on: what is at its two names.
    seen: Vec<(usize, Id, Id)>,
}

impl State {
    fn is_done(&self, atom: usize) -> bool {
        self.done[atom / 64] >> (atom % 64) & 1 == 1
    }

    fn seen(&self, atom: usize) -> Option<(Id, Id)> {
        let seen = self.seen.iter().find(|(of, ..)| *of == atom);
        seen.map(|(_, from, to)| (*from, *to))
    }
}

struct Search<'a> {
    atoms: &'a [Atom],
    contents: Contents,
    looked_at: HashSet<State>,
    order: Vec<usize>,
    best: Vec<usize>,
    best_names: Vec<Id>,
}

/// Looks for an order of all atoms that must be, in which there is nothing at the beginning.
pub(crate) fn search(names: usize, atoms: &[Atom]) -> Verdict {
    if atoms.len() > MAX_ATOMS {
        return Verdict::Unknown;
    }
    let mut search = Search {
        atoms,
        contents: Contents::default(),
        looked_at: HashSet::new(),
        order: Vec::new(),
        best: Vec::new(),
        best_names: vec![NOTHING; names],
    };
    let state = State {
        names: vec![NOTHING; names],
        done: [0; MAX_ATOMS / 64],
        seen: Vec::new(),
    };
    if search.goes_on(&state, 0) {
        return Verdict::Order(search.order);
    }
    if search.looked_at.len() >= MAX_STATES {
        return Verdict::Unknown;
    }
    let contents = &search.contents;
    let names = search.best_names.iter();
    Verdict::None {
        names: names.map(|id| contents.of(*id).cloned()).collect(),
        best: search.best,
    }
}

impl Search<'_> {
    /// Whether the order can be completed. No atom of it was called after `latest`.
    fn goes_on(&mut self, state: &State, latest: Time) -> bool {
        if self.order.len() > self.best.len() {
            self.best.clone_from(&self.order);
            self.best_names.clone_from(&state.names);
        }
        // What has ended before another began has to come before it.
        let undone = self.undone(state).filter(|(_, atom)| atom.must);
        let Some(earliest_end) = undone.map(|(_, atom)| atom.end).min() else {
            return true;
        };
        if self.looked_at.len() >= MAX_STATES || !self.looked_at.insert(state.clone()) {
            return false;
        }
        let next: Vec<usize> = self
            .undone(state)
            .filter(|(_, atom)| atom.call <= earliest_end && atom.end >= latest)
            .filter(|(_, atom)| atom.after.is_none_or(|before| state.is_done(before)))
            .map(|(number, _)| number)
            .collect();
        if let Some(sight) = self.free_sight(state, latest, &next) {
            return self.takes(state, latest, sight);
        }
        next.into_iter().any(|atom| self.takes(state, latest, atom))
    }

    fn undone<'s>(&'s self, state: &'s State) -> impl Iterator<Item = (usize, &'s Atom)> {
        let atoms = self.atoms.iter().enumerate();
        atoms.filter(|(number, _)| !state.is_done(*number))
    }

    /// A look that fits as things are, and keeps nothing else from coming: it may as well be next.
    fn free_sight(&mut self, state: &State, latest: Time, next: &[usize]) -> Option<usize> {
        let ends = self.undone(state).map(|(_, atom)| atom.end);
        let next_end = ends.filter(|end| *end >= latest).min()?;
        next.iter().copied().find(|number| {
            let atom = &self.atoms[*number];
            let is_free = atom.must && atom.call <= next_end;
            match &atom.effect {
                Effect::See { key, sight } if is_free => {
                    fits(sight, self.contents.of(state.names[*key]))
                }
                _ => false,
            }
        })
    }

    fn takes(&mut self, state: &State, latest: Time, atom: usize) -> bool {
        let Some(mut after) = self.apply(state, atom) else {
            return false;
        };
        after.done[atom / 64] |= 1 << (atom % 64);
        self.order.push(atom);
        let call = self.atoms[atom].call;
        if self.goes_on(&after, latest.max(call)) {
            return true;
        }
        self.order.pop();
        false
    }

    /// The state after an atom, if it may come now.
    fn apply(&mut self, state: &State, number: usize) -> Option<State> {
        let atom = &self.atoms[number];
        let mut after = state.clone();
        match &atom.effect {
            Effect::See { key, sight } => {
                let there = self.contents.of(state.names[*key]);
                fits(sight, there).then_some(after)
            }
            Effect::Change(change) => {
                self.change(change, state, &mut after)?;
                Some(after)
            }
            Effect::Decide(change) => {
                let (from, to) = change.names();
                after
                    .seen
                    .push((number, state.names[from], state.names[to]));
                Some(after)
            }
            Effect::Again(change) => {
                if state.names[change.names().1] != NOTHING {
                    return None;
                }
                self.change(change, state, &mut after)?;
                Some(after)
            }
            Effect::Arrive { decided, change } => {
                let (from, to) = change.names();
                let now = (state.names[from], state.names[to]);
                if state.seen(*decided)? != now {
                    return None;
                }
                self.change(change, state, &mut after)?;
                Some(after)
            }
            Effect::Copy { change, left } => {
                if left.is_some_and(|left| state.is_done(left)) {
                    return None;
                }
                let (from, to) = change.names();
                after
                    .seen
                    .push((number, state.names[from], state.names[to]));
                self.change(change, state, &mut after)?;
                Some(after)
            }
            Effect::Leave(leave) => {
                let there = state.names[leave.from];
                let copied = state.seen(leave.copy).map(|(copied, _)| copied);
                match copied {
                    Some(copied) if there == copied => after.names[leave.from] = NOTHING,
                    // Somebody has written it anew: it stays.
                    Some(_) if there != NOTHING || leave.may_lack => {}
                    None if leave.may_lack && there == NOTHING => {}
                    None if leave.may_stay => {}
                    _ => return None,
                }
                Some(after)
            }
        }
    }

    fn change(&mut self, change: &Change, state: &State, after: &mut State) -> Option<()> {
        match change {
            Change::Write {
                key,
                content,
                only_new,
            } => {
                if *only_new && state.names[*key] != NOTHING {
                    return None;
                }
                after.names[*key] = self.contents.id(content.clone());
            }
            Change::Append { key, at, chunk } => {
                let there = self.contents.of(state.names[*key]);
                let there = there.cloned().unwrap_or_default();
                let kept = match at {
                    Some(at) if *at > there.size() => return None,
                    Some(at) => there.first(*at),
                    None => there,
                };
                after.names[*key] = self.contents.id(kept.and(*chunk));
            }
            Change::Delete { key } => after.names[*key] = NOTHING,
            Change::Copy { from, to, only_new } => {
                let (source, target) = (state.names[*from], state.names[*to]);
                let is_free = !*only_new || target == NOTHING || target == source;
                if source == NOTHING || !is_free {
                    return None;
                }
                after.names[*to] = source;
            }
        }
        Some(())
    }
}

fn fits(sight: &Sight, there: Option<&Content>) -> bool {
    match sight {
        Sight::Nothing => there.is_none(),
        Sight::Content(content) => there == Some(content),
        Sight::Size(size) => there.is_some_and(|there| there.size() == *size),
    }
}
