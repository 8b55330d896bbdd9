//! A disk that fails when it is told to.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use klamm::storage::disk::{
    Access, DirectoryEntry, DiskLock, DiskSpace, DiskStats, FileStat, LockError, Mapped,
};
use klamm::storage::{Disk, DiskFile, RealDisk, Region};

/// What fails from now on.
#[derive(Debug, Default)]
pub struct Faults {
    pub writes: AtomicBool,
    pub syncs: AtomicBool,
    pub syncs_tried: AtomicUsize,
    pub writes_tried: AtomicUsize,
    /// Only what lies below this path fails; everything does below the empty one.
    pub below: Mutex<PathBuf>,
}

impl Faults {
    fn check(&self, flag: &AtomicBool, path: &Path) -> io::Result<()> {
        if flag.load(Ordering::Relaxed) && path.starts_with(&*self.below.lock()) {
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct HostileDisk {
    inner: Arc<RealDisk>,
    pub faults: Arc<Faults>,
}

impl HostileDisk {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { inner: RealDisk::new(), faults: Arc::default() })
    }
}

#[derive(Debug)]
struct HostileFile {
    inner: Arc<dyn DiskFile>,
    faults: Arc<Faults>,
    path: PathBuf,
}

impl Disk for HostileDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        if matches!(access, Access::Create | Access::Replace) {
            self.faults.check(&self.faults.writes, path)?;
        }
        let inner = self.inner.open(path, access)?;
        Ok(Arc::new(HostileFile { inner, faults: Arc::clone(&self.faults), path: path.to_owned() }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.list(folder)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        self.inner.stat(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.faults.check(&self.faults.writes, path)?;
        self.inner.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.check(&self.faults.writes, from)?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_folder(path)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.faults.check(&self.faults.syncs, folder)?;
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

impl DiskFile for HostileFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_some_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_some_at(buffer, position)
    }

    fn write_at(&self, pieces: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.faults.writes_tried.fetch_add(1, Ordering::Relaxed);
        self.faults.check(&self.faults.writes, &self.path)?;
        self.inner.write_at(pieces, position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.syncs_tried.fetch_add(1, Ordering::Relaxed);
        self.faults.check(&self.faults.syncs, &self.path)?;
        self.inner.sync()
    }

    fn map(&self, len: usize) -> io::Result<Mapped> {
        self.inner.map(len)
    }

    fn region(&self, position: u64, len: usize) -> io::Result<Region> {
        self.inner.region(position, len)
    }
}
