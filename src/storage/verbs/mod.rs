//! FTP's verbs on objects: what each asks of the store, and in what order.

pub(crate) mod attributes;
pub(crate) mod conditions;
pub(crate) mod contract;
pub(crate) mod copying;
pub(crate) mod download;
pub(crate) mod format;
pub(crate) mod listing;
pub(crate) mod listing_memory;
pub(crate) mod note;
pub(crate) mod pages;
pub(crate) mod pattern;
pub(crate) mod probe;
pub(crate) mod rename;
pub(crate) mod renaming;
pub(crate) mod rights;
pub(crate) mod sweep;
pub(crate) mod tree;
pub(crate) mod unfinished;
pub(crate) mod upload;
