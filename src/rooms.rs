//! The rooms of `docs/architecture.md`, held against what the files of `src/` import, tests and fuzzing included.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A room, and the rooms that it may use. Those that are not here may use everything.
const ROOMS: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("auth", &["config"]),
    ("session", &["auth"]),
    (
        "edge",
        &[
            "session",
            "ftp",
            "address",
            "auth",
            "listening",
            "shutdown",
            "config",
            "memory",
            "telemetry",
            "supervise",
        ],
    ),
    ("address", &["config", "kubernetes", "retry", "telemetry"]),
    (
        "cluster",
        &["config", "kubernetes", "retry", "shutdown", "telemetry"],
    ),
    ("kubernetes", &[]),
    ("retry", &[]),
    ("listening", &[]),
    ("memory", &["config"]),
    ("ftp", &["auth", "storage", "session", "config"]),
    (
        "storage",
        &[
            "auth",
            "session",
            "config",
            "memory",
            "telemetry",
            "supervise",
        ],
    ),
    ("telemetry", &["config", "memory"]),
    (
        "admin",
        &["config", "memory", "telemetry", "listening", "supervise"],
    ),
    ("supervise", &["telemetry"]),
    ("shutdown", &["supervise"]),
];

/// Which may use everything: what wires the rooms, and what is about all of them.
const OUTSIDE: &[&str] = &["main", "cli", "gateway", "lib", "fuzzing", "rooms"];

/// The floors of the storage, from the lowest up, by folder. A file may use its own floor and those before it.
const FLOORS: &[&[&str]] = &[
    &["store"],
    &["error"],
    &["write", "read", "key"],
    &["verbs", "fuzzing", "common"],
    &["foreign", "stores"],
    &[
        "mod",
        "served",
        "harness",
        "kept",
        "clouds",
        "suite",
        "sentence",
        "whole",
        "versioned",
        "faults",
    ],
];

/// Where tasks are spawned, how many, and why each of them is short-lived: it serves one client, one transfer or one
/// request. `supervise` spawns the long-lived ones, so that none of them dies silently.
const SPAWNS: &[(&str, usize, &str)] = &[
    ("address/dns.rs", 1, "one name is looked up"),
    ("auth/hashing.rs", 1, "one password is hashed"),
    ("auth/reload.rs", 1, "one reading of the users file"),
    (
        "edge/listener.rs",
        4,
        "three of one connection; the fourth accepts, and is joined by what `essential` runs",
    ),
    ("ftp/mod.rs", 1, "one session"),
    ("ftp/transfer.rs", 1, "the end of one transfer"),
    ("kubernetes.rs", 1, "one client of the API is made"),
    ("storage/read/ahead.rs", 1, "one part of one download"),
    ("storage/read/whole.rs", 1, "one question of one download"),
    (
        "storage/store/local/blocking.rs",
        1,
        "one call to the system",
    ),
    ("storage/store/s3/checksums.rs", 1, "one checksum"),
    (
        "storage/verbs/unfinished.rs",
        2,
        "one upload that is kept, for `upload.resume_window`",
    ),
    ("storage/verbs/upload.rs", 1, "the end of one upload"),
    ("storage/write/multipart.rs", 1, "the end of one upload"),
    ("storage/write/part.rs", 1, "one call to the system"),
    ("storage/write/publish.rs", 1, "the end of one upload"),
    ("storage/write/telling.rs", 1, "one note of one upload"),
    ("storage/write/writer.rs", 2, "parts of one upload"),
    ("supervise/mod.rs", 4, "the long-lived ones"),
];

/// Lines of the log in rooms that strangers get to, at INFO and above, which are written without asking how many there
/// were of their kind; how many, and why nobody can have them written at will.
const UNBOUNDED_LINES: &[(&str, usize, &str)] = &[
    ("admin/mod.rs", 1, "the endpoint has ended"),
    ("admin/server.rs", 1, "at most one a second, by its pause"),
    ("edge/descriptors.rs", 1, "at the start"),
    ("edge/guard/lapse.rs", 1, "a session that the operator ends"),
    ("edge/guard/login.rs", 1, "a login that was right"),
    ("edge/guard/mod.rs", 1, "a defect"),
    ("edge/guard/transfer.rs", 1, "a defect"),
    ("edge/tls/mod.rs", 3, "the operator's files"),
];

/// Files in one folder, at most.
const MAX_FILES: usize = 20;

/// A file of `src/`, and the files that it imports from.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// `edge`, of `src/edge/tls/mod.rs`.
    fn room(&self) -> String {
        first(&self.path)
    }

    /// Every path that follows a `crate::`.
    fn imports(&self) -> BTreeSet<String> {
        let code = self.code();
        let mut found = BTreeSet::new();
        for (at, root) in code.match_indices("crate::") {
            // `pub(in crate::edge)` imports nothing.
            if code[..at].ends_with("(in ") {
                continue;
            }
            paths(&code[at + root.len()..], "", &mut found);
        }
        found
    }

    /// The same and, as paths from the root, what its own `use` lines name by `super::` or by a module of its own.
    fn all_imports(&self) -> BTreeSet<String> {
        let (code, own) = (self.code(), module(&self.path));
        let mut found = self.imports();
        for (at, _) in code
            .match_indices("\nuse ")
            .chain(code.match_indices("\npub use "))
        {
            let (_, mut named) = code[at..].split_once("use ").unwrap();
            let mut base = own.as_str();
            while let Some(above) = named.strip_prefix("super::") {
                base = base.rsplit_once("::").map_or("", |(parent, _)| parent);
                named = above;
            }
            let prefix = format!("{base}::");
            paths(named, prefix.trim_start_matches("::"), &mut found);
        }
        found
    }

    /// Without comments.
    fn code(&self) -> String {
        let code = self.text.lines().map(|line| match line.find("//") {
            Some(comment) => &line[..comment],
            None => line,
        });
        code.collect::<Vec<_>>().join("\n")
    }
}

/// `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(text: &str, prefix: &str, found: &mut BTreeSet<String>) {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
        .unwrap_or(text.len());
    let (path, rest) = text.split_at(end);
    let path = format!("{prefix}{path}");
    match rest.strip_prefix('{').filter(|_| path.ends_with("::")) {
        Some(group) => items(group)
            .iter()
            .map(|item| item.trim())
            .filter(|item| !item.is_empty())
            .for_each(|item| paths(item, &path, found)),
        None => drop(found.insert(path)),
    }
}

/// The items of a group in braces, up to the one that closes it.
fn items(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                items.push(&group[start..at]);
                return items;
            }
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

fn first(path: &Path) -> String {
    let first = path.components().next().unwrap();
    let first = first.as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    walk(&root, &mut |path| {
        sources.push(Source {
            path: path.strip_prefix(&root).unwrap().to_owned(),
            text: fs::read_to_string(path).unwrap(),
        });
    });
    assert!(sources.len() > 100, "{} files", sources.len());
    sources
}

fn walk(folder: &Path, take: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, take);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            take(&path);
        }
    }
}

#[test]
fn rooms_use_what_they_may() {
    let mut wrong = Vec::new();
    for source in sources() {
        let room = source.room();
        if OUTSIDE.contains(&room.as_str()) {
            continue;
        }
        let (_, may_use) = ROOMS.iter().find(|(name, _)| *name == room).unwrap();
        for import in source.imports() {
            let used = import.split("::").next().unwrap_or_default();
            if used != room && !may_use.contains(&used) {
                wrong.push(format!("{}: {import}", source.path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn long_lived_tasks_are_supervised() {
    let sources = sources();
    let tests: Vec<_> = sources.iter().flat_map(modules_for_tests).collect();
    let is_for_tests = |source: &Source| {
        let own = module(&source.path);
        let below = |test: &String| own == *test || own.starts_with(&format!("{test}::"));
        tests.iter().any(below)
    };
    let spawns = sources.iter().filter(|source| !is_for_tests(source));
    let spawns: BTreeMap<_, _> = spawns
        .map(|source| (source.path.display().to_string(), spawns_in(source)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let known: BTreeMap<_, _> = SPAWNS
        .iter()
        .map(|(path, count, _)| ((*path).to_owned(), *count))
        .collect();
    assert_eq!(spawns, known, "a long-lived task belongs to a Supervisor");
}

/// The modules that exist in tests alone, of those that a file declares.
fn modules_for_tests(source: &Source) -> Vec<String> {
    let lines: Vec<_> = source.text.lines().map(str::trim).collect();
    let declared = lines.windows(2).filter_map(|pair| {
        let name = pair[1].strip_suffix(';')?.rsplit_once("mod ")?.1;
        (pair[0] == "#[cfg(test)]").then_some(name)
    });
    let parent = match module(&source.path) {
        root if root == "lib" => String::new(),
        parent => format!("{parent}::"),
    };
    declared.map(|name| format!("{parent}{name}")).collect()
}

/// Calls of `spawn`, `spawn_blocking` and the like, but for those of the tests at the end of the file.
fn spawns_in(source: &Source) -> usize {
    let code = source.code();
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let after = code.split("spawn").skip(1);
    after
        .filter(|rest| {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_lowercase() || c == '_');
            rest.starts_with(['(', ':'])
        })
        .count()
}

#[test]
fn lines_that_strangers_can_cause_are_bounded() {
    let reached = |source: &Source| ["edge", "admin"].contains(&source.room().as_str());
    let lines = sources().into_iter().filter(reached);
    let lines: BTreeMap<_, _> = lines
        .map(|source| {
            (
                source.path.display().to_string(),
                unbounded_lines_in(&source),
            )
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    let known: BTreeMap<_, _> = UNBOUNDED_LINES
        .iter()
        .map(|(path, count, _)| ((*path).to_owned(), *count))
        .collect();
    assert_eq!(
        lines, known,
        "a line that can be caused at will asks `Lines`"
    );
}

/// Lines of the log for which nothing right before asks whether they are to be written, tests not counted.
fn unbounded_lines_in(source: &Source) -> usize {
    let code = source.code();
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines: Vec<_> = code.lines().collect();
    let is_written = |line: &str| {
        let levels = ["error", "warn", "info"].map(|level| format!("tracing::{level}!("));
        levels.iter().any(|level| line.contains(level.as_str()))
    };
    let is_asked = |at: usize| {
        let mut before = lines[at.saturating_sub(3)..at].iter();
        let asks = [".logs(LineKind::", ".logs_user(", ".permit(LineKind::"];
        before.any(|line| asks.iter().any(|ask| line.contains(ask)))
    };
    let written = (0..lines.len()).filter(|at| is_written(lines[*at]));
    written.filter(|at| !is_asked(*at)).count()
}

#[test]
fn the_table_of_rooms_is_in_the_docs() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let docs = fs::read_to_string(docs).unwrap();
    for (room, may_use) in ROOMS {
        let is_row = |line: &&str| {
            line.starts_with(&format!("| `{room}/` |"))
                || line.starts_with(&format!("| `{room}.rs` |"))
        };
        let row = docs.lines().find(is_row).unwrap();
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let told: BTreeSet<_> = cell.split('`').skip(1).step_by(2).collect();
        let told: BTreeSet<_> = told
            .iter()
            .filter(|name| **name != "User")
            .copied()
            .collect();
        assert_eq!(told, may_use.iter().copied().collect(), "{room}");
    }
}

#[test]
fn the_storage_is_built_in_floors() {
    let floor = |name: &str| FLOORS.iter().position(|floor| floor.contains(&name));
    let mut wrong = Vec::new();
    for source in sources() {
        let Ok(inside) = source.path.strip_prefix("storage") else {
            continue;
        };
        let own = floor(&first(inside)).unwrap();
        for import in source.imports() {
            let mut segments = import.split("::");
            let used = match (segments.next(), segments.next()) {
                // What storage/mod.rs itself defines: the room's own type, whose methods the verbs are.
                (Some("storage"), Some("Storage")) => "verbs",
                (Some("storage"), Some("StorageError")) => "error",
                (Some("storage"), Some(used)) => used,
                _ => continue,
            };
            if floor(used).is_none_or(|floor| floor > own) {
                wrong.push(format!("{}: {import}", source.path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// The kinds of store are named on the lowest floor alone.
#[test]
fn no_verb_asks_for_the_kind_of_store() {
    let kinds = ["s3", "gcs", "azure", "local", "memory"];
    for source in sources() {
        let Ok(inside) = source.path.strip_prefix("storage") else {
            continue;
        };
        if first(inside) == "store" || source.text.contains("#[cfg(test)]\n#!") {
            continue;
        }
        for import in source.imports() {
            let kind = import.strip_prefix("storage::store::");
            let kind = kind.and_then(|rest| rest.split("::").next());
            assert!(
                kind.is_none_or(|kind| !kinds.contains(&kind)),
                "{}: {import}",
                source.path.display()
            );
        }
    }
}

#[test]
fn folders_are_small_enough_to_be_read() {
    let mut folders: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for source in sources() {
        *folders
            .entry(source.path.parent().unwrap().to_owned())
            .or_default() += 1;
    }
    folders.retain(|_, files| *files > MAX_FILES);
    assert_eq!(folders, BTreeMap::new());
}

/// Files that need each other are read together: two at most.
#[test]
fn no_more_than_two_files_import_each_other() {
    let sources = sources();
    let files: BTreeMap<String, usize> = (0..sources.len())
        .map(|index| (module(&sources[index].path), index))
        .collect();
    let edges: Vec<BTreeSet<usize>> = sources
        .iter()
        .map(|source| imported(source, &files))
        .collect();
    let cycles: Vec<Vec<String>> = cycles(&edges)
        .into_iter()
        .filter(|cycle| cycle.len() > 2)
        .map(|cycle| {
            let path = |index: usize| sources[index].path.display().to_string();
            cycle.into_iter().map(path).collect()
        })
        .collect();
    assert_eq!(cycles, Vec::<Vec<String>>::new());
}

/// `edge::tls`, of `src/edge/tls/mod.rs`.
fn module(path: &Path) -> String {
    let path = path.with_extension("");
    let mut segments: Vec<_> = path.iter().filter_map(|one| one.to_str()).collect();
    if segments.last() == Some(&"mod") {
        segments.pop();
    }
    segments.join("::")
}

fn imported(source: &Source, files: &BTreeMap<String, usize>) -> BTreeSet<usize> {
    let own = files[&module(&source.path)];
    let imports = source.all_imports();
    let of = imports.iter().filter_map(|import| {
        let mut name = import.as_str();
        loop {
            if let Some(file) = files.get(name) {
                return Some(*file);
            }
            name = name.rsplit_once("::")?.0;
        }
    });
    of.filter(|file| *file != own).collect()
}

/// Files that lead to each other.
fn cycles(edges: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    let reached: Vec<BTreeSet<usize>> = (0..edges.len()).map(|from| reach(edges, from)).collect();
    let mut cycles = BTreeSet::new();
    for (from, to) in reached.iter().enumerate() {
        let both = to.iter().filter(|other| reached[**other].contains(&from));
        cycles.insert(both.copied().collect::<Vec<_>>());
    }
    cycles.into_iter().collect()
}

fn reach(edges: &[BTreeSet<usize>], from: usize) -> BTreeSet<usize> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(at) = open.pop() {
        open.extend(edges[at].iter().filter(|next| seen.insert(**next)));
    }
    seen
}
