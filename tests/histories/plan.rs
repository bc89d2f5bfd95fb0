//! What happens in one history: who asks for what, and what goes wrong. All of it follows from the seed.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::adversary::{self, Kind};
use crate::content::{Chunk, SMALL};
use crate::failing;
use crate::lane::Lane;
use crate::support::real;
use doubles::Strike;

/// Histories of so many seeds that follow each other have the same settings, and may share their gateways.
pub(crate) const BATCH: u64 = 10;

/// A part is 5 MiB, the least that S3 takes.
const LARGE: usize = (5 << 20) + SMALL;

/// Everything that is decided before a history begins.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) clients: Vec<Vec<Step>>,
    pub(crate) strikes: Vec<Strike>,
    pub(crate) kills: Vec<Kill>,
    /// Calls to the system that fail.
    pub(crate) failing: Vec<failing::Strike>,
}

/// A gateway that is killed.
#[derive(Debug, Clone)]
pub(crate) struct Kill {
    pub(crate) gateway: usize,
    pub(crate) when: When,
}

/// The moment of a kill.
#[derive(Debug, Clone)]
pub(crate) enum When {
    /// So long after the history began.
    After(Duration),
    /// Once the store has been asked for an operation so many times and once more.
    Asked { operation: &'static str, nth: usize },
}

/// One operation.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) verb: Verb,
    pub(crate) gateway: usize,
    pub(crate) pause: Duration,
    pub(crate) hang_up: Option<HangUp>,
}

/// When a client hangs up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HangUp {
    /// Amid its data.
    Early,
    /// So long after it has sent everything.
    Late(Duration),
}

/// What is asked for. Paths are below the history's own directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verb {
    Store {
        key: String,
        chunk: Chunk,
    },
    Append {
        key: String,
        chunk: Chunk,
    },
    /// `REST` at so many bytes, and `STOR`.
    Restart {
        key: String,
        at: usize,
        chunk: Chunk,
    },
    /// `STOU` in the directory.
    Unique {
        key: String,
        chunk: Chunk,
    },
    Retrieve {
        key: String,
    },
    Size {
        key: String,
    },
    Delete {
        key: String,
    },
    Rename {
        from: String,
        to: String,
    },
    RenameDirectory {
        from: String,
        to: String,
    },
    MakeDirectory {
        path: String,
    },
    RemoveDirectory {
        path: String,
    },
    List {
        path: String,
    },
    Names {
        path: String,
    },
}

/// The settings that a batch of seeds has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) retry_timeout: u64,
    pub(crate) request_timeout: u64,
    pub(crate) deny: bool,
    /// There is one gateway. It keeps its clients apart, also on an S3 store that refuses conditions. What is given up
    /// there and arrives late nothing keeps out; so nothing is late there.
    pub(crate) alone: bool,
    /// The folder's file system has no files without a name, where calls to the system fail at all.
    pub(crate) named_stages: bool,
}

impl Settings {
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed / BATCH);
        let settings = Self {
            retry_timeout: *[50, 120, 200, 600].choose(&mut dice).expect("one"),
            request_timeout: *[80, 150].choose(&mut dice).expect("one"),
            deny: dice.random_ratio(1, 4),
            alone: dice.random_ratio(1, 8) || real::is_for_one_gateway(),
            named_stages: dice.random_ratio(1, 3),
        };
        if settings.alone {
            return Self {
                retry_timeout: PATIENT,
                request_timeout: PATIENT,
                ..settings
            };
        }
        settings
    }

    /// The same for a store of which nobody knows which of its answers were given up: none is.
    pub(crate) fn patient(self) -> Self {
        Self {
            retry_timeout: MOST_PATIENT,
            request_timeout: MOST_PATIENT,
            ..self
        }
    }

    /// Whether the store refuses conditions.
    pub(crate) fn refuses_conditions(self, kind: Kind, lane: Lane) -> bool {
        self.alone && kind == Kind::S3 && lane == Lane::Here
    }
}

/// Longer than a request takes where many histories run side by side, in milliseconds.
const PATIENT: u64 = 1500;

/// Longer than a request takes of a server that is slow and shares its machine, in milliseconds.
const MOST_PATIENT: u64 = 10_000;

/// Files and directories; names that are equal below `d` and `e` are the same file before and after a rename.
const FILES: [&str; 6] = ["a", "b", "d/a", "d/b", "e/a", "e/b"];
pub(crate) const DIRECTORIES: [&str; 2] = ["d", "e"];

impl Plan {
    pub(crate) fn of(seed: u64, kind: Kind, lane: Lane) -> Self {
        let mut dice = StdRng::seed_from_u64(seed ^ 0x5eed);
        let settings = Settings::of(seed);
        let mut maker = Maker {
            lane,
            large: dice.random_ratio(1, lane.large_one_in()),
            files: busy_files(&mut dice),
            gateways: if settings.alone { 1 } else { 2 },
            chunks: 0,
            dice,
        };
        let mut clients = maker.clients();
        let mut strikes = adversary::strikes(
            &mut maker.dice,
            kind,
            settings.refuses_conditions(kind, lane),
        );
        if lane == Lane::Real {
            strikes.clear();
        }
        let mut kills = Vec::new();
        if lane.has_kills() {
            let dice = &mut maker.dice;
            let (kill, slow) = if dice.random_ratio(1, 3) {
                let kill = adversary::kill_of_rename(dice, kind);
                clients[0] = maker.fill_and_rename();
                kill
            } else {
                adversary::kill(dice, kind, maker.gateways)
            };
            kills.push(kill);
            // Before the others: one fault strikes a request.
            strikes.splice(0..0, slow);
        }
        let mut failing = Vec::new();
        if lane == Lane::Failing {
            failing = failing::strikes(&mut maker.dice, maker.gateways);
        }
        Self {
            seed,
            clients,
            strikes,
            kills,
            failing,
        }
    }

    pub(crate) fn chunks(&self) -> Vec<Chunk> {
        let steps = self.clients.iter().flatten();
        steps.filter_map(|step| step.verb.chunk()).collect()
    }
}

/// The few files that most operations are about.
fn busy_files(dice: &mut StdRng) -> Vec<&'static str> {
    let mut files = vec![*FILES.choose(dice).expect("a file"); 3];
    files.push(FILES.choose(dice).expect("a file"));
    files.push(FILES.choose(dice).expect("a file"));
    files
}

/// Makes the steps.
struct Maker {
    lane: Lane,
    large: bool,
    files: Vec<&'static str>,
    gateways: usize,
    chunks: u32,
    dice: StdRng,
}

impl Maker {
    fn clients(&mut self) -> Vec<Vec<Step>> {
        let clients = self.dice.random_range(2..=if self.large { 3 } else { 8 });
        let steps = if self.large { 3 } else { 24 / clients + 1 };
        let mut all = Vec::new();
        for client in 0..clients {
            let gateway = client % self.gateways;
            let count = self.dice.random_range(2..=steps.max(2));
            let mut steps: Vec<_> = (0..count).map(|_| self.step(gateway)).collect();
            // So that the others find something.
            if self.dice.random() {
                let (key, chunk) = (self.file(), self.chunk());
                steps[0].verb = Verb::Store { key, chunk };
            }
            all.push(steps);
        }
        all
    }

    fn step(&mut self, gateway: usize) -> Step {
        let verb = self.verb();
        let hang_up = self.dice.random_ratio(1, 12).then(|| self.hang_up());
        Step {
            verb,
            gateway,
            pause: Duration::from_millis(
                *[0, 0, 1, 3, 10, 30].choose(&mut self.dice).expect("one"),
            ),
            hang_up,
        }
    }

    fn hang_up(&mut self) -> HangUp {
        if self.dice.random_ratio(1, 4) {
            return HangUp::Early;
        }
        HangUp::Late(Duration::from_millis(self.dice.random_range(0..40)))
    }

    fn verb(&mut self) -> Verb {
        let key = self.file();
        if self.lane.has_kills() && self.dice.random_ratio(1, 12) {
            return self.rename_directory();
        }
        match self.dice.random_range(0..100) {
            0..28 => Verb::Store {
                key,
                chunk: self.chunk(),
            },
            28..40 => Verb::Append {
                key,
                chunk: self.chunk(),
            },
            40..45 => Verb::Restart {
                key,
                at: SMALL * self.dice.random_range(1..=2),
                chunk: self.chunk(),
            },
            45..47 => Verb::Unique {
                key,
                chunk: self.chunk(),
            },
            47..60 => Verb::Retrieve { key },
            60..65 => Verb::Size { key },
            65..75 => Verb::Delete { key },
            75..85 => self.rename(key),
            85..88 => self.rename_directory(),
            88..90 => Verb::MakeDirectory {
                path: self.directory(),
            },
            90..92 => Verb::RemoveDirectory {
                path: self.directory(),
            },
            92..96 => Verb::List {
                path: self.directory(),
            },
            _ => Verb::Names {
                path: self.directory(),
            },
        }
    }

    fn rename(&mut self, from: String) -> Verb {
        let others: Vec<_> = FILES.into_iter().filter(|file| *file != from).collect();
        let busy: Vec<_> = self.files.iter().filter(|file| **file != from).collect();
        let to = match busy.choose(&mut self.dice) {
            Some(busy) if self.dice.random() => busy,
            _ => others.choose(&mut self.dice).expect("another"),
        };
        Verb::Rename {
            from,
            to: (*to).to_owned(),
        }
    }

    fn rename_directory(&mut self) -> Verb {
        let [d, e] = DIRECTORIES.map(str::to_owned);
        let (from, to) = if self.dice.random() { (d, e) } else { (e, d) };
        Verb::RenameDirectory { from, to }
    }

    /// A directory with files is renamed by the first gateway, which may be killed amid it.
    fn fill_and_rename(&mut self) -> Vec<Step> {
        let files = ["d/a", "d/b"].map(str::to_owned);
        let mut verbs: Vec<_> = Vec::new();
        for key in files {
            let chunk = self.chunk();
            verbs.push(Verb::Store { key, chunk });
        }
        let [from, to] = DIRECTORIES.map(str::to_owned);
        verbs.push(Verb::RenameDirectory { from, to });
        let steps = verbs.into_iter().map(|verb| Step {
            verb,
            gateway: 0,
            pause: Duration::ZERO,
            hang_up: None,
        });
        steps.collect()
    }

    fn file(&mut self) -> String {
        (*self.files.choose(&mut self.dice).expect("a file")).to_owned()
    }

    fn directory(&mut self) -> String {
        (*DIRECTORIES.choose(&mut self.dice).expect("one")).to_owned()
    }

    fn chunk(&mut self) -> Chunk {
        self.chunks += 1;
        let size = if self.large && self.dice.random() {
            LARGE
        } else {
            SMALL
        };
        Chunk {
            number: self.chunks,
            size,
        }
    }
}

impl Verb {
    pub(crate) fn chunk(&self) -> Option<Chunk> {
        match self {
            Self::Store { chunk, .. }
            | Self::Append { chunk, .. }
            | Self::Restart { chunk, .. }
            | Self::Unique { chunk, .. } => Some(*chunk),
            _ => None,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store { key, chunk } => write!(formatter, "STOR {key} #{}", chunk.number),
            Self::Append { key, chunk } => write!(formatter, "APPE {key} #{}", chunk.number),
            Self::Restart { key, at, chunk } => {
                write!(formatter, "REST {at} STOR {key} #{}", chunk.number)
            }
            Self::Unique { key, chunk } => write!(formatter, "STOU {key} #{}", chunk.number),
            Self::Retrieve { key } => write!(formatter, "RETR {key}"),
            Self::Size { key } => write!(formatter, "SIZE {key}"),
            Self::Delete { key } => write!(formatter, "DELE {key}"),
            Self::Rename { from, to } | Self::RenameDirectory { from, to } => {
                write!(formatter, "RNTO {from} → {to}")
            }
            Self::MakeDirectory { path } => write!(formatter, "MKD {path}"),
            Self::RemoveDirectory { path } => write!(formatter, "RMD {path}"),
            Self::List { path } => write!(formatter, "LIST {path}"),
            Self::Names { path } => write!(formatter, "NLST {path}"),
        }
    }
}
