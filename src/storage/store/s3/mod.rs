//! Amazon S3, and what speaks its protocol.

pub(crate) mod keys;
pub(crate) mod listing;
pub(crate) mod signed;
pub(crate) mod upload;
