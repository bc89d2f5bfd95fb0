//! The stores: what every kind can do, and a folder for each kind.

pub(crate) mod assembly;
pub(crate) mod attributes;
pub(crate) mod azure;
pub(crate) mod directories;
pub(crate) mod gcs;
pub(crate) mod http;
pub(crate) mod local;
pub(crate) mod memory;
pub(crate) mod metered;
pub(crate) mod open;
pub(crate) mod raw;
pub(crate) mod s3;
