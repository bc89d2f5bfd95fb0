//! A download on its way out of the store.

pub(crate) mod ahead;
pub(crate) mod whole;
