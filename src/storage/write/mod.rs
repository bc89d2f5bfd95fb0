//! An upload on its way into the store: parts, the memory they take, and the commit.

pub(crate) mod appending;
pub(crate) mod budget;
pub(crate) mod chunk;
pub(crate) mod comparing;
pub(crate) mod conditions;
pub(crate) mod handover;
pub(crate) mod handovers;
pub(crate) mod known;
pub(crate) mod locks;
pub(crate) mod multipart;
pub(crate) mod part;
pub(crate) mod part_sizes;
pub(crate) mod publish;
pub(crate) mod relief;
pub(crate) mod resuming;
pub(crate) mod spill;
pub(crate) mod telling;
pub(crate) mod verdict;
pub(crate) mod writer;
