//! What the fuzzer calls: everything that reads bytes of a peer, or what an operator wrote.
//!
//! Each function takes any bytes and holds what came of them against the promises of what has read
//! them: not only that nothing panics. They exist for `cargo fuzz` (see `fuzz/` and `make fuzz`) and for
//! the tests, which run all of `fuzz/corpus` through them.

pub use crate::auth::fuzzing::users;
pub use crate::config::fuzzing::config;
pub use crate::edge::fuzzing::{command, proxy};
pub use crate::storage::fuzzing::pattern;

use crate::ftp::{PathVerb, Request};

/// Reads two lines as names, the second below the first.
///
/// # Panics
/// When a promise is broken.
pub fn path(data: &[u8]) {
    for path in crate::storage::fuzzing::path(data) {
        // What libunftp gets is one line, whatever the client has named.
        let line = Request::Path(PathVerb::Size, &path).to_string();
        assert_eq!(line, format!("SIZE {path}\r\n"));
        assert_eq!(line.matches(char::is_control).count(), 2);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(target: &str, fuzz: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let files = std::fs::read_dir(corpus.join(target)).unwrap();
        let mut count = 0;
        for file in files {
            let file = file.unwrap().path();
            println!("{}", file.display());
            fuzz(&std::fs::read(file).unwrap());
            count += 1;
        }
        assert!(count >= 8, "{target} has {count} seeds only");
    }

    #[test]
    fn the_seeds_keep_the_promises() {
        replay("command", super::command);
        replay("config", super::config);
        replay("path", super::path);
        replay("proxy", super::proxy);
        replay("pattern", super::pattern);
        replay("users", super::users);
    }
}
