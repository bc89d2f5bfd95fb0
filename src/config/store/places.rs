//! What may stand in braces in a text that is written for every upload, and stands for something that is known of each.

/// The names of the places.
const PLACES: [&str; 4] = ["user", "peer", "session", "home"];

/// Whether a text has no braces but around these names, and nothing else that a header can't hold.
pub(super) fn is_value(text: &str) -> bool {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((place, after)) = after.split_once('}') else {
            return false;
        };
        if before.contains('}') || !PLACES.contains(&place) {
            return false;
        }
        rest = after;
    }
    let is_plain = !text.is_empty() && text.trim() == text && !text.contains(char::is_control);
    is_plain && !rest.contains('}')
}

/// A text without what is in braces, and them.
pub(super) fn without_places(text: &str) -> String {
    let mut parts = text.split('{');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    plain.extend(parts.filter_map(|part| Some(part.split_once('}')?.1)));
    plain
}
