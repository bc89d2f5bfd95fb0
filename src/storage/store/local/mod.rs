//! A folder on this machine.

pub(crate) mod append;
