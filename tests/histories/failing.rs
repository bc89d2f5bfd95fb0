//! Calls to the system that fail below a folder: what a test plans, and the library that does it (`failing.c`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tempfile::TempDir;

/// How many calls of a gateway's may be struck in one history. `SLOTS` of the library.
const SLOTS: usize = 16;

/// A slot: four numbers of 32 bits, and a time of 64.
const SLOT: usize = 24;

/// At most so many calls of a history fail.
const MAX_STRIKES: usize = 6;

/// What a gateway asks of the system. The numbers are the library's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Sync = 1,
    Write,
    Link,
    Rename,
    Unlink,
    MakeDirectory,
    /// Opens a file without a name.
    Nameless,
    /// Opens a file that need not be there.
    Create,
}

/// How it goes wrong. The numbers are the library's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// `EIO`
    Io = 1,
    /// `ENOSPC`
    NoSpace,
    /// `EINTR`
    Interrupted,
    /// Half is written.
    Short,
    /// The process dies, and what it has written and not synced is lost.
    DieBefore,
    DieAfter,
    /// It is done later, and others come in between, if nothing keeps them out.
    Slow,
}

/// A fault that strikes one call of a gateway's.
#[derive(Debug, Clone)]
pub(crate) struct Strike {
    pub(crate) gateway: usize,
    pub(crate) call: Call,
    pub(crate) nth: u32,
    pub(crate) failure: Failure,
}

/// What goes wrong in one history.
pub(crate) fn strikes(dice: &mut StdRng, gateways: usize) -> Vec<Strike> {
    let mut strikes = Vec::<Strike>::new();
    for _ in 0..dice.random_range(0..=MAX_STRIKES) {
        let call = call(dice);
        let strike = Strike {
            gateway: dice.random_range(0..gateways),
            call,
            nth: dice.random_range(0..if call == Call::Sync { 16 } else { 5 }),
            failure: failure(dice, call),
        };
        // A call fails in one way.
        if !strikes.iter().any(|other| other.is_at(&strike)) {
            strikes.push(strike);
        }
    }
    strikes
}

fn call(dice: &mut StdRng) -> Call {
    let calls = [
        Call::Sync,
        Call::Sync,
        Call::Sync,
        Call::Write,
        Call::Write,
        Call::Link,
        Call::Link,
        Call::Rename,
        Call::Rename,
        Call::Unlink,
        Call::MakeDirectory,
        Call::Nameless,
        Call::Create,
    ];
    *calls.choose(dice).expect("one")
}

fn failure(dice: &mut StdRng, call: Call) -> Failure {
    let mut failures = vec![
        Failure::Io,
        Failure::NoSpace,
        Failure::DieBefore,
        Failure::DieAfter,
        Failure::Slow,
    ];
    if matches!(call, Call::Link | Call::Rename | Call::Unlink) {
        failures.extend([Failure::Slow; 3]);
    }
    if matches!(call, Call::Sync | Call::Write) {
        // It is nothing that a client has to hear of.
        failures.push(Failure::Interrupted);
    }
    if call == Call::Write {
        failures.push(Failure::Short);
    }
    *failures.choose(dice).expect("one")
}

impl Strike {
    fn is_at(&self, other: &Self) -> bool {
        let place = |strike: &Self| (strike.gateway, strike.call as u32, strike.nth);
        place(self) == place(other)
    }

    /// Whether a client has to hear of it, if it has struck.
    pub(crate) fn must_be_told(&self) -> bool {
        matches!(self.call, Call::Sync | Call::Write)
            && matches!(self.failure, Failure::Io | Failure::NoSpace)
    }
}

/// The plan of one gateway, which its process shares.
pub(crate) struct Shared {
    file: File,
    path: PathBuf,
    folder: PathBuf,
    has_no_nameless: bool,
}

impl Shared {
    /// One without any strike, for a gateway on this folder.
    pub(crate) fn new(path: PathBuf, folder: &Path, has_no_nameless: bool) -> Self {
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true);
        let file = options.open(&path).expect("a plan");
        let shared = Self {
            file,
            path,
            // As the system names it.
            folder: folder.canonicalize().expect("a folder"),
            has_no_nameless,
        };
        shared.plan(&[]);
        shared
    }

    /// What the process needs in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        let mut environment = vec![
            ("LD_PRELOAD", library().to_owned()),
            ("FAILING_PLAN", self.path.clone()),
            ("FAILING_FOLDER", self.folder.clone()),
        ];
        if self.has_no_nameless {
            environment.push(("FAILING_NO_TMPFILE", "yes".into()));
        }
        environment
    }

    /// Plans anew, and counts anew.
    pub(crate) fn plan(&self, strikes: &[&Strike]) {
        assert!(strikes.len() <= SLOTS, "too many strikes");
        let mut bytes: Vec<u8> = Vec::with_capacity(SLOTS * SLOT);
        for strike in strikes {
            for number in [strike.call as u32, strike.nth, strike.failure as u32, 0] {
                bytes.extend(number.to_ne_bytes());
            }
            bytes.extend(0_i64.to_ne_bytes());
        }
        bytes.resize(SLOTS * SLOT, 0);
        self.file.write_all_at(&bytes, 0).expect("a plan");
    }

    /// When the strike with this number has struck, if it has.
    pub(crate) fn struck(&self, number: usize) -> Option<SystemTime> {
        let mut at = [0; 8];
        let place = (number * SLOT + SLOT - at.len()) as u64;
        self.file.read_exact_at(&mut at, place).expect("a plan");
        let at = u64::from_ne_bytes(at);
        (at > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_nanos(at))
    }
}

/// The library, which is made once for each test process.
fn library() -> &'static Path {
    static MADE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("failing.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/histories/failing.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
        let made = compiler
            .arg(&library)
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .status();
        assert!(made.expect("a C compiler").success(), "failing.c compiles");
        (folder, library)
    });
    library
}
