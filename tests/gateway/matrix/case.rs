//! One run of the matrix: what is uploaded, and what goes wrong. All of it follows from the seed.

use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use crate::support::MIB;

/// Every so many runs there is one of more than a part: they cost a hundred times as much.
const LARGE_EVERY: u64 = 9;

/// The smallest part that S3 takes, so the smallest multipart upload.
pub(super) const PART: usize = 5 * MIB;

/// A run.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) seed: u64,
    pub(super) size: Size,
    pub(super) target: Target,
    pub(super) trouble: Trouble,
    pub(super) moment: Moment,
    /// Bytes that are there already; nothing is there for a new name.
    pub(super) old: usize,
    /// Bytes that the client sends.
    pub(super) new: usize,
    /// `REST` and `STOR` instead of `APPE`, where either will do.
    pub(super) by_restart: bool,
    /// The moment waits until the multipart upload has begun, if it will.
    pub(super) begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// One `PutObject`.
    Small,
    /// A multipart upload.
    Large,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    NewName,
    Existing,
    Append,
    AppendToNothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    Client(Cut),
    Store(Step, Fault),
    /// SIGKILL, and a new gateway on the same bucket.
    GatewayKilled,
}

/// How the client fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The kernel closes its sockets, the data connection first.
    Killed,
    Abor,
    TelnetAbor,
    DataReset,
    /// The control connection breaks; the data connection then ends as if all were well.
    ControlReset,
    ControlClosed,
    /// It goes silent and stays.
    Stalled,
}

/// Where the store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Put,
    Create,
    Part,
    Complete,
    /// It takes an ABOR to get there.
    Abort,
    /// Reading what an append adds to, if it is small.
    Base,
    /// Copying it, if it is large.
    Copy,
    /// Looking what it is, and whether it is still the same.
    Check,
}

/// How the store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Refused once with this status, then taken.
    Once(u16),
    /// Refused with this status, however often it is tried.
    Always(u16),
    /// Done, but the first answer is lost.
    LostOnce,
    /// Done, but every answer is lost.
    Lost,
    /// Done, but the answer's body breaks off.
    Broken,
    /// Neither done nor answered while anyone waits.
    Silent,
}

/// When the client fails or the gateway is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// After so many bytes; after all of them the data connection is still open.
    After(usize),
    /// So long after the data connection has ended: the gateway may have stored the file, or not.
    Late(Duration),
}

const TARGETS: [Target; 4] = [
    Target::NewName,
    Target::Existing,
    Target::Append,
    Target::AppendToNothing,
];

const CUTS: [Cut; 7] = [
    Cut::Killed,
    Cut::Abor,
    Cut::TelnetAbor,
    Cut::DataReset,
    Cut::ControlReset,
    Cut::ControlClosed,
    Cut::Stalled,
];

const FAULTS: [Fault; 8] = [
    Fault::Once(500),
    Fault::Once(503),
    Fault::Always(500),
    Fault::Always(503),
    Fault::LostOnce,
    Fault::Lost,
    Fault::Broken,
    Fault::Silent,
];

/// All that can go wrong with each size.
static SMALL: LazyLock<Vec<(Target, Trouble)>> =
    LazyLock::new(|| cells(&[Step::Put, Step::Base, Step::Check]));
static LARGE: LazyLock<Vec<(Target, Trouble)>> = LazyLock::new(|| {
    let steps = [
        Step::Create,
        Step::Part,
        Step::Complete,
        Step::Abort,
        Step::Base,
        Step::Copy,
        Step::Check,
    ];
    // Most moments to be killed at are here.
    let kills = TARGETS.map(|target| (target, Trouble::GatewayKilled));
    [cells(&steps), kills.repeat(4)].concat()
});

fn cells(steps: &[Step]) -> Vec<(Target, Trouble)> {
    let mut troubles = vec![Trouble::None, Trouble::GatewayKilled];
    troubles.extend(CUTS.map(Trouble::Client));
    for step in steps {
        troubles.extend(FAULTS.map(|fault| Trouble::Store(*step, fault)));
    }
    let each = |trouble| TARGETS.map(|target| (target, trouble));
    let cells = troubles.into_iter().flat_map(each);
    cells
        .filter(|(target, trouble)| trouble.concerns(*target))
        .collect()
}

impl Case {
    /// Seeds that follow each other go through all cells in turn; all else is drawn.
    pub(super) fn of(seed: u64) -> Self {
        let large = seed.is_multiple_of(LARGE_EVERY);
        let (size, cells, nth) = if large {
            (Size::Large, &*LARGE, seed / LARGE_EVERY)
        } else {
            (Size::Small, &*SMALL, seed - seed / LARGE_EVERY - 1)
        };
        let nth = usize::try_from(nth % cells.len() as u64).expect("an index");
        let (target, trouble) = cells[nth];
        let mut dice = Dice(seed);
        let (old, new) = match size {
            Size::Small => dice.small_sizes(target),
            Size::Large => dice.large_sizes(target, trouble),
        };
        Self {
            seed,
            size,
            target,
            trouble,
            moment: dice.moment(size, trouble, new),
            old,
            new,
            // `REST 0` would be a plain STOR.
            by_restart: target == Target::Append && old > 0 && dice.one_in(2),
            begun: size == Size::Large && dice.one_in(2),
        }
    }

    /// The command that uploads, and the `REST` before it.
    pub(super) fn command(&self, name: &str) -> (Option<String>, String) {
        let appends = matches!(self.target, Target::Append | Target::AppendToNothing);
        match (appends, self.by_restart) {
            (true, true) => (Some(format!("REST {}", self.old)), format!("STOR {name}")),
            (true, false) => (None, format!("APPE {name}")),
            (false, _) => (None, format!("STOR {name}")),
        }
    }

    pub(super) fn is_append(&self) -> bool {
        self.target == Target::Append
    }

    /// Whether so many bytes of the client's are enough to begin a multipart upload.
    pub(super) fn begins_with(&self, sent: usize) -> bool {
        let base = if self.is_append() { self.old } else { 0 };
        self.size == Size::Large && base + sent >= PART
    }

    /// Whether something is at the name.
    pub(super) fn exists(&self) -> bool {
        matches!(self.target, Target::Existing | Target::Append)
    }
}

impl Trouble {
    /// A base is read or copied, and looked at before and after, by appends only.
    fn concerns(self, target: Target) -> bool {
        match self {
            Self::Store(Step::Base | Step::Copy, _) => target == Target::Append,
            Self::Store(Step::Check, _) => {
                matches!(target, Target::Append | Target::AppendToNothing)
            }
            _ => true,
        }
    }
}

impl Step {
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::Put => "PutObject",
            Self::Create => "CreateMultipartUpload",
            Self::Part => "UploadPart",
            Self::Complete => "CompleteMultipartUpload",
            Self::Abort => "AbortMultipartUpload",
            Self::Base => "GetObject",
            Self::Copy => "UploadPartCopy",
            Self::Check => "HeadObject",
        }
    }
}

/// Draws what the cell leaves open (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn within(&mut self, range: Range<usize>) -> usize {
        let width = (range.end - range.start) as u64;
        range.start + usize::try_from(self.next() % width).expect("a small number")
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.next().is_multiple_of(of)
    }

    fn small(&mut self) -> usize {
        let drawn = [0, 1, 16 * 1024, 70_000, self.within(2..200_000)];
        drawn[self.within(0..drawn.len())]
    }

    /// An append of nothing would change nothing, whatever fails.
    fn small_sizes(&mut self, target: Target) -> (usize, usize) {
        match target {
            Target::NewName | Target::AppendToNothing => (0, self.small()),
            Target::Existing => (self.small(), self.small()),
            Target::Append => (self.small().max(1), self.small().max(1)),
        }
    }

    /// At least one full part in all; of an append, either side may be the large one: the store copies
    /// a large base, and a small one is read.
    fn large_sizes(&mut self, target: Target, trouble: Trouble) -> (usize, usize) {
        let large = match self.within(0..5) {
            0 => PART,
            1 => PART + 1,
            2 => 2 * PART + self.within(0..MIB),
            _ => self.within(PART + 1..2 * PART),
        };
        let large_base = match trouble {
            Trouble::Store(Step::Base, _) => false,
            Trouble::Store(Step::Copy, _) => true,
            _ => self.one_in(3),
        };
        match target {
            Target::NewName | Target::AppendToNothing => (0, large),
            Target::Append if large_base => (large, self.small().max(1)),
            Target::Append => (self.small().max(1), large),
            Target::Existing => (self.small(), large),
        }
    }

    fn moment(&mut self, size: Size, trouble: Trouble, bytes: usize) -> Moment {
        // Up to here libunftp, the store and the reply may have come when the gateway is killed.
        let latest = match trouble {
            Trouble::Client(Cut::DataReset | Cut::Stalled) | Trouble::Store(..) => 0,
            Trouble::GatewayKilled if size == Size::Large => 200_000,
            _ => 8000,
        };
        match self.within(0..4) {
            0 => Moment::After(0),
            1 => Moment::After(self.within(0..bytes + 1)),
            2 if latest > 0 => {
                let micros = self.within(0..latest);
                Moment::Late(Duration::from_micros(micros as u64))
            }
            _ => Moment::After(bytes),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, old, new, .. } = self;
        let (restart, command) = self.command("NAME");
        let restart = restart.map(|rest| format!("{rest}, ")).unwrap_or_default();
        write!(f, "seed {seed}: {restart}{command} of {new} bytes ")?;
        match self.target {
            Target::NewName | Target::AppendToNothing => write!(f, "to a new name")?,
            Target::Existing => write!(f, "over {old} bytes")?,
            Target::Append => write!(f, "after {old} bytes")?,
        }
        write!(f, ", {:?}: ", self.size)?;
        match (self.trouble, self.moment) {
            (Trouble::None, _) => write!(f, "nothing goes wrong"),
            (Trouble::Store(Step::Abort, fault), _) => {
                write!(f, "ABOR, and the store fails at its abort: {fault:?}")
            }
            (Trouble::Store(step, fault), _) => write!(f, "the store fails at {step:?}: {fault:?}"),
            (trouble, Moment::After(bytes)) => {
                let begun = self.begun && self.begins_with(bytes);
                let begun = if begun { ", upload begun" } else { "" };
                write!(f, "{trouble:?} after {bytes} bytes{begun}")
            }
            (trouble, Moment::Late(by)) => {
                write!(f, "{trouble:?} {by:?} after the end of the data")
            }
        }
    }
}

#[test]
fn the_default_runs_go_through_every_cell() {
    let seeds = (super::SEED..).zip(0..super::RUNS);
    let cases: Vec<_> = seeds.map(|(seed, _)| Case::of(seed)).collect();
    for (size, cells) in [(Size::Small, &*SMALL), (Size::Large, &*LARGE)] {
        for (target, trouble) in cells {
            let is_of = |case: &&Case| {
                case.size == size && case.target == *target && case.trouble == *trouble
            };
            assert!(
                cases.iter().any(|case| is_of(&case)),
                "{size:?} {target:?} {trouble:?}"
            );
        }
    }
}
