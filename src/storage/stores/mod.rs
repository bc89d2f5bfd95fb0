//! All stores of a gateway, as one tree for each user: its home, and what is mounted there.
//!
//! Promises:
//! - A path is answered by the store of the innermost mount that it is in, with the rights that the user has there.
//! - A mount, and each directory on the way to one, is there whatever the store of the home has at that name, and nobody
//!   can remove it, rename it or put a file in its place.
//! - A store that is down is not asked.

mod breaker;
mod moving;
mod overlap;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::auth::{Permission, User};
use crate::config::{self, StoreName};
use crate::session::{
    Abort, Entry, EntryKind, Facts, FtpPath, Job, StatusPage, StoreMode, TransferKind,
};
use crate::storage::error::StorageError;
use crate::storage::verbs::contract::{
    Encode, Input, Output, Spot, StoreFront, Uploader, Verbs, permit, permit_look, permit_rename,
};
use crate::telemetry::StoreMetrics;

use breaker::Breaker;

pub use overlap::{Overlap, overlaps, stores_in_one_place};

type Result<T> = std::result::Result<T, StorageError>;

/// What the question whether a store answers may take longer than a try, or all tries, of any request.
const PROBE_SLACK: Duration = Duration::from_secs(1);

/// How long a store that has not answered that has to answer anything.
const PING: Duration = Duration::from_secs(5);

/// So many files are moved out of a store or into it at once. Each takes connections to both that no transfer has asked for.
pub const MOVES: usize = 4;

/// How long one more move waits.
const WAIT_TO_MOVE: Duration = Duration::from_secs(10);

/// The stores of a gateway.
#[derive(Debug, Default)]
pub struct Stores(BTreeMap<StoreName, Arc<One>>);

/// One of them.
#[derive(Debug)]
pub struct One {
    /// What it is called.
    pub name: StoreName,
    /// What serves it.
    pub front: Arc<dyn StoreFront>,
    /// What is counted of it.
    pub metrics: Arc<StoreMetrics>,
    /// How often it is to be asked whether it answers.
    pub probe_interval: Duration,
    /// How long it may take to say whether it answers.
    patience: Duration,
    breaker: Breaker,
    /// For each move out of it or into it that may run.
    moves: Semaphore,
}

/// Where a path leads.
struct There<'a> {
    store: &'a One,
    user: &'a User,
    /// In the user's home there.
    path: Cow<'a, FtpPath>,
    /// Where that home shows, if it is mounted.
    mount: Option<FtpPath>,
}

impl Stores {
    /// Adds a store.
    pub fn add(
        &mut self,
        name: StoreName,
        config: &config::Store,
        front: Arc<dyn StoreFront>,
        metrics: Arc<StoreMetrics>,
    ) {
        let one = One {
            name: name.clone(),
            front,
            metrics,
            probe_interval: config.probe_interval,
            patience: config
                .retry_timeout
                .max(config.request_timeout)
                .saturating_add(PROBE_SLACK),
            breaker: Breaker::new(config.retry_timeout, config.probe_interval),
            moves: Semaphore::new(MOVES),
        };
        self.0.insert(name, Arc::new(one));
    }

    /// Each store; the default one is among them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<One>> {
        self.0.values()
    }

    fn there<'a>(&'a self, user: &'a User, path: &'a FtpPath) -> Result<There<'a>> {
        let (inner, rest) = user.at(path.as_str());
        let store = self.0.get(&inner.home.store).ok_or(Abort::Internal)?;
        let is_mounted = !std::ptr::eq(user, inner);
        Ok(There {
            store,
            user: inner,
            path: if is_mounted {
                Cow::Owned(path.after(rest))
            } else {
                Cow::Borrowed(path)
            },
            mount: is_mounted.then(|| path.before(rest)),
        })
    }
}

/// Asks a store again and again whether it answers. What does not end is waited for again, and never asked a second time
/// meanwhile: a folder that hangs holds a thread for each question.
pub struct Probe<'a> {
    store: &'a One,
    probing: Option<BoxFuture<'a, Result<()>>>,
    pinging: Option<BoxFuture<'a, ()>>,
}

impl Probe<'_> {
    /// Asks, and notes whether there was an answer.
    ///
    /// # Errors
    /// Why there was none.
    pub async fn ask(&mut self) -> Result<()> {
        let (store, began) = (self.store, Instant::now());
        let probing = self.probing.get_or_insert_with(|| store.front.probe());
        let probed = match timeout(store.patience, probing).await {
            Ok(probed) => {
                self.probing = None;
                probed
            }
            Err(_) => Err(silence(store.patience)),
        };
        if probed.is_err() {
            let pinging = self.pinging.get_or_insert_with(|| store.front.ping());
            if timeout(PING, pinging).await.is_ok() {
                self.pinging = None;
            }
        }
        let answered = store.metrics.answered();
        store.breaker.probed(began, &probed, answered);
        store.metrics.show_up(probed.is_ok());
        probed
    }
}

impl One {
    /// What asks it whether it answers.
    pub fn probe(&self) -> Probe<'_> {
        Probe {
            store: self,
            probing: None,
            pinging: None,
        }
    }

    /// Awaits what is done there, unless it is down.
    async fn ask<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.breaker.pass()?;
        work.await
    }
}

fn silence(patience: Duration) -> StorageError {
    let patience = humantime::format_duration(patience);
    StorageError::StoreUnreachable(object_store::Error::Generic {
        store: "store",
        source: format!("no answer for {patience}").into(),
    })
}

impl There<'_> {
    fn spot(&self) -> Spot<'_> {
        Spot {
            user: self.user,
            path: &self.path,
        }
    }

    /// Whether it is a mount, or a directory on the way to one.
    fn is_fixed(&self) -> bool {
        let is_mount = self.mount.is_some() && self.path.is_root();
        is_mount || !self.path.is_root() && self.user.leads_to_mount(self.path.as_str())
    }

    /// That it may be taken away or given another name.
    fn check_loose(&self) -> Result<()> {
        if self.is_fixed() {
            return Err(StorageError::Mounted);
        }
        Ok(())
    }

    /// The job for what is there.
    fn job(&self, job: Job) -> Job {
        match &self.mount {
            Some(mount) => job.mounted(mount.clone(), self.path.clone().into_owned()),
            None => job,
        }
    }
}

#[async_trait]
impl Verbs for Stores {
    async fn stat(&self, user: &User, path: &FtpPath) -> Result<Entry> {
        let there = self.there(user, path)?;
        if there.is_fixed() {
            permit_look(there.user)?;
            return Ok(Entry {
                kind: EntryKind::Mount(there.user.permissions),
                ..Entry::directory(path.name())
            });
        }
        there
            .store
            .ask(there.store.front.stat(there.user, &there.path))
            .await
    }

    async fn enter(&self, user: &User, path: &FtpPath) -> Result<()> {
        let there = self.there(user, path)?;
        if there.is_fixed() || there.path.is_root() {
            return Ok(());
        }
        there
            .store
            .ask(there.store.front.enter(there.user, &there.path))
            .await
    }

    async fn make_directory(&self, user: &User, path: &FtpPath) -> Result<()> {
        let there = self.there(user, path)?;
        if there.is_fixed() {
            permit(there.user, Permission::Mkdir)?;
            return Err(StorageError::Occupied);
        }
        let made = there.store.front.make_directory(there.user, &there.path);
        there.store.ask(made).await
    }

    async fn remove_directory(&self, user: &User, path: &FtpPath) -> Result<()> {
        let there = self.there(user, path)?;
        there.check_loose()?;
        let removed = there.store.front.remove_directory(there.user, &there.path);
        there.store.ask(removed).await
    }

    async fn delete(&self, user: &User, path: &FtpPath) -> Result<()> {
        let there = self.there(user, path)?;
        there.check_loose()?;
        there
            .store
            .ask(there.store.front.delete(there.user, &there.path))
            .await
    }

    async fn rename(&self, by: Uploader<'_>, from: Spot<'_>, to: Spot<'_>) -> Result<()> {
        let old = self.there(from.user, from.path)?;
        let new = self.there(to.user, to.path)?;
        permit_rename(old.user, new.user)?;
        old.check_loose()?;
        new.check_loose()?;
        if old.store.name == new.store.name {
            let renamed = old.store.front.rename(by, old.spot(), new.spot());
            return old.store.ask(renamed).await;
        }
        old.store.breaker.pass()?;
        new.store.breaker.pass()?;
        // In the order of their names, so that no two wait for each other.
        let mut both = [old.store, new.store];
        both.sort_by(|a, b| a.name.cmp(&b.name));
        let turns = async { (both[0].moves.acquire().await, both[1].moves.acquire().await) };
        let turns = timeout(WAIT_TO_MOVE, turns).await;
        let _turns = turns.map_err(|_| StorageError::ManyMoves)?;
        moving::move_file(by, &old, &new).await
    }

    async fn upload(
        &self,
        user: &User,
        uploader: Uploader<'_>,
        job: Job,
        input: Input,
    ) -> Result<u64> {
        let path = job.path().clone();
        let (there, job) = self.lead(user, &path, job)?;
        there
            .store
            .front
            .upload(there.user, uploader, job, input)
            .await
    }

    async fn download(&self, user: &User, job: Job, output: &mut Output<'_>) -> Result<u64> {
        let path = job.path().clone();
        let (there, job) = self.lead(user, &path, job)?;
        there.store.front.download(there.user, job, output).await
    }

    async fn list(
        &self,
        user: &User,
        facts: Facts,
        job: Job,
        output: &mut Output<'_>,
        encode: &Encode<'_>,
    ) -> Result<u64> {
        let path = job.path().clone();
        let (there, job) = self.lead(user, &path, job)?;
        there
            .store
            .front
            .list(there.user, facts, job, output, encode)
            .await
    }

    async fn send_status(
        &self,
        user: &User,
        path: &FtpPath,
        guard: mpsc::Sender<StatusPage>,
    ) -> Result<String> {
        let there = self.there(user, path)?;
        let sent = there
            .store
            .front
            .send_status(there.user, &there.path, guard);
        there.store.ask(sent).await
    }

    async fn unfinished_entry(&self, user: &User, peer: IpAddr, path: &FtpPath) -> Option<Entry> {
        let there = self.there(user, path).ok()?;
        there.store.breaker.pass().ok()?;
        there
            .store
            .front
            .unfinished_entry(there.user, peer, &there.path)
            .await
    }
}

impl Stores {
    /// Where a transfer leads, and the job for what is there. A job that can't go there now has ended.
    fn lead<'a>(&'a self, user: &'a User, path: &'a FtpPath, job: Job) -> Result<(There<'a>, Job)> {
        match self.there_of_job(user, path, job.kind()) {
            Ok(there) => {
                let job = there.job(job);
                Ok((there, job))
            }
            Err(error) => {
                job.finish(error.report(0));
                Err(error)
            }
        }
    }

    /// Where a transfer leads, if it can go there now.
    fn there_of_job<'a>(
        &'a self,
        user: &'a User,
        path: &'a FtpPath,
        kind: TransferKind,
    ) -> Result<There<'a>> {
        let there = self.there(user, path)?;
        let is_named = !matches!(
            kind,
            TransferKind::List(_) | TransferKind::Store(StoreMode::Unique)
        );
        if there.is_fixed() && is_named {
            return Err(StorageError::IsDirectory);
        }
        there.store.breaker.pass()?;
        Ok(there)
    }
}
