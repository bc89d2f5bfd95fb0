//! What is behind an error of `object_store`, which tells little by its type.

use std::error::Error as StdError;
use std::io;

use thiserror::Error;

/// A change is made, but it is not certain that it outlives a crash.
#[derive(Debug, Error)]
#[error("it is there, and may not outlive a crash: {0}")]
pub(crate) struct Unsure(pub(crate) io::Error);

/// The status of a refusal that has no kind of its own, as those of listings have not. The type
/// behind is private; its text is all there is.
pub(crate) fn refused_with(error: &object_store::Error) -> Option<u16> {
    let text = error.to_string();
    let (_, status) = text.split_once("non-2xx status code: ")?;
    status.get(..3)?.parse().ok()
}

/// The code in a store's answer: S3, Azure and Google write it in the same way. The answer to a `HEAD` has none.
pub(crate) fn code_of(error: &object_store::Error) -> Option<String> {
    let text = error.to_string();
    // The last one: what comes before may be the client's name for the file.
    let (_, code) = text.rsplit_once("<Code>")?;
    let (code, _) = code.split_once("</Code>")?;
    Some(code.to_owned())
}

/// Whether S3 does not know the storage class that a request has named.
pub(crate) fn is_no_class(error: &object_store::Error) -> bool {
    code_of(error).as_deref() == Some("InvalidStorageClass")
}

/// The first error of type `T` in the chain of causes.
pub(crate) fn find<'a, T: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = inside(error).or_else(|| error.source());
    }
    None
}

/// What an `io::Error` was made of. It is not among its sources: they begin behind it.
fn inside<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    let inside = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inside)
}
