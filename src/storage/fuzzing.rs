//! What a client names: paths and the keys that they become, and patterns.

use object_store::path::Path;

use crate::auth::User;
use crate::session::FtpPath;

use crate::storage::key::KeySpace;
use crate::storage::store::names::SegmentRules;
use crate::storage::verbs::pattern::Pattern;

/// Reads two lines as names, the second below the first, and makes keys of both. Gives the paths.
///
/// # Panics
/// When a promise is broken.
pub(crate) fn path(data: &[u8]) -> Vec<FtpPath> {
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let mut resolve = |from: &FtpPath| {
        let name = String::from_utf8_lossy(lines.next()?).into_owned();
        let path = from.resolve(&name).ok()?;
        assert_path(&path, from, &name);
        Some(path)
    };
    let Some(directory) = resolve(&FtpPath::root()) else {
        return Vec::new();
    };
    let path = resolve(&directory).unwrap_or_else(FtpPath::root);
    for (prefix, rules) in [("", SegmentRules::FILES), ("a/b", SegmentRules::NONE)] {
        for home in ["/", "/home/anna"] {
            assert_keys(prefix, rules, home, [&directory, &path]);
        }
    }
    vec![directory, path]
}

fn assert_path(path: &FtpPath, from: &FtpPath, name: &str) {
    let text = path.as_str();
    assert!(text.starts_with('/') && text.len() <= 1024);
    assert!(!text.contains(char::is_control));
    let mut segments = text[1..].split('/');
    assert!(path.is_root() || segments.all(|segment| !matches!(segment, "" | "." | "..")));
    assert_eq!(text, naive(from.as_str(), name));
    assert_eq!(from.resolve(text).as_ref(), Ok(path));
    assert_eq!(path.is_root(), !path.is_below(&FtpPath::root()));
    assert!(path.is_root() || path.is_below(&path.parent()));
}

/// Step by step, as one would walk.
fn naive(from: &str, name: &str) -> String {
    let mut at = if name.starts_with('/') {
        ""
    } else {
        from.trim_end_matches('/')
    }
    .to_owned();
    for step in name.split('/') {
        match step {
            "" | "." => {}
            ".." => at.truncate(at.rfind('/').unwrap_or(0)),
            step => {
                at.push('/');
                at.push_str(step);
            }
        }
    }
    if at.is_empty() { "/".to_owned() } else { at }
}

/// No key is outside of the home, and no two names have one key.
fn assert_keys(prefix: &str, rules: SegmentRules, home: &str, paths: [&FtpPath; 2]) {
    let Ok(root) = Path::parse(prefix) else {
        return;
    };
    let space = KeySpace::new(root, rules);
    let mut user = User::unrestricted("anna".to_owned());
    home.clone_into(&mut user.home.prefix);
    let keys = paths.map(|path| {
        let key = space.key(&user, path).ok()?;
        let above = format!("/{prefix}{home}{path}")
            .replace("//", "/")
            .replace("//", "/");
        assert_eq!(
            above.trim_end_matches('/'),
            format!("/{key}").trim_end_matches('/')
        );
        Some(key)
    });
    if let [Some(one), Some(other)] = &keys {
        assert_eq!(one == other, paths[0] == paths[1]);
    }
}

/// Reads a pattern and, on the next line, a name; both so short that the slowest matcher will do.
///
/// # Panics
/// When a promise is broken.
pub fn pattern(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (pattern, name) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(path) = FtpPath::root().resolve(pattern) else {
        return;
    };
    let found = Pattern::of(&path);
    let meant = meaning(path.name());
    assert_eq!(found.is_some(), meant.is_some(), "{path}");
    let (Some(found), Some(meant)) = (found, meant) else {
        return;
    };
    assert_eq!(found.directory, path.parent());
    if meant.len() <= 12 && name.chars().count() <= 12 && !name.contains('/') {
        let name: Vec<_> = name.chars().collect();
        let text: String = name.iter().collect();
        assert_eq!(
            found.matches(&text),
            is_match(&meant, &name),
            "{path} on {text:?}"
        );
    }
}

/// One step of a pattern.
enum Step {
    Letter(char),
    Any,
    Many,
    OneOf(bool, Vec<(char, char)>),
}

/// What a name means as a pattern; `None` if it is just a name, or broken.
fn meaning(name: &str) -> Option<Vec<Step>> {
    let mut rest = name.chars().peekable();
    let mut steps = Vec::new();
    while let Some(letter) = rest.next() {
        steps.push(match letter {
            '*' => Step::Many,
            '?' => Step::Any,
            '\\' => Step::Letter(rest.next()?),
            '[' => {
                let negated = rest.next_if(|next| matches!(next, '!' | '^')).is_some();
                let mut ranges: Vec<(char, char)> = Vec::new();
                loop {
                    let first = rest.next()?;
                    if first == ']' && !ranges.is_empty() {
                        break;
                    }
                    let mut ahead = rest.clone();
                    let last = match (ahead.next(), ahead.next()) {
                        (Some('-'), Some(last)) if last != ']' => {
                            rest = ahead;
                            last
                        }
                        _ => first,
                    };
                    if first > last {
                        return None;
                    }
                    ranges.push((first, last));
                }
                Step::OneOf(negated, ranges)
            }
            letter => Step::Letter(letter),
        });
    }
    name.contains(['*', '?', '[']).then_some(steps)
}

fn is_match(steps: &[Step], name: &[char]) -> bool {
    let Some((step, steps)) = steps.split_first() else {
        return name.is_empty();
    };
    if matches!(step, Step::Many) {
        return (0..=name.len()).any(|from| is_match(steps, &name[from..]));
    }
    let Some((letter, name)) = name.split_first() else {
        return false;
    };
    let fits = match step {
        Step::Letter(due) => due == letter,
        Step::Any | Step::Many => true,
        Step::OneOf(negated, ranges) => {
            let within = ranges
                .iter()
                .any(|(first, last)| (first..=last).contains(&letter));
            within != *negated
        }
    };
    fits && is_match(steps, name)
}
