//! The seam to the machine: every system call that `storage` makes, and all of its `unsafe`, is in this file.
//!
//! [`Disk`] and [`DiskFile`] are `dyn`, at the height of system calls, so that a hostile disk can stand in for
//! [`RealDisk`]. Nothing here knows a batch or an offset. Bytes are counted by [`FileKind`], so that a test can
//! say "a clean restart reads no log bytes" and have it counted.
//!
//! Reads and writes carry their position; no file has a cursor. A write returns when all of it was taken by the
//! page cache; only [`DiskFile::sync`] and [`Disk::sync_dir`] make it survive a power cut.

#![allow(unsafe_code, reason = "mapping a file is unsafe; this is the one module that may")]

use std::fmt;
use std::fs;
use std::io;
use std::io::IoSlice;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;

pub use super::disk_stats::{DiskStats, FileKind, KindStats};

/// How a file is opened. All may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// An existing file, never written through this handle.
    Read,
    /// An existing file, to be written too.
    Write,
    /// Written too, and made empty where it is missing.
    Create,
    /// Written too; whatever was there is cut to nothing.
    Replace,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The bare name. Names that are not UTF-8 are not listed: Kafka writes none.
    pub name: String,
    /// A folder, or a link to one, rather than a file.
    pub is_folder: bool,
}

/// What the file system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Bytes.
    pub len: u64,
    /// Last modification, in milliseconds since the epoch.
    pub modified_ms: i64,
}

/// Size of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// All of it.
    pub total_bytes: u64,
    /// What an ordinary user may still write.
    pub usable_bytes: u64,
}

/// Why a lock was not given.
#[derive(Debug, Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error(
        "{} is in use by another broker{}",
        path.parent().unwrap_or(path).display(),
        holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Its holder, where the kernel tells (it does for Java's locks, not for ours).
        holder: Option<i32>,
    },
    /// The lock file could not be opened or locked.
    #[error("{path} cannot be locked: {source}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Keeps a lock until it is dropped.
pub trait DiskLock: Send + Sync + fmt::Debug {}

/// A file system.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// The names in a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<DirectoryEntry>>;
    /// `None` where nothing of that name exists.
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>>;
    /// Makes a folder and those above it; one that exists is fine.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Renames, replacing what was at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; one that is missing is fine.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all in it; one that is missing is fine.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes names made, changed and removed in `folder` survive a power cut.
    fn sync_dir(&self, folder: &Path) -> io::Result<()>;
    /// Takes the whole-file fcntl lock that Java's `FileChannel.tryLock` takes. Makes the file where missing.
    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError>;
    /// Whether somebody else holds the lock of [`Disk::lock`]. Takes nothing and makes nothing.
    fn is_locked(&self, _path: &Path) -> io::Result<bool> {
        Ok(false)
    }
    /// Whether something that is no file has this name: a folder, a pipe, a socket, a device. To open such may never
    /// end.
    fn is_special(&self, _path: &Path) -> io::Result<bool> {
        Ok(false)
    }
    /// Size of the file system that holds `folder`.
    fn space(&self, folder: &Path) -> io::Result<DiskSpace>;
    /// What was read and written so far.
    fn stats(&self) -> &DiskStats;
    /// Whether so many files are open that who has used one had better close it.
    fn is_short_of_files(&self) -> bool {
        false
    }
}

/// An open file.
#[allow(
    clippy::len_without_is_empty,
    reason = "a length is asked of the system; emptiness is no question here"
)]
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Its length now.
    fn len(&self) -> io::Result<u64>;
    /// Reads into `buffer` from `position` as much as comes at once; nothing only where the file ends.
    fn read_some_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Fills `buffer` from `position` as far as the file goes; returns how many bytes that were. What comes short is
    /// asked for again: only where nothing comes does the file end. A recovery cuts there.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
    /// Writes all pieces one after another from `position` on, in one call where the system takes them all.
    fn write_at(&self, pieces: &mut [IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Cuts, or extends with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes data and length survive a power cut (`fdatasync`). After a failure it must not be tried again.
    fn sync(&self) -> io::Result<()>;
    /// Sets the time of the last modification. Nothing but the age of batches without timestamps hangs on it, so
    /// that a disk may ignore it.
    fn set_modified_ms(&self, _modified_ms: i64) -> io::Result<()> {
        Ok(())
    }
    /// The first `len` bytes for reading. Only for files that nobody cuts while the map lives.
    fn map(&self, len: usize) -> io::Result<Mapped>;
    /// A piece of the file that stays readable when the file is renamed, removed or closed here.
    fn region(&self, position: u64, len: usize) -> io::Result<Region>;
}

/// Bytes of a file, mapped by the real disk.
pub enum Mapped {
    /// A read-only map.
    Map(memmap2::Mmap),
    /// The same bytes in memory.
    Bytes(Vec<u8>),
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapped({} bytes)", self.len())
    }
}

/// Bytes of a log that a reader may send or copy, without any lock, for as long as it keeps this.
#[derive(Debug, Clone)]
pub enum Region {
    /// A range of a file, for `sendfile`.
    File {
        /// The open file.
        file: Arc<fs::File>,
        /// Where the range begins.
        position: u64,
        /// Its length.
        len: usize,
    },
    /// The bytes themselves.
    Bytes(Bytes),
}

impl Region {
    /// No bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self::Bytes(Bytes::new())
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::File { len, .. } => *len,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes into memory.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` where the file was cut meanwhile.
    pub fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::File { file, position, len } => {
                let mut bytes = vec![0; *len];
                file.read_exact_at(&mut bytes, *position)?;
                Ok(bytes.into())
            }
            Self::Bytes(bytes) => Ok(bytes.clone()),
        }
    }
}

/// The machine's own file system.
#[derive(Debug)]
pub struct RealDisk {
    stats: Arc<DiskStats>,
    /// From how many open files on they are closed after use.
    files_max: usize,
    /// Locks that were taken through this disk, and are held.
    held: HeldLocks,
}

type HeldLocks = Arc<parking_lot::Mutex<Vec<PathBuf>>>;

impl RealDisk {
    /// A disk that has counted nothing yet. Half of the files that the system allows may be kept open for later:
    /// connections need some, too.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard);
        Self::with_files_max(usize::try_from(limit / 2).unwrap_or(usize::MAX))
    }

    /// One on which files are closed after use from so many open ones on.
    #[must_use]
    pub fn with_files_max(files_max: usize) -> Arc<Self> {
        Arc::new(Self { stats: Arc::default(), files_max, held: HeldLocks::default() })
    }
}

#[derive(Debug)]
struct RealFile {
    file: Arc<fs::File>,
    kind: FileKind,
    stats: Arc<DiskStats>,
}

impl Drop for RealFile {
    fn drop(&mut self) {
        self.stats.open_files.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct RealLock {
    /// Closing it gives the lock up.
    _file: fs::File,
    path: PathBuf,
    held: HeldLocks,
}

impl Drop for RealLock {
    fn drop(&mut self) {
        self.held.lock().retain(|path| *path != self.path);
    }
}

impl DiskLock for RealLock {}

/// An exclusive lock from the first byte to the last.
const WHOLE_FILE: libc::flock = libc::flock {
    l_type: libc::F_WRLCK as libc::c_short,
    l_whence: libc::SEEK_SET as libc::c_short,
    l_start: 0,
    l_len: 0,
    l_pid: 0,
};

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(access != Access::Read);
        options
            .create(matches!(access, Access::Create | Access::Replace))
            .truncate(access == Access::Replace);
        let file = Arc::new(options.open(path)?);
        let kind = FileKind::of(path);
        self.stats.of(kind).opens.fetch_add(1, Ordering::Relaxed);
        self.stats.open_files.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(RealFile { file, kind, stats: Arc::clone(&self.stats) }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                let kind = entry.file_type()?;
                let leads_to_folder =
                    || kind.is_symlink() && fs::metadata(entry.path()).is_ok_and(|target| target.is_dir());
                entries.push(DirectoryEntry { name, is_folder: kind.is_dir() || leads_to_folder() });
            }
        }
        Ok(entries)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        match fs::metadata(path) {
            Ok(metadata) => {
                let since_epoch = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                let modified_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
                Ok(Some(FileStat { len: metadata.len(), modified_ms }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        absent_is_fine(fs::remove_file(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        absent_is_fine(fs::remove_dir_all(path))
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        fs::File::open(folder)?.sync_all()
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let whole_file = WHOLE_FILE;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file)) {
            Ok(_) => {
                self.held.lock().push(path.to_owned());
                let held = Arc::clone(&self.held);
                Ok(Box::new(RealLock { _file: file, path: path.to_owned(), held }))
            }
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => {
                let mut conflicting = whole_file;
                let asked = fcntl(&file, FcntlArg::F_OFD_GETLK(&mut conflicting));
                let holder = (asked.is_ok() && conflicting.l_pid > 0).then_some(conflicting.l_pid);
                Err(LockError::Held { path: path.to_owned(), holder })
            }
            Err(error) => Err(failed(error.into())),
        }
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        if self.held.lock().iter().any(|held| held == path) {
            return Ok(false);
        }
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut conflicting = WHOLE_FILE;
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut conflicting))?;
        Ok(conflicting.l_type != libc::F_UNLCK as libc::c_short)
    }

    fn is_special(&self, path: &Path) -> io::Result<bool> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(!metadata.is_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn space(&self, folder: &Path) -> io::Result<DiskSpace> {
        let found = nix::sys::statvfs::statvfs(folder)?;
        let unit = found.fragment_size() as u64;
        Ok(DiskSpace {
            total_bytes: unit.saturating_mul(found.blocks() as u64),
            usable_bytes: unit.saturating_mul(found.blocks_available() as u64),
        })
    }

    fn stats(&self) -> &DiskStats {
        &self.stats
    }

    fn is_short_of_files(&self) -> bool {
        self.stats.open_files() >= self.files_max
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_some_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let count = self.file.read_at(buffer, position)?;
        self.stats.of(self.kind).bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn write_at(&self, pieces: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut rest = pieces;
        let mut at = position;
        loop {
            // The kernel takes at most 1,024 pieces a call.
            let count = rest.len().min(1_024);
            if count == 0 {
                break;
            }
            let offset = i64::try_from(at).map_err(io::Error::other)?;
            match nix::sys::uio::pwritev(&self.file, &rest[..count], offset) {
                Ok(0) if rest.iter().all(|piece| piece.is_empty()) => break,
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.stats.of(self.kind).bytes_written.fetch_add(at - position, Ordering::Relaxed);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.stats.of(self.kind).syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn set_modified_ms(&self, modified_ms: i64) -> io::Result<()> {
        let since_epoch = Duration::from_millis(u64::try_from(modified_ms).unwrap_or(0));
        self.file.set_modified(UNIX_EPOCH + since_epoch)
    }

    fn map(&self, len: usize) -> io::Result<Mapped> {
        if len == 0 {
            return Ok(Mapped::Bytes(Vec::new()));
        }
        let available = self.len()?;
        if available < len as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the map is read-only, of a sealed file in a directory whose lock this process holds, and
        // storage never cuts or writes a sealed file while a map of it lives. A foreign writer that ignores
        // the lock could change the bytes; they are parsed as plain integers, so that no value of them is
        // undefined behaviour, and every position read from them is checked against the log's length.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(&*self.file) }?;
        Ok(Mapped::Map(map))
    }

    fn region(&self, position: u64, len: usize) -> io::Result<Region> {
        Ok(Region::File { file: Arc::clone(&self.file), position, len })
    }
}

/// Lets this process hold as many files open as the system allows it at all: a partition in use needs three.
/// Returns how many that are, where the system tells.
pub fn raise_open_files_limit() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft >= hard {
        return Some(soft);
    }
    Some(if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft })
}

/// Gives the memory of large requests back to the system once they are served. glibc keeps what it was once
/// asked for: after one request of 30 MB, every later one of that size stays resident.
pub fn return_large_allocations() {
    #[cfg(target_env = "gnu")]
    {
        const FROM_BYTES: libc::c_int = 4 << 20;
        // SAFETY: `mallopt` takes two numbers and changes only how the allocator, which guards itself, works on.
        // Whether it took them is of no consequence.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, FROM_BYTES);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * FROM_BYTES);
        }
    }
}

/// Makes a folder and those above it, so that a power cut does not take their names.
pub fn create_folder_durably(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let mut made = Vec::new();
    for folder in path.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
        if disk.stat(folder)?.is_some() {
            break;
        }
        made.push(folder);
    }
    disk.create_folder(path)?;
    for above in made.iter().filter_map(|folder| folder.parent()) {
        disk.sync_dir(if above.as_os_str().is_empty() { Path::new(".") } else { above })?;
    }
    Ok(())
}

/// A whole small file; `None` where it is missing.
pub fn read_small(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let filled = file.read_at(&mut bytes, 0)?;
    bytes.truncate(filled);
    Ok(Some(bytes))
}

/// Replaces a file so that a reader, also one after a power cut, sees the old bytes or the new ones and never
/// a mixture: `<path>.tmp` is written and synced, renamed over `path`, and the folder is synced.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let file = disk.open(&temporary, Access::Replace)?;
    file.write_at(&mut [IoSlice::new(bytes)], 0)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => disk.sync_dir(folder),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_refused_while_another_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let disk = RealDisk::new();
        let held = disk.lock(&path).unwrap();
        assert!(matches!(disk.lock(&path), Err(LockError::Held { .. })));
        drop(held);
        disk.lock(&path).unwrap();
    }

    #[test]
    fn pieces_are_written_one_after_another_and_counted_by_kind() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let file = disk.open(&folder.path().join("0.log"), Access::Create).unwrap();
        file.write_at(&mut [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cd")], 3).unwrap();
        let mut buffer = [9; 10];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 7);
        assert_eq!(&buffer[..7], b"\0\0\0abcd");
        let log = disk.stats().of(FileKind::Log);
        assert_eq!(log.bytes_written.load(Ordering::Relaxed), 4);
        assert_eq!(log.bytes_read.load(Ordering::Relaxed), 7);
        assert_eq!(disk.stats().of(FileKind::OffsetIndex).opens.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_region_outlives_the_name_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let path = folder.path().join("0.log");
        let file = disk.open(&path, Access::Create).unwrap();
        file.write_at(&mut [IoSlice::new(b"0123456789")], 0).unwrap();
        let region = file.region(2, 3).unwrap();
        drop(file);
        disk.remove_file(&path).unwrap();
        disk.remove_file(&path).unwrap();
        assert_eq!(&region.read().unwrap()[..], b"234");
    }

    #[test]
    fn a_replaced_file_holds_all_of_the_new_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let path = folder.path().join("checkpoint");
        assert_eq!(read_small(&*disk, &path).unwrap(), None);
        replace_file(&*disk, &path, b"a long first version").unwrap();
        replace_file(&*disk, &path, b"short").unwrap();
        assert_eq!(read_small(&*disk, &path).unwrap().as_deref(), Some(&b"short"[..]));
        assert_eq!(disk.list(folder.path()).unwrap().len(), 1);
    }
}
