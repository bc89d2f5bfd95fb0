//! What an object says about itself: its content type, and who sent it.

use object_store::path::Path;
use object_store::{Attribute, Attributes};

use crate::auth::User;
use crate::session::SessionId;
use crate::storage::store::MetadataNames;

/// The attributes of an object that `user` uploads.
pub(crate) fn of(names: MetadataNames, user: &User, session: SessionId, key: &Path) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, content_type(key).into());
    let user = in_a_header(&user.name).into();
    attributes.insert(Attribute::Metadata(names.user.into()), user);
    let session = session.to_string().into();
    attributes.insert(Attribute::Metadata(names.session.into()), session);
    attributes
}

/// By the name, which is all there is.
fn content_type(key: &Path) -> String {
    mime_guess::from_path(key.as_ref())
        .first_or_octet_stream()
        .to_string()
}

/// Metadata travels in headers, which hold ASCII: the rest is written as a URL would.
fn in_a_header(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::CONTROLS).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_go_by_the_name() {
        assert_eq!(content_type(&Path::from("in/scan.PDF")), "application/pdf");
        assert_eq!(content_type(&Path::from("in/a.csv")), "text/csv");
        assert_eq!(
            content_type(&Path::from("in/none")),
            "application/octet-stream"
        );
    }

    #[test]
    fn names_fit_into_headers() {
        assert_eq!(in_a_header("scanner 1"), "scanner 1");
        assert_eq!(in_a_header("Müller"), "M%C3%BCller");
    }
}
