//! Google Cloud Storage, by its XML API.

pub(crate) mod keys;
pub(crate) mod upload;
