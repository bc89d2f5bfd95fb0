//! A store of ours, as sessions and operators ask it.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::auth::User;
use crate::config;
use crate::session::{Entry, EntryKind, Facts, FtpPath, Job, OwnUploads, Report, StatusPage};
use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::store::http::command::on_behalf_of;
use crate::storage::verbs::contract::{
    Encode, Input, Output, Spot, StoreFront, Taken, Uploader, Verbs, report,
};
use crate::storage::verbs::listing;
use crate::storage::write::conditions::Tried;
use crate::storage::write::handovers::Swept;

#[async_trait]
impl Verbs for Storage {
    async fn stat(&self, user: &User, path: &FtpPath) -> Result<Entry, StorageError> {
        self.stat(user, path).await
    }

    async fn enter(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        self.enter(user, path).await
    }

    async fn make_directory(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        self.make_directory(user, path).await
    }

    async fn remove_directory(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        self.remove_directory(user, path).await
    }

    async fn delete(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        self.delete(user, path).await
    }

    async fn rename(
        &self,
        by: Uploader<'_>,
        from: Spot<'_>,
        to: Spot<'_>,
    ) -> Result<(), StorageError> {
        self.rename(by.own, from, to).await
    }

    async fn upload(
        &self,
        user: &User,
        uploader: Uploader<'_>,
        mut job: Job,
        input: Input,
    ) -> Result<u64, StorageError> {
        let given_up = job.given_up();
        let received = on_behalf_of(given_up, self.receive(user, uploader, &mut job, input)).await;
        match received {
            Ok(crc64nvme) => {
                let bytes = job.bytes();
                job.finish(Report::complete(bytes).with_checksum(crc64nvme));
                Ok(bytes)
            }
            Err(error) => report(job, Err(error)),
        }
    }

    async fn download(
        &self,
        user: &User,
        mut job: Job,
        output: &mut Output<'_>,
    ) -> Result<u64, StorageError> {
        let result = self.send(user, &mut job, output).await;
        report(job, result)
    }

    async fn list(
        &self,
        user: &User,
        facts: Facts,
        mut job: Job,
        output: &mut Output<'_>,
        encode: &Encode<'_>,
    ) -> Result<u64, StorageError> {
        let result = listing::send_listing(self, user, facts, &mut job, output, encode).await;
        report(job, result)
    }

    async fn send_status(
        &self,
        user: &User,
        path: &FtpPath,
        guard: mpsc::Sender<StatusPage>,
    ) -> Result<String, StorageError> {
        listing::send_status(self, user, path, guard).await
    }

    async fn unfinished_entry(&self, user: &User, peer: IpAddr, path: &FtpPath) -> Option<Entry> {
        let key = self.file_key(user, path).ok()?;
        Some(Entry {
            name: path.name().to_owned(),
            kind: EntryKind::File,
            size: self.unfinished_size(user, peer, &key).await?,
            modified: None,
        })
    }
}

#[async_trait]
impl StoreFront for Storage {
    async fn take(&self, own: &OwnUploads, from: Spot<'_>) -> Result<Taken, StorageError> {
        self.take(own, from).await
    }

    async fn give_away(&self, from: Spot<'_>, taken: Taken) -> Result<(), StorageError> {
        self.give_away(from, &taken).await
    }

    async fn leave_unfinished(&self) {
        if let Some(unfinished) = &self.unfinished {
            unfinished.leave_all().await;
        }
    }

    async fn probe(&self) -> Result<(), StorageError> {
        self.probe().await
    }

    async fn ping(&self) {
        self.ping().await;
    }

    async fn try_store(&self) -> Result<(), StorageError> {
        self.try_store().await
    }

    fn conditions(&self) -> Vec<Tried> {
        self.conditions().to_vec()
    }

    fn comparison(&self) -> (&'static str, &'static str) {
        self.comparison()
    }

    fn largest_upload(&self) -> Option<config::ByteSize> {
        self.writers.largest_object()
    }

    async fn notes(&self) -> Vec<String> {
        self.store.notes().await
    }

    async fn sweep(&self, age: Duration) -> Swept {
        self.sweep(age).await
    }
}
