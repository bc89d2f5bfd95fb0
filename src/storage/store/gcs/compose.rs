//! What Google makes one object of.

use object_store::Attributes;
use object_store::path::Path;

/// What is composed, and into what.
#[derive(Debug)]
pub(crate) struct Composition {
    pub(crate) key: Path,
    pub(crate) attributes: Attributes,
    /// The object that stays at its beginning, and its generation, which it has to have yet.
    pub(crate) base: Path,
    pub(crate) generation: String,
    /// Where what is new is put together.
    pub(crate) tail: Path,
}
