//! Which renames a user may make: `rename` alone neither replaces what is there nor, under `overwrite = "deny"`, takes
//! away what was delivered.
//!
//! What is decided here is decided on a version, and holds for that version only: it is handed on as the precondition on
//! which the change is made.

use object_store::ObjectMeta;
use object_store::path::Path;

use crate::auth::{Permission, User};
use crate::config::Overwrite;
use crate::session::OwnUploads;

use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::store::mark::Mark;
use crate::storage::store::precondition::{Precondition, name_of};
use crate::storage::store::upload::Base;
use crate::storage::verbs::contract::permit;
use crate::storage::write::verdict::{self, Found};

impl Storage {
    /// Why this user may not replace a file by a rename; `None` if it may.
    pub(crate) fn refusal_to_replace(&self, user: &User) -> Option<StorageError> {
        if self.overwrite(user) == Overwrite::Deny {
            return Some(StorageError::Exists);
        }
        let permitted = user.permissions.allows(Permission::Write);
        (!permitted).then_some(StorageError::ReplacingNotPermitted)
    }

    /// On what a file may be renamed away. Under `deny`, a name that was delivered is not free again, except by the
    /// session that has just stored it there: senders store under one name and rename to another. `to` is the new key, in this
    /// store.
    pub(crate) async fn check_taking(
        &self,
        user: &User,
        own: &OwnUploads,
        file: &ObjectMeta,
        to: Option<&Path>,
    ) -> Result<Precondition, StorageError> {
        if self.may_release(user) {
            return Ok(Precondition::None);
        }
        let version = Base::of(file).version;
        // Or else the same rename has come so far before, and has not deleted its source.
        let has_come = async |to: &Path| self.are_one_upload(&file.location, to).await;
        if self.is_own(own, file).await || matches!(to, Some(to) if has_come(to).await) {
            return Ok(Precondition::Unchanged(version));
        }
        Err(StorageError::NotPermitted(Permission::Release))
    }

    /// Whether the session has stored this file. A version will not do where there are marks: on S3 it is one of the
    /// content, and another may have stored the same there since.
    async fn is_own(&self, own: &OwnUploads, file: &ObjectMeta) -> bool {
        let key = &self.own_name(&file.location);
        if self.store.traits().metadata.is_none() {
            let version = Base::of(file).version;
            return name_of(&version).is_some_and(|version| own.contain(key, version));
        }
        match verdict::look(self.store.objects().as_ref(), &file.location).await {
            Ok(Found::Object { attributes, .. }) => {
                Mark::of(&attributes).is_some_and(|mark| own.contain(key, mark.as_str()))
            }
            Ok(Found::Nothing) | Err(_) => false,
        }
    }

    /// The same of a directory: all in it was delivered.
    pub(crate) fn permit_taking_directory(&self, user: &User) -> Result<(), StorageError> {
        if self.may_release(user) {
            return Ok(());
        }
        permit(user, Permission::Release)
    }

    fn may_release(&self, user: &User) -> bool {
        self.overwrite(user) == Overwrite::Allow || user.permissions.allows(Permission::Release)
    }
}
