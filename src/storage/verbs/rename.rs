//! The rename of a directory in a bucket: page by page, copies, then deletes.
//!
//! Memory is for one page, however many files there are. Whatever dies, each file is under the old name,
//! the new one, or both. So that the same rename can be taken up again, and only that, the markers of both
//! directories carry the same note while it runs. Only if both carry it, the new name may exist already.
//!
//! ```text
//! survey ─► notes ─► for each page: copy, look at the copies, delete what has not changed ─► clear the notes
//! ```
//!
//! A file that is written under the old name meanwhile is never deleted: it stays there.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::store::Store;
use crate::storage::store::keys::{MAX_PAGE, Marker, Object, PARALLEL, Page, Query, bare, marker};
use crate::storage::store::mark::Mark;
use crate::storage::store::precondition::Precondition;
use crate::storage::store::upload::Base;
use crate::storage::verbs::note::{Note, is_foreign};
use crate::storage::verbs::tree::Removed;
use crate::storage::write::conditions::Operation;

/// Why a directory can't be renamed.
const HIDDEN: &str = "there is a key in it that FTP can't show";

/// The same, in the case that looks like a directory.
const SLASH: &str = "there is an object with content in it whose key ends with a slash";

/// Why no directory can be renamed on a store.
const NO_NOTES: &str = "the store keeps no metadata of keys that end with a slash";

/// How often the log tells how far a rename is.
const PROGRESS: Duration = Duration::from_secs(10);

/// What has become of one file.
enum Copied {
    /// It is at the new name, and may go from the old one.
    There(Object),
    /// Somebody has deleted it meanwhile.
    Gone,
    /// Somebody has written it anew meanwhile; it stays where it is.
    Changed,
    /// Another has taken the new name; it stays where it is.
    InTheWay(String),
}

/// What some pages have shown.
struct Listed {
    objects: HashMap<String, Object>,
    /// Where the last of them begins: the next may go on there.
    token: Option<String>,
}

/// One rename that runs.
struct Rename<'a> {
    storage: &'a Storage,
    store: &'a dyn Store,
    from: String,
    to: String,
    /// It was begun before, so files may be at the new name already.
    resumed: bool,
    /// What there was to move, the directory's own marker aside.
    total: usize,
    done: usize,
    /// Files that stay under the old name, because they were written meanwhile.
    left: usize,
    /// Files that stay there because others are at the new name.
    in_the_way: usize,
    told: Instant,
}

impl Storage {
    /// The note of a rename from one directory to the other that was begun and has not ended.
    pub(crate) async fn unfinished_rename(
        &self,
        from: &Path,
        to: &Path,
    ) -> Result<Option<Note>, StorageError> {
        if self.store.traits().directories {
            return Ok(None);
        }
        let store = self.store.as_ref();
        let (old, new) = (Note::at(store, from).await?, Note::at(store, to).await?);
        Ok(old.filter(|old| new.as_ref() == Some(old) && old.is_of(from, to)))
    }

    /// Renames a directory of a bucket; `begun` is the note of a rename that is to be taken up again.
    pub(crate) async fn move_directory(
        &self,
        from: &Path,
        to: &Path,
        begun: Option<Note>,
    ) -> Result<(), StorageError> {
        let mut rename = Rename::new(self, from, to, begun.is_some());
        let marker = rename.survey().await?;
        let new = Note::new(from, to, marker.is_some());
        let note = match begun {
            Some(note) => note,
            None => rename.begin(new, marker.as_ref()).await?,
        };
        let moved = rename.move_all(&note).await;
        rename.tell("a rename of a directory has ended");
        moved?;
        rename.end(&note).await
    }
}

impl<'a> Rename<'a> {
    fn new(storage: &'a Storage, from: &Path, to: &Path, resumed: bool) -> Self {
        Self {
            storage,
            store: storage.store.as_ref(),
            from: marker(from),
            to: marker(to),
            resumed,
            total: 0,
            done: 0,
            left: 0,
            in_the_way: 0,
            told: Instant::now(),
        }
    }
}

impl Rename<'_> {
    /// Looks at all keys before anything changes. What can't be named can't be moved, and must not be
    /// left behind; what takes the place of a marker would be lost. The marker, if there is one.
    async fn survey(&mut self) -> Result<Option<Object>, StorageError> {
        let (mut marker, mut token) = (None, None);
        loop {
            let page = self.page(token.as_deref()).await?;
            for object in page.objects {
                self.target(&object.key)?;
                check_marker(&object)?;
                if object.key == self.from {
                    marker = Some(object);
                } else {
                    self.total += 1;
                }
            }
            match page.next {
                Some(next) => token = Some(next),
                None => return Ok(marker),
            }
        }
    }

    /// The old name's note comes first: alone it allows nothing.
    async fn begin(&self, note: Note, marker: Option<&Object>) -> Result<Note, StorageError> {
        // What was found to be no other's object may be one by now.
        let unchanged = marker.map(|marker| Precondition::Unchanged(marker.version()));
        let unchanged = unchanged.unwrap_or(Precondition::Absent);
        if !self.put_note(&self.from, &note, &unchanged).await? {
            return Err(StorageError::Conflict);
        }
        if !self
            .put_note(&self.to, &note, &Precondition::Absent)
            .await?
        {
            self.take_note(&self.from, &note, note.kept).await?;
            return Err(StorageError::Exists);
        }
        self.check_noted(&note).await?;
        Ok(note)
    }

    /// That the store keeps what markers say of themselves. Without notes, a rename could not be ended or taken up again.
    async fn check_noted(&self, note: &Note) -> Result<(), StorageError> {
        let from = self.store.read_marker(&self.from).await?;
        let to = self.store.read_marker(&self.to).await?;
        let is_kept = |marker: &Marker| marker.note.is_some() || marker.size > 0;
        if [&from, &to].into_iter().flatten().all(is_kept) {
            return Ok(());
        }
        if note.kept {
            self.take_note(&self.from, note, true).await?;
        } else {
            self.take_marker(&self.from, note, from).await?;
        }
        self.take_marker(&self.to, note, to).await?;
        let source = NO_NOTES.into();
        Err(StorageError::Unsupported(Error::NotSupported { source }))
    }

    /// Takes a marker back as it was found, unless it is another's.
    async fn take_marker(
        &self,
        key: &str,
        note: &Note,
        marker: Option<Marker>,
    ) -> Result<(), StorageError> {
        let is_own = |marker: &Marker| marker.note.is_none() || note.is_on(marker);
        if let Some(marker) = marker.filter(|marker| marker.size == 0 && is_own(marker)) {
            self.store.delete_unchanged(&[marker.object(key)]).await?;
        }
        Ok(())
    }

    /// Puts the note on a directory. False if the directory is not as it was found.
    async fn put_note(
        &self,
        key: &str,
        note: &Note,
        precondition: &Precondition,
    ) -> Result<bool, StorageError> {
        let text = note.to_string();
        match self
            .store
            .write_marker(key, Some(&text), precondition)
            .await
        {
            // An earlier try may have got through.
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(self.noted(key, note).await?.is_some()),
            written => Ok(written.map(|()| true)?),
        }
    }

    /// Takes the note off a directory, which stays if it is to be `kept`. What another has put there stays.
    async fn take_note(&self, key: &str, note: &Note, kept: bool) -> Result<(), StorageError> {
        let Some(marker) = self.noted(key, note).await? else {
            return Ok(());
        };
        if !kept {
            self.store.delete_unchanged(&[marker.object(key)]).await?;
            return Ok(());
        }
        let unchanged = Precondition::Unchanged(marker.version);
        match self.store.write_marker(key, None, &unchanged).await {
            Err(object_store::Error::Precondition { .. }) => Ok(()),
            written => Ok(written?),
        }
    }

    /// The marker at a key, if it carries this note.
    async fn noted(&self, key: &str, note: &Note) -> Result<Option<Marker>, StorageError> {
        let marker = self.store.read_marker(key).await?;
        Ok(marker.filter(|marker| note.is_on(marker)))
    }

    /// That no other gateway has begun to rename the same directory since, or has ended the same rename.
    async fn check_unrivalled(&self, note: &Note) -> Result<(), StorageError> {
        let marker = self.store.read_marker(&self.from).await?;
        // A note that is gone was replaced by another's, whose rename has ended. Content is another program's.
        let may_go_on = |marker: Marker| note.is_on(&marker) || marker.size > 0;
        if marker.is_some_and(may_go_on) {
            return Ok(());
        }
        Err(StorageError::Conflict)
    }

    async fn move_all(&mut self, note: &Note) -> Result<(), StorageError> {
        let (mut token, mut copies) = (None, None);
        loop {
            let mut page = self.page(token.as_deref()).await?;
            page.objects.retain(|object| object.key != self.from);
            let copied = self.copy_page(page.objects).await?;
            copies = self.verify_page(&copied, copies).await?;
            self.check_unrivalled(note).await?;
            let left = self.delete_page(&copied).await?;
            self.count(copied.len(), left);
            if self.told.elapsed() > PROGRESS {
                self.tell("renaming a directory");
            }
            match page.next {
                Some(next) => token = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// `left` is what the store's answer says.
    fn count(&mut self, copied: usize, left: usize) {
        let left = left.min(copied);
        self.left += left;
        self.done += copied - left;
    }

    /// Once the old name's note is gone, the new name's means nothing.
    async fn end(&self, note: &Note) -> Result<(), StorageError> {
        if self.in_the_way > 0 {
            return Err(StorageError::LeftBehind(self.in_the_way));
        }
        if self.is_taken_away() {
            // A directory that was made by itself is not lost with what was in it.
            self.take_note(&self.from, note, note.kept).await?;
            self.take_note(&self.to, note, false).await?;
            return Err(StorageError::TakenAway);
        }
        self.take_note(&self.from, note, false).await?;
        let kept = note.kept || self.done == 0;
        self.take_note(&self.to, note, kept).await
    }

    /// Whether all that was to be moved had gone before it was: another has renamed or deleted it.
    fn is_taken_away(&self) -> bool {
        !self.resumed && self.total > 0 && self.done == 0 && self.left == 0
    }

    async fn page(&self, token: Option<&str>) -> Result<Page, StorageError> {
        self.page_of(&self.from, token).await
    }

    async fn page_of(&self, prefix: &str, token: Option<&str>) -> Result<Page, StorageError> {
        let query = Query {
            prefix,
            grouped: false,
            token,
            limit: MAX_PAGE,
        };
        Ok(self.store.list(query).await?)
    }

    /// Copies a page's files. Those that are there now, and may go from where they were.
    async fn copy_page(&mut self, objects: Vec<Object>) -> Result<Vec<Object>, StorageError> {
        let this = &*self;
        let copies = stream::iter(objects).map(async |object| this.copy(object).await);
        let all: Vec<_> = copies.buffer_unordered(PARALLEL).try_collect().await?;
        let mut copied = Vec::with_capacity(all.len());
        for one in all {
            match one {
                Copied::There(object) => copied.push(object),
                Copied::Gone => {}
                Copied::Changed => self.left += 1,
                Copied::InTheWay(key) => {
                    tracing::warn!(key, "the new name is taken, this one stays");
                    self.in_the_way += 1;
                }
            }
        }
        Ok(copied)
    }

    async fn copy(&self, object: Object) -> Result<Copied, StorageError> {
        let target = self.target(&object.key)?;
        if object.key.ends_with('/') {
            check_marker(&object)?;
            return self.make_marker(object, &target).await;
        }
        let (source, target) = (meta(&object)?, path(&target)?);
        if self.resumed
            && let Some(there) = self.storage.meta(&target).await?
        {
            let copied = self.is_copy(&object, &source.location, &there).await?;
            return Ok(if copied {
                Copied::There(object)
            } else {
                Copied::InTheWay(object.key)
            });
        }
        let source = Base::of(&source).carrying(object.carries.clone());
        let copied = self.storage.copy_to_new_name(source, &target);
        match copied.await {
            Ok(()) => Ok(Copied::There(object)),
            Err(StorageError::NotFound) => Ok(Copied::Gone),
            Err(StorageError::Conflict) => Ok(Copied::Changed),
            Err(StorageError::Exists) => Ok(Copied::InTheWay(object.key)),
            Err(error) => Err(error),
        }
    }

    /// Makes a marker at the new name. One that is there will do, unless it is another's object.
    async fn make_marker(&self, object: Object, target: &str) -> Result<Copied, StorageError> {
        let mut there = self.unprotected_marker(target).await?;
        if there.is_none() {
            let made = self.store.write_marker(target, None, &Precondition::Absent);
            match made.await {
                Ok(()) => return Ok(Copied::There(object)),
                Err(Error::AlreadyExists { .. }) => there = self.store.read_marker(target).await?,
                Err(error) => return Err(error.into()),
            }
        }
        let is_there = there.is_some_and(|there| there.size == 0);
        Ok(if is_there {
            Copied::There(object)
        } else {
            Copied::InTheWay(object.key)
        })
    }

    /// The marker that is there, on a store that is not known to look at conditions: it would be written over, and
    /// content with it.
    async fn unprotected_marker(&self, key: &str) -> Result<Option<Marker>, StorageError> {
        if self.storage.conditions.known(Operation::Put) == Some(true) {
            return Ok(None);
        }
        Ok(self.store.read_marker(key).await?)
    }

    /// Whether what is at the new name is a copy of what is at the old one, and nobody's upload.
    async fn is_copy(
        &self,
        object: &Object,
        source: &Path,
        there: &ObjectMeta,
    ) -> Result<bool, StorageError> {
        if object.size != there.size {
            return Ok(false);
        }
        let e_tag = there.e_tag.as_deref().map(bare);
        if e_tag.is_some() && e_tag == object.e_tag.as_deref() {
            return Ok(true);
        }
        let store = self.store.objects().as_ref();
        let (old, new) = (
            mark(store, source).await?,
            mark(store, &there.location).await?,
        );
        if old.is_some() || new.is_some() {
            return Ok(old == new);
        }
        self.have_same_bytes(source, &there.location).await
    }

    /// What others wrote carries no mark of ours, and its tag may change with a copy.
    async fn have_same_bytes(&self, one: &Path, other: &Path) -> Result<bool, StorageError> {
        let store = self.store.objects();
        let mut one = store.get(one).await?.into_stream();
        let mut other = store.get(other).await?.into_stream();
        let (mut a, mut b) = (Bytes::new(), Bytes::new());
        loop {
            while a.is_empty() {
                match one.next().await.transpose()? {
                    Some(chunk) => a = chunk,
                    None => break,
                }
            }
            while b.is_empty() {
                match other.next().await.transpose()? {
                    Some(chunk) => b = chunk,
                    None => break,
                }
            }
            let both = a.len().min(b.len());
            if both == 0 {
                return Ok(a.is_empty() && b.is_empty());
            }
            if a.split_to(both) != b.split_to(both) {
                return Ok(false);
            }
        }
    }

    /// Looks whether the copies of a page are there, by pages of the new name from `token` on. Where those of the next
    /// page begin. What no page shows is looked at by itself.
    async fn verify_page(
        &self,
        copied: &[Object],
        token: Option<String>,
    ) -> Result<Option<String>, StorageError> {
        if copied.is_empty() {
            return Ok(token);
        }
        let targets = copied.iter().map(|object| self.target(&object.key));
        let targets = targets.collect::<Result<_, _>>()?;
        let copies = self.listed(&self.to, &targets, token).await?;
        for object in copied.iter().filter(|object| !object.key.ends_with('/')) {
            let target = self.target(&object.key)?;
            let copy = copies.objects.get(&target);
            if copy.is_none_or(|copy| copy.size != object.size) {
                let (source, target) = (meta(object)?, path(&target)?);
                self.storage.verify_copy(&source, &target).await?;
            }
        }
        Ok(copies.token)
    }

    /// Deletes what has been copied, unless it has changed since it was listed. How many have.
    async fn delete_page(&self, copied: &[Object]) -> Result<usize, StorageError> {
        if copied.is_empty() {
            return Ok(0);
        }
        for object in copied {
            // No upload has written markers, which are no paths.
            if let Ok(key) = path(&object.key) {
                self.storage.writers.forget(&key);
            }
        }
        let deletes = self.store.traits().deletes;
        let spared = self.storage.conditions.spare_what_has_changed();
        if spared || copied.iter().all(|object| deletes.are_certain(object)) {
            return Ok(self.store.delete_unchanged(copied).await?);
        }
        // Each is looked at, and nobody else of this gateway's may write there before it is gone, however often the
        // store has to be asked.
        let is_file = |object: &Object| !object.key.ends_with('/');
        let (files, markers): (Vec<_>, Vec<_>) = copied.iter().cloned().partition(is_file);
        let left = self.store.delete_unchanged(&markers).await?;
        let removed = stream::iter(files).map(async |file| self.remove_copied(&file).await);
        let removed: Vec<_> = removed.buffer_unordered(PARALLEL).try_collect().await?;
        Ok(left + removed.into_iter().filter(|removed| !removed).count())
    }

    /// Deletes a file that has been copied. False if another is there by now.
    async fn remove_copied(&self, file: &Object) -> Result<bool, StorageError> {
        Ok(match self.storage.remove(&meta(file)?).await? {
            Removed::Deleted | Removed::Absent => true,
            Removed::Changed => false,
            Removed::Unclear { is_replaced, .. } => !is_replaced,
        })
    }

    /// Which of these keys are there at this moment, by the pages from `token` on. Only they are kept: before them, there
    /// may be any number of others.
    async fn listed(
        &self,
        prefix: &str,
        keys: &BTreeSet<String>,
        mut token: Option<String>,
    ) -> Result<Listed, StorageError> {
        let mut objects = HashMap::new();
        loop {
            let page = self.page_of(prefix, token.as_deref()).await?;
            let end = page.objects.last().map(|object| &object.key);
            let beyond = end.is_some_and(|end| Some(end) >= keys.last());
            let found = page.objects.into_iter();
            let found = found.filter(|object| keys.contains(&object.key));
            objects.extend(found.map(|object| (object.key.clone(), object)));
            match page.next {
                Some(next) if !beyond => token = Some(next),
                _ => return Ok(Listed { objects, token }),
            }
        }
    }

    /// Where a key goes.
    fn target(&self, key: &str) -> Result<String, StorageError> {
        let hidden = || StorageError::Name(HIDDEN.to_owned());
        let rest = key.strip_prefix(&self.from).ok_or_else(hidden)?;
        let target = format!("{}{rest}", self.to);
        let named = rest.is_empty() || path(rest.strip_suffix('/').unwrap_or(rest)).is_ok();
        named.then_some(target).ok_or_else(hidden)
    }

    fn tell(&mut self, what: &str) {
        self.told = Instant::now();
        let Self {
            from,
            to,
            done,
            total,
            left,
            ..
        } = self;
        if *total >= MAX_PAGE || *left > 0 {
            tracing::info!(from, to, done, total, left, "{what}");
        }
    }
}

/// Markers are made anew, not copied: one with content must stay.
fn check_marker(object: &Object) -> Result<(), StorageError> {
    if !is_foreign(object) {
        return Ok(());
    }
    tracing::warn!(key = object.key, "{SLASH}, it can't be renamed");
    Err(StorageError::Name(SLASH.to_owned()))
}

/// The mark of the upload that an object comes from. Copies have it too.
async fn mark(store: &dyn ObjectStore, key: &Path) -> Result<Option<Mark>, StorageError> {
    let head = GetOptions {
        head: true,
        ..GetOptions::default()
    };
    let object = store.get_opts(key, head).await?;
    Ok(Mark::of(&object.attributes))
}

fn meta(object: &Object) -> Result<ObjectMeta, StorageError> {
    Ok(ObjectMeta {
        location: path(&object.key)?,
        last_modified: object.modified.into(),
        size: object.size,
        e_tag: object.e_tag.as_ref().map(|e_tag| format!("\"{e_tag}\"")),
        version: object.generation.clone(),
    })
}

fn path(key: &str) -> Result<Path, StorageError> {
    Ok(Path::parse(key).map_err(object_store::Error::from)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, Sources, StoreName};
    use crate::storage::common::Common;
    use crate::storage::store::fixture::Fixture;
    use crate::telemetry::Metrics;

    fn storage(settings: &[(&str, &str)]) -> Storage {
        let variable =
            |(name, value): &(&str, &str)| (format!("BUCKETFERRY_{name}"), (*value).to_owned());
        let sources = Sources {
            environment: settings.iter().map(variable).collect(),
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        let common = Common::new(&config, Arc::new(Metrics::new().unwrap())).unwrap();
        let metrics = common.metrics_of(&StoreName::default());
        Storage::open(&config.store, &common, metrics).unwrap()
    }

    #[test]
    fn a_store_can_not_leave_more_than_there_was() {
        let storage = storage(&[("STORE__URL", "memory://")]);
        let [from, to] = ["d", "e"].map(Path::from);
        let mut rename = Rename::new(&storage, &from, &to, false);
        for (copied, left) in [(3, 1), (1, 2)] {
            rename.count(copied, left);
        }
        assert_eq!((rename.done, rename.left), (2, 2));
    }

    /// A rename that is taken up again finds what it has moved before, which may be far more than a page.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_the_keys_of_a_page_are_kept() {
        let fixture = Fixture::s3();
        let settings = fixture.settings();
        let settings = settings.iter().map(|(name, value)| (&**name, &**value));
        let storage = storage(&settings.collect::<Vec<_>>());
        let server = fixture.server.as_ref().unwrap();
        let [from, to] = ["d", "e"].map(|name| fixture.root.clone().join(name));
        let rename = Rename::new(&storage, &from, &to, true);
        for index in 0..2 * MAX_PAGE {
            server.put(&format!("{to}/{index:05}"), "moved");
        }
        let last = format!("{to}/last");
        server.put(&last, "moved");
        let keys = BTreeSet::from([last.clone(), format!("{to}/gone")]);
        let listed = rename.listed(&rename.to, &keys, None).await.unwrap();
        let kept: Vec<_> = listed.objects.keys().collect();
        assert_eq!(kept, [&last]);
    }
}
