//! What was published is compared with what was sent, before the client hears of it.
//!
//! A store that is sent a checksum refuses what is damaged, and no reader has seen it. What comes to light only now is in
//! sight: a name that was new is taken back, and one that has replaced an object stays, because that object is gone.

use futures::StreamExt;
use object_store::{Error, GetOptions, GetResult, ObjectStore, UpdateVersion};

use crate::config::Verify;

use crate::storage::error::StorageError;
use crate::storage::store::body::{Algorithm, Crc64, Summing};
use crate::storage::store::precondition::{Precondition, is_version};
use crate::storage::store::stored::{Compared, Comparison, Difference, Stored};
use crate::storage::store::terms::Terms;
use crate::storage::write::conditions::Operation;
use crate::storage::write::writer::ObjectWriter;

/// So many bytes go with an MD5 at least, wherever they go to, and are not looked at again.
const SMALL: u64 = 64 << 10;

impl ObjectWriter {
    /// Compares what the store has just published. `is_new` says that there was nothing at its name.
    pub(crate) async fn compare(
        &mut self,
        stored: Stored,
        is_new: bool,
    ) -> Result<(), StorageError> {
        let Stored { version, compared } = stored;
        let compared = match compared {
            Compared::Not if self.is_looked_at() => self.compare_size(&version).await?,
            compared => compared,
        };
        let compared = match compared {
            Compared::Same | Compared::Not if self.verify == Verify::ReadBack => {
                self.read_back(&version).await?
            }
            compared => compared,
        };
        match compared {
            Compared::Same | Compared::Not => Ok(()),
            Compared::Differs(difference) => {
                Err(self.take_back(&version, is_new, difference).await)
            }
        }
    }

    /// The same where the store's answer was lost.
    pub(crate) async fn compare_unseen(&mut self) -> Result<(), StorageError> {
        let nameless = UpdateVersion {
            e_tag: None,
            version: None,
        };
        let stored = if self.store.comparison().is_certain() {
            Stored::same(nameless)
        } else {
            Stored::uncompared(nameless)
        };
        self.compare(stored, false).await
    }

    /// Whether the store is asked for the size of what it has not compared.
    fn is_looked_at(&self) -> bool {
        self.store.comparison() != Comparison::NotNeeded && self.size() > SMALL
    }

    async fn compare_size(&mut self, version: &UpdateVersion) -> Result<Compared, StorageError> {
        let Some(found) = self.ask(version, GetOptions::new().with_head(true)).await? else {
            return Ok(Compared::Not);
        };
        if found.meta.size == self.size() {
            return Ok(Compared::Same);
        }
        Ok(Compared::Differs(Difference {
            what: "bytes",
            sent: self.size().to_string(),
            stored: found.meta.size.to_string(),
        }))
    }

    /// Reads what was sent from the store.
    async fn read_back(&mut self, version: &UpdateVersion) -> Result<Compared, StorageError> {
        let mut options = GetOptions::new().with_if_match(version.e_tag.clone());
        if self.kept > 0 {
            options = options.with_range(Some(self.kept..self.size()));
        }
        let Some(found) = self.ask(version, options).await? else {
            return Ok(Compared::Not);
        };
        let mut summing = Summing::default();
        let mut stream = found.into_stream();
        while let Some(bytes) = stream.next().await {
            summing.add(&bytes.map_err(StorageError::Unresolved)?);
        }
        let (read, sent) = (summing.sum(), self.sum);
        if read == sent {
            return Ok(Compared::Same);
        }
        let written = |sum: Crc64| {
            let value = Algorithm::Crc64Nvme.written(sum.value());
            format!("{} bytes, {value}", sum.length())
        };
        Ok(Compared::Differs(Difference {
            what: "read back",
            sent: written(sent),
            stored: written(read),
        }))
    }

    /// Asks for what was published. `None` if another has replaced or deleted it since, or if we may not read.
    async fn ask(
        &mut self,
        version: &UpdateVersion,
        options: GetOptions,
    ) -> Result<Option<GetResult>, StorageError> {
        let objects = self.store.objects();
        match objects.get_opts(&self.plan.key, options).await {
            Ok(found) if self.is_it(version, &found) => Ok(Some(found)),
            Ok(_) | Err(Error::NotFound { .. } | Error::Precondition { .. }) => Ok(None),
            Err(Error::PermissionDenied { .. }) if self.verify != Verify::ReadBack => Ok(None),
            Err(error) => Err(StorageError::Unresolved(error)),
        }
    }

    fn is_it(&self, version: &UpdateVersion, found: &GetResult) -> bool {
        let names_one = version.e_tag.is_some() || version.version.is_some();
        match &self.mark {
            _ if names_one => is_version(version, &found.meta),
            Some(mark) => mark.is_on(&found.attributes),
            None => true,
        }
    }

    /// Takes back what is not what was sent, if nothing is lost by that.
    async fn take_back(
        &mut self,
        version: &UpdateVersion,
        is_new: bool,
        difference: Difference,
    ) -> StorageError {
        let key = self.plan.key.clone();
        self.known.forget(&key);
        let Difference { what, sent, stored } = &difference;
        let error = StorageError::Corrupt(difference.to_string());
        if !is_new {
            tracing::error!(%key, what, sent, stored, "what is stored is not what was sent; it stays, since it has replaced another");
            return error;
        }
        match self.delete(version).await {
            Ok(()) => {
                tracing::error!(%key, what, sent, stored, "what was stored was not what was sent; it is deleted again");
            }
            Err(cause) => {
                tracing::error!(%key, what, sent, stored, %cause, "what is stored is not what was sent, and can't be deleted");
            }
        }
        error
    }

    async fn delete(&mut self, version: &UpdateVersion) -> object_store::Result<()> {
        let terms = Terms::new(Precondition::Unchanged(version.clone()));
        let (objects, key) = (self.store.objects(), &self.plan.key);
        let operation = Operation::Delete;
        let ready = self
            .conditions
            .ready(operation, objects, key, &terms)
            .await?;
        self.store.delete(key.as_ref(), &ready.terms).await
    }
}
