//! What every kind of store promises by [`Store`], tried on each: one test for each promise and store.

use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, Result,
};

use crate::config::{Config, Sources};
use crate::storage::store::description::{Carries, Description, Tags};
use crate::storage::store::fixture::{Fixture, on_each_store};
use crate::storage::store::keys::{Object, Query, marker};
use crate::storage::store::open::open;
use crate::storage::store::precondition::{Precondition, look};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start, Upload};
use crate::storage::store::{Aborts, Keeping, MIN_PART, RESERVED, Store};
use crate::telemetry::{Metrics, StoreMetrics};

/// A store, and what it lies in.
struct Tried {
    store: Arc<dyn Store>,
    root: Path,
    fixture: Fixture,
}

impl From<Fixture> for Tried {
    fn from(fixture: Fixture) -> Self {
        let settings = fixture.settings().into_iter();
        let environment = settings.map(|(name, value)| (format!("BUCKETFERRY_{name}"), value));
        let sources = Sources {
            environment: environment.collect(),
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let metrics = Arc::new(StoreMetrics::new("default", metrics));
        Self {
            store: open(&config.store, config.upload.verify, &metrics).unwrap(),
            root: fixture.root.clone(),
            fixture,
        }
    }
}

/// What the behaviours are tried on.
fn ready(fixture: Fixture) -> std::future::Ready<Tried> {
    std::future::ready(fixture.into())
}

impl Tried {
    async fn put(&self, key: &str, bytes: &[u8], precondition: &Precondition) -> Result<()> {
        let description = Description::default();
        self.put_as(key, bytes, description, precondition).await
    }

    async fn put_as(
        &self,
        key: &str,
        bytes: &[u8],
        description: Description,
        precondition: &Precondition,
    ) -> Result<()> {
        let body = Bytes::copy_from_slice(bytes).into();
        self.store
            .put(&key.into(), body, description, &on(precondition))
            .await
            .map(drop)
    }

    /// Puts an object and gives what it is then.
    async fn object(&self, key: &str, bytes: &[u8]) -> ObjectMeta {
        self.put(key, bytes, &Precondition::None).await.unwrap();
        self.store.objects().head(&key.into()).await.unwrap()
    }

    async fn read(&self, key: &str) -> Option<Bytes> {
        match self.store.objects().get(&key.into()).await {
            Ok(object) => Some(object.bytes().await.unwrap()),
            Err(Error::NotFound { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn begin(&self, key: &str, base: Option<Base>) -> Result<Box<dyn Upload>> {
        let start = Start {
            key: key.into(),
            description: Description::default(),
            base,
        };
        self.store.begin(start).await
    }

    /// As an upload is published: looked for, and told.
    async fn publish(
        &self,
        key: &str,
        upload: &mut Box<dyn Upload>,
        precondition: &Precondition,
    ) -> Result<()> {
        look(self.store.objects().as_ref(), &key.into(), precondition).await?;
        upload.publish(&on(precondition), None).await.map(drop)
    }

    /// Every key right in a directory, by pages of two.
    async fn names(&self, directory: &str) -> Vec<String> {
        let pages = self.store.pages(&Path::from(directory), 2);
        let pages: Vec<_> = pages.try_collect().await.unwrap();
        let keys = pages.into_iter().flat_map(|page| {
            let objects = page.objects.into_iter().map(|object| object.key);
            objects.chain(page.prefixes).collect::<Vec<_>>()
        });
        let mut keys: Vec<_> = keys
            .filter(|key| *key != marker(&Path::from(directory)))
            .collect();
        keys.sort();
        keys
    }
}

fn on(precondition: &Precondition) -> Terms {
    Terms::new(precondition.clone())
}

fn unchanged(meta: &ObjectMeta) -> Precondition {
    Precondition::Unchanged(Base::of(meta).version)
}

fn part(length: usize, byte: u8) -> Bytes {
    vec![byte; length].into()
}

on_each_store! {
    a_name_is_taken_once
    a_marker_carries_a_note
    a_version_is_replaced_once
    a_copy_is_the_same_and_knows_preconditions
    a_copy_keeps_its_class
    a_copy_keeps_its_tags
    a_deletion_knows_preconditions
    what_has_changed_is_not_deleted_with_a_page
    parts_become_an_object_when_they_are_published
    an_upload_knows_preconditions
    an_aborted_upload_leaves_nothing
    a_base_that_is_kept_is_the_beginning
    the_first_bytes_that_are_kept_are_the_beginning
    a_base_that_has_changed_stays
    pages_have_every_name_once
    directories_exist_until_they_are_removed
    what_is_old_and_unfinished_is_swept
}

async fn a_name_is_taken_once(tried: Tried) {
    tried.put("a", b"one", &Precondition::Absent).await.unwrap();
    let taken = tried
        .put("a", b"two", &Precondition::Absent)
        .await
        .unwrap_err();
    assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken}");
    assert_eq!(tried.read("a").await.unwrap(), "one");
}

async fn a_marker_carries_a_note(tried: Tried) {
    if tried.store.traits().directories {
        return;
    }
    let (store, key) = (&tried.store, "d/");
    assert!(store.read_marker(key).await.unwrap().is_none());
    for note in [Some("a note"), None] {
        let written = store.write_marker(key, note, &Precondition::None).await;
        written.unwrap();
        let marker = store.read_marker(key).await.unwrap().unwrap();
        assert_eq!((marker.size, marker.note.as_deref()), (0, note));
        let again = store.write_marker(key, note, &Precondition::Absent).await;
        assert!(
            matches!(again, Err(Error::AlreadyExists { .. })),
            "{again:?}"
        );
        let unchanged = Precondition::Unchanged(marker.version.clone());
        store.write_marker(key, note, &unchanged).await.unwrap();
    }
    let marker = store.read_marker(key).await.unwrap().unwrap();
    let left = store.delete_unchanged(&[marker.object(key)]).await.unwrap();
    assert_eq!(left, 0);
    assert!(store.read_marker(key).await.unwrap().is_none());
}

async fn a_version_is_replaced_once(tried: Tried) {
    let old = tried.object("a", b"one").await;
    tried.put("a", b"two!", &unchanged(&old)).await.unwrap();
    let changed = tried
        .put("a", b"three", &unchanged(&old))
        .await
        .unwrap_err();
    assert!(matches!(changed, Error::Precondition { .. }), "{changed}");
    assert_eq!(tried.read("a").await.unwrap(), "two!");
}

async fn a_copy_is_the_same_and_knows_preconditions(tried: Tried) {
    let source = Base::of(&tried.object("a", b"one").await);
    let copy = async |to: &str, precondition: &Precondition| {
        tried
            .store
            .copy(&source, &to.into(), &on(precondition))
            .await
    };
    copy("b", &Precondition::Absent).await.unwrap();
    assert_eq!(tried.read("b").await.unwrap(), "one");
    let other = tried.object("c", b"other").await;
    let taken = copy("c", &Precondition::Absent).await.unwrap_err();
    assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken}");
    copy("c", &unchanged(&other)).await.unwrap();
    let changed = copy("c", &unchanged(&other)).await.unwrap_err();
    assert!(matches!(changed, Error::Precondition { .. }), "{changed}");
    assert_eq!(tried.read("c").await.unwrap(), "one");
    assert_eq!(tried.read("a").await.unwrap(), "one");
}

/// Of a small object and of one in parts, which is found by a look at it and by a listing.
async fn a_copy_keeps_its_class(tried: Tried) {
    let Some(class) = tried.another_class() else {
        assert_eq!(tried.carried("a", Description::default()).await, []);
        return;
    };
    let attributes = [(Attribute::StorageClass, class)];
    let description = Description::from(attributes.into_iter().collect::<Attributes>());
    let carried = tried.carried("a", description).await;
    assert_eq!(carried.len(), 6);
    for (name, carries) in carried {
        assert_eq!(carries.class.as_deref(), Some(class), "{name}");
    }
}

async fn a_copy_keeps_its_tags(tried: Tried) {
    let tags = [("keep", "7 years"), ("a:b/c", "1+1=2")];
    let tags = tags.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let tags = Tags(tags.into_iter().collect());
    let has_tags = matches!(tried.scheme().as_str(), "s3" | "az");
    let attributes = Attributes::new();
    let description = Description {
        attributes,
        tags: if has_tags {
            tags.clone()
        } else {
            Tags::default()
        },
        ..Description::default()
    };
    tried.carried("a", description.clone()).await;
    for name in [
        "a",
        "a-parts",
        "a-copy",
        "a-listed",
        "a-parts-copy",
        "a-parts-listed",
    ] {
        let told = tried.store.tags(&name.into()).await;
        assert_eq!(told.unwrap(), description.tags, "{name}");
    }
}

impl Tried {
    fn scheme(&self) -> String {
        let mut settings = self.fixture.settings().into_iter();
        let url = settings.find_map(|(name, value)| (name == "STORE__URL").then_some(value));
        url.unwrap().split(':').next().unwrap().to_owned()
    }

    /// A class that the store has, and that is not its usual one.
    fn another_class(&self) -> Option<&'static str> {
        match self.scheme().as_str() {
            "s3" => Some("STANDARD_IA"),
            "gs" => Some("NEARLINE"),
            "az" => Some("Cool"),
            _ => None,
        }
    }

    /// Puts an object that is described so, and one in parts, and copies each as a look and as a listing have found it.
    /// What each is found to carry, if anything.
    async fn carried(&self, key: &str, description: Description) -> Vec<(String, Carries)> {
        let parts = format!("{key}-parts");
        self.put_both(key, &parts, description).await;
        let pages = self.store.pages(&Path::default(), 1000);
        let pages: Vec<_> = pages.try_collect().await.unwrap();
        let listed: Vec<_> = pages.into_iter().flat_map(|page| page.objects).collect();
        let mut carried = Vec::new();
        for key in [key, &parts] {
            let (meta, carries) = self.look_at(key).await;
            let of_listing = listed.iter().find(|object| object.key == key).unwrap();
            for (end, carries) in [
                ("copy", carries.unwrap_or_default()),
                ("listed", of_listing.carries.clone()),
            ] {
                let to = format!("{key}-{end}");
                self.copy(Base::of(&meta).carrying(carries), &to).await;
                carried.extend(self.look_at(&to).await.1.map(|it| (to, it)));
            }
            carried.extend(self.look_at(key).await.1.map(|it| (key.to_owned(), it)));
        }
        carried
    }

    async fn put_both(&self, key: &str, parts: &str, description: Description) {
        let none = Precondition::None;
        let put = self.put_as(key, b"one", description.clone(), &none);
        put.await.unwrap();
        let start = Start {
            key: parts.into(),
            description,
            base: None,
        };
        let mut upload = self.store.begin(start).await.unwrap();
        for part in [part(MIN_PART, 1), part(3, 2)] {
            upload.put_part(part.into()).await.unwrap();
        }
        self.publish(parts, &mut upload, &none).await.unwrap();
    }

    async fn copy(&self, from: Base, to: &str) {
        let (to, terms) = (to.into(), Terms::none());
        self.store.copy(&from, &to, &terms).await.unwrap();
    }

    async fn look_at(&self, key: &str) -> (ObjectMeta, Option<Carries>) {
        let head = GetOptions::new().with_head(true);
        let mut found = self
            .store
            .objects()
            .get_opts(&key.into(), head)
            .await
            .unwrap();
        (found.meta, found.extensions.remove())
    }
}

async fn a_deletion_knows_preconditions(tried: Tried) {
    let old = tried.object("a", b"one").await;
    let new = tried.object("a", b"two!").await;
    let changed = tried
        .store
        .delete("a", &on(&unchanged(&old)))
        .await
        .unwrap_err();
    assert!(matches!(changed, Error::Precondition { .. }), "{changed}");
    assert_eq!(tried.read("a").await.unwrap(), "two!");
    tried
        .store
        .delete("a", &on(&unchanged(&new)))
        .await
        .unwrap();
    assert_eq!(tried.read("a").await, None);
    let again = tried.store.delete("a", &on(&unchanged(&new))).await;
    assert!(
        matches!(
            again,
            Err(Error::NotFound { .. } | Error::Precondition { .. })
        ),
        "{again:?}"
    );
    // S3 does not say so.
    let again = tried.store.delete("a", &Terms::none()).await;
    assert!(
        matches!(again, Ok(()) | Err(Error::NotFound { .. })),
        "{again:?}"
    );
}

async fn what_has_changed_is_not_deleted_with_a_page(tried: Tried) {
    let deletes = tried.store.traits().deletes;
    for names in [&["a"] as &[_], &["a", "b", "c"]] {
        let mut objects: Vec<Object> = Vec::new();
        for name in names {
            objects.push((&tried.object(name, b"one").await).into());
        }
        tried.object("a", b"two!").await;
        let left = tried.store.delete_unchanged(&objects).await.unwrap();
        let spared = tried.read("a").await.is_some();
        assert_eq!(left, usize::from(spared));
        assert!(spared || !deletes.are_certain(&objects[0]));
        for name in &names[1..] {
            assert_eq!(tried.read(name).await, None, "{name}");
        }
    }
}

async fn parts_become_an_object_when_they_are_published(tried: Tried) {
    let mut upload = tried.begin("a", None).await.unwrap();
    let (first, last) = (part(MIN_PART, 1), part(3, 2));
    // The second may overtake the first.
    let (one, two) = (
        upload.put_part(first.clone().into()),
        upload.put_part(last.clone().into()),
    );
    two.await.unwrap();
    one.await.unwrap();
    assert_eq!(tried.read("a").await, None);
    tried
        .publish("a", &mut upload, &Precondition::None)
        .await
        .unwrap();
    assert!(tried.read("a").await.unwrap() == [first, last].concat());
}

async fn an_upload_knows_preconditions(tried: Tried) {
    let old = tried.object("a", b"old").await;
    let new = tried.object("a", b"newer").await;
    for refused in [Precondition::Absent, unchanged(&old)] {
        let mut upload = tried.begin("a", None).await.unwrap();
        upload.put_part(part(10, 1).into()).await.unwrap();
        let error = tried.publish("a", &mut upload, &refused).await.unwrap_err();
        let is_told = matches!(
            error,
            Error::AlreadyExists { .. } | Error::Precondition { .. }
        );
        assert!(is_told, "{error}");
        upload.abort().await.unwrap();
        assert_eq!(tried.read("a").await.unwrap(), "newer");
    }
    let mut upload = tried.begin("a", None).await.unwrap();
    upload.put_part(part(10, 1).into()).await.unwrap();
    tried
        .publish("a", &mut upload, &unchanged(&new))
        .await
        .unwrap();
    assert_eq!(tried.read("a").await.unwrap(), part(10, 1));
}

async fn an_aborted_upload_leaves_nothing(tried: Tried) {
    let mut upload = tried.begin("d/a", None).await.unwrap();
    upload.put_part(part(10, 1).into()).await.unwrap();
    upload.abort().await.unwrap();
    assert_eq!(tried.read("d/a").await, None);
    if tried.store.traits().aborts == Aborts::Final {
        upload.publish(&Terms::none(), None).await.unwrap_err();
        assert_eq!(tried.read("d/a").await, None);
    }
}

/// A blob that was put at once has no blocks, so that what is to be kept comes in parts.
async fn in_parts(tried: &Tried, key: &str, length: usize) -> Base {
    let mut upload = tried.begin(key, None).await.unwrap();
    upload.put_part(part(length, 1).into()).await.unwrap();
    tried
        .publish(key, &mut upload, &Precondition::None)
        .await
        .unwrap();
    Base::of(&tried.store.objects().head(&key.into()).await.unwrap())
}

async fn a_base_that_is_kept_is_the_beginning(tried: Tried) {
    for size in [10, MIN_PART] {
        let base = in_parts(&tried, "a", size).await;
        if tried.store.keeping(&base) == Keeping::Never {
            continue;
        }
        let before = Precondition::Unchanged(base.version.clone());
        let mut upload = tried.begin("a", Some(base)).await.unwrap();
        upload.put_part(part(3, 2).into()).await.unwrap();
        assert_eq!(tried.read("a").await.unwrap().len(), size);
        tried.publish("a", &mut upload, &before).await.unwrap();
        let whole = [part(size, 1), part(3, 2)].concat();
        assert!(tried.read("a").await.unwrap() == whole, "{size}");
    }
}

async fn the_first_bytes_that_are_kept_are_the_beginning(tried: Tried) {
    for size in [10, MIN_PART] {
        let base = in_parts(&tried, "a", size + 5).await.up_to(size as u64);
        if tried.store.keeping(&base) == Keeping::Never {
            continue;
        }
        let before = Precondition::Unchanged(base.version.clone());
        let mut upload = tried.begin("a", Some(base)).await.unwrap();
        upload.put_part(part(3, 2).into()).await.unwrap();
        tried.publish("a", &mut upload, &before).await.unwrap();
        let whole = [part(size, 1), part(3, 2)].concat();
        assert!(tried.read("a").await.unwrap() == whole, "{size}");
    }
}

async fn a_base_that_has_changed_stays(tried: Tried) {
    let base = in_parts(&tried, "a", MIN_PART).await;
    if tried.store.keeping(&base) == Keeping::Never {
        return;
    }
    let before = Precondition::Unchanged(base.version.clone());
    let mut upload = tried.begin("a", Some(base.clone())).await.unwrap();
    upload.put_part(part(3, 2).into()).await.unwrap();
    tried.object("a", b"another's").await;
    // Not only the look finds it, but the store as well.
    let error = upload.publish(&on(&before), None).await.unwrap_err();
    let is_told = matches!(error, Error::Precondition { .. } | Error::NotFound { .. });
    assert!(is_told, "{error}");
    assert_eq!(tried.read("a").await.unwrap(), "another's");
    upload.abort().await.unwrap();
    // One that is begun late finds it at once.
    let begun = tried.begin("a", Some(base)).await;
    let late = match begun {
        Err(error) => error,
        Ok(mut upload) => {
            upload.put_part(part(3, 2).into()).await.unwrap();
            upload.publish(&on(&before), None).await.unwrap_err()
        }
    };
    assert!(!matches!(late, Error::Generic { .. }), "{late}");
    assert_eq!(tried.read("a").await.unwrap(), "another's");
}

async fn pages_have_every_name_once(tried: Tried) {
    let files = [
        "in/a", "in/b c", "in/d/e", "in/d/f", "in/g+h", "in/z", "other",
    ];
    for file in files {
        tried.object(file, b"x").await;
    }
    let names = ["in/a", "in/b c", "in/d/", "in/g+h", "in/z"];
    assert_eq!(tried.names("in").await, names);
    assert_eq!(tried.names("").await, ["in/", "other"]);
    assert_eq!(tried.names("none").await, Vec::<String>::new());
    tried.store.probe(&Path::from("in")).await.unwrap();
    if tried.store.traits().directories {
        return;
    }
    let query = Query {
        prefix: "in/",
        grouped: false,
        token: None,
        limit: 100,
    };
    let flat = tried.store.list(query).await.unwrap();
    let keys: Vec<_> = flat.objects.into_iter().map(|object| object.key).collect();
    assert_eq!(keys, files[..6]);
}

async fn directories_exist_until_they_are_removed(tried: Tried) {
    let directory = Path::from("d/e");
    tried.store.create_directory(&directory).await.unwrap();
    assert_eq!(tried.names("d").await, ["d/e/"]);
    tried.store.remove_directory(&directory).await.unwrap();
    assert_eq!(tried.names("d").await, Vec::<String>::new());
    assert_eq!(tried.store.directory_changed(&directory).await, None);
}

async fn what_is_old_and_unfinished_is_swept(tried: Tried) {
    let [old, new] = ["kept", "new"].map(|name| tried.root.clone().join(name));
    let kept = in_parts(&tried, old.as_ref(), MIN_PART).await;
    let mut begun = vec![tried.begin(new.as_ref(), None).await.unwrap()];
    if tried.store.keeping(&kept) != Keeping::Never {
        begun.push(tried.begin(old.as_ref(), Some(kept)).await.unwrap());
    }
    for upload in &mut begun {
        upload.put_part(part(10, 1).into()).await.unwrap();
    }
    let root = &tried.root;
    let long_ago = Utc::now() - chrono::Duration::hours(1);
    assert_eq!(tried.store.sweep(root, long_ago).await.unwrap(), 0);
    let soon = Utc::now() + chrono::Duration::hours(1);
    tried.store.sweep(root, soon).await.unwrap();
    assert!(tried.read(old.as_ref()).await.is_some());
    let own = tried.names(root.clone().join(RESERVED).as_ref()).await;
    // A folder keeps its identity and locks there.
    assert!(
        own.is_empty() || tried.store.traits().directories,
        "{own:?}"
    );
    // Azure drops blocks that nobody commits, after a week.
    let server = tried.fixture.server.as_ref();
    if let Some(server) = server.filter(|server| !server.url().starts_with("az")) {
        assert_eq!(server.open_uploads(), []);
    }
    assert_eq!(tried.store.sweep(root, soon).await.unwrap(), 0);
}
