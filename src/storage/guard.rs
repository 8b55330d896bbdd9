//! A disk that stops for good at its first failed write: what a sync that failed has lost is unknown, so
//! nothing may be acknowledged on that directory afterwards (KAFKA-10778, and PostgreSQL's fsync lesson).
//!
//! Every log of one log directory shares one [`GuardedDisk`]. Once a write, sync, rename or removal has failed,
//! or a read has met EIO, every call answers [`DirectoryOffline`]; nothing is tried again. Regions that were
//! handed out stay readable.

use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::disk::{
    Access, DirectoryEntry, Disk, DiskFile, DiskLock, DiskSpace, DiskStats, FileStat, LockError, Mapped,
    Region,
};
use super::error::DirectoryOffline;

/// Whether a log directory still works, shared by everything in it.
#[derive(Debug)]
pub struct Health {
    directory: PathBuf,
    failure: OnceLock<DirectoryOffline>,
}

impl Health {
    fn new(directory: &Path) -> Arc<Self> {
        Arc::new(Self { directory: directory.to_owned(), failure: OnceLock::new() })
    }

    /// The first failure, if there was one.
    #[must_use]
    pub fn failure(&self) -> Option<&DirectoryOffline> {
        self.failure.get()
    }

    /// Takes the directory offline. The first reason stays.
    pub fn fail(&self, why: &str) {
        let offline = DirectoryOffline { directory: self.directory.clone(), why: why.to_owned() };
        if self.failure.set(offline).is_ok() {
            tracing::error!(directory = %self.directory.display(), why, "log directory taken offline");
        }
    }

    fn check(&self) -> io::Result<()> {
        match self.failure.get() {
            Some(offline) => Err(io::Error::other(offline.clone())),
            None => Ok(()),
        }
    }

    /// Runs what changes the disk; its failure is the directory's.
    fn change<T>(&self, what: &str, path: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.check()?;
        act().inspect_err(|error| self.fail(&format!("{what} {}: {error}", path.display())))
    }

    /// Runs what only reads; only a device error is the directory's failure.
    fn look<T>(&self, what: &str, path: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.check()?;
        act().inspect_err(|error| {
            if error.raw_os_error() == Some(nix::libc::EIO) {
                self.fail(&format!("{what} {}: {error}", path.display()));
            }
        })
    }
}

/// See the module.
#[derive(Debug)]
pub struct GuardedDisk {
    inner: Arc<dyn Disk>,
    health: Arc<Health>,
}

impl GuardedDisk {
    /// Guards `directory` on `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>, directory: &Path) -> Arc<Self> {
        Arc::new(Self { inner, health: Health::new(directory) })
    }

    /// The state shared with every file opened through this disk.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }
}

#[derive(Debug)]
struct GuardedFile {
    inner: Arc<dyn DiskFile>,
    health: Arc<Health>,
    path: PathBuf,
}

impl Disk for GuardedDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let open = || self.inner.open(path, access);
        let inner = match access {
            Access::Read | Access::Write => self.health.look("open", path, open),
            Access::Create | Access::Replace => self.health.change("create", path, open),
        }?;
        Ok(Arc::new(GuardedFile { inner, health: Arc::clone(&self.health), path: path.to_owned() }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.health.look("list", folder, || self.inner.list(folder))
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        self.health.look("stat", path, || self.inner.stat(path))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.health.change("create", path, || self.inner.create_folder(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.health.change("rename", from, || self.inner.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.health.change("remove", path, || self.inner.remove_file(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.health.change("remove", path, || self.inner.remove_folder(path))
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.health.change("sync", folder, || self.inner.sync_dir(folder))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        self.inner.lock(path)
    }

    fn space(&self, folder: &Path) -> io::Result<DiskSpace> {
        self.health.look("statvfs", folder, || self.inner.space(folder))
    }

    fn stats(&self) -> &DiskStats {
        self.inner.stats()
    }

    fn is_short_of_files(&self) -> bool {
        self.inner.is_short_of_files()
    }
}

impl DiskFile for GuardedFile {
    fn len(&self) -> io::Result<u64> {
        self.health.look("stat", &self.path, || self.inner.len())
    }

    fn read_some_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.health.look("read", &self.path, || self.inner.read_some_at(buffer, position))
    }

    fn write_at(&self, pieces: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.health.change("write", &self.path, || self.inner.write_at(pieces, position))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.health.change("truncate", &self.path, || self.inner.set_len(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.health.change("sync", &self.path, || self.inner.sync())
    }

    fn set_modified_ms(&self, modified_ms: i64) -> io::Result<()> {
        self.health.look("stamp", &self.path, || self.inner.set_modified_ms(modified_ms))
    }

    fn map(&self, len: usize) -> io::Result<Mapped> {
        self.health.look("map", &self.path, || self.inner.map(len))
    }

    fn region(&self, position: u64, len: usize) -> io::Result<Region> {
        self.health.look("read", &self.path, || self.inner.region(position, len))
    }
}
