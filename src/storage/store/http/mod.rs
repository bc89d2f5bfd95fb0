//! Requests of our own to a store, for what `object_store` has no words for.

pub(crate) mod attempts;
pub(crate) mod command;
pub(crate) mod connector;
pub(crate) mod patience;
pub(crate) mod requests;
