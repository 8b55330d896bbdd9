//! A disk on which only files can be opened: a pipe or a device of a file's name would hold up its reader forever.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::storage::disk::{
    Access, DirectoryEntry, Disk, DiskFile, DiskLock, DiskSpace, FileStat, LockError,
};
use crate::storage::disk_stats::DiskStats;

/// See the module. What is no file is as good as missing to who opens it.
#[derive(Debug)]
pub struct RegularFiles(Arc<dyn Disk>);

impl RegularFiles {
    /// The files on `disk`.
    #[must_use]
    pub fn on(disk: Arc<dyn Disk>) -> Arc<Self> {
        Arc::new(Self(disk))
    }
}

impl Disk for RegularFiles {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        if self.0.is_special(path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.0.open(path, access)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.0.list(folder)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        self.0.stat(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.0.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.0.remove_folder(path)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.0.sync_dir(folder)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        self.0.lock(path)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        Ok(!self.0.is_special(path)? && self.0.is_locked(path)?)
    }

    fn is_special(&self, path: &Path) -> io::Result<bool> {
        self.0.is_special(path)
    }

    fn space(&self, folder: &Path) -> io::Result<DiskSpace> {
        self.0.space(folder)
    }

    fn stats(&self) -> &DiskStats {
        self.0.stats()
    }

    fn is_short_of_files(&self) -> bool {
        self.0.is_short_of_files()
    }
}
