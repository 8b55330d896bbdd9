//! A disk whose syncs wait while a node starts: until the first change is acknowledged, all that a start
//! writes may be lost in a power cut and is simply written again. [`DeferredSync::catch_up`] makes up for them.

use std::fmt;
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

#[derive(Default)]
struct Owed {
    files: Vec<Arc<dyn DiskFile>>,
    folders: Vec<PathBuf>,
}

impl fmt::Debug for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files, {:?}", self.files.len(), self.folders)
    }
}

impl DeferredSync {
    pub(super) fn new(inner: Arc<dyn Disk>) -> Arc<Self> {
        Arc::new(Self { inner, owed: Arc::new(Mutex::new(Some(Owed::default()))) })
    }

    /// Makes everything that was to be synced so far survive; later syncs are done at once.
    pub(super) fn catch_up(&self) -> io::Result<()> {
        let Some(owed) = self.owed.lock().take() else { return Ok(()) };
        for file in owed.files {
            file.sync()?;
        }
        for folder in owed.folders {
            self.inner.sync_dir(&folder)?;
        }
        Ok(())
    }
}

impl Disk for DeferredSync {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.inner.open(path, access)?;
        Ok(Arc::new(DeferredFile { inner, owed: Arc::clone(&self.owed) }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.list(folder)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        self.inner.stat(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.inner.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_folder(path)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        if let Some(owed) = self.owed.lock().as_mut() {
            if !owed.folders.iter().any(|known| known == folder) {
                owed.folders.push(folder.to_owned());
            }
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

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, position)
    }

    fn write_at(&self, pieces: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.inner.write_at(pieces, position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(owed) = self.owed.lock().as_mut() {
            owed.files.push(Arc::clone(&self.inner));
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
