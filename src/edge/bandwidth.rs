//! How fast transfers may go: per session, and for all sessions of a user together.
//!
//! A rate is a bucket of tokens, one a byte. A transfer takes tokens for one turn, a fiftieth of a
//! second's, and waits until they are there; then it moves as many bytes, and queues up again behind
//! the others.
//!
//! Promises:
//! - Never more than a second's bytes at once, whoever has rested for how long: the bucket holds a
//!   quarter of a second, and what a transfer has taken and not used it gives back at once.
//! - Fair among a user's sessions: they take equal turns, one after the other.
//! - A transfer that waits for its turn moves something regularly: with so many sessions of one user, all
//!   at work, every so many fiftieths of a second. So a timeout of seconds does not take it for one that
//!   stalls.
//! - Where no rate is set, nothing stands between a transfer and its socket.
//!
//! Why no crate does it: governor counts by a clock that tests can't turn, and lets waiters overtake
//! each other; leaky-bucket takes nothing back; async-speed-limit speaks the traits of `futures`.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prometheus::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::auth::User;
use crate::config::{ByteSize, Limits};
use crate::session::{DataStream, TransferKind};
use crate::telemetry::Metrics;

/// What the bucket of a rate holds: what may go at once after a rest.
const BURST: Duration = Duration::from_millis(250);

/// Turns in a second.
const TURNS: u64 = 50;

/// No turn is larger, however high the rate.
const MAX_TURN: u64 = 256 * 1024;

/// Users whose rates are remembered before it is looked which ones are needless.
const FEW_USERS: usize = 64;

/// All rates of a gateway.
#[derive(Debug)]
pub(super) struct Bandwidth {
    limits: Limits,
    users: Mutex<UserRates>,
    throttled: [Counter; 2],
}

/// By name. A user's bucket outlives its sessions until it is full again: else a new session for each
/// file would get a full one.
#[derive(Debug)]
struct UserRates {
    rates: HashMap<String, [Option<Arc<Rate>>; 2]>,
    sweep_at: usize,
}

/// What holds for the transfers of one session: uploads, downloads.
#[derive(Debug, Default)]
pub(super) struct SessionRates([Vec<Arc<Rate>>; 2]);

/// Which way bytes go; also the place in a pair of rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Bandwidth {
    pub(super) fn new(limits: &Limits, metrics: &Metrics) -> Self {
        let throttled = |direction| metrics.throttled_seconds.with_label_values(&[direction]);
        Self {
            limits: limits.clone(),
            users: Mutex::new(UserRates {
                rates: HashMap::new(),
                sweep_at: FEW_USERS,
            }),
            throttled: [throttled("upload"), throttled("download")],
        }
    }

    /// The rates for a session of `user`, who has just logged in.
    pub(super) fn rates_for(&self, user: &User) -> SessionRates {
        let (limits, own) = (&self.limits, &user.allowance);
        let of_session = [limits.upload_rate, limits.download_rate];
        let of_user = [
            own.upload_rate.or(limits.upload_rate_per_user),
            own.download_rate.or(limits.download_rate_per_user),
        ];
        let mut rates =
            SessionRates(of_session.map(|rate| rate.map(Rate::new).into_iter().collect()));
        if of_user != [None, None] {
            let shared = self.users().of(&user.name, of_user);
            for (rates, shared) in rates.0.iter_mut().zip(shared) {
                rates.extend(shared);
            }
        }
        rates
    }

    /// The stream at the session's rates; itself, if there are none. Listings have none.
    pub(super) fn throttled(
        &self,
        rates: &SessionRates,
        kind: TransferKind,
        stream: DataStream,
    ) -> DataStream {
        let way = match kind {
            TransferKind::Store(_) => Way::Up,
            TransferKind::Retrieve { .. } => Way::Down,
            TransferKind::List(_) => return stream,
        };
        let rates = &rates.0[way as usize];
        if rates.is_empty() {
            return stream;
        }
        let pace = Pace::new(rates.clone(), self.throttled[way as usize].clone());
        Box::new(Throttled {
            inner: stream,
            way,
            pace,
        })
    }

    fn users(&self) -> MutexGuard<'_, UserRates> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UserRates {
    /// The rates that all sessions of a user share; changed, if the users file was.
    fn of(&mut self, name: &str, wanted: [Option<ByteSize>; 2]) -> [Option<Arc<Rate>>; 2] {
        if self.rates.len() >= self.sweep_at {
            let now = Instant::now();
            self.rates
                .retain(|_, rates| rates.iter().flatten().any(|rate| rate.is_needed(now)));
            self.sweep_at = FEW_USERS.max(self.rates.len() * 2);
        }
        let rates = self.rates.entry(name.to_owned()).or_default();
        for (rate, wanted) in rates.iter_mut().zip(wanted) {
            match (&rate, wanted) {
                (_, None) => *rate = None,
                (Some(rate), Some(wanted)) => rate.change(wanted),
                (None, Some(wanted)) => *rate = Some(Rate::new(wanted)),
            }
        }
        rates.clone()
    }
}

/// One bucket.
#[derive(Debug)]
struct Rate(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    per_second: u64,
    /// When all that was taken would be paid for, at the rate.
    taken_until: Instant,
}

impl Rate {
    fn new(per_second: ByteSize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Bucket {
            per_second: per_second.0.max(1),
            taken_until: Instant::now(),
        })))
    }

    fn change(&self, per_second: ByteSize) {
        self.bucket().per_second = per_second.0.max(1);
    }

    /// The bytes of one turn of so many in a second.
    fn turn(&self, turns: u64) -> u64 {
        (self.bucket().per_second / turns).clamp(1, MAX_TURN)
    }

    /// Takes tokens for so many bytes, and says when they are there: in the order of asking.
    fn take(&self, bytes: u64, now: Instant) -> Instant {
        let mut bucket = self.bucket();
        bucket.taken_until = bucket.taken_until.max(now) + bucket.time_of(bytes);
        bucket.taken_until.checked_sub(BURST).unwrap_or(now)
    }

    fn give_back(&self, bytes: u64) {
        let mut bucket = self.bucket();
        let earlier = bucket.taken_until.checked_sub(bucket.time_of(bytes));
        bucket.taken_until = earlier.unwrap_or(bucket.taken_until);
    }

    /// Whether a session has it, or it is not full again.
    fn is_needed(self: &Arc<Self>, now: Instant) -> bool {
        Arc::strong_count(self) > 1 || self.bucket().taken_until > now
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn time_of(&self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.per_second);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// What one transfer has taken of its rates, for one turn.
#[derive(Debug)]
struct Pace {
    /// The one that is shared with other sessions last.
    rates: Vec<Arc<Rate>>,
    /// Bytes that were taken and have not been moved.
    taken: u64,
    since: Instant,
    /// Until they are there.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Seconds that were waited.
    throttled: Counter,
}

impl Pace {
    fn new(rates: Vec<Arc<Rate>>, throttled: Counter) -> Self {
        Self {
            rates,
            taken: 0,
            since: Instant::now(),
            waiting: None,
            throttled,
        }
    }

    /// How many bytes may be moved now: at least one. The turn has to be ended.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        if self.taken == 0 {
            self.begin_turn();
        }
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(context));
            self.waiting = None;
            self.throttled.inc_by(self.since.elapsed().as_secs_f64());
        }
        Poll::Ready(usize::try_from(self.taken).unwrap_or(usize::MAX))
    }

    fn begin_turn(&mut self) {
        let now = Instant::now();
        let turn = self.turn();
        let takes = self.rates.iter().map(|rate| rate.take(turn, now));
        let until = takes.max().unwrap_or(now);
        self.taken = turn;
        self.since = now;
        self.waiting = (until > now).then(|| Box::pin(sleep_until(until)));
    }

    /// As large as those of the others, or a session with a low rate of its own would get less than
    /// that; but no larger than half a second at its own rate.
    fn turn(&self) -> u64 {
        let Some((shared, own)) = self.rates.split_last() else {
            return MAX_TURN;
        };
        let own = own.iter().map(|rate| rate.turn(2));
        own.fold(shared.turn(TURNS), u64::min)
    }

    /// Ends the turn: what was not moved is given back at once, so that nobody has more than what it
    /// waits for.
    fn end_turn(&mut self, moved: usize) {
        let unused = std::mem::take(&mut self.taken).saturating_sub(moved as u64);
        for rate in &self.rates {
            rate.give_back(unused);
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.end_turn(0);
    }
}

/// A stream one way of which is as fast as its rates allow.
#[derive(Debug)]
struct Throttled<S> {
    inner: S,
    way: Way,
    pace: Pace,
}

impl<S: AsyncRead + Unpin> AsyncRead for Throttled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.way != Way::Up {
            return Pin::new(&mut this.inner).poll_read(context, buffer);
        }
        let most = ready!(this.pace.poll_turn(context)).min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        let polled = Pin::new(&mut this.inner).poll_read(context, &mut part);
        let read = part.filled().len();
        buffer.advance(read);
        this.pace.end_turn(read);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Throttled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.way != Way::Down {
            return Pin::new(&mut this.inner).poll_write(context, bytes);
        }
        let most = ready!(this.pace.poll_turn(context)).min(bytes.len());
        let polled = Pin::new(&mut this.inner).poll_write(context, &bytes[..most]);
        let written = match &polled {
            Poll::Ready(Ok(written)) => *written,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        this.pace.end_turn(written);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
