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

use crate::storage::error::StorageError;
use crate::storage::store::precondition::{Precondition, name_of};
use crate::storage::store::upload::Base;
use crate::storage::{Storage, permit};

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
    /// session that has just stored it there: senders store under one name and rename to another.
    pub(crate) async fn check_taking(
        &self,
        user: &User,
        own: &OwnUploads,
        file: &ObjectMeta,
        to: &Path,
    ) -> Result<Precondition, StorageError> {
        if self.may_release(user) {
            return Ok(Precondition::None);
        }
        let version = Base::of(file).version;
        let is_own =
            name_of(&version).is_some_and(|version| own.contain(file.location.as_ref(), version));
        // Or else the same rename has come so far before, and has not deleted its source.
        if is_own || self.are_one_upload(&file.location, to).await {
            return Ok(Precondition::Unchanged(version));
        }
        Err(StorageError::NotPermitted(Permission::Release))
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
