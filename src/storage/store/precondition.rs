//! Preconditions: a change is made only if they hold.

use object_store::path::Path;
use object_store::{
    Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, Result, UpdateVersion,
};

/// What has to hold at a key for a change to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Nothing: whatever is there is replaced or deleted.
    None,
    /// There is no object. If there is: [`Error::AlreadyExists`].
    Absent,
    /// The object is still this version. If it is not: [`Error::Precondition`].
    Unchanged(UpdateVersion),
}

impl Precondition {
    /// As `object_store` says it.
    pub(crate) fn mode(&self) -> PutMode {
        match self {
            Self::None => PutMode::Overwrite,
            Self::Absent => PutMode::Create,
            Self::Unchanged(version) => PutMode::Update(version.clone()),
        }
    }
}

/// Looks whether a precondition holds, for stores that can't be told it.
pub(crate) async fn look(
    objects: &dyn ObjectStore,
    key: &Path,
    precondition: &Precondition,
) -> Result<()> {
    if *precondition == Precondition::None {
        return Ok(());
    }
    let found = match objects.head(key).await {
        Ok(meta) => Some(meta),
        Err(Error::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    let found = found.as_ref().map(version_of);
    check(key.as_ref(), precondition, found.as_ref())
}

/// Whether a precondition holds of what was found at a key.
pub(crate) fn check(
    key: &str,
    precondition: &Precondition,
    found: Option<&UpdateVersion>,
) -> Result<()> {
    let path = key.to_owned();
    match (precondition, found) {
        (Precondition::None, _) | (Precondition::Absent, None) => Ok(()),
        (Precondition::Absent, Some(_)) => Err(Error::AlreadyExists {
            path,
            source: "there is an object".into(),
        }),
        (Precondition::Unchanged(read), Some(found)) if is_same(read, found) => Ok(()),
        (Precondition::Unchanged(_), _) => Err(Error::Precondition {
            path,
            source: "the object was changed".into(),
        }),
    }
}

/// What an error means for a change on a precondition. Stores say 412 of each that does not hold, and some say 409 of an
/// object that must not be there. Of any other change a 409 tells nothing: another may be changing the key, or a lease
/// or a policy may keep it.
pub(crate) fn told_apart(store: &'static str, error: Error, precondition: &Precondition) -> Error {
    match (error, precondition) {
        (Error::Precondition { path, source }, Precondition::Absent) => {
            Error::AlreadyExists { path, source }
        }
        (Error::AlreadyExists { source, .. }, Precondition::None | Precondition::Unchanged(_)) => {
            Error::Generic { store, source }
        }
        (error, _) => error,
    }
}

/// Whether an object is of a version. One that says of itself neither tag nor version can't be told.
pub(crate) fn is_version(version: &UpdateVersion, meta: &ObjectMeta) -> bool {
    is_same(version, &version_of(meta))
}

fn is_same(version: &UpdateVersion, found: &UpdateVersion) -> bool {
    match &version.e_tag {
        Some(_) => found.e_tag == version.e_tag,
        None => version.version.is_some() && version.version == found.version,
    }
}

/// What an object says of its version, as a text by which versions of one name differ.
pub(crate) fn name_of(version: &UpdateVersion) -> Option<&str> {
    version.e_tag.as_deref().or(version.version.as_deref())
}

fn version_of(meta: &ObjectMeta) -> UpdateVersion {
    UpdateVersion {
        e_tag: meta.e_tag.clone(),
        version: meta.version.clone(),
    }
}
