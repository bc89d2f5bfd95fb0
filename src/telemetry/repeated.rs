//! Lines of the log that somebody can cause as often as they like: a few a minute, then one that says how many more there
//! were.
//!
//! Promises:
//! - Of one kind and one origin, [`LINES_PER_WINDOW`] lines are written within [`WINDOW`] from the first. When that is
//!   over, one more line has the exact number of those that were left out. Metrics count all of them.
//! - Bounded: [`MAX_PAIRS`] kinds and origins at a time. The one that began first is given up for one more, and its line
//!   with the number is written then.
//! - Nothing is left out in silence: at the end of the process the numbers are written too.
//!
//! What it costs: whoever comes from more origins than are remembered gets five lines from each.
//! Must not: know what an origin is.

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Lines of one kind and origin that are written within the window.
const LINES_PER_WINDOW: u64 = 5;

/// How long lines are counted together.
const WINDOW: Duration = Duration::from_mins(1);

/// How many kinds and origins are counted at a time.
const MAX_PAIRS: usize = 4096;

/// How often it is looked for windows that are over.
const LOOK: Duration = Duration::from_secs(1);

/// A kind of line that somebody who has not logged in can cause at will, or a user by commands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineKind {
    /// The system gives no more connections.
    AcceptFailed,
    /// A connection was turned away.
    ConnectionRefused,
    /// A session was ended before its login.
    SessionRefused,
    /// A login was refused.
    LoginRefused,
    /// A login was right, and its user has too many sessions.
    TooManySessions,
    /// A transfer was refused before any byte of it.
    TransferRefused,
    /// A handshake on a control connection failed.
    HandshakeFailed,
    /// A handshake on a data connection failed, or took too long.
    DataHandshakeFailed,
    /// A data connection has not resumed its control connection's TLS session.
    DataNotResumed,
    /// A stranger has connected to a passive port.
    StrangerAtPort,
    /// A data connection's late PROXY header names somebody else.
    LateHeaderRefused,
    /// A trusted proxy has sent no PROXY header, or a bad one.
    ProxyHeaderRefused,
    /// Somebody who is no trusted proxy has sent a PROXY header.
    ProxyHeaderOfStranger,
    /// An active data connection to somebody else was asked for.
    ActiveTargetRefused,
    /// An active data connection could not be made.
    ActiveFailed,
    /// No passive port is free.
    NoPassivePort,
    /// A passive port was taken back.
    PassivePortTakenBack,
    /// No transfer can begin, because too few open files are left.
    NoTransfer,
}

impl LineKind {
    /// What the line with the number calls it.
    fn name(self) -> &'static str {
        match self {
            Self::AcceptFailed => "can't accept a connection",
            Self::ConnectionRefused => "connection refused",
            Self::SessionRefused => "session refused",
            Self::LoginRefused => "login refused",
            Self::TooManySessions => "login refused, too many sessions of its user",
            Self::TransferRefused => "transfer refused",
            Self::HandshakeFailed => "TLS handshake failed",
            Self::DataHandshakeFailed => "TLS handshake of a data connection failed",
            Self::DataNotResumed => "data connection refused, not resumed",
            Self::StrangerAtPort => "data connection from a stranger refused",
            Self::LateHeaderRefused => "data connection refused, for its late PROXY header",
            Self::ProxyHeaderRefused => "connection from a trusted proxy refused",
            Self::ProxyHeaderOfStranger => "connection refused, PROXY header of a stranger",
            Self::ActiveTargetRefused => "active data connection to somebody else refused",
            Self::ActiveFailed => "can't connect to a client in active mode",
            Self::NoPassivePort => "no passive port is free",
            Self::PassivePortTakenBack => "passive port taken back",
            Self::NoTransfer => "no transfer can begin",
        }
    }

    /// Whether its lines are at level INFO, and not WARN.
    fn is_info(self) -> bool {
        matches!(
            self,
            Self::ConnectionRefused
                | Self::SessionRefused
                | Self::TransferRefused
                | Self::HandshakeFailed
                | Self::DataHandshakeFailed
        )
    }
}

/// Decides which lines are written; see the module.
#[derive(Debug)]
pub struct RepeatedLines<O>(Mutex<Windows<O>>);

/// The windows that have begun, the first one in front.
#[derive(Debug)]
struct Windows<O> {
    lines: HashMap<Pair<O>, u64>,
    begun: VecDeque<(Instant, Pair<O>)>,
    capacity: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pair<O> {
    kind: LineKind,
    origin: O,
}

/// How many lines were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LeftOut<O> {
    pair: Pair<O>,
    lines: u64,
}

impl<O: Copy + Eq + Hash + Display> RepeatedLines<O> {
    /// Nothing has been written yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(Windows::new(MAX_PAIRS)))
    }

    /// Whether one more line of this kind is to be written. If not, it is counted.
    #[must_use]
    pub fn permits(&self, kind: LineKind, origin: O) -> bool {
        let pair = Pair { kind, origin };
        let (is_permitted, fallen_out) = {
            let mut windows = self.windows();
            let fallen_out = windows.make_room(&pair, Instant::now());
            (windows.count(pair), fallen_out)
        };
        write(fallen_out);
        is_permitted
    }

    /// Writes the numbers of windows that are over, for ever.
    pub async fn summarise(&self) {
        loop {
            sleep(LOOK).await;
            let over = self.windows().over(Instant::now());
            write(over);
        }
    }

    /// Writes the numbers of all windows: the process ends.
    pub fn finish(&self) {
        let all = self.windows().all();
        write(all);
    }

    /// Every change under this lock is complete before anything in it can panic.
    fn windows(&self) -> MutexGuard<'_, Windows<O>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: Copy + Eq + Hash + Display> Default for RepeatedLines<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: Copy + Eq + Hash> Windows<O> {
    fn new(capacity: usize) -> Self {
        Self {
            lines: HashMap::new(),
            begun: VecDeque::new(),
            capacity,
        }
    }

    /// Begins a window for one that has none, or whose is over. What that ends.
    fn make_room(&mut self, pair: &Pair<O>, now: Instant) -> Vec<LeftOut<O>> {
        let mut ended = self.over(now);
        if self.lines.contains_key(pair) {
            return ended;
        }
        if self.begun.len() >= self.capacity {
            ended.extend(self.end_first());
        }
        self.lines.insert(*pair, 0);
        self.begun.push_back((now, *pair));
        ended
    }

    /// Counts one more line. Whether it is one of the first.
    fn count(&mut self, pair: Pair<O>) -> bool {
        let lines = self.lines.entry(pair).or_default();
        *lines += 1;
        *lines <= LINES_PER_WINDOW
    }

    fn over(&mut self, now: Instant) -> Vec<LeftOut<O>> {
        let mut over = Vec::new();
        while let Some((begun, _)) = self.begun.front()
            && now.duration_since(*begun) >= WINDOW
        {
            over.extend(self.end_first());
        }
        over
    }

    fn all(&mut self) -> Vec<LeftOut<O>> {
        let mut all = Vec::new();
        while !self.begun.is_empty() {
            all.extend(self.end_first());
        }
        all
    }

    fn end_first(&mut self) -> Option<LeftOut<O>> {
        let (_, pair) = self.begun.pop_front()?;
        let lines = self.lines.remove(&pair)?;
        let lines = lines
            .checked_sub(LINES_PER_WINDOW)
            .filter(|more| *more > 0)?;
        Some(LeftOut { pair, lines })
    }
}

fn write<O: Display>(all: Vec<LeftOut<O>>) {
    for LeftOut { pair, lines } in all {
        let (kind, origin) = (pair.kind.name(), pair.origin);
        if pair.kind.is_info() {
            tracing::info!(kind, %origin, lines, "lines of this kind were left out");
        } else {
            tracing::warn!(kind, %origin, lines, "lines of this kind were left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: LineKind = LineKind::LoginRefused;

    fn pair(origin: u32) -> Pair<u32> {
        Pair { kind: KIND, origin }
    }

    fn left_out(origin: u32, lines: u64) -> LeftOut<u32> {
        LeftOut {
            pair: pair(origin),
            lines,
        }
    }

    /// How many of so many lines are written, and what had to end for it.
    fn note(windows: &mut Windows<u32>, origin: u32, lines: u64) -> (usize, Vec<LeftOut<u32>>) {
        let (mut written, mut ended) = (0, Vec::new());
        for _ in 0..lines {
            ended.extend(windows.make_room(&pair(origin), Instant::now()));
            written += usize::from(windows.count(pair(origin)));
        }
        (written, ended)
    }

    #[tokio::test(start_paused = true)]
    async fn five_a_minute_and_then_the_number_of_the_others() {
        let mut windows = Windows::new(10);
        assert_eq!(note(&mut windows, 1, 1000), (5, vec![]));
        assert_eq!(note(&mut windows, 2, 5), (5, vec![]), "others have theirs");
        tokio::time::advance(Duration::from_millis(59_999)).await;
        assert_eq!(note(&mut windows, 1, 1), (0, vec![]));
        assert_eq!(windows.over(Instant::now()), []);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(windows.over(Instant::now()), [left_out(1, 996)]);
        assert_eq!(note(&mut windows, 1, 7), (5, vec![]), "a new minute");
        assert_eq!(windows.all(), [left_out(1, 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_after_the_minute_begins_a_new_one() {
        let mut windows = Windows::new(10);
        note(&mut windows, 1, 8);
        tokio::time::advance(WINDOW).await;
        assert_eq!(note(&mut windows, 1, 6), (5, vec![left_out(1, 3)]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_began_first_falls_out_and_tells_its_number() {
        let mut windows = Windows::new(3);
        for origin in 1..=3 {
            note(&mut windows, origin, 5 + u64::from(origin));
        }
        assert_eq!(note(&mut windows, 4, 1), (1, vec![left_out(1, 1)]));
        assert_eq!(windows.begun.len(), 3);
        assert_eq!(windows.lines.len(), 3);
        assert_eq!(windows.all(), [left_out(2, 2), left_out(3, 3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_pairs_than_there_is_room_for() {
        let lines = RepeatedLines::new();
        for origin in 0..3 * u32::try_from(MAX_PAIRS).unwrap() {
            assert!(lines.permits(KIND, origin));
        }
        assert_eq!(lines.windows().begun.len(), MAX_PAIRS);
        assert_eq!(lines.windows().lines.len(), MAX_PAIRS);
    }

    #[tokio::test(start_paused = true)]
    async fn windows_end_without_another_line() {
        let lines = RepeatedLines::new();
        assert!(lines.permits(KIND, 1_u32));
        let ended = tokio::time::timeout(WINDOW + LOOK, lines.summarise()).await;
        assert!(ended.is_err(), "it has no end");
        assert_eq!(lines.windows().begun.len(), 0);
    }
}
