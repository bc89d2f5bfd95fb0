//! What the servers can't do that the suite runs against, each with its reason: the only place for it. The table of
//! `docs/stores.md` is made of it.

use std::fmt::Write as _;

/// A server that nobody here wrote.
pub(crate) struct Server {
    /// As `CLOUD` says it.
    pub(crate) name: &'static str,
    /// The version that the runs are pinned to.
    pub(crate) version: &'static str,
    /// What it stands for.
    pub(crate) what: &'static str,
}

pub(crate) const SERVERS: &[Server] = &[
    Server {
        name: "versitygw",
        version: "1.8.0",
        what: "S3, on a folder whose metadata is extended attributes",
    },
    Server {
        name: "azurite",
        version: "3.35.0",
        what: "Azure Blob Storage, Microsoft's own emulator",
    },
    Server {
        name: "moto",
        version: "5.2",
        what: "S3, in memory; it checks no signatures. One request at a time (`conformance/suite/serial_moto.py`): it looks at a condition and writes without a lock between",
    },
];

/// A behaviour that a server can't have.
pub(crate) struct Exception {
    pub(crate) server: &'static str,
    /// Suite and name.
    pub(crate) test: &'static str,
    /// Two requests have to come at the same moment, which they do not each time.
    pub(crate) is_race: bool,
    /// What of the server is to blame, and what a gateway on it loses.
    pub(crate) reason: &'static str,
}

pub(crate) const EXCEPTIONS: &[Exception] = &[
    Exception {
        server: "versitygw",
        test: "store::a_deletion_knows_preconditions",
        is_race: false,
        reason: "it deletes nothing with a 204 also where `If-Match` names a version. A gateway finds that out at its \
                 start: `delete` is `no` in `check`, and it looks before each deletion",
    },
    Exception {
        server: "versitygw",
        test: "sentence::one_of_two_renames_of_a_file_succeeds",
        is_race: true,
        reason: "the same, between two gateways: both hear 250, and the file has both names. Nothing is lost",
    },
    Exception {
        server: "versitygw",
        test: "store::a_copy_is_the_same_and_knows_preconditions",
        is_race: false,
        reason: "it passes over the conditions of `CopyObject` on the target. A gateway finds that out at its start: \
                 `copy` is `no` in `check`, and it looks before each copy",
    },
    Exception {
        server: "versitygw",
        test: "store::a_copy_keeps_its_class",
        is_race: false,
        reason: "it takes any storage class and forgets it: it has one kind of disk",
    },
    Exception {
        server: "moto",
        test: "store::a_copy_is_the_same_and_knows_preconditions",
        is_race: false,
        reason: "it passes over the conditions of `CopyObject` on the target. A gateway finds that out at its start: \
                 `copy` is `no` in `check`, and it looks before each copy",
    },
    Exception {
        server: "moto",
        test: "store::a_base_that_has_changed_stays",
        is_race: false,
        reason: "it passes over `If-Match` at `CompleteMultipartUpload`, and knows `If-None-Match` only. A gateway \
                 finds that out at its start: `complete` is `no` in `check`",
    },
    Exception {
        server: "moto",
        test: "store::what_is_old_and_unfinished_is_swept",
        is_race: false,
        reason: "it says of each multipart upload that it began in 2010, so that the sweep takes all for old",
    },
];

/// Behaviours that a double has to be told faults for, or looked into: real servers are not asked for them.
pub(crate) const NEED_A_DOUBLE: &[&str] = &[
    "storage::a_marker_with_content_is_never_lost",
    "storage::a_rename_that_goes_on_leaves_markers_with_content",
    "storage::a_rename_that_goes_on_leaves_markers_that_could_not_be_made",
    "storage::a_directory_is_not_renamed_where_it_can_not_be_noted",
    "storage::what_the_store_was_tried_with_is_swept",
];

/// Why a server can't have a behaviour, if that is known.
pub(crate) fn known(server: &str, test: &str) -> Option<&'static Exception> {
    let mut all = EXCEPTIONS.iter();
    all.find(|exception| exception.server == server && exception.test == test)
}

/// The tables of `docs/stores.md`.
fn tables() -> String {
    let mut text = "| server | version | what it is |\n|---|---|---|\n".to_owned();
    for Server {
        name,
        version,
        what,
    } in SERVERS
    {
        let _ = writeln!(text, "| {name} | {version} | {what} |");
    }
    text += "\n| server | test | why not |\n|---|---|---|\n";
    for Exception {
        server,
        test,
        reason,
        ..
    } in EXCEPTIONS
    {
        let _ = writeln!(text, "| {server} | `{test}` | {reason} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- Made from src/storage/clouds/exceptions.rs; after a change there: BLESS=1 cargo test --lib clouds -->\n";
    const END: &str = "<!-- The end of what is made. -->";

    /// With `BLESS=1` in the environment it writes the tables instead.
    #[test]
    fn the_page_has_every_exception() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/stores.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let right = format!("{before}{BEGIN}{}{END}{after}", tables());
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, &right).unwrap();
            return;
        }
        assert!(
            page == right,
            "docs/stores.md is out of date: run BLESS=1 cargo test --lib clouds"
        );
    }

    #[test]
    fn exceptions_are_about_servers_and_tests_that_there_are() {
        let tests: Vec<_> = super::super::behaviours().map(|(test, _)| test).collect();
        for Exception {
            server,
            test,
            reason,
            ..
        } in EXCEPTIONS
        {
            assert!(
                SERVERS.iter().any(|there| there.name == *server),
                "{server}"
            );
            assert!(tests.iter().any(|there| there == test), "{test}");
            assert!(reason.len() > 20, "{server} {test}: {reason}");
        }
    }
}
