//! What was published is compared with what was sent, before the client hears of it.
//!
//! A store that is sent a checksum refuses what is damaged, and no reader has seen it. What comes to light only now is in
//! sight: a name that was new is taken back, and one that has replaced an object stays, because that object is gone.

use futures::{FutureExt, StreamExt};
use object_store::{Error, GetOptions, GetResult, ObjectStore, UpdateVersion};

use crate::config::Verify;

use crate::storage::error::StorageError;
use crate::storage::store::body::{Algorithm, Crc64, Summing};
use crate::storage::store::precondition::{Precondition, is_version};
use crate::storage::store::stored::{Compared, Comparison, Difference, Stored};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::Base;
use crate::storage::write::conditions::Operation;
use crate::storage::write::writer::ObjectWriter;

/// So many bytes go with an MD5 at least, wherever they go to, and are not looked at again.
const SMALL: u64 = 64 << 10;

/// What has been found of an object that was published.
struct Verified {
    /// Which version it is, if anybody has said so.
    version: UpdateVersion,
    compared: Compared,
}

impl ObjectWriter {
    /// Compares what the store has just published. `is_new` says that there was nothing at its name.
    pub(crate) async fn compare(
        &mut self,
        stored: Stored,
        is_new: bool,
    ) -> Result<(), StorageError> {
        let Stored { version, compared } = stored;
        let mut found = Verified { version, compared };
        if matches!(found.compared, Compared::Not) && self.is_looked_at() {
            found = self.compare_size(found.version).await?;
        }
        let differs = matches!(found.compared, Compared::Differs(_));
        if self.verify == Verify::ReadBack && !differs {
            found = self.read_back(found.version).await?;
        }
        match found.compared {
            Compared::Same | Compared::Not => Ok(()),
            Compared::Differs(difference) => {
                Err(self.take_back(&found.version, is_new, difference).await)
            }
        }
    }

    /// The same where the store's answer was lost.
    pub(crate) async fn compare_unseen(&mut self, is_new: bool) -> Result<(), StorageError> {
        let nameless = UpdateVersion {
            e_tag: None,
            version: None,
        };
        if self.is_shared {
            return self.compare_shared(nameless).await;
        }
        let stored = if self.store.comparison().is_certain() {
            Stored::same(nameless)
        } else {
            Stored::uncompared(nameless)
        };
        self.compare(stored, is_new).await
    }

    /// The same where another session may have gone on with the upload: what carries its mark may be that one's.
    async fn compare_shared(&mut self, nameless: UpdateVersion) -> Result<(), StorageError> {
        match self.read_back(nameless).await?.compared {
            Compared::Same => Ok(()),
            Compared::Not | Compared::Differs(_) => Err(StorageError::Unresolved(Error::Generic {
                store: "the store",
                source: "another session may have published this upload".into(),
            })),
        }
    }

    /// Whether the store is asked for the size of what it has not compared.
    fn is_looked_at(&self) -> bool {
        self.store.comparison() != Comparison::NotNeeded && self.size() > SMALL
    }

    async fn compare_size(&mut self, version: UpdateVersion) -> Result<Verified, StorageError> {
        let head = GetOptions::new().with_head(true);
        let found = match self.ask(&version, head).await {
            Ok(found) => found,
            // It is stored, as far as the store has said anything. To doubt that would have clients send it twice.
            Err(error) if self.verify != Verify::ReadBack => {
                let key = &self.plan.key;
                tracing::warn!(%key, %error, "can't ask for the size of what was stored");
                None
            }
            Err(error) => return Err(StorageError::Unresolved(error)),
        };
        let Some(found) = found else {
            let compared = Compared::Not;
            return Ok(Verified { version, compared });
        };
        let compared = if found.meta.size == self.size() {
            Compared::Same
        } else {
            Compared::Differs(Difference {
                what: "bytes",
                sent: self.size().to_string(),
                stored: found.meta.size.to_string(),
            })
        };
        let version = Base::of(&found.meta).version;
        Ok(Verified { version, compared })
    }

    /// Reads what was sent from the store.
    async fn read_back(&mut self, version: UpdateVersion) -> Result<Verified, StorageError> {
        if self.kept == self.size() {
            return self.compare_size(version).await;
        }
        let mut options = GetOptions::new().with_if_match(version.e_tag.clone());
        if self.kept > 0 {
            options = options.with_range(Some(self.kept..self.size()));
        }
        let found = self.ask(&version, options).await;
        let Some(found) = found.map_err(StorageError::Unresolved)? else {
            let key = &self.plan.key;
            tracing::warn!(%key, "another has written since, what was stored can't be read back");
            let compared = Compared::Not;
            return Ok(Verified { version, compared });
        };
        let version = Base::of(&found.meta).version;
        let mut summing = Summing::default();
        let mut stream = found.into_stream();
        while let Some(bytes) = stream.next().await {
            summing.add(&bytes.map_err(StorageError::Unresolved)?);
        }
        let compared = same_or_not(self.sum, summing.sum());
        Ok(Verified { version, compared })
    }

    /// Asks for what was published. `None` if another has replaced or deleted it since, or if we may not read.
    async fn ask(
        &mut self,
        version: &UpdateVersion,
        options: GetOptions,
    ) -> object_store::Result<Option<GetResult>> {
        let objects = self.store.objects();
        match objects.get_opts(&self.plan.key, options).await {
            Ok(found) if self.is_it(version, &found) => Ok(Some(found)),
            Ok(_) | Err(Error::NotFound { .. } | Error::Precondition { .. }) => Ok(None),
            Err(Error::PermissionDenied { .. }) if self.verify != Verify::ReadBack => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_it(&self, version: &UpdateVersion, found: &GetResult) -> bool {
        match &self.mark {
            _ if is_named(version) => is_version(version, &found.meta),
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
        let why = if !is_new {
            "it stays, since it has replaced another"
        } else if !is_named(version) {
            "it stays, since nobody can tell which version it is"
        } else {
            match self.delete(version).await {
                Ok(()) => "it is deleted again",
                Err(error) => {
                    tracing::warn!(%key, %error, "can't delete it");
                    "it can't be deleted"
                }
            }
        };
        tracing::error!(%key, what, sent, stored, "what is stored is not what was sent; {why}");
        StorageError::Corrupt(difference.to_string())
    }

    async fn delete(&mut self, version: &UpdateVersion) -> object_store::Result<()> {
        let terms = Terms::new(Precondition::Unchanged(version.clone()));
        let (objects, key) = (self.store.objects(), &self.plan.key);
        let (operation, conditions) = (Operation::Delete, &self.conditions);
        let store = &self.store;
        let delete = |terms: Terms| async move { store.delete(key.as_ref(), &terms).await }.boxed();
        conditions
            .make(operation, objects, key, &terms, delete)
            .await
    }
}

fn is_named(version: &UpdateVersion) -> bool {
    version.e_tag.is_some() || version.version.is_some()
}

fn same_or_not(sent: Crc64, read: Crc64) -> Compared {
    if read == sent {
        return Compared::Same;
    }
    let written = |sum: Crc64| {
        let value = Algorithm::Crc64Nvme.written(sum.value());
        format!("{} bytes, {value}", sum.length())
    };
    Compared::Differs(Difference {
        what: "read back",
        sent: written(sent),
        stored: written(read),
    })
}
