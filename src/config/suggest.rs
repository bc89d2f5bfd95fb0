//! "Did you mean …?": the setting that was probably meant by a name that does not exist.

use super::key::Key;
use super::sections::Config;
use super::store::named;

/// What was meant by a key whose section does not exist.
pub(super) fn section(key: &Key) -> Option<Key> {
    let config = Config::default();
    let sections = config.sections();
    let near = nearest(&key.section, sections.iter().map(|it| it.name()));
    near.map(|section| Key {
        section: section.to_owned(),
        ..key.clone()
    })
    .or_else(|| elsewhere(&key.section))
}

/// What was meant by a key whose section exists.
pub(super) fn setting(key: &Key) -> Option<Key> {
    let config = Config::default();
    let name = if named::is_named(&key.section) {
        "store"
    } else {
        &key.section
    };
    let section = config.sections().into_iter().find(|it| it.name() == name)?;
    let settings = section.settings();
    let near = nearest(&key.name, settings.iter().map(|it| it.name));
    near.map(|name| Key::new(&key.section, name))
        .or_else(|| elsewhere(&key.name))
}

/// The setting of exactly this name, in whichever section has it.
fn elsewhere(name: &str) -> Option<Key> {
    let config = Config::default();
    let sections = config.sections();
    let home = sections
        .iter()
        .find(|it| it.settings().iter().any(|setting| setting.name == name))?;
    Some(Key::new(home.name(), name))
}

/// The candidate that takes the fewest edits, if they are few for the length of the word.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = word.chars().count() / 3;
    let measured = candidates.map(|candidate| (distance(word, candidate), candidate));
    measured
        .filter(|(edits, _)| *edits <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // `edits[i][j]`: those that make the first `j` letters of `b` from the first `i` of `a`.
    let mut edits = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            edits[i][j] = match (i, j) {
                (0, _) | (_, 0) => i.max(j),
                _ => {
                    let replaced = edits[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swapped = if swapped {
                        edits[i - 2][j - 2] + 1
                    } else {
                        replaced
                    };
                    replaced
                        .min(swapped)
                        .min(edits[i - 1][j] + 1)
                        .min(edits[i][j - 1] + 1)
                }
            };
        }
    }
    edits[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("lisen", "listen"), 1);
        assert_eq!(distance("fpt", "ftp"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let candidates = || ["listen", "greeting"].into_iter();
        assert_eq!(nearest("lisen", candidates()), Some("listen"));
        assert_eq!(nearest("colour", candidates()), None);
    }

    #[test]
    fn a_setting_in_the_wrong_section_is_found() {
        let key = Key::from_dotted("ftp.max_sessions");
        assert_eq!(setting(&key), Some(Key::from_dotted("limits.max_sessions")));
    }
}
