//! A store in a directory (SPEC 13).

#[cfg(test)]
mod faults;
mod layout;
mod owner;
#[cfg(test)]
mod power;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use snapline_protocol::fence::{Claimant, Fence};
use snapline_protocol::ids::{BlobId, CheckpointId, Term};

use self::layout::{Layout, UNFINISHED, behind_the_effect};
use self::owner::{FenceLock, Held, OwnerFile};
use super::format::{self, blob};
use super::{BlobRef, BlobWriter, Manifest, Section, Store, StoreError};
use crate::base::fault::Mutation;
use crate::base::sync::Arc;
use crate::fs;
use crate::fs::{Disk, Files, Kind};

/// Decides about a store that another process uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takeover {
    /// Leave it to that process: [`StoreError::InUse`].
    Refuse,
    /// Take it from that process, which can write nothing from the moment this one claims the
    /// store.
    Depose,
}

/// A store in a directory of a local file system, durable against crashes of the process and of the
/// machine (SPEC 13.7).
///
/// Clones share it. It is released when the last clone, and the last blob being written, is
/// dropped; or when the process dies in any way. The file system must have `flock`, atomic renames,
/// and an honest `fsync`, of directories too.
#[derive(Clone)]
pub struct LocalStore {
    inner: Arc<LocalStoreInner>,
}

struct LocalStoreInner {
    layout: Layout,
    /// `None`: opened for inspection.
    access: Option<Access>,
}

struct Access {
    guard: FenceLock,
    takeover: Takeover,
}

impl LocalStore {
    /// Opens the store in a directory; creates one if the directory is empty or missing.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process, or this one, has it open and is not to be deposed.
    /// [`StoreError::NotAStore`] if the place holds something else, [`StoreError::Version`] if it
    /// is of a later version; both leave it unchanged. [`StoreError::Missing`] and
    /// [`StoreError::Corrupt`] if its marker or its fence has changed; [`StoreError::Io`].
    pub fn open(dir: impl AsRef<Path>, takeover: Takeover) -> Result<Self, StoreError> {
        Self::open_on(Box::new(Disk), dir.as_ref(), takeover)
    }

    /// Opens the store in a directory for inspection. It takes no lock, so that a running job is
    /// undisturbed, and writes nothing: writing methods return [`StoreError::ReadOnly`].
    ///
    /// # Errors
    /// As [`Self::open`], but never [`StoreError::InUse`]; [`StoreError::Missing`] if there is no
    /// store.
    pub fn inspect(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::inspect_on(Box::new(Disk), dir.as_ref())
    }

    /// [`Self::inspect`] in another file system than the operating system's.
    ///
    /// # Errors
    /// As [`Self::inspect`].
    #[doc(hidden)]
    pub fn inspect_on(files: Box<dyn Files>, dir: &Path) -> Result<Self, StoreError> {
        let layout = Layout::new(files, dir)?;
        if !layout.recognise()? {
            let what = format!("a store in {}", layout.dir.display());
            return Err(StoreError::Missing { what });
        }
        Ok(Self { inner: Arc::new(LocalStoreInner { layout, access: None }) })
    }

    /// [`Self::open`] in another file system than the operating system's.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[doc(hidden)]
    pub fn open_on(
        files: Box<dyn Files>,
        dir: &Path,
        takeover: Takeover,
    ) -> Result<Self, StoreError> {
        let layout = Layout::new(files, dir)?;
        // Before anything is written, so that a foreign directory stays unchanged.
        layout.recognise()?;
        layout.make_directory()?;
        let owned = layout.files.check_owner(&layout.dir);
        owned.map_err(|error| StoreError::io(format!("using {}", layout.dir.display()), error))?;
        let guard = FenceLock::open(&*layout.files, layout.lock(), || {
            // Checked again: another process may have made the store while this one waited.
            if layout.recognise()? {
                layout.restore_directories()?;
            } else {
                layout.initialise()?;
            }
            let fence = read_fence(&layout)?;
            let owners = layout.owners();
            if takeover == Takeover::Refuse {
                let owner =
                    match owner::holder(&*layout.files, &owners, &owner::of_term(fence.term))? {
                        Some(owner) => Some(owner),
                        None => owner::any_opener(&*layout.files, &owners)?,
                    };
                if let Some(owner) = owner {
                    return Err(StoreError::InUse { store: describe(&layout), owner });
                }
            }
            owner::bury_openers(&*layout.files, &owners)?;
            let name = owner::of_opener(&*layout.files);
            OwnerFile::register(&*layout.files, &owners, name)
        })?;
        Ok(Self {
            inner: Arc::new(LocalStoreInner { layout, access: Some(Access { guard, takeover }) }),
        })
    }

    /// The directory, as an absolute path.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.layout.dir
    }

    /// The file of a blob, if it is there.
    #[must_use]
    pub fn blob_path(&self, id: BlobId) -> PathBuf {
        self.inner.layout.blob(id)
    }

    /// The file of a manifest, if it is there.
    #[must_use]
    pub fn manifest_path(&self, checkpoint: CheckpointId) -> PathBuf {
        self.inner.layout.manifest(checkpoint)
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl LocalStoreInner {
    /// Everything that writing needs.
    fn access(&self) -> Result<&Access, StoreError> {
        let store = || describe(&self.layout);
        self.access.as_ref().ok_or_else(|| StoreError::ReadOnly { store: store() })
    }

    /// The path of a blob, the length of its file, and the file.
    fn open_blob(&self, id: BlobId) -> Result<(String, u64, Box<dyn fs::Input>), StoreError> {
        let path = self.layout.blob(id);
        let input = self.layout.open(&path)?;
        let length = input.length().map_err(|error| layout::reading(&path, error))?;
        Ok((path.display().to_string(), length, input))
    }

    fn read_manifest(&self, checkpoint: CheckpointId) -> Result<Manifest, StoreError> {
        let path = self.layout.manifest(checkpoint);
        let bytes = self.layout.read(&path)?;
        format::decode_manifest(&path.display().to_string(), checkpoint, &bytes)
    }

    fn put_fence(&self, fence: &Fence) -> Result<(), StoreError> {
        let path = self.layout.fence();
        format::check_fence(&path.display().to_string(), fence)?;
        self.layout.put(&path, &format::encode_fence(fence))
    }

    /// Notes in the fence that a checkpoint is complete. The caller holds the guard, and its
    /// manifest is durable (SPEC 7.6).
    fn complete(&self, mut fence: Fence, checkpoint: CheckpointId) -> Result<(), StoreError> {
        if fence.completed >= Some(checkpoint) {
            return Ok(());
        }
        fence.complete(checkpoint);
        self.put_fence(&fence)
    }

    /// Registers the owner of a term, raises the fence, and deposes the previous owner, in this
    /// order. While the owner of the term in the fence lives, its file is there at every moment
    /// (SPEC 13.6).
    fn raise(&self, held: &mut Held<'_>, fence: &Fence) -> Result<(), StoreError> {
        let owners = self.layout.owners();
        let name = owner::of_term(fence.term);
        if held.owner().name() != name {
            let owner = OwnerFile::register(&*self.layout.files, &owners, name.clone())?;
            let put = self.put_fence(fence);
            if matches!(put, Err(StoreError::Io { unknown: false, .. })) {
                // The fence is unchanged, and so is its owner. A file of another term has no
                // effect, and is removed with the next claim.
                return put;
            }
            held.replace_owner(owner);
            put?;
        } else {
            self.put_fence(fence)?;
        }
        owner::remove_others(&*self.layout.files, &owners, &name).map_err(behind_the_effect)?;
        // SPEC 13.7: names that a dead process saw may not have been synced. Recovery builds on
        // them, so they are synced first.
        let directories = [self.layout.blobs(), self.layout.checkpoints()];
        let skipped =
            if self.layout.files.faults().is_active(Mutation::ClaimWithoutSync) { 2 } else { 0 };
        for directory in directories.into_iter().skip(skipped) {
            self.layout.sync_anew(&directory).map_err(behind_the_effect)?;
        }
        Ok(())
    }

    /// Removes unfinished files that no process will finish. The caller holds the guard, under
    /// which all but blobs are written.
    fn sweep(&self, term: Term) -> Result<(), StoreError> {
        let tmp = self.layout.tmp();
        for name in self.layout.list(&tmp)? {
            let Some(stem) = name.strip_suffix(UNFINISHED) else { continue };
            let blob = stem.rsplit_once('.').and_then(|(blob, _)| format::parse_blob_name(blob));
            // SPEC 13.8: a writer of this term, or of a later one, may be using it.
            if blob.is_none_or(|blob| blob.attempt.term < term) {
                self.layout.remove(&tmp.join(&name))?;
            }
        }
        Ok(())
    }
}

fn describe(layout: &Layout) -> String {
    format!("store in directory {}", layout.dir.display())
}

fn read_fence(layout: &Layout) -> Result<Fence, StoreError> {
    let path = layout.fence();
    format::decode_fence(&path.display().to_string(), &layout.read(&path)?)
}

impl Store for LocalStore {
    fn describe(&self) -> String {
        describe(&self.inner.layout)
    }

    fn fence(&self) -> Result<Fence, StoreError> {
        read_fence(&self.inner.layout)
    }

    fn claim(
        &self,
        term: Term,
        claimant: Claimant,
        block: u64,
    ) -> Result<CheckpointId, StoreError> {
        let access = self.inner.access()?;
        let mut held = access.guard.hold()?;
        let mut fence = self.fence()?;
        let owner_before = owner::of_term(fence.term);
        let first = fence.claim(term, claimant, block)?;
        // SPEC 7.6: recovery builds on the manifests it finds. If an earlier owner died between
        // completing a checkpoint and noting it, it is noted now. A manifest with an id that was
        // never reserved is not an owner's.
        if let Some(newest) = self.manifests()?.into_iter().rev().find(|&newest| newest < first) {
            if !self.inner.layout.files.faults().is_active(Mutation::ClaimWithoutSync) {
                self.inner.layout.sync_anew(&self.inner.layout.checkpoints())?;
            }
            fence.complete(newest);
        }
        // SPEC 13.6: a claimant since this one opened the store may live or be dead.
        if access.takeover == Takeover::Refuse
            && held.owner().name() != owner_before
            && let Some(owner) = owner::holder(
                &*self.inner.layout.files,
                &self.inner.layout.owners(),
                &owner_before,
            )?
        {
            return Err(StoreError::InUse { store: self.describe(), owner });
        }
        self.inner.raise(&mut held, &fence)?;
        Ok(first)
    }

    fn reserve(&self, term: Term, until: CheckpointId) -> Result<(), StoreError> {
        let _held = self.inner.access()?.guard.hold()?;
        let mut fence = self.fence()?;
        fence.reserve(term, until)?;
        self.inner.put_fence(&fence)
    }

    fn create_blob(&self, id: BlobId) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.inner.access()?;
        Ok(Box::new(writer::LocalBlobWriter::begin(Arc::clone(&self.inner), id)?))
    }

    fn read(&self, section: &Section) -> Result<Vec<u8>, StoreError> {
        let (what, length, mut input) = self.inner.open_blob(section.blob)?;
        blob::read(&what, section, length, &mut *input)
    }

    fn verify_blob(&self, blob: &BlobRef) -> Result<(), StoreError> {
        let (what, length, mut input) = self.inner.open_blob(blob.id)?;
        blob::verify(&what, blob, length, &mut input)
    }

    fn put_manifest(&self, term: Term, manifest: &Manifest) -> Result<(), StoreError> {
        let access = self.inner.access()?;
        // SPEC 13.7: this may be a retry, and the first call may have put the manifest. Until the
        // name is seen to be free, a failure says nothing.
        let unless_seen = behind_the_effect;
        // SPEC 2.6: the guard makes the comparison and the write one step.
        let _held = access.guard.hold().map_err(unless_seen)?;
        let fence = self.fence().map_err(unless_seen)?;
        fence.admit(term)?;
        let path = self.inner.layout.manifest(manifest.checkpoint);
        let bytes = format::encode_manifest(manifest);
        if bytes.len() as u64 > format::LONGEST_TEXT {
            // It could not be read, so it is not complete.
            let error = io::Error::from(io::ErrorKind::FileTooLarge);
            return Err(StoreError::io(format!("writing {}", path.display()), error));
        }
        match self.inner.read_manifest(manifest.checkpoint) {
            Err(StoreError::Missing { .. }) => self.inner.layout.put(&path, &bytes)?,
            // A visible manifest may not be durable. A second write makes it so.
            Ok(there) if there.same_content(manifest) => {
                self.inner.layout.put(&path, &bytes).map_err(unless_seen)?;
            }
            Ok(_) => return Err(StoreError::Exists { what: path.display().to_string() }),
            Err(error) => return Err(unless_seen(error)),
        }
        self.inner.complete(fence, manifest.checkpoint).map_err(unless_seen)
    }

    fn manifest(&self, checkpoint: CheckpointId) -> Result<Manifest, StoreError> {
        self.inner.read_manifest(checkpoint)
    }

    fn manifests(&self) -> Result<Vec<CheckpointId>, StoreError> {
        let names = self.inner.layout.list(&self.inner.layout.checkpoints())?;
        let mut found: Vec<CheckpointId> =
            names.iter().filter_map(|name| format::parse_manifest_name(name)).collect();
        found.sort_unstable();
        Ok(found)
    }

    fn blobs(&self) -> Result<Vec<BlobRef>, StoreError> {
        let layout = &self.inner.layout;
        let mut found = Vec::new();
        for name in layout.list(&layout.blobs())? {
            let Some(id) = format::parse_blob_name(&name) else { continue };
            match layout.kind(&layout.blob(id))? {
                Kind::File(length) => found.push(BlobRef { id, length }),
                // Deleted since the listing, or foreign.
                Kind::Nothing | Kind::Directory => {}
            }
        }
        found.sort_unstable_by_key(|blob| blob.id);
        Ok(found)
    }

    fn delete(
        &self,
        term: Term,
        manifests: &[CheckpointId],
        blobs: &[BlobId],
    ) -> Result<(), StoreError> {
        let layout = &self.inner.layout;
        if layout.files.faults().is_active(Mutation::BlobsDeletedFirst) {
            for &id in blobs {
                layout.remove(&layout.blob(id)).map_err(behind_the_effect)?;
            }
            layout.sync(&layout.blobs()).map_err(behind_the_effect)?;
        }
        // An earlier removal of a missing file may not be durable.
        let mut all = !manifests.is_empty();
        {
            let _held = self.inner.access()?.guard.hold()?;
            self.fence()?.admit(term)?;
            self.inner.sweep(term)?;
            for &checkpoint in manifests {
                let path = layout.manifest(checkpoint);
                all &= layout.remove(&path).map_err(behind_the_effect)?;
            }
        }
        if manifests.is_empty() && blobs.is_empty() {
            return Ok(());
        }
        // SPEC 8.5: manifests first, durably. Even if there are none: an earlier deletion of them
        // may have been cut short before this.
        let sync = if all { Layout::sync } else { Layout::sync_anew };
        sync(layout, &layout.checkpoints()).map_err(behind_the_effect)?;
        // SPEC 13.8: without the guard, so that no manifest waits for it. Garbage stays garbage
        // under any owner of the store (SPEC 8.1).
        for &id in blobs {
            layout.remove(&layout.blob(id)).map_err(behind_the_effect)?;
        }
        if blobs.is_empty() {
            Ok(())
        } else {
            layout.sync(&layout.blobs()).map_err(behind_the_effect)
        }
    }
}
