//! What Google makes one object of.

use std::fmt::Write;

use object_store::path::Path;
use quick_xml::escape::escape;

use crate::storage::store::description::Description;

/// What is composed, and into what.
#[derive(Debug)]
pub(crate) struct Composition {
    pub(crate) key: Path,
    pub(crate) description: Description,
    /// The object that stays at its beginning, and its generation, which it has to have yet.
    pub(crate) base: Option<(Path, String)>,
    /// Where what is new is put together.
    pub(crate) tail: Path,
}

impl Composition {
    /// As the request says it.
    pub(crate) fn components(&self) -> String {
        let mut request = String::from("<ComposeRequest>");
        let base = self.base.iter();
        let base = base.map(|(key, generation)| (key, Some(generation)));
        for (key, generation) in base.chain([(&self.tail, None)]) {
            // Writing into a string can't fail.
            let _ = write!(request, "<Component><Name>{}</Name>", escape(key.as_ref()));
            if let Some(generation) = generation {
                let _ = write!(request, "<Generation>{generation}</Generation>");
            }
            request.push_str("</Component>");
        }
        request.push_str("</ComposeRequest>");
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_come_in_their_order() {
        let mut composition = Composition {
            key: "a".into(),
            description: Description::default(),
            base: None,
            tail: Path::parse("t&").unwrap(),
        };
        let tail = "<Component><Name>t&amp;</Name></Component></ComposeRequest>";
        assert_eq!(composition.components(), format!("<ComposeRequest>{tail}"));
        composition.base = Some(("a".into(), "7".to_owned()));
        let base = "<Component><Name>a</Name><Generation>7</Generation></Component>";
        assert_eq!(
            composition.components(),
            format!("<ComposeRequest>{base}{tail}")
        );
    }
}
