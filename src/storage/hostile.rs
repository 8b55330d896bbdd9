//! A disk in memory that is as bad as disks may be: the second implementation of the seam in [`super::disk`], for
//! tests and simulations. Nothing here touches the machine.
//!
//! What was not synced is forgotten at a power cut, in any part: sectors, lengths, names ([`Survival`] says which).
//! Any call can be made to fail ([`Failure`]); a sync that fails has dropped the pages, and the next one succeeds
//! without them. All of it follows from seeds.
//!
//! A workload runs once with [`HostileDisk::record`]; each of the [`Moment`]s that this gives is the file system as
//! one call that changes something was on its way, and can be restarted from as often as one likes.

mod contents;
mod random;
mod tree;

use std::fmt;
use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use nix::libc;
use parking_lot::Mutex;

use super::disk::{
    Access, DirectoryEntry, Disk, DiskFile, DiskLock, DiskSpace, DiskStats, FileKind, FileStat, LockError,
    Mapped, Region,
};
use random::Random;
use tree::{NodeId, Tree, errno};

/// What of the unsynced is there after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// None of it.
    Nothing,
    /// All of it, as after a killed process.
    Everything,
    /// Names and lengths; bytes behind what was synced are zeros.
    Names,
    /// The bytes of files whose names were synced.
    Contents,
    /// All but the end of each file's newest write.
    Torn(u64),
    /// Any choice of sectors, in any of their versions, of lengths, and of changes of names.
    Seeded(u64),
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The system's error number. A write has then been done in part; a sync has dropped what it was to write.
    Errno(i32),
    /// A read gives fewer bytes than there are. Other calls go well.
    ShortRead,
}

impl Failure {
    /// The device does not answer.
    pub const EIO: Self = Self::Errno(libc::EIO);
    /// There is no room.
    pub const ENOSPC: Self = Self::Errno(libc::ENOSPC);
}

/// The file system while one call was on its way.
#[derive(Clone)]
pub struct Moment {
    /// How many calls had changed something, this one included.
    pub change: u64,
    /// The call: what, and on which path.
    pub call: String,
    tree: Arc<Tree>,
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "change {}: {}", self.change, self.call)
    }
}

impl Moment {
    /// A disk as it comes back when the power failed at this moment.
    #[must_use]
    pub fn restart(&self, survival: Survival) -> Arc<HostileDisk> {
        HostileDisk::over(self.tree.survive(survival))
    }
}

/// See the module.
pub struct HostileDisk {
    state: Arc<Mutex<State>>,
    stats: Arc<DiskStats>,
    now_ms: Arc<AtomicI64>,
}

struct State {
    tree: Tree,
    changes: u64,
    calls: u64,
    syncs: u64,
    moments: Option<Vec<Moment>>,
    failing: Option<(u64, Failure)>,
    /// The call that was made to fail.
    failed: Option<String>,
    /// Everything that changes something below these paths fails.
    dead: Vec<(PathBuf, i32)>,
    locked: Vec<NodeId>,
    random: Random,
}

impl fmt::Debug for HostileDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostileDisk after {} changes", self.changes())
    }
}

impl HostileDisk {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::over(Tree::new())
    }

    fn over(tree: Tree) -> Arc<Self> {
        let state = State {
            tree,
            changes: 0,
            calls: 0,
            syncs: 0,
            moments: None,
            failing: None,
            failed: None,
            dead: Vec::new(),
            locked: Vec::new(),
            random: Random::new(1),
        };
        Arc::new(Self { state: Arc::new(Mutex::new(state)), stats: Arc::default(), now_ms: Arc::default() })
    }

    /// From now on every change is remembered as a [`Moment`].
    pub fn record(&self) {
        self.state.lock().moments.get_or_insert_default();
    }

    /// Ends the recording. The last moment is the file system as it is now.
    #[must_use]
    pub fn moments(&self) -> Vec<Moment> {
        let mut state = self.state.lock();
        let mut moments = state.moments.take().unwrap_or_default();
        moments.push(Moment {
            change: state.changes + 1,
            call: "the end".to_owned(),
            tree: Arc::new(state.tree.clone()),
        });
        moments
    }

    /// A disk as it comes back when the power fails now. What is open on this one goes on as if nothing had been.
    #[must_use]
    pub fn restart(&self, survival: Survival) -> Arc<Self> {
        Self::over(self.state.lock().tree.survive(survival))
    }

    /// How many calls have changed something so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// How many calls there were so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// How many syncs of files and folders were tried so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Lets the call fail that comes as the `nth` from now on, from 1.
    pub fn fail_call(&self, nth: u64, failure: Failure) {
        let mut state = self.state.lock();
        state.failing = Some((state.calls + nth, failure));
        state.failed = None;
    }

    /// The call that was made to fail, once it came.
    #[must_use]
    pub fn failed_call(&self) -> Option<String> {
        self.state.lock().failed.clone()
    }

    /// Lets every call fail that changes something below `path`, until [`HostileDisk::revive`].
    pub fn kill(&self, path: &Path, error_number: i32) {
        self.state.lock().dead.push((path.to_owned(), error_number));
    }

    /// Ends what [`HostileDisk::kill`] began.
    pub fn revive(&self) {
        self.state.lock().dead.clear();
    }

    /// The time that files are stamped with.
    pub fn set_now_ms(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Turns one bit of a file over, synced as it may be. `false` where there is no such bit.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> bool {
        let mut state = self.state.lock();
        let found = state.tree.find(path).ok().flatten();
        let file = found.and_then(|id| state.tree.file_mut(id).ok());
        match file.filter(|file| bit / 8 < file.contents.len()) {
            Some(file) => {
                file.contents.flip(bit);
                true
            }
            None => false,
        }
    }

    /// All files below `folder`, in the order of their paths.
    #[must_use]
    pub fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let state = self.state.lock();
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for (name, is_folder) in state.tree.list(&folder).unwrap_or_default() {
                let path = folder.join(name);
                if is_folder { folders.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }
}

impl State {
    /// One call that only reads. What is to go wrong with it.
    fn look(&mut self, what: &str, path: &Path) -> io::Result<Option<Failure>> {
        self.calls += 1;
        if let Some((at, failure)) = self.failing
            && at == self.calls
        {
            self.failing = None;
            self.failed = Some(format!("{what} {}", path.display()));
            return match failure {
                Failure::Errno(libc::ENOSPC) => Ok(None),
                Failure::Errno(number) => Err(errno(number)),
                Failure::ShortRead => Ok(Some(failure)),
            };
        }
        Ok(None)
    }

    /// One call that changes something: the error it is to fail with.
    fn change(&mut self, what: &str, path: &Path) -> Result<(), i32> {
        self.calls += 1;
        self.changes += 1;
        if let Some((_, number)) = self.dead.iter().find(|(dead, _)| path.starts_with(dead)) {
            return Err(*number);
        }
        if let Some((at, Failure::Errno(number))) = self.failing
            && at == self.calls
        {
            self.failing = None;
            self.failed = Some(format!("{what} {}", path.display()));
            return Err(number);
        }
        Ok(())
    }

    fn note(&mut self, what: &str, path: &Path) {
        if let Some(moments) = &mut self.moments {
            let call = format!("{what} {}", path.display());
            moments.push(Moment { change: self.changes, call, tree: Arc::new(self.tree.clone()) });
        }
    }

    /// A change of names that is done whole or not at all.
    fn change_names<T>(
        &mut self,
        what: &str,
        path: &Path,
        act: impl FnOnce(&mut Tree) -> io::Result<T>,
    ) -> io::Result<T> {
        self.change(what, path).map_err(errno)?;
        let done = act(&mut self.tree)?;
        self.note(what, path);
        Ok(done)
    }

    fn open(&mut self, path: &Path, access: Access, now_ms: i64) -> io::Result<NodeId> {
        match (self.tree.find(path)?, access) {
            (None, Access::Read | Access::Write) => {
                self.look("open", path)?;
                Err(errno(libc::ENOENT))
            }
            (None, Access::Create | Access::Replace) => {
                self.change_names("create", path, |tree| tree.create_file(path, now_ms))
            }
            (Some(id), Access::Replace) if self.tree.file(id)?.contents.len() > 0 => {
                self.change_names("empty", path, |tree| {
                    tree.file_mut(id)?.contents.set_len(0);
                    Ok(id)
                })
            }
            (Some(id), _) => {
                self.look("open", path)?;
                self.tree.file(id)?;
                Ok(id)
            }
        }
    }

    fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        for (name, is_folder) in self.tree.list(path)? {
            let child = path.join(name);
            if is_folder {
                self.remove_folder(&child)?;
            } else {
                self.change_names("remove", &child, |tree| tree.unlink(&child))?;
            }
        }
        self.change_names("remove", path, |tree| tree.unlink(path))
    }

    fn write(&mut self, file: &HostileFile, bytes: &[u8], position: u64, now_ms: i64) -> io::Result<()> {
        if let Err(number) = self.change("write", &file.path) {
            let done = self.random.below(bytes.len() as u64 + 1) as usize;
            self.tree.file_mut(file.id)?.contents.write(&bytes[..done], position);
            return Err(errno(number));
        }
        let inner = self.tree.file_mut(file.id)?;
        inner.contents.write(bytes, position);
        inner.modified_ms = now_ms;
        self.note("write", &file.path);
        Ok(())
    }

    fn sync(&mut self, file: &HostileFile) -> io::Result<()> {
        self.syncs += 1;
        if let Err(number) = self.change("sync", &file.path) {
            self.tree.file_mut(file.id)?.contents.forget_unsynced();
            return Err(errno(number));
        }
        // While it is on its way, nothing is promised.
        self.note("sync", &file.path);
        self.tree.file_mut(file.id)?.contents.sync();
        Ok(())
    }

    fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        self.syncs += 1;
        if let Err(number) = self.change("sync", path) {
            self.tree.lose_names(path)?;
            return Err(errno(number));
        }
        self.note("sync", path);
        self.tree.sync_folder(path)
    }
}

impl Disk for HostileDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.state.lock().open(path, access, self.now_ms.load(Ordering::Relaxed))?;
        let kind = FileKind::of(path);
        self.stats.of(kind).opens.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(HostileFile {
            id,
            kind,
            path: path.to_owned(),
            state: Arc::clone(&self.state),
            stats: Arc::clone(&self.stats),
            now_ms: Arc::clone(&self.now_ms),
        }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut state = self.state.lock();
        state.look("list", folder)?;
        let names = state.tree.list(folder)?;
        Ok(names.into_iter().map(|(name, is_folder)| DirectoryEntry { name, is_folder }).collect())
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        let mut state = self.state.lock();
        state.look("stat", path)?;
        let Some(id) = state.tree.find(path)? else { return Ok(None) };
        Ok(Some(match state.tree.file(id) {
            Ok(file) => FileStat { len: file.contents.len(), modified_ms: file.modified_ms },
            Err(_) => FileStat { len: 0, modified_ms: self.now_ms.load(Ordering::Relaxed) },
        }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for folder in above {
            match state.tree.find(folder)? {
                Some(id) if state.tree.is_folder(id) => {}
                Some(_) => return Err(errno(libc::EEXIST)),
                None => drop(state.change_names("create", folder, |tree| tree.create_folder(folder))?),
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.lock().change_names("rename", from, |tree| tree.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        match state.tree.find(path)? {
            Some(_) => state.change_names("remove", path, |tree| tree.unlink(path)),
            None => state.look("remove", path).map(drop),
        }
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        match state.tree.find(path)? {
            Some(_) => state.remove_folder(path),
            None => state.look("remove", path).map(drop),
        }
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.state.lock().sync_folder(folder)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let mut state = self.state.lock();
        let id = state.open(path, Access::Create, self.now_ms.load(Ordering::Relaxed)).map_err(failed)?;
        if state.locked.contains(&id) {
            return Err(LockError::Held { path: path.to_owned(), holder: None });
        }
        state.locked.push(id);
        Ok(Box::new(HostileLock { id, state: Arc::clone(&self.state) }))
    }

    fn space(&self, folder: &Path) -> io::Result<DiskSpace> {
        self.state.lock().look("statvfs", folder)?;
        Ok(DiskSpace { total_bytes: 1 << 40, usable_bytes: 1 << 39 })
    }

    fn stats(&self) -> &DiskStats {
        &self.stats
    }
}

struct HostileLock {
    id: NodeId,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for HostileLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostileLock({})", self.id)
    }
}

impl Drop for HostileLock {
    fn drop(&mut self) {
        self.state.lock().locked.retain(|id| *id != self.id);
    }
}

impl DiskLock for HostileLock {}

struct HostileFile {
    id: NodeId,
    kind: FileKind,
    path: PathBuf,
    state: Arc<Mutex<State>>,
    stats: Arc<DiskStats>,
    now_ms: Arc<AtomicI64>,
}

impl fmt::Debug for HostileFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostileFile({})", self.path.display())
    }
}

impl HostileFile {
    fn read(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        let wanted = match state.look("read", &self.path)? {
            // One byte at least: nothing is the file's end.
            Some(_) => (state.random.below(buffer.len() as u64) as usize).max(1).min(buffer.len()),
            None => buffer.len(),
        };
        let filled = state.tree.file(self.id)?.contents.read(&mut buffer[..wanted], position);
        self.stats.of(self.kind).bytes_read.fetch_add(filled as u64, Ordering::Relaxed);
        Ok(filled)
    }

    fn whole(&self, position: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        match self.read(&mut bytes, position)? {
            filled if filled == len => Ok(bytes),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl DiskFile for HostileFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.look("stat", &self.path)?;
        Ok(state.tree.file(self.id)?.contents.len())
    }

    fn read_some_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.read(buffer, position)
    }

    fn write_at(&self, pieces: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes = pieces.iter().flat_map(|piece| piece.iter().copied()).collect::<Vec<u8>>();
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        self.state.lock().write(self, &bytes, position, now_ms)?;
        self.stats.of(self.kind).bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state.lock().change_names("truncate", &self.path, |tree| {
            tree.file_mut(self.id)?.contents.set_len(len);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.stats.of(self.kind).syncs.fetch_add(1, Ordering::Relaxed);
        self.state.lock().sync(self)
    }

    fn map(&self, len: usize) -> io::Result<Mapped> {
        Ok(Mapped::Bytes(self.whole(0, len)?))
    }

    fn region(&self, position: u64, len: usize) -> io::Result<Region> {
        Ok(Region::Bytes(self.whole(position, len)?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::{read_small, replace_file};

    const ALL: [Survival; 5] =
        [Survival::Nothing, Survival::Everything, Survival::Names, Survival::Contents, Survival::Torn(7)];

    fn write(disk: &HostileDisk, path: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
        let file = disk.open(Path::new(path), Access::Create).unwrap();
        file.write_at(&mut [IoSlice::new(bytes)], 0).unwrap();
        file
    }

    fn read(disk: &HostileDisk, path: &str) -> Option<Vec<u8>> {
        read_small(disk, Path::new(path)).unwrap()
    }

    fn folder(disk: &HostileDisk, path: &str) {
        disk.create_folder(Path::new(path)).unwrap();
        for above in Path::new(path).ancestors() {
            disk.sync_dir(above).unwrap();
        }
    }

    #[test]
    fn a_file_needs_its_own_sync_and_that_of_its_folder() {
        let disk = HostileDisk::new();
        folder(&disk, "/a");
        let file = write(&disk, "/a/x", b"x");
        let after = |survival| read(&disk.restart(survival), "/a/x");
        assert_eq!(after(Survival::Nothing), None);
        assert_eq!(after(Survival::Contents), None);
        assert_eq!(after(Survival::Names).as_deref(), Some(&b"\0"[..]));
        assert_eq!(after(Survival::Everything).as_deref(), Some(&b"x"[..]));
        file.sync().unwrap();
        assert_eq!(after(Survival::Nothing), None);
        assert_eq!(after(Survival::Names).as_deref(), Some(&b"x"[..]));
        disk.sync_dir(Path::new("/a")).unwrap();
        assert!(ALL.into_iter().all(|survival| after(survival).as_deref() == Some(b"x")));
    }

    #[test]
    fn a_replaced_file_is_old_or_new_at_every_moment() {
        let disk = HostileDisk::new();
        folder(&disk, "/a");
        replace_file(&*disk, Path::new("/a/x"), b"old").unwrap();
        disk.record();
        replace_file(&*disk, Path::new("/a/x"), b"newer").unwrap();
        let moments = disk.moments();
        assert_eq!(moments.len(), 6, "{moments:?}");
        for moment in &moments {
            for survival in ALL.into_iter().chain((0..50).map(Survival::Seeded)) {
                let found = read(&moment.restart(survival), "/a/x").unwrap();
                assert!(found == b"old" || found == b"newer", "{moment:?} {survival:?}: {found:?}");
            }
        }
        let last = moments.last().unwrap().restart(Survival::Nothing);
        assert_eq!(read(&last, "/a/x").as_deref(), Some(&b"newer"[..]));
    }

    #[test]
    fn folders_are_removed_name_by_name() {
        let disk = HostileDisk::new();
        folder(&disk, "/a/b");
        for path in ["/a/b/x", "/a/b/y"] {
            write(&disk, path, b"1").sync().unwrap();
        }
        disk.sync_dir(Path::new("/a/b")).unwrap();
        disk.record();
        disk.remove_folder(Path::new("/a/b")).unwrap();
        disk.remove_folder(Path::new("/a/b")).unwrap();
        let moments = disk.moments();
        assert_eq!(moments.len(), 4);
        let after = moments[1].restart(Survival::Everything);
        assert_eq!(after.files(Path::new("/")).len(), 0);
        let lost = moments[3].restart(Survival::Nothing);
        assert_eq!(lost.files(Path::new("/")).len(), 2);
    }

    #[test]
    fn a_lock_is_held_once_and_given_up() {
        let disk = HostileDisk::new();
        folder(&disk, "/a");
        let path = Path::new("/a/.lock");
        let held = disk.lock(path).unwrap();
        assert!(matches!(disk.lock(path), Err(LockError::Held { .. })));
        drop(held);
        disk.lock(path).unwrap();
    }

    #[test]
    fn the_nth_call_fails_once() {
        let disk = HostileDisk::new();
        folder(&disk, "/a");
        let file = write(&disk, "/a/x", b"0123456789");
        disk.fail_call(2, Failure::EIO);
        assert_eq!(file.len().unwrap(), 10);
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(libc::EIO));
        assert_eq!(disk.failed_call().unwrap(), "sync /a/x");
        // The next one says that all is well, and nothing is.
        file.sync().unwrap();
        disk.sync_dir(Path::new("/a")).unwrap();
        assert_eq!(read(&disk.restart(Survival::Everything), "/a/x").as_deref(), Some(&b"0123456789"[..]));
        assert_eq!(read(&disk.restart(Survival::Nothing), "/a/x"), Some(vec![0; 10]));
        disk.fail_call(1, Failure::ShortRead);
        assert!(file.read_some_at(&mut [0; 10], 0).unwrap() < 10);
        disk.kill(Path::new("/a"), libc::ENOSPC);
        assert_eq!(file.set_len(0).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        disk.revive();
        file.set_len(0).unwrap();
    }
}
