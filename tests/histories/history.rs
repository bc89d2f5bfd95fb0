//! What clients have asked for, when, and what they have heard.

use std::fmt::{self, Write as _};

use doubles::Fault;

use crate::content::Content;
use crate::failing::Strike;
use crate::plan::Verb;

/// Microseconds since the history began.
pub(crate) type Time = u64;

/// After everything.
pub(crate) const NEVER: Time = Time::MAX;

/// One operation of a client's.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) client: usize,
    pub(crate) gateway: usize,
    pub(crate) verb: Verb,
    pub(crate) call: Time,
    /// When its reply came; of one whose client has hung up or was cut off, when it had ended at the latest.
    pub(crate) reply: Time,
    /// After that the gateway sends no request for it. Of one whose client has hung up, that is before the end.
    pub(crate) last_try: Time,
    pub(crate) outcome: Outcome,
    /// What was heard, for whoever reads the history.
    pub(crate) words: String,
}

/// What a client knows of its operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done.
    Done(Seen),
    /// There is no such file.
    Missing,
    /// Another has renamed the file or taken it away.
    TakenAway,
    /// It is not done.
    Refused,
    /// The gateway does not know: 451 `unresolved`.
    Unresolved,
    /// The client has hung up, or its gateway was killed.
    Unheard,
}

/// What an operation has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    Content(Content),
    Size(usize),
    Names(Vec<String>),
    /// The name that a `STOU` was given.
    Name(String),
}

/// A request of which the gateway can't know what has become of it.
#[derive(Debug, Clone)]
pub(crate) struct Doubt {
    /// What it has changed; of a request about several names, none.
    pub(crate) name: Option<String>,
    /// When the store has done it.
    pub(crate) at: Time,
    /// Whether it was late itself, and not only its answer bad: then it is the last that is heard of it.
    pub(crate) is_late: bool,
    /// What was asked.
    pub(crate) words: String,
}

/// A change that the store was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The object, below the history's own directory.
    pub(crate) name: String,
    pub(crate) at: Time,
    /// What was asked.
    pub(crate) words: String,
}

impl Doubt {
    /// Whether it may have changed this name.
    pub(crate) fn is_about(&self, name: &str) -> bool {
        self.name.as_ref().is_none_or(|of| of == name)
    }
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) records: Vec<Record>,
    /// What is wrong whatever the order.
    pub(crate) faults: Vec<String>,
    /// Requests that were late, or whose answers were bad.
    pub(crate) doubts: Vec<Doubt>,
    /// All changes of single objects that the store was asked for.
    pub(crate) asked: Vec<Asked>,
    /// For so long the gateway waits for an answer of the store; then it tries again.
    pub(crate) patience: Time,
    /// The faults of the store that have struck.
    pub(crate) struck: Vec<Fault>,
    /// How often a gateway was killed.
    pub(crate) kills: usize,
    /// The store is a folder: a rename is one call, and what the system answers is known.
    pub(crate) is_folder: bool,
    /// Calls to the system that have failed, and when.
    pub(crate) failed: Vec<(Time, Strike)>,
}

impl Outcome {
    /// In one word.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Missing => "missing",
            Self::TakenAway => "taken away",
            Self::Refused => "refused",
            Self::Unresolved => "unresolved",
            Self::Unheard => "unheard",
        }
    }
}

impl Record {
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.outcome, Outcome::Done(_))
    }

    /// Whether it may have done something, as far as its client knows.
    pub(crate) fn may_be_done(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Done(_) | Outcome::Unresolved | Outcome::Unheard
        )
    }
}

impl Default for History {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            faults: Vec::new(),
            doubts: Vec::new(),
            asked: Vec::new(),
            patience: NEVER,
            struck: Vec::new(),
            kills: 0,
            is_folder: false,
            failed: Vec::new(),
        }
    }
}

impl History {
    /// One line for each operation, in the order in which they began.
    pub(crate) fn told(&self) -> String {
        let mut records: Vec<_> = self.records.iter().collect();
        records.sort_by_key(|record| record.call);
        let mut text = String::new();
        for record in records {
            let _ = writeln!(text, "  {record}");
        }
        for doubt in &self.doubts {
            let (at, words) = (in_ms(doubt.at), &doubt.words);
            let _ = writeln!(text, "  {at} ms  done by the store: {words}");
        }
        for (at, strike) in &self.failed {
            let at = in_ms(*at);
            let _ = writeln!(text, "  {at} ms  {strike:?}");
        }
        text
    }
}

fn in_ms(time: Time) -> String {
    if time == NEVER {
        return "  end".to_owned();
    }
    format!("{:3}.{}", time / 1000, time / 100 % 10)
}

impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (call, reply) = (in_ms(self.call), in_ms(self.reply));
        let (client, gateway) = (self.client, self.gateway);
        let verb = self.verb.to_string();
        write!(
            formatter,
            "{call} – {reply} ms  c{client}@g{gateway}  {verb:24}  "
        )?;
        match &self.outcome {
            Outcome::Done(Seen::Content(content)) => {
                write!(formatter, "{content} {}", self.words)
            }
            Outcome::Done(Seen::Size(size)) => write!(formatter, "{size} bytes"),
            Outcome::Done(Seen::Names(names)) => write!(formatter, "{names:?}"),
            outcome => write!(formatter, "{outcome:?} {}", self.words),
        }
    }
}
