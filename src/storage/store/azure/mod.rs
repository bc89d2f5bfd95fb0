//! Azure Blob Storage.

pub(crate) mod copy;
pub(crate) mod keys;
pub(crate) mod upload;
