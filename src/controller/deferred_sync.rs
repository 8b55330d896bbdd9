//! A disk whose syncs wait while a node starts: until the first change is acknowledged, all that a start
//! writes may be lost in a power cut and is simply written again. [`DeferredSync::catch_up`] makes up for them, in
//! the order in which they were asked for.
//!
//! A file that is replaced waits for its name, too, until it is synced: a power cut finds the old file or the new
//! one, and never half of one. Whoever asks through this disk finds it under its name at once. Of a log, a segment
//! is on the disk before the next one begins: no hole is left between the two.

use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::storage::disk::{
    Access, DirectoryEntry, DiskFile, DiskLock, DiskSpace, DiskStats, FileStat, LockError, Mapped,
};
use crate::storage::{Disk, Region};

/// See the module.
#[derive(Debug)]
pub(super) struct DeferredSync {
    inner: Arc<dyn Disk>,
    /// `None` once it has caught up: from then on a sync is a sync.
    owed: Arc<Mutex<Option<Owed>>>,
}

#[derive(Debug)]
enum Step {
    File(Arc<dyn DiskFile>),
    Folder(PathBuf),
    Rename { from: PathBuf, to: PathBuf },
}

/// What is still to be done, in its order.
#[derive(Debug, Default)]
struct Owed(Vec<Step>);

impl Owed {
    fn renames(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.0.iter().filter_map(|step| match step {
            Step::Rename { from, to } => Some((&**from, &**to)),
            Step::File(_) | Step::Folder(_) => None,
        })
    }

    /// Under which name a file waits that is known as `path`.
    fn waiting(&self, path: &Path) -> Option<&Path> {
        self.renames().find(|(_, to)| *to == path).map(|(from, _)| from)
    }

    fn forget_rename(&mut self, waiting: &Path) {
        self.0.retain(|step| !matches!(step, Step::Rename { from, .. } if from == waiting));
    }
}

impl DeferredSync {
    pub(super) fn new(inner: Arc<dyn Disk>) -> Arc<Self> {
        Arc::new(Self { inner, owed: Arc::new(Mutex::new(Some(Owed::default()))) })
    }

    /// Makes everything that was to be synced so far survive; later syncs are done at once.
    pub(super) fn catch_up(&self) -> io::Result<()> {
        let mut owed = self.owed.lock();
        for step in owed.take().into_iter().flat_map(|owed| owed.0) {
            match step {
                Step::File(file) => file.sync()?,
                Step::Folder(folder) => self.inner.sync_dir(&folder)?,
                Step::Rename { from, to } => self.inner.rename(&from, &to)?,
            }
        }
        Ok(())
    }

    /// Where the file lies that is known as `path`.
    fn place_of(&self, path: &Path) -> PathBuf {
        let owed = self.owed.lock();
        owed.as_ref().and_then(|owed| owed.waiting(path)).unwrap_or(path).to_owned()
    }

    /// Before a segment begins, the one before it is synced, whoever has written to it.
    fn sync_segment_before(&self, path: &Path) -> io::Result<()> {
        let is_waiting = self.owed.lock().is_some();
        let Some(folder) = path.parent().filter(|_| is_waiting && is_log(path)) else { return Ok(()) };
        if self.inner.stat(path)?.is_some() {
            return Ok(());
        }
        let names = self.inner.list(folder)?.into_iter().map(|entry| folder.join(entry.name));
        match names.filter(|name| is_log(name)).max() {
            Some(before) => self.inner.open(&before, Access::Write)?.sync(),
            None => Ok(()),
        }
    }
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

impl Disk for DeferredSync {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        if access == Access::Create {
            self.sync_segment_before(path)?;
        }
        let inner = self.inner.open(&self.place_of(path), access)?;
        Ok(Arc::new(DeferredFile { inner, owed: Arc::clone(&self.owed) }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = self.inner.list(folder)?;
        if let Some(owed) = self.owed.lock().as_ref() {
            for (from, to) in owed.renames().filter(|(_, to)| to.parent() == Some(folder)) {
                let is_either = |name: &str| [from, to].iter().any(|path| path.ends_with(name));
                entries.retain(|entry| !is_either(&entry.name));
                let name = to.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
                entries.push(DirectoryEntry { name, is_folder: false });
            }
        }
        Ok(entries)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        self.inner.stat(&self.place_of(path))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.inner.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if let Some(owed) = self.owed.lock().as_mut()
            && from.extension().is_some_and(|extension| extension == "tmp")
        {
            // One that is replaced twice gets its name once.
            owed.forget_rename(from);
            owed.0.push(Step::Rename { from: from.to_owned(), to: to.to_owned() });
            return Ok(());
        }
        let place = self.place_of(from);
        if let Some(owed) = self.owed.lock().as_mut() {
            owed.forget_rename(&place);
        }
        self.inner.rename(&place, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        if let Some(owed) = self.owed.lock().as_mut()
            && let Some(waiting) = owed.waiting(path).map(Path::to_owned)
        {
            owed.forget_rename(&waiting);
            self.inner.remove_file(&waiting)?;
        }
        self.inner.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_folder(path)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        if let Some(owed) = self.owed.lock().as_mut() {
            owed.0.push(Step::Folder(folder.to_owned()));
            return Ok(());
        }
        self.inner.sync_dir(folder)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        self.inner.lock(path)
    }

    fn space(&self, folder: &Path) -> io::Result<DiskSpace> {
        self.inner.space(folder)
    }

    fn stats(&self) -> &DiskStats {
        self.inner.stats()
    }
}

#[derive(Debug)]
struct DeferredFile {
    inner: Arc<dyn DiskFile>,
    owed: Arc<Mutex<Option<Owed>>>,
}

impl DiskFile for DeferredFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_some_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_some_at(buffer, position)
    }

    fn write_at(&self, pieces: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.inner.write_at(pieces, position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(owed) = self.owed.lock().as_mut() {
            owed.0.push(Step::File(Arc::clone(&self.inner)));
            return Ok(());
        }
        self.inner.sync()
    }

    fn map(&self, len: usize) -> io::Result<Mapped> {
        self.inner.map(len)
    }

    fn region(&self, position: u64, len: usize) -> io::Result<Region> {
        self.inner.region(position, len)
    }
}
