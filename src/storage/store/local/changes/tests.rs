//! Changes in a folder of its own for each test.

use std::path::Path as FsPath;
use std::sync::atomic::{AtomicI32, Ordering};

use cap_std::ambient_authority;
use object_store::UpdateVersion;

use super::*;
use crate::config::Create;

/// Nothing has to hold of either name.
const ANY: [Precondition; 2] = [Precondition::None, Precondition::None];

fn root(folder: &FsPath) -> Dir {
    Dir::open_ambient_dir(folder, ambient_authority()).unwrap()
}

fn store(folder: &FsPath) -> Root {
    Root::open(folder.to_owned(), Create::Missing).unwrap()
}

fn stage(root: &Dir, named: bool, text: &'static str) -> Stage {
    let stage = if named {
        Stage::with_name(root).unwrap()
    } else {
        Stage::for_key(root, &Path::from("d/f")).unwrap()
    };
    stage.write(0, &text.into()).unwrap();
    stage
}

/// File systems without nameless files are as good: names in a directory of the gateway's own.
#[test]
fn stages_with_and_without_names_are_published_alike() {
    for named in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (root, key) = (root(folder.path()), Path::from("d/f"));
        let store = store(folder.path());
        let read = || std::fs::read_to_string(folder.path().join("d/f")).unwrap();
        let publish = |text, precondition: &Precondition| {
            publish(&store, &stage(&root, named, text), &key, precondition)
        };
        publish("one", &Precondition::Absent).unwrap();
        let taken = publish("two", &Precondition::Absent).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(), "one");
        publish("three", &Precondition::None).unwrap();
        assert_eq!(read(), "three");
        let stale = Precondition::Unchanged(UpdateVersion {
            e_tag: Some("\"1-2.3-4\"".to_owned()),
            version: None,
        });
        assert!(
            publish("four", &stale)
                .unwrap_err()
                .get_ref()
                .unwrap()
                .is::<Changed>()
        );
        assert_eq!(read(), "three");
        let left = stages(&root).unwrap().entries().unwrap().count();
        assert_eq!(left, 0, "named: {named}");
    }
}

#[test]
fn a_file_system_without_links_does_with_renames() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(folder.path());
    let target = Target::make(&root, &Path::from("d/f")).unwrap();
    let place = |text, precondition: &Precondition| {
        target.place_without_links(&stage(&root, true, text), precondition)
    };
    let read = || std::fs::read_to_string(folder.path().join("d/f")).unwrap();
    place("one", &Precondition::Absent).unwrap();
    let taken = place("two", &Precondition::Absent).unwrap_err();
    assert_eq!(
        (taken.kind(), &*read()),
        (io::ErrorKind::AlreadyExists, "one")
    );
    place("three", &Precondition::None).unwrap();
    assert_eq!(read(), "three");
    assert_eq!(stages(&root).unwrap().entries().unwrap().count(), 0);
}

/// A link that is made twice, because an answer was lost, is no name that another has taken.
#[test]
fn a_link_of_the_same_file_is_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(folder.path());
    for named in [false, true] {
        let name = format!("named-{named}");
        let stage = stage(&root, named, "x");
        stage.link(&root, &name).unwrap();
        stage.link(&root, &name).unwrap();
        let other = self::stage(&root, named, "y")
            .link(&root, &name)
            .unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::AlreadyExists);
    }
}

/// The system does nothing when both names are of one file.
#[test]
fn a_rename_onto_a_link_of_the_same_file_leaves_one_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    std::fs::write(folder.path().join("a"), "x").unwrap();
    std::fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
    rename(&store, &Path::from("a"), &Path::from("b"), &ANY).unwrap();
    assert!(!folder.path().join("a").exists() && folder.path().join("b").exists());
}

/// What was published is known again, with a name of its own and without, and renamed as long as it is that.
#[test]
fn a_file_is_renamed_only_as_long_as_it_is_the_version_that_was_meant() {
    for named in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (root, store) = (root(folder.path()), store(folder.path()));
        let [from, to] = ["d/f", "d/g"].map(Path::from);
        let put = |text| {
            let stage = stage(&root, named, text);
            publish(&store, &stage, &from, &Precondition::None).unwrap()
        };
        let names = |version| [Precondition::Unchanged(version), Precondition::None];
        let old = put("old");
        let new = put("new");
        let changed = rename(&store, &from, &to, &names(old)).unwrap_err();
        assert!(changed.get_ref().unwrap().is::<Changed>(), "{changed}");
        rename(&store, &from, &to, &names(new)).unwrap();
        assert_eq!(std::fs::read(folder.path().join("d/g")).unwrap(), b"new");
    }
}

/// A directory that is empty may be removed at any time, by another gateway too.
#[test]
fn a_rename_makes_its_directory_again_that_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, other) = (store(folder.path()), store(folder.path()));
    let [here, there, d, e] = ["a", "d/a", "e", "d/e"].map(Path::from);
    std::fs::write(folder.path().join("a"), "x").unwrap();
    std::fs::create_dir(folder.path().join("e")).unwrap();
    // So often it is removed amid each rename; far below zero at the end.
    let removals = AtomicI32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while removals.load(Ordering::SeqCst) > -100 {
                let left = removals.load(Ordering::SeqCst) > 0;
                if left && remove_directory(&other, &Path::from("d")).is_ok() {
                    removals.fetch_sub(1, Ordering::SeqCst);
                }
            }
        });
        let amid_removals = |rename: &dyn Fn() -> io::Result<()>| {
            removals.store(4, Ordering::SeqCst);
            let renamed = rename();
            removals.store(0, Ordering::SeqCst);
            renamed
        };
        let renamed = (0..20).try_for_each(|_| {
            amid_removals(&|| rename(&store, &here, &there, &ANY))?;
            rename(&store, &there, &here, &ANY)?;
            amid_removals(&|| rename_directory(&store, &d, &e))?;
            rename_directory(&store, &e, &d)
        });
        removals.store(-1000, Ordering::SeqCst);
        renamed.unwrap();
    });
}

/// Whatever path leads to a directory, its names have the same locks.
#[test]
fn a_link_to_a_directory_is_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(folder.path());
    std::fs::create_dir(folder.path().join("a")).unwrap();
    std::os::unix::fs::symlink("a", folder.path().join("l")).unwrap();
    let lock = |key: &str| {
        Target::make(&root, &Path::from(key))
            .unwrap()
            .lock()
            .unwrap()
    };
    assert_eq!(lock("a/f"), lock("l/f"));
    // One that leads out and back within the folder is followed as well.
    std::fs::create_dir(folder.path().join("a/d")).unwrap();
    std::os::unix::fs::symlink("../../a", folder.path().join("a/d/up")).unwrap();
    assert_eq!(lock("a/d/up/f"), lock("a/f"));
}
