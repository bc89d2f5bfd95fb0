//! The checker, on histories that are known to be good or bad.

use crate::check::{Judgement, check};
use crate::content::{Chunk, Content, Piece, SMALL};
use crate::failing::{Call, Failure, Strike};
use crate::history::{Asked, Doubt, History, NEVER, Outcome, Record, Seen, Time};
use crate::plan::Verb;

/// A history of lines such as `0-5 STOR a #1: done`. `end` is the end of the history.
fn history(lines: &[&str]) -> History {
    History {
        records: lines.iter().map(|line| record(line)).collect(),
        ..History::default()
    }
}

fn record(line: &str) -> Record {
    let (head, outcome) = line.split_once(": ").expect("an outcome");
    let words: Vec<_> = head.split(' ').collect();
    let (call, reply) = words[0].split_once('-').expect("two times");
    Record {
        client: 0,
        gateway: 0,
        verb: verb(&words[1..]),
        call: time(call),
        reply: time(reply),
        last_try: time(reply),
        outcome: heard(outcome),
        words: String::new(),
    }
}

fn time(text: &str) -> Time {
    if text == "end" {
        return NEVER;
    }
    text.parse().expect("a time")
}

fn verb(words: &[&str]) -> Verb {
    let name = |at: usize| words[at].to_owned();
    match words[0] {
        "STOR" => Verb::Store {
            key: name(1),
            chunk: chunk(words[2]),
        },
        "APPE" => Verb::Append {
            key: name(1),
            chunk: chunk(words[2]),
        },
        "REST" => Verb::Restart {
            key: name(2),
            at: words[1].parse().expect("an offset"),
            chunk: chunk(words[3]),
        },
        "STOU" => Verb::Unique {
            key: name(1),
            chunk: chunk(words[2]),
        },
        "RETR" => Verb::Retrieve { key: name(1) },
        "SIZE" => Verb::Size { key: name(1) },
        "DELE" => Verb::Delete { key: name(1) },
        "RNTO" => Verb::Rename {
            from: name(1),
            to: name(2),
        },
        "MOVE" => Verb::RenameDirectory {
            from: name(1),
            to: name(2),
        },
        "LIST" => Verb::List { path: name(1) },
        verb => panic!("{verb}"),
    }
}

fn chunk(text: &str) -> Chunk {
    Chunk {
        number: text[1..].parse().expect("a number"),
        size: SMALL,
    }
}

fn heard(text: &str) -> Outcome {
    match text.split_once(' ').unwrap_or((text, "")) {
        ("done", _) => Outcome::Done(Seen::Nothing),
        ("missing", _) => Outcome::Missing,
        ("refused", _) => Outcome::Refused,
        ("taken", _) => Outcome::TakenAway,
        ("unresolved", _) => Outcome::Unresolved,
        ("unheard", _) => Outcome::Unheard,
        ("bytes", size) => Outcome::Done(Seen::Size(size.parse().expect("a size"))),
        ("names", names) => {
            let names = names.split(' ').filter(|name| !name.is_empty());
            Outcome::Done(Seen::Names(names.map(str::to_owned).collect()))
        }
        ("name", name) => Outcome::Done(Seen::Name(name.to_owned())),
        ("is", content) => Outcome::Done(Seen::Content(content_of(content))),
        _ => panic!("{text}"),
    }
}

fn content_of(text: &str) -> Content {
    let pieces = text.split('+').map(|piece| Piece {
        chunk: chunk(piece).number,
        len: SMALL,
    });
    Content(pieces.collect())
}

fn judge(lines: &[&str]) -> Judgement {
    check(&history(lines), false)
}

fn assert_good(lines: &[&str]) {
    let judgement = judge(lines);
    assert!(judgement.wrong.is_empty(), "{lines:#?}: {judgement:?}");
    let exceptions = judgement.absent_again + judgement.equal_again + judgement.unknown;
    assert_eq!(exceptions, 0, "{lines:#?}: {judgement:?}");
}

fn assert_bad(lines: &[&str]) {
    assert!(!judge(lines).wrong.is_empty(), "{lines:#?}");
}

#[test]
fn the_last_of_two_uploads_is_there() {
    let two = ["0-5 STOR a #1: done", "6-9 STOR a #2: done"];
    assert_good(&[two[0], two[1], "10-11 RETR a: is #2"]);
    assert_bad(&[two[0], two[1], "10-11 RETR a: is #1"]);
    assert_bad(&[two[0], two[1], "10-11 RETR a: missing"]);
    assert_bad(&[two[0], two[1], "7-8 RETR a: is #2", "9-10 RETR a: is #1"]);
}

#[test]
fn of_two_uploads_at_once_either_is_there() {
    let two = ["0-9 STOR a #1: done", "0-9 STOR a #2: done"];
    assert_good(&[
        two[0],
        two[1],
        "10-11 RETR a: is #2",
        "12-13 SIZE a: bytes 64",
    ]);
    assert_good(&[two[0], two[1], "10-11 RETR a: is #1"]);
    assert_good(&[two[0], two[1], "3-5 RETR a: is #1", "6-8 RETR a: is #2"]);
    assert_bad(&[two[0], two[1], "10-11 RETR a: is #1", "12-13 RETR a: is #2"]);
    assert_bad(&[two[0], two[1], "10-11 RETR a: is #1+#2"]);
}

#[test]
fn a_refusal_changes_nothing() {
    let refused = ["0-5 STOR a #1: done", "6-9 STOR a #2: refused"];
    assert_good(&[refused[0], refused[1], "10-11 RETR a: is #1"]);
    assert_bad(&[refused[0], refused[1], "10-11 RETR a: is #2"]);
    assert_bad(&[
        "0-5 STOR a #1: done",
        "6-9 DELE a: refused",
        "10-11 RETR a: missing",
    ]);
}

#[test]
fn what_is_unresolved_took_effect_before_its_reply_or_never() {
    let doubt = ["0-5 STOR a #1: done", "6-9 STOR a #2: unresolved"];
    assert_good(&[doubt[0], doubt[1], "10-11 RETR a: is #1"]);
    assert_good(&[doubt[0], doubt[1], "10-11 RETR a: is #2"]);
    assert_bad(&[
        doubt[0],
        doubt[1],
        "10-11 RETR a: is #2",
        "12-13 RETR a: is #1",
    ]);
    let newer = "10-11 STOR a #3: done";
    assert_bad(&[doubt[0], doubt[1], newer, "12-13 RETR a: is #2"]);
}

#[test]
fn the_two_exceptions_are_counted() {
    let absent = judge(&[
        "0-5 STOR a #1: unresolved",
        "6-7 RETR a: missing",
        "8-9 RETR a: is #1",
    ]);
    assert!(absent.wrong.is_empty(), "{absent:?}");
    assert_eq!((absent.absent_again, absent.equal_again), (1, 0));
    let lines = [
        "0-5 STOR a #1: done",
        "6-7 DELE a: done",
        "9-10 RETR a: is #1",
    ];
    assert_bad(&lines);
    let mut late = history(&lines);
    late.doubts.push(Doubt {
        name: Some("a".to_owned()),
        at: 8,
        is_late: true,
        words: String::new(),
    });
    let again = check(&late, false);
    assert!(again.wrong.is_empty(), "{again:?}");
    assert_eq!((again.absent_again, again.equal_again), (1, 0));
    let same = judge(&[
        "0-1 STOR a #1: done",
        "2-3 STOR a #2: unresolved",
        "4-5 RETR a: is #1",
        "6-7 RETR a: is #2",
    ]);
    assert!(same.wrong.is_empty(), "{same:?}");
    assert_eq!((same.absent_again, same.equal_again), (0, 1));
}

#[test]
fn a_late_try_replaces_nothing_newer() {
    assert_bad(&[
        "0-1 STOR a #1: done",
        "2-3 STOR a #2: unresolved",
        "4-5 STOR a #3: done",
        "6-7 RETR a: is #2",
    ]);
    assert_bad(&[
        "0-1 STOR a #1: done",
        "2-3 DELE a: unresolved",
        "4-5 STOR a #3: done",
        "6-7 RETR a: missing",
    ]);
}

#[test]
fn a_client_that_hung_up_is_obeyed_until_its_command_ends() {
    let early = ["0-8 STOR a #1: unheard", "1-5 STOR a #2: done"];
    assert_good(&[early[0], early[1], "6-9 RETR a: is #1"]);
    let late = ["0-4 STOR a #1: unheard", "5-6 STOR a #2: done"];
    assert_good(&[late[0], late[1], "7-9 RETR a: is #2"]);
    assert_bad(&[late[0], late[1], "7-9 RETR a: is #1"]);
}

#[test]
fn an_append_adds_to_what_is_there_once() {
    let append = ["0-1 STOR a #1: done", "2-9 APPE a #2: done"];
    assert_good(&[append[0], append[1], "10-11 RETR a: is #1+#2"]);
    assert_good(&[
        append[0],
        append[1],
        "2-9 APPE a #3: done",
        "10-11 RETR a: is #1+#3+#2",
    ]);
    assert_bad(&[append[0], append[1], "10-11 RETR a: is #1+#2+#2"]);
    assert_bad(&[
        append[0],
        append[1],
        "2-9 APPE a #3: done",
        "10-11 RETR a: is #1+#3",
    ]);
    let back = "10-11 REST 64 a #4: done";
    assert_good(&[append[0], append[1], back, "12-13 RETR a: is #1+#4"]);
    assert_bad(&["0-1 STOR a #1: done", "2-3 REST 128 a #2: done"]);
}

#[test]
fn a_rename_moves_its_file() {
    let moved = ["0-1 STOR a #1: done", "2-9 RNTO a b: done"];
    assert_good(&[
        moved[0],
        moved[1],
        "10-11 RETR a: missing",
        "10-11 RETR b: is #1",
    ]);
    // Both names may be seen.
    assert_good(&[moved[0], moved[1], "4-5 RETR b: is #1", "6-7 RETR a: is #1"]);
    assert_bad(&[
        moved[0],
        moved[1],
        "4-5 RETR a: missing",
        "6-7 RETR b: missing",
    ]);
    assert_bad(&[moved[0], moved[1], "10-11 RETR a: is #1"]);
    assert_bad(&[moved[0], moved[1], "10-11 RETR b: missing"]);
    let meanwhile = "3-8 STOR a #2: done";
    assert_good(&[moved[0], moved[1], meanwhile, "10-11 RETR a: is #2"]);
    assert_good(&[moved[0], moved[1], meanwhile, "10-11 RETR b: is #2"]);
    assert_bad(&[
        moved[0],
        moved[1],
        meanwhile,
        "10-11 RETR a: missing",
        "10-11 RETR b: is #1",
    ]);
}

#[test]
fn one_of_two_renames_of_a_file_succeeds() {
    let one = [
        "0-1 STOR a #1: done",
        "2-9 RNTO a b: done",
        "2-9 RNTO a c: taken",
    ];
    assert_good(&[one[0], one[1], one[2], "10-11 RETR c: is #1"]);
    assert_bad(&[one[0], one[1], "2-9 RNTO a c: done"]);
    assert_bad(&[one[0], one[2], "10-11 RETR a: is #1"]);
}

#[test]
fn a_failed_rename_loses_nothing() {
    let failed = ["0-1 STOR a #1: done", "2-9 RNTO a b: refused"];
    assert_good(&[
        failed[0],
        failed[1],
        "10-11 RETR a: is #1",
        "10-11 RETR b: is #1",
    ]);
    assert_bad(&[
        failed[0],
        failed[1],
        "10-11 RETR a: missing",
        "10-11 RETR b: is #1",
    ]);
    let doubt = ["0-1 STOR a #1: done", "2-9 RNTO a b: unresolved"];
    assert_good(&[
        doubt[0],
        doubt[1],
        "10-11 RETR a: missing",
        "10-11 RETR b: is #1",
    ]);
    assert_bad(&[
        doubt[0],
        doubt[1],
        "10-11 RETR a: missing",
        "10-11 RETR b: missing",
    ]);
}

#[test]
fn a_directory_takes_its_files_along() {
    let moved = [
        "0-1 STOR d/a #1: done",
        "2-3 STOR d/b #2: done",
        "4-9 MOVE d e: done",
    ];
    let all = [moved[0], moved[1], moved[2]];
    let good = [
        &all[..],
        &["10-11 RETR e/a: is #1", "10-11 RETR e/b: is #2"],
    ]
    .concat();
    assert_good(&good);
    assert_bad(&[&all[..], &["10-11 RETR d/b: is #2"]].concat());
    assert_bad(
        &[
            &all[..],
            &["10-11 RETR d/b: missing", "10-11 RETR e/b: missing"],
        ]
        .concat(),
    );
    let meanwhile = [
        &all[..],
        &["5-6 STOR d/b #3: done", "10-11 RETR d/b: is #3"],
    ]
    .concat();
    assert_good(&meanwhile);
    let half = [
        "4-9 MOVE d e: refused",
        "10-11 RETR e/a: is #1",
        "10-11 RETR d/b: is #2",
    ];
    assert_good(&[&moved[..2], &half].concat());
}

#[test]
fn a_unique_name_is_new() {
    assert_good(&["0-1 STOU a #1: name a.1", "2-3 RETR a.1: is #1"]);
    assert_bad(&["0-1 STOR a.1 #2: done", "2-3 STOU a #1: name a.1"]);
    // Its client has not heard it, and the directory has moved.
    let unheard = ["0-1 STOU d/a #1: unheard", "2-3 MOVE d e: done"];
    assert_good(&[unheard[0], unheard[1], "4-5 LIST e: names e/a.1"]);
    assert_bad(&[unheard[0], unheard[1], "4-5 LIST e: names e/b.1"]);
}

#[test]
fn where_nothing_may_be_replaced_one_upload_succeeds() {
    let two = |second: &str| check(&history(&["0-9 STOR a #1: done", second]), true);
    assert!(!two("0-9 STOR a #2: done").wrong.is_empty());
    assert!(two("0-9 STOR a #2: refused").wrong.is_empty());
    assert!(!two("0-9 APPE a #2: done").wrong.is_empty());
}

#[test]
fn a_listing_shows_what_is_there() {
    let stored = "0-1 STOR d/a #1: done";
    assert_good(&[stored, "2-3 LIST d: names d/a"]);
    assert_good(&["0-5 STOR d/a #1: done", "2-3 LIST d: names"]);
    assert_bad(&[stored, "2-3 LIST d: names"]);
    assert_bad(&[stored, "2-3 LIST d: missing"]);
    assert_bad(&[stored, "2-3 LIST d: names d/a d/b"]);
    let deleted = [stored, "2-3 DELE d/a: done"];
    assert_good(&[deleted[0], deleted[1], "4-5 LIST d: names"]);
    assert_bad(&[deleted[0], deleted[1], "4-5 LIST d: names d/a"]);
    assert_good(&[stored, "2-9 DELE d/a: done", "4-5 LIST d: names d/a"]);
    for (at, is_good) in [(3, true), (6, false)] {
        let mut late = history(&[deleted[0], deleted[1], "4-5 LIST d: names d/a"]);
        late.doubts.push(Doubt {
            name: Some("d/a".to_owned()),
            at,
            is_late: true,
            words: String::new(),
        });
        assert_eq!(check(&late, false).wrong.is_empty(), is_good, "{at}");
    }
    assert_good(&[stored, "2-3 DELE d/a: unresolved", "4-5 LIST d: names"]);
}

/// On a folder, at 5, the gateway could not make something durable.
fn wrongs_of_folder(lines: &[&str], failure: Failure) -> usize {
    let strike = Strike {
        gateway: 0,
        call: Call::Sync,
        nth: 0,
        failure,
    };
    let history = History {
        is_folder: true,
        failed: vec![(5, strike)],
        ..history(lines)
    };
    check(&history, false).wrong.len()
}

#[test]
fn a_failed_sync_is_told() {
    let wrongs = |lines: &[&str]| wrongs_of_folder(lines, Failure::Io);
    assert_eq!(wrongs(&["0-9 STOR a #1: done"]), 1);
    assert_eq!(
        wrongs(&["0-4 STOR a #1: refused", "5-9 STOR b #2: done"]),
        1
    );
    for told in ["refused", "unresolved", "unheard"] {
        let line = format!("0-9 STOR a #1: {told}");
        assert_eq!(wrongs(&[&line, "4-6 STOR b #2: done"]), 0);
    }
}

#[test]
fn a_folder_leaves_no_doubt_without_a_failed_sync() {
    let unresolved = ["0-4 STOR a #1: unresolved", "5-6 STOR a #2: refused"];
    assert_eq!(wrongs_of_folder(&unresolved, Failure::Io), 1);
    assert_eq!(
        wrongs_of_folder(&["0-9 STOR a #1: done"], Failure::DieBefore),
        0
    );
}

#[test]
fn a_rename_in_a_folder_is_done_or_not() {
    let stored = "0-1 STOR d/a #1: done";
    for rename in ["2-9 RNTO d/a e/a: refused", "2-9 MOVE d e: refused"] {
        let there = [
            stored,
            rename,
            "10-11 RETR d/a: is #1",
            "10-11 RETR e/a: missing",
        ];
        assert_eq!(wrongs_of_folder(&there, Failure::Io), 0, "{rename}");
        let both = [stored, rename, "10-11 RETR e/a: is #1"];
        assert_eq!(wrongs_of_folder(&both, Failure::Io), 1, "{rename}");
    }
}

/// What can't be told in time is not called good.
#[test]
fn too_many_orders_are_told() {
    let mut lines: Vec<String> = (0..14).map(|n| format!("0-9 APPE a #{n}: done")).collect();
    lines.push("10-11 RETR a: missing".to_owned());
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    assert_eq!(judge(&lines).unknown, 1);
}

#[test]
fn the_store_is_asked_for_nothing_that_nobody_waits_for() {
    let asked = |name: &str, at| {
        let mut history = history(&[
            "10-20 STOR d/a #1: done",
            "30-40 RNTO d/a e/a: done",
            "50-60 MOVE e d: refused",
            "70-80 RNTO d/a e/a: unheard",
        ]);
        history.asked = [("e/a", 72), (name, at)]
            .map(|(name, at)| Asked {
                name: name.to_owned(),
                at,
                words: format!("CopyObject h1/{name}"),
            })
            .to_vec();
        check(&history, false).wrong.len()
    };
    let good = [
        ("d/a", 15),
        ("e/a", 35),
        ("d/", 40),
        ("", 40),
        ("d/b", 55),
        ("e/a", 75),
        ("d/a", 99),
    ];
    for (name, at) in good {
        assert_eq!(asked(name, at), 0, "{name} at {at}");
    }
    for (name, at) in [
        ("d/a", 25),
        ("e/a", 15),
        ("d/", 15),
        ("d/b", 35),
        ("b", 55),
        ("e/a", 99),
    ] {
        assert_eq!(asked(name, at), 1, "{name} at {at}");
    }
}
