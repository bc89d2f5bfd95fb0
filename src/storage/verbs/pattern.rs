//! Patterns such as `*.csv`, as old clients send them with `LIST` and `NLST`.
//!
//! `*` is any letters, `?` any one, `[a-z]` one of these and `[!a-z]` or `[^a-z]` any other; `\` takes
//! the meaning from what follows. Letters are characters, not bytes: `?` is an `ü` as well.
//!
//! Matched in linear time (a finite automaton), whatever a client sends.

use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, escape};

use crate::session::FtpPath;

/// A pattern for the names of one directory.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// Where to look.
    pub(crate) directory: FtpPath,
    matcher: Regex,
}

impl Pattern {
    /// The pattern that a path's last segment is, if it is one.
    pub(crate) fn of(path: &FtpPath) -> Option<Self> {
        let name = path.name();
        if !name.contains(['*', '?', '[']) {
            return None;
        }
        Some(Self {
            directory: path.parent(),
            matcher: Regex::new(&expression(name)?).ok()?,
        })
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.matcher.is_match(name)
    }
}

/// The regular expression for a pattern; `None` for what is broken, and so just a name.
fn expression(pattern: &str) -> Option<String> {
    let mut rest = pattern.chars().peekable();
    let mut expression = r"(?s)\A".to_owned();
    while let Some(letter) = rest.next() {
        match letter {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => expression.push_str(&class(&mut rest)?),
            '\\' => expression.push_str(&literal(rest.next()?)),
            letter => expression.push_str(&literal(letter)),
        }
    }
    expression.push_str(r"\z");
    Some(expression)
}

/// What follows a `[`: a `]` that comes first is one of the letters, and so is a hyphen at the end.
fn class(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut class = "[".to_owned();
    if rest.next_if(|next| matches!(next, '!' | '^')).is_some() {
        class.push('^');
    }
    let mut is_empty = true;
    loop {
        let first = rest.next()?;
        if first == ']' && !is_empty {
            class.push(']');
            return Some(class);
        }
        is_empty = false;
        class.push_str(&literal(first));
        let mut ahead = rest.clone();
        if ahead.next() == Some('-')
            && let Some(last) = ahead.next().filter(|last| *last != ']')
        {
            *rest = ahead;
            class.push('-');
            class.push_str(&literal(last));
        }
    }
}

/// A letter that means itself.
fn literal(letter: char) -> String {
    escape(letter.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn pattern(name: &str) -> Option<Pattern> {
        Pattern::of(&FtpPath::root().resolve(name).unwrap())
    }

    #[test]
    fn stars_questions_and_classes() {
        let csv = pattern("in/*.csv").unwrap();
        assert_eq!(csv.directory.as_str(), "/in");
        assert!(csv.matches("a.csv") && !csv.matches("a.txt"));
        assert!(pattern("a?c").unwrap().matches("abc"));
        assert!(pattern("[a-c]*").unwrap().matches("beta"));
        assert!(pattern("*{x}").unwrap().matches("a{x}"));
        assert!(pattern("*.*").unwrap().matches("a b.txt"));
    }

    /// Found by the fuzzer: `?` was one byte.
    #[test]
    fn letters_are_characters() {
        assert!(pattern("m?ller.*").unwrap().matches("müller.txt"));
        assert!(pattern("[äö]l").unwrap().matches("öl"));
        assert!(!pattern("[äö]l").unwrap().matches("ül"));
        assert!(pattern("[!a]*").unwrap().matches("日本"));
    }

    #[test]
    fn classes_and_escapes_as_shells_have_them() {
        for (name, yes, no) in [
            ("[]a]", "]", "b"),
            ("[a-]", "-", "b"),
            ("[!]]", "a", "]"),
            ("[^a-c]", "d", "b"),
            (r"a\*", "a*", "ab"),
            (r"[\]", "\\", "]"),
            ("*.+", "a.+", "a.b"),
            ("[a&&b]", "&", "c"),
        ] {
            let pattern = pattern(name).unwrap();
            assert!(pattern.matches(yes) && !pattern.matches(no), "{name}");
        }
        for broken in ["a[", "a[]", "[z-a]", r"*\"] {
            assert!(pattern(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn names_without_them_are_no_patterns() {
        assert!(pattern("plain.txt").is_none());
        assert!(pattern("*dir/plain.txt").is_none());
        assert!(pattern("broken[").is_none());
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let bomb = pattern(&("a*".repeat(100) + "c")).unwrap();
        let started = Instant::now();
        assert!(!bomb.matches(&("a".repeat(1000) + "b")));
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
