//! A disk that fails when it is told to.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
}

fn broken(flag: &AtomicBool) -> io::Result<()> {
    if flag.load(Ordering::Relaxed) { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
}

impl Disk for HostileDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        if matches!(access, Access::Create | Access::Replace) {
            broken(&self.faults.writes)?;
        }
        let inner = self.inner.open(path, access)?;
        Ok(Arc::new(HostileFile { inner, faults: Arc::clone(&self.faults) }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.list(folder)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        self.inner.stat(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        broken(&self.faults.writes)?;
        self.inner.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        broken(&self.faults.writes)?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_folder(path)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        broken(&self.faults.syncs)?;
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

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, position)
    }

    fn write_at(&self, pieces: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.faults.writes_tried.fetch_add(1, Ordering::Relaxed);
        broken(&self.faults.writes)?;
        self.inner.write_at(pieces, position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.syncs_tried.fetch_add(1, Ordering::Relaxed);
        broken(&self.faults.syncs)?;
        self.inner.sync()
    }

    fn map(&self, len: usize) -> io::Result<Mapped> {
        self.inner.map(len)
    }

    fn region(&self, position: u64, len: usize) -> io::Result<Region> {
        self.inner.region(position, len)
    }
}
